//go:build e2e

// Package e2e runs the make targets on the real local cluster, as a user does. Each test
// continues from the state that the one before it left, in the order of the file.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/load"
)

const (
	root    = "../.."
	url     = "http://localhost:30080"
	service = "sample-web-app"
)

var full = os.Getenv("E2E_FULL") != ""

// TestMain stops the cluster after the tests, unless E2E_KEEP is set.
func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("E2E_KEEP") != "" {
		os.Exit(code)
	}
	down := exec.CommandContext(context.Background(), "make", "-C", root, "--no-print-directory", "down")
	if out, err := down.CombinedOutput(); err != nil {
		fmt.Printf("make down after the tests: %v\n%s", err, out)
		code = 1
	}
	os.Exit(code)
}

// run is a command that was started in the repo, with its output.
type run struct {
	cmd *exec.Cmd
	out lockedBuffer
	end chan error
}

func start(t *testing.T, args ...string) *run {
	t.Helper()
	r := &run{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...), end: make(chan error, 1)}
	r.cmd.Dir = root
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.end <- r.cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) })
	return r
}

// wait waits for the end of the command and returns its output. The test fails unless the
// command succeeds, or fails if wantSuccess is false.
func (r *run) wait(t *testing.T, limit time.Duration, wantSuccess bool) string {
	t.Helper()
	select {
	case err := <-r.end:
		if (err == nil) != wantSuccess {
			t.Fatalf("%v: %v, want success %v\n%s", r.cmd.Args, err, wantSuccess, r.out.String())
		}
	case <-time.After(limit):
		t.Fatalf("%v does not end within %s\n%s", r.cmd.Args, limit, r.out.String())
	}
	return r.out.String()
}

// mk runs make, which must succeed.
func mk(t *testing.T, args ...string) {
	t.Helper()
	began := time.Now()
	// The limit is long because the first make up on a machine builds everything.
	start(t, append([]string{"make", "--no-print-directory"}, args...)...).wait(t, 40*time.Minute, true)
	t.Logf("make %s: %s", strings.Join(args, " "), time.Since(began).Round(100*time.Millisecond))
}

// shell runs a line in a shell in which eval "$(make env)" was run before.
func shell(t *testing.T, line string) string {
	t.Helper()
	return start(t, "bash", "-ec", `eval "$(make --no-print-directory env)"; `+line).wait(t, 10*time.Minute, true)
}

func fetch(t *testing.T, method, target, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// changePage turns the next build of the page into a new version, until the test ends.
func changePage(t *testing.T, text string) (undo func()) {
	t.Helper()
	path := filepath.Join(root, "apps", service, "static", "e2e.css")
	if err := os.WriteFile(path, []byte("/* "+text+" */\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	undo = func() {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	t.Cleanup(undo)
	return undo
}

func version(t *testing.T) string {
	t.Helper()
	resp, _ := fetch(t, "GET", url+"/", "")
	v := resp.Header.Get(load.VersionHeader)
	if v == "" {
		t.Fatalf("the page has no header %s: %s %v", load.VersionHeader, resp.Status, resp.Header)
	}
	return v
}

func kubectl(args ...string) ([]byte, error) {
	out, err := kubectlCommand(args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}

// kubectlCommand prepares kubectl for the cluster.
func kubectlCommand(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(".local", "bin", "kubectl"), args...)
	cmd.Dir = root
	data := os.Getenv("LOJA_DATA")
	if data == "" {
		data = filepath.Join(".local", "cluster")
	}
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(data, "kubeconfig"))
	return cmd
}

func TestUpServesThePage(t *testing.T) {
	mk(t, "up")
	resp, body := fetch(t, "GET", url+"/", "")
	v := resp.Header.Get(load.VersionHeader)
	if resp.StatusCode != http.StatusOK || v == "" ||
		!strings.Contains(body, v) || !strings.Contains(body, resp.Header.Get("Service-Pod")) {
		t.Errorf("GET / = %s, version %q: want 200 and a page that names version and pod", resp.Status, v)
	}
	resp, body = fetch(t, "POST", url+"/echo?q=%3Cb%3E", "hello <script>")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "hello &lt;script&gt;") {
		t.Errorf("POST /echo = %s: want 200 and the body, escaped", resp.Status)
	}
	resp, body = fetch(t, "GET", url+"/health", "")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"status":"ok"`) {
		t.Errorf("GET /health = %s %s", resp.Status, body)
	}
	for _, path := range []string{"/metrics", "/ready", "/%6detrics", "//metrics", "/static/../metrics", "/no-such-page"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		// Written without http.Client, which would clean the path.
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		conn.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s at the edge = %s, want 404", path, resp.Status)
		}
	}
}

// TestAddressesStayHere checks that a packet to a pod or Service that no longer exists does
// not leave this machine, where another host might answer it.
func TestAddressesStayHere(t *testing.T) {
	for _, address := range []string{"10.214.0.254", "10.215.255.254"} {
		if out := start(t, "ip", "route", "get", address).wait(t, time.Minute, true); !strings.Contains(out, "dev loja0") {
			t.Errorf("a packet to %s goes %s", address, out)
		}
	}
}

// TestTheRegistryIsAnnounced: what the cluster says is where this machine pushes images.
func TestTheRegistryIsAnnounced(t *testing.T) {
	text := must(t, "-n", "kube-public", "get", "configmap", "local-registry-hosting", "-o", `jsonpath={.data.localRegistryHosting\.v1}`)
	var announced struct {
		Host   string `yaml:"host"`
		OnNode string `yaml:"hostFromContainerRuntime"`
	}
	if err := yaml.Unmarshal([]byte(text), &announced); err != nil {
		t.Fatal(err)
	}
	image := must(t, "-n", "shop", "get", "rollout", service, "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	if !strings.HasPrefix(image, announced.OnNode+"/") {
		t.Errorf("the announced registry is %+v, and the shop runs %s", announced, image)
	}
	if resp, body := fetch(t, http.MethodGet, "http://"+announced.Host+"/v2/", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("the announced registry answers %s: %s", resp.Status, body)
	}
}

// TestUnsignedDoesNotRun asks for pods with an image that nobody has signed, with a tag, and with an image
// that make up has built.
func TestUnsignedDoesNotRun(t *testing.T) {
	unsigned := images.Process{Entrypoint: []string{"/unsigned"}}
	if err := images.Registry(cluster.Registry).PushProcess(t.Context(), "docker.io/e2e/unsigned:1", unsigned); err != nil {
		t.Fatal(err)
	}
	digest, err := crane.Digest(cluster.Registry + "/e2e/unsigned:1")
	if err != nil {
		t.Fatal(err)
	}
	signed := must(t, "-n", "shop", "get", "rollout", service, "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	for image, want := range map[string]string{
		cluster.Registry + "/e2e/unsigned@" + digest: "no signatures found",
		cluster.Registry + "/e2e/unsigned:1":         "must be an image digest",
		signed:                                       "",
	} {
		pod := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"e2e-unsigned","namespace":"shop"},"spec":{
			"securityContext":{"runAsNonRoot":true,"runAsUser":65532,"seccompProfile":{"type":"RuntimeDefault"}},"containers":[{"name":"c",
			"image":%q,"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}`, image)
		create := kubectlCommand("create", "--dry-run=server", "-f", "-")
		create.Stdin = strings.NewReader(pod)
		out, err := create.CombinedOutput()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(string(out), want)) {
			t.Errorf("a pod with %s: %v, %s; want %q", image, err, out, want)
		}
	}
}

func TestMetricsReachTheAutoscaler(t *testing.T) {
	eventually(t, 2*time.Minute, "the autoscaler reads CPU", func() error {
		out, err := kubectl("-n", "shop", "get", "hpa", service, "-o", "json")
		if err != nil {
			return err
		}
		var hpa struct {
			Status struct {
				CurrentMetrics []struct {
					Resource struct {
						Name    string
						Current struct{ AverageUtilization *int }
					}
				}
			}
		}
		if err := json.Unmarshal(out, &hpa); err != nil {
			return err
		}
		read := map[string]bool{}
		for _, m := range hpa.Status.CurrentMetrics {
			read[m.Resource.Name] = m.Resource.Current.AverageUtilization != nil
		}
		if !read["cpu"] {
			return fmt.Errorf("the autoscaler has read %v", read)
		}
		return nil
	})
}

func TestSecondUpChangesNothing(t *testing.T) {
	out := shell(t, "pulumi up --yes --skip-preview --expect-no-changes -s local && "+
		"pulumi preview --expect-no-changes -s local && pulumi stack output -s local gatewayURL")
	if !strings.Contains(out, url) {
		t.Errorf("the stack's output gatewayURL is not %s:\n%s", url, out)
	}
	if strings.Contains(out, "warning:") {
		t.Errorf("pulumi warns:\n%s", out)
	}
}

// TestOrders places orders at the edge: one is confirmed, one is declined, and one is
// cancelled and refunded. Then the audit passes.
func TestOrders(t *testing.T) {
	if o := place(t, "tok_approved"); o.State != "confirmed" || o.path() != "pending reserved paid confirmed" {
		t.Errorf("the order is %s after the states %s", o.State, o.path())
	}
	if o := place(t, "tok_declined"); o.State != "failed" || o.FailureReason != "insufficient_funds" {
		t.Errorf("an order with a card that is declined is %s, %s; want failed, insufficient_funds", o.State, o.FailureReason)
	}
	o := place(t, "tok_approved")
	response, body := fetch(t, http.MethodPost, url+"/api/pedidos/"+o.ID+"/cancel", "")
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusAccepted {
		t.Fatalf("cancelling = %s %s", response.Status, body)
	}
	if o = ended(t, "/api/pedidos/"+o.ID); o.State != "refunded" || !strings.HasSuffix(o.path(), "confirmed refunding refunded") {
		t.Errorf("a cancelled order is %s after the states %s", o.State, o.path())
	}
	for _, path := range []string{
		"/api/metrics", "/api/ready", "/api/reservations/" + o.ID,
		"/api/admin/estoque/SHOE-VENTO/top-ups", "/admin/estoque", "/api/pagamentos",
	} {
		if response, _ := fetch(t, http.MethodGet, url+path, ""); response.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s at the edge = %s, want 404", path, response.Status)
		}
	}
	mk(t, "audit")
}

// TestStorefront buys in a browser, as a shopper does.
func TestStorefront(t *testing.T) {
	browse(t, url)
}

// TestConsole reads the console in a browser, as an operator does. It reaches pagamentos, and so does
// the command that it shows.
func TestConsole(t *testing.T) {
	console := fmt.Sprintf("http://localhost:%d", cluster.ConsolePort)
	browseConsole(t, console)
	const nobody = "No payment needs a person."
	if response, page := fetch(t, http.MethodGet, console+"/payments", ""); response.StatusCode != http.StatusOK || !strings.Contains(page, nobody) {
		t.Errorf("/payments of the console = %s, without %q:\n%s", response.Status, nobody, page)
	}
	if out := must(t, "-n", "shop", "exec", "service/pagamentos-stable", "--", "/ko-app/pagamentos", "needing-person"); out != nobody+"\n" {
		t.Errorf("pagamentos needing-person = %q, want %q", out, nobody)
	}
}

// TestCalledServiceIsWeighted checks that a canary's weights apply to calls between services
// too.
func TestCalledServiceIsWeighted(t *testing.T) {
	shares(t)
}

// An observation is one answer under load.
type observation struct {
	sent    time.Time
	version string
}

// TestCanaryFollowsItsWeights ships a new version under a steady load. The measured share
// follows each weight and no request fails. A pulumi up --refresh during the canary, which
// reads the weights into the state, does not change them.
func TestCanaryFollowsItsWeights(t *testing.T) {
	const perSecond, enough, tolerance = 100, 2000, 3.0
	before := version(t)
	changePage(t, "canary "+time.Now().String())

	var observed []observation
	stop := begin(t, func(ctx context.Context) load.Report {
		return load.Run(ctx, load.Target{
			URL: url + "/", PerSecond: perSecond, Max: 15 * 60 * perSecond,
			Observe: func(sent time.Time, v string) { observed = append(observed, observation{sent, v}) },
		})
	})

	type change struct {
		at     time.Time
		canary int
	}
	changes := []change{{time.Now(), 0}}
	deploy := start(t, "make", "--no-print-directory", "deploy", "LOAD=off")
	refreshed := make(chan string, 1)
	refreshing := false
	for done := false; !done; {
		select {
		case err := <-deploy.end:
			if err != nil {
				t.Fatalf("make deploy: %v\n%s", err, deploy.out.String())
			}
			done = true
		default:
			if canary, err := weightOf(service); err == nil && canary != changes[len(changes)-1].canary {
				changes = append(changes, change{time.Now(), canary})
			}
			if changes[len(changes)-1].canary == 40 && !refreshing {
				refreshing = true
				go func() {
					out, err := exec.CommandContext(t.Context(), "bash", "-ec", `cd `+root+`; eval "$(make --no-print-directory env)"
						sed 's/^config:/config:\n  loja-veloz:waitForRollout: false/' Pulumi.local.yaml > .local/e2e.yaml
						pulumi up --refresh --yes --skip-preview -s local --config-file .local/e2e.yaml`).CombinedOutput()
					refreshed <- fmt.Sprintf("%v\n%s", err, out)
				}()
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	changes = append(changes, change{time.Now(), -1})
	r := stop()
	t.Logf("load: %s", r)
	if out := <-refreshed; !strings.HasPrefix(out, "<nil>") {
		t.Errorf("pulumi up --refresh during the canary: %s", out)
	}
	if r.Failed > 0 {
		t.Errorf("%d of %d requests failed during the promotion: %v", r.Failed, r.Requests, r.Errors)
	}
	// The gateway learns of the last change of weights and endpoints a moment after the
	// Rollout is healthy.
	after := ""
	eventually(t, time.Minute, "the page has the new version", func() error {
		if after = version(t); after == before {
			return errors.New("the page still has the old version")
		}
		return nil
	})
	var seen []int
	for i, c := range changes[:len(changes)-1] {
		if c.canary <= 0 || c.canary == 100 {
			continue
		}
		seen = append(seen, c.canary)
		from, to := c.at.Add(2*time.Second), changes[i+1].at.Add(-time.Second)
		var all, of int
		// The last ones count: on a busy machine the gateway learns of a weight late.
		for _, o := range slices.Backward(observed) {
			if o.sent.After(from) && o.sent.Before(to) && all < enough {
				all++
				if o.version == after {
					of++
				}
			}
		}
		share := 100 * float64(of) / float64(max(1, all))
		t.Logf("weight %d: measured %.1f %% of %d requests", c.canary, share, all)
		if all < enough {
			t.Errorf("weight %d: only %d requests were sent while it applied, want %d", c.canary, all, enough)
		}
		if share < float64(c.canary)-tolerance || share > float64(c.canary)+tolerance {
			t.Errorf("weight %d: measured %.1f %%, want within %.0f points", c.canary, share, tolerance)
		}
	}
	if fmt.Sprint(seen) != "[20 40 60 80]" {
		t.Errorf("the weights went %v, want [20 40 60 80], each once", seen)
	}
}

// TestAbortReturnsToStable aborts a canary. The make deploy that watches it fails within ten
// seconds, and stable gets all traffic again.
func TestAbortReturnsToStable(t *testing.T) {
	stable := version(t)
	undo := changePage(t, "abort "+time.Now().String())
	deploy := start(t, "make", "--no-print-directory", "deploy", "LOAD=off")
	eventually(t, 3*time.Minute, "the canary gets traffic", func() error {
		canary, err := weightOf(service)
		if err == nil && canary != 20 { // the weight of the previous canary, 100, may still be there
			err = fmt.Errorf("weight %d\n%s", canary, deploy.out.String())
		}
		return err
	})
	if full {
		keepsItsSize(t)
	}
	mk(t, "abort", "SERVICE="+service)
	out := deploy.wait(t, 10*time.Second, false)
	if !strings.Contains(out, "error: ") || !strings.Contains(out, "abort") {
		t.Errorf("make deploy does not say that the rollout was aborted:\n%s", out)
	}
	r := load.Run(t.Context(), load.Target{URL: url + "/", PerSecond: 100, Max: 300})
	if r.Failed > 0 || r.Versions[stable] != r.Requests {
		t.Errorf("after the abort not every answer is the stable version's %s: %s", stable, r)
	}
	undo() // now the working tree differs from the stable version
	mk(t, "deploy", "LOAD=off", "WAIT=0")
	mk(t, "promote", "SERVICE="+service)
	eventually(t, time.Minute, "the page has the promoted version", func() error {
		if v := version(t); v == stable {
			return fmt.Errorf("version %s answers", v)
		}
		return nil
	})
}

// keepsItsSize watches the autoscaler during a canary for three of its periods of 15 s: it
// counts the pods of both versions, and must not take them for load.
func keepsItsSize(t *testing.T) {
	t.Helper()
	size := func() string {
		return must(t, "-n", "shop", "get", "rollout", service, "-o", "jsonpath={.spec.replicas}")
	}
	before := size()
	for began := time.Now(); time.Since(began) < 45*time.Second; time.Sleep(time.Second) {
		if now := size(); now != before {
			t.Errorf("after %s of the canary the autoscaler wants %s pods instead of %s", time.Since(began).Round(time.Second), now, before)
			return
		}
	}
}

// TestKilledClusterComesBack kills processes of every kind at once, as a crash of the machine
// would. It checks that make down leaves nothing behind and that make up has the data.
func TestKilledClusterComesBack(t *testing.T) {
	sold := place(t, "tok_approved")
	marker := fmt.Sprintf("marker-%d", os.Getpid())
	if _, err := kubectl("create", "namespace", marker); err != nil {
		t.Fatal(err)
	}
	procs, err := cluster.Processes()
	if err != nil {
		t.Fatal(err)
	}
	var victims []int
	// The part containers includes containerd's shims.
	for _, name := range []string{"etcd", "kube-apiserver", "kubelet", "containerd", "docker-registry", "containers"} {
		if len(procs[name]) == 0 {
			t.Fatalf("%s does not run", name)
		}
		victims = append(victims, procs[name]...)
	}
	for _, pid := range victims {
		// A session of PostgreSQL may have ended meanwhile.
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("killing process %d: %v", pid, err)
		}
	}
	out := start(t, "make", "--no-print-directory", "cluster-status").wait(t, time.Minute, false)
	if !strings.Contains(out, "NOT RUNNING") {
		t.Errorf("make cluster-status does not name what does not run:\n%s", out)
	}
	before := sysctls(t)
	mk(t, "down") // fails if anything is left behind
	if before["net.ipv4.conf.all.route_localnet"] == sysctls(t)["net.ipv4.conf.all.route_localnet"] {
		t.Error("make down left net.ipv4.conf.all.route_localnet as kube-proxy set it")
	}
	firewall(t)
	start(t, slices.Concat([]string{"env"}, foreign(t), []string{"make", "--no-print-directory", "up"})...).wait(t, 10*time.Minute, true)
	if _, err := kubectl("delete", "namespace", marker, "--wait=false"); err != nil {
		t.Errorf("the cluster lost its data: %v", err)
	}
	if o := ended(t, "/api/pedidos/"+sold.ID); o.State != "confirmed" {
		t.Errorf("the order from before the kill is %s, want confirmed", o.State)
	}
	mk(t, "audit")
}

// foreign are variables as they stand on a developer's machine for other projects: a company's
// proxy, which here answers nothing, settings of Go, the passphrase of another Pulumi project,
// and a Docker configuration whose credential helper is gone.
func foreign(t *testing.T) []string {
	t.Helper()
	docker := t.TempDir()
	if err := os.WriteFile(filepath.Join(docker, "config.json"), []byte(`{"credsStore":"gone"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const deadProxy = "http://127.0.0.1:9"
	return []string{
		"HTTPS_PROXY=" + deadProxy, "HTTP_PROXY=" + deadProxy, "NO_PROXY=intranet.example", "CGO_ENABLED=1", "GOFLAGS=-mod=mod",
		"PULUMI_CONFIG_PASSPHRASE=of another project", "DOCKER_CONFIG=" + docker,
		// The registry has every image. With auto, a dead proxy would mean that they are built.
		"IMAGES=pull",
	}
}

// firewall drops what pods send to this machine until the test ends, answers too, which is stricter
// than ufw.
func firewall(t *testing.T) {
	t.Helper()
	change := func(how string) {
		t.Helper()
		ctx := context.WithoutCancel(t.Context())
		out, err := exec.CommandContext(ctx, "iptables", "-w", how, "INPUT", "-s", "10.214.0.0/24", "-j", "DROP").CombinedOutput()
		if err != nil {
			t.Errorf("iptables %s: %v\n%s", how, err, out)
		}
	}
	change("-A")
	t.Cleanup(func() { change("-D") })
}

func sysctls(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, name := range []string{"net.ipv4.conf.all.route_localnet"} {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		if err != nil {
			t.Fatal(err)
		}
		values[name] = string(b)
	}
	return values
}

// TestInterruptedUpGoesOn interrupts make up in every phase, as Ctrl-C does, and runs it again.
func TestInterruptedUpGoesOn(t *testing.T) {
	if !full {
		t.Skip("only in make e2e-full")
	}
	for _, phase := range []string{"starting Kubernetes", "the cluster is ready", "pulumi up:"} {
		mk(t, "down")
		changePage(t, phase+time.Now().String())
		up := start(t, "make", "--no-print-directory", "up")
		eventually(t, 5*time.Minute, phase, func() error {
			if !strings.Contains(up.out.String(), phase) {
				return fmt.Errorf("not seen in\n%s", up.out.String())
			}
			return nil
		})
		if err := syscall.Kill(-up.cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if out := up.wait(t, 2*time.Minute, false); !strings.Contains(out, "interrupted") {
			t.Errorf("make up, interrupted at %q, does not say so:\n%s", phase, out)
		}
	}
	mk(t, "up")
}

// TestImageThatDoesNotStart deploys an image that does not exist. pulumi up fails and names
// the reason, and stable goes on serving.
func TestImageThatDoesNotStart(t *testing.T) {
	if !full {
		t.Skip("only in make e2e-full")
	}
	stable := version(t)
	shell(t, `cp Pulumi.local.yaml .local/before.yaml; pulumi config set -s local --path 'loja-veloz:images.`+service+
		`' localhost:5000/`+service+`@sha256:`+strings.Repeat("0", 64))
	out := start(t, "bash", "-ec", `eval "$(make --no-print-directory env)"; pulumi up --yes --skip-preview -s local`).
		wait(t, 15*time.Minute, false)
	if !strings.Contains(out, "ImagePull") {
		t.Errorf("the output of pulumi up does not contain the pods' error ImagePull...:\n%s", out)
	}
	if v := version(t); v != stable {
		t.Errorf("version %s is served, want the stable %s", v, stable)
	}
	shell(t, `cp .local/before.yaml Pulumi.local.yaml; pulumi up --yes --skip-preview -s local`)
}

func TestDestroyLeavesNothing(t *testing.T) {
	shell(t, `pulumi destroy --yes --skip-preview -s local`)
	leavesNothing(t)
}

// leavesNothing checks that the cluster has only the namespaces of Kubernetes itself, and no
// custom resource definitions.
func leavesNothing(t *testing.T) {
	t.Helper()
	out, err := kubectl("get", "namespaces,customresourcedefinitions", "-o", "name")
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(out)) {
		switch name = strings.TrimSpace(name); name {
		case "namespace/default", "namespace/kube-system", "namespace/kube-public", "namespace/kube-node-lease":
		default:
			if !strings.HasPrefix(name, "namespace/marker-") {
				t.Errorf("pulumi destroy left %s", name)
			}
		}
	}
}

// TestAnotherCluster uses the cluster, which is empty now, by KUBE_CONTEXT, as if it were the
// user's own. It runs in a copy of the repo to which it adds a service.
func TestAnotherCluster(t *testing.T) {
	if !full {
		t.Skip("only in make e2e-full")
	}
	repo := t.TempDir()
	local, err := filepath.Abs(filepath.Join(root, ".local"))
	if err != nil {
		t.Fatal(err)
	}
	there := func(lines string) string {
		return start(t, "bash", "-ec", `cd `+repo+`
			export KUBECONFIG=`+local+`/cluster/kubeconfig KUBE_CONTEXT=`+cluster.Context+`
			`+lines).wait(t, 15*time.Minute, true)
	}
	volume(t, "shop")
	volume(t, "registry")
	registryImage(t)
	start(t, "bash", "-ec", `git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t `+repo).
		wait(t, time.Minute, true)
	out := there("make --no-print-directory new-service NAME=wishlist; make --no-print-directory up")
	for _, want := range []string{"port-forward", "the cluster has no registry: images go to one in its namespace"} {
		if !strings.Contains(out, want) {
			t.Errorf("make up does not say %q:\n%s", want, out)
		}
	}
	if image := must(t, "-n", "shop", "get", "rollout", "estoque", "-o", "jsonpath={.spec.template.spec.containers[0].image}"); !strings.HasPrefix(image, "127.0.0.1:30500/") {
		t.Errorf("estoque runs %s, which is not from the registry in the cluster", image)
	}
	forward := start(t, filepath.Join(local, "bin", "kubectl"), "--kubeconfig="+filepath.Join(local, "cluster", "kubeconfig"),
		"-n", "gateway", "port-forward", "service/traefik", "30081:80")
	eventually(t, time.Minute, "the port is forwarded", func() error {
		if !strings.Contains(forward.out.String(), "Forwarding from") {
			return errors.New(forward.out.String())
		}
		return nil
	})
	for path, want := range map[string]string{"/health": `"status":"ok"`, "/wishlist": "wishlist", "/api/estoque": "SHOE-VENTO"} {
		resp, body := fetch(t, "GET", "http://localhost:30081"+path, "")
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("GET %s = %s %s, want 200 and %q", path, resp.Status, body, want)
		}
	}
	if out := there("make --no-print-directory status SERVICE=wishlist"); !strings.Contains(out, "wishlist: healthy") {
		t.Errorf("make status: %s", out)
	}
	there("make --no-print-directory down")
	leavesNothing(t)
}

// registryImage packs the registry of Debian, the same program in an older version, as the image
// that make up installs in a cluster without a registry.
func registryImage(t *testing.T) {
	t.Helper()
	libraries := start(t, "bash", "-ec", `ldd /usr/bin/docker-registry | grep -o '/[^ ]*'`).wait(t, time.Minute, true)
	files := []images.File{{
		Path: "etc/registry.yml", Mode: 0o644, Data: []byte("version: 0.1\nstorage: {filesystem: {}}\nhttp: {addr: ':5000'}\n"),
	}}
	for _, path := range append(strings.Fields(libraries), "/usr/bin/docker-registry") {
		file, err := images.Program(path, path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	run := images.Process{Entrypoint: []string{"/usr/bin/docker-registry", "serve", "/etc/registry.yml"}}
	if err := images.Registry(cluster.Registry).PushProcess(t.Context(), "docker.io/library/registry:3.0.0", run, files...); err != nil {
		t.Fatal(err)
	}
}

// volume creates a volume for one claim, because the cluster has no storage class.
func volume(t *testing.T, name string) {
	t.Helper()
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(t.TempDir(), "volume.json")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":%q},"spec":{"capacity":{"storage":"10Gi"},
		"accessModes":["ReadWriteOnce"],"persistentVolumeReclaimPolicy":"Retain","hostPath":{"path":%q}}}`, name, folder)
	if err := os.WriteFile(object, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := kubectl("apply", "-f", object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := kubectl("delete", "persistentvolume", name); err != nil {
			t.Error(err)
		}
	})
}

// TestGitOps brings the environment up with Argo CD, in the empty cluster that the test before has left,
// and ships a good version of one service with a bad one of another, as a group: git has the stable
// versions of both again.
func TestGitOps(t *testing.T) {
	mk(t, "up", "DELIVERY=gitops")
	if o := place(t, "tok_approved"); o.State != "confirmed" {
		t.Fatalf("an order is %s", o.State)
	}
	const good = "pedidos"
	before := map[string]string{judged: digestInGit(t, judged), good: digestInGit(t, good)}
	shipBadGroup(t, good)
	isBackInGit(t, judged, before[judged], "errors: .* of .* requests to the new version are bad[^\\n]*\nTrace: [0-9a-f]{32}\n")
	isBackInGit(t, good, before[good], judged+", which ships with it in the group .*, was aborted")
	memoryOfDelivery(t)
	nothingSyncs(t)
	shell(t, `pulumi destroy --yes --skip-preview -s local`)
	leavesNothing(t)
}

// TestUpAfterDestroy brings the environment up where one was destroyed: without a restart, the API server
// would go on with the quarantine of that one.
func TestUpAfterDestroy(t *testing.T) {
	out := start(t, "make", "--no-print-directory", "up", "DELIVERY=pulumi").wait(t, 40*time.Minute, true)
	if !strings.Contains(out, "restarted the API server") {
		t.Errorf("make up does not restart the API server:\n%s", out)
	}
	mk(t, "down")
}

// needsCluster brings the environment up, if it does not run, for tests that change nothing of
// how it is installed.
func needsCluster(t *testing.T) {
	t.Helper()
	if response, err := http.Get(url + "/health"); err == nil {
		_ = response.Body.Close()
		return
	}
	mk(t, "up")
}

// lockedBuffer is a buffer that the test reads while a command writes it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
