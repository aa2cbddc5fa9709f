package platform

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

// selectStack selects the stack, creates it on first use, and reads what is deployed and
// configured. It fails if the stack is deployed on another cluster than the selected one.
func (s *shipment) selectStack(ctx context.Context) error {
	if err := s.pulumi.run(ctx, "stack", "select", "--create", stack); err != nil {
		return err
	}
	var err error
	if s.outputs, err = s.pulumi.outputs(ctx); err != nil {
		return err
	}
	if s.configured, err = s.pulumi.configured(); err != nil {
		return err
	}
	return s.sameCluster()
}

// gatewayURL returns the address of the bundled cluster's gateway.
func (s *shipment) gatewayURL() string {
	if port := valueAt(s.configured, project+":gateway.nodePort"); port != "" {
		return "http://localhost:" + port
	}
	return URL
}

// configureStack writes the images and the cluster to the stack's configuration. Each call of
// Pulumi's CLI takes a second or two, so that it makes only those that change something.
func (s *shipment) configureStack(ctx context.Context) error {
	configured := s.configured
	var values []string
	set := func(key, value string) {
		if key = project + ":" + key; valueAt(configured, key) != value {
			values = append(values, "--plaintext", key+"="+value)
		}
	}
	for _, program := range slices.Sorted(maps.Keys(s.digests)) {
		set("images."+program, s.digests[program])
	}
	obsolete := []string{"kubeContext"} // keys for the other kind of cluster
	if s.w.bundled() {
		folder := filepath.Join(s.w.Data, "postgres")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("creating the database's folder: %w", err)
		}
		set("database.localPath", folder)
		if s.w.Signatures {
			set("delivery.publicKey", s.signer)
		} else {
			obsolete = append(obsolete, "delivery.publicKey")
		}
		set("prometheus.nodePort", strconv.Itoa(cluster.PrometheusPort))
		set("console.nodePort", strconv.Itoa(cluster.ConsolePort))
		set("telemetry.jaegerNodePort", strconv.Itoa(cluster.JaegerPort))
		if s.mode != "" {
			set("delivery.mode", s.mode)
		}
		if s.gitops() {
			set("delivery.git.url", cluster.GitURL)
			set("delivery.git.branch", cluster.GitBranch)
			set("delivery.git.path", servicesFolder)
		}
	} else {
		set("kubeContext", s.w.KubeContext)
		key, value, err := s.metricsServer(ctx)
		if err != nil {
			return err
		}
		if key != "" {
			set(key, value)
		}
		obsolete = []string{"delivery.publicKey", "database.localPath", "prometheus.nodePort", "console.nodePort", "telemetry.jaegerNodePort"}
	}
	var deployed map[string]string // before the first update there are none
	if err := s.outputs.read("images", &deployed); err != nil {
		return err
	}
	programs, err := repo.Programs(s.w.Root)
	if err != nil {
		return err
	}
	s.shipped = changed(deployed, s.digests)
	alone, err := s.groups(set)
	if err != nil {
		return err
	}
	obsolete = append(obsolete, alone...)
	for _, program := range slices.Sorted(maps.Keys(deployed)) {
		if !slices.Contains(programs, program) { // the stack refuses an image without a program
			obsolete = append(obsolete, "images."+program)
		}
	}
	for _, key := range obsolete {
		if key = project + ":" + key; valueAt(configured, key) == "" {
			continue
		}
		if err := s.pulumi.run(ctx, "config", "rm", "--stack", stack, "--path", key); err != nil {
			return err
		}
	}
	if len(values) == 0 {
		return nil
	}
	return s.pulumi.run(ctx, append([]string{"config", "set-all", "--stack", stack, "--path"}, values...)...)
}

// groups sets the group of its members, and returns the keys of what is in none any more.
func (s *shipment) groups(set func(key, value string)) (obsolete []string, err error) {
	services, err := repo.Services(s.w.Root)
	if err != nil {
		return nil, err
	}
	alone, err := s.regroup(services)
	for _, service := range s.members {
		set("groups."+service, s.group)
	}
	for _, service := range alone {
		obsolete = append(obsolete, "groups."+service)
	}
	return obsolete, err
}

// regroup finds the members of the group, which are the services that were named or else those that
// ship, and the services whose new version is in no group, although the last one was. What does not
// ship keeps its group, and so the steps of its canary: other steps would start that of an aborted
// version again.
func (s *shipment) regroup(services []string) (alone []string, err error) {
	for _, service := range services {
		ships := slices.Contains(s.shipped, service) || s.group != "" && slices.Contains(s.programs, service)
		last := valueAt(s.configured, project+":groups."+service)
		switch {
		case ships && s.group != "":
			s.members = append(s.members, service)
		case ships && last != "":
			alone = append(alone, service)
		case s.group != "" && last == s.group:
			return nil, fmt.Errorf("GROUP is %q, in which %s has shipped, and it is not to ship now: use another name", s.group, service)
		}
	}
	if s.group != "" && len(s.members) < 2 {
		return nil, fmt.Errorf("GROUP is %q, and %s ships: a group has at least two services; leave GROUP out, "+
			"or name them in SERVICE", s.group, cmp.Or(strings.Join(s.members, ""), "nothing"))
	}
	return alone, nil
}

// together says in which group services ship.
func (s *shipment) together() string {
	if len(s.members) == 0 {
		return ""
	}
	return fmt.Sprintf("; %s together in the group %s", strings.Join(s.members, ", "), s.group)
}

// sameCluster fails if the stack has resources on another cluster than the selected one:
// Pulumi would lose track of them.
func (s *shipment) sameCluster() error {
	var on string
	if err := s.outputs.read("kubeContext", &on); err != nil || on == "" {
		return err // a stack without the output has no resources
	}
	want := s.w.KubeContext
	if want == "" {
		want = cluster.Context
	}
	if on == want {
		return nil
	}
	undo := "KUBE_CONTEXT=" + on + " make down"
	if on == cluster.Context {
		undo = "make wipe"
	}
	return fmt.Errorf("the stack %s is deployed to the cluster %s, not to %s: run `%s` first", stack, on, want, undo)
}
