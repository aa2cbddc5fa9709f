package program

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/internal/repo"
)

// rendering is what make render asks for.
type rendering struct{ root, stack, out, digests string }

// renders says whether the program is to write manifests in place of running in Pulumi.
func renders(args []string) bool { return len(args) > 0 && args[0] == "render" }

func parse(args []string) (rendering, error) {
	root, err := repo.Root()
	if err != nil {
		return rendering{}, err
	}
	r := rendering{root: root}
	flags := flag.NewFlagSet("render", flag.ContinueOnError)
	flags.StringVar(&r.stack, "stack", "", "environment, such as dev")
	flags.StringVar(&r.out, "out", "", "folder to write; empty is that of the environment in this repository")
	flags.StringVar(&r.digests, "digests", "", "JSON file with images by digest, by program, or a record of make publish; empty changes none")
	if err := flags.Parse(args[1:]); err != nil {
		return r, err
	}
	if r.stack == "" {
		return r, errors.New("STACK is missing: make render STACK=dev")
	}
	if r.out == "" {
		if _, err := os.Stat(filepath.Join(root, ManifestFolder(r.stack))); err != nil {
			return r, fmt.Errorf("OUT is missing: %s is not in this repository; name the folder to write", ManifestFolder(r.stack))
		}
		r.out = filepath.Join(root, ManifestFolder(r.stack))
	}
	return r, nil
}

// ManifestFolder is where this repository has the manifests of an environment.
func ManifestFolder(stack string) string {
	return filepath.FromSlash(plan.ManifestPath(&config.Config{}, stack))
}

func (r rendering) values() (map[string]string, error) {
	values, err := StackFile(r.root, r.stack)
	if errors.Is(err, fs.ErrNotExist) && r.digests != "" {
		return map[string]string{}, nil // the typed defaults, with these images
	}
	return values, err
}

// StackFile returns the configuration in an environment's stack file as Pulumi passes it.
func StackFile(root, stack string) (map[string]string, error) {
	raw, err := os.ReadFile(filepath.Join(root, "Pulumi."+stack+".yaml")) // #nosec G304 -- a file of this repository
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of %s: %w", stack, err)
	}
	var file struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("reading the configuration of %s: %w", stack, err)
	}
	values := map[string]string{}
	for key, value := range file.Config {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		values[key] = text
	}
	return values, nil
}

// render writes the manifests of an environment, and prints what has changed.
func render(args []string, values map[string]string, target NewTarget, out io.Writer) error {
	r, err := parse(args)
	if err != nil {
		return err
	}
	programs, err := repo.Catalogue()
	if err != nil {
		return err
	}
	written, err := gitops.Read(r.out)
	if err != nil {
		return err
	}
	released := map[string]string{}
	if r.digests != "" {
		if released, err = readDigests(r.digests); err != nil {
			return err
		}
	}
	files, err := Manifests(r.stack, values, released, written, programs, target)
	if err != nil {
		return err
	}
	changed, err := gitops.Write(r.out, files)
	if err != nil {
		return err
	}
	if len(changed) == 0 {
		changed = []string{"nothing has changed in " + r.out}
	}
	_, err = fmt.Fprintln(out, strings.Join(changed, "\n"))
	return err
}

// readDigests reads images by program, of a record that make publish writes, or alone.
func readDigests(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path) // #nosec G304 -- the file that DIGESTS names
	if err != nil {
		return nil, fmt.Errorf("reading DIGESTS: %w", err)
	}
	var record struct {
		Images map[string]string `json:"images"`
	}
	if json.Unmarshal(raw, &record) == nil && len(record.Images) > 0 {
		return record.Images, nil
	}
	var images map[string]string
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("reading DIGESTS: %s has to be a record of make publish, or a JSON object of images by program: %w", path, err)
	}
	return images, nil
}

// Manifests returns the files that make render writes for an environment, by their paths. A digest is
// that of released, or else of what is written already if Argo CD delivers, since git owns it then, or
// else of the configuration.
func Manifests(environment string, values, released map[string]string, written map[string][]byte, programs *catalogue.Catalogue,
	target NewTarget) (map[string][]byte, error) {
	cfg, _ := config.Load(values, programs) // Load below reports its errors
	images := maps.Clone(cfg.Images)
	for _, program := range slices.Concat(programs.Services(), programs.CronJobs()) {
		text, there := written[program.Name+"/"+gitops.KustomizationFile]
		if !there || cfg.Delivery.Mode != config.GitOps {
			continue
		}
		image, err := gitops.Image(text)
		if err != nil {
			return nil, fmt.Errorf("reading %s of %s: %w", gitops.KustomizationFile, program.Name, err)
		}
		images[program.Name] = image
	}
	maps.Copy(images, released)
	var errs []error
	for _, program := range slices.Concat(programs.Services(), programs.CronJobs()) {
		if cfg.Delivery.Mode == config.GitOps && images[program.Name] == "" {
			errs = append(errs, fmt.Errorf("%s has no image: name it in DIGESTS, or in %s:images.%s", program.Name, config.Namespace, program.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(images)
	if err != nil {
		return nil, err
	}
	values = maps.Clone(values)
	values[config.Namespace+":images"] = string(raw)
	_, p, _, err := Load(environment, values, programs, target)
	if err != nil {
		return nil, err
	}
	services, err := p.Manifests()
	if err != nil {
		return nil, err
	}
	return gitops.Render(services)
}
