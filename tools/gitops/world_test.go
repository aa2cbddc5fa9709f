//go:build e2e

package gitops

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/tools/internal/gitserver"
	"github.com/loja-veloz/platform/tools/internal/process"
)

const root = "../.."

// world is everything that the loop needs, with one service, estoque.
type world struct {
	t               *testing.T
	dir, kubeconfig string
	gitURL, token   string
	pids            map[string]int
	bad             atomic.Bool // what the judge measures
	kube            string
}

// newWorld starts all programs, and ends them with the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), pids: map[string]int{}}
	w.kubeconfig = filepath.Join(w.dir, "kubeconfig")
	w.serveGit()
	w.startAPIServer()
	judge := httptest.NewServer(http.HandlerFunc(w.measure))
	t.Cleanup(judge.Close)
	w.write("services/estoque/analysistemplate.yaml", strings.ReplaceAll(analysis, "PROMETHEUS", judge.URL))
	w.install()
	w.startControllers()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.markPodsReady(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return w
}

// measure answers as Prometheus does.
func (w *world) measure(rw http.ResponseWriter, _ *http.Request) {
	value := "0"
	if w.bad.Load() {
		value = "0.31"
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(rw, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,"`+value+`"]}]}}`)
}

func (w *world) serveGit() {
	w.t.Helper()
	folder := filepath.Join(w.dir, "git")
	w.fail(gitserver.Init(w.t.Context(), folder, "deployments.git", "main"))
	handler, err := gitserver.Handler(folder)
	w.fail(err)
	server := httptest.NewServer(handler)
	w.t.Cleanup(server.Close)
	w.token, err = gitserver.Token(folder)
	w.fail(err)
	w.gitURL = server.URL + "/deployments.git"
	w.clone("init", "--quiet", "--initial-branch=main")
}

func (w *world) startAPIServer() {
	w.t.Helper()
	etcd, peer, port := w.port(), w.port(), w.port()
	w.start("etcd", nil, w.program("etcd"), "--data-dir="+filepath.Join(w.dir, "etcd"), "--log-level=warn",
		"--listen-client-urls=http://"+etcd, "--advertise-client-urls=http://"+etcd, "--listen-peer-urls=http://"+peer,
		"--initial-advertise-peer-urls=http://"+peer, "--initial-cluster=default=http://"+peer, "--unsafe-no-fsync")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	w.fail(err)
	accounts := w.file("accounts.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	const admin = "administrator"
	tokens := w.file("tokens.csv", admin+",admin,admin,system:masters\n")
	certificates := filepath.Join(w.dir, "certificates")
	w.start("kube-apiserver", nil, w.program("kube-apiserver"), "--etcd-servers=http://"+etcd, "--bind-address=127.0.0.1",
		"--secure-port="+port[strings.LastIndex(port, ":")+1:], "--cert-dir="+certificates, "--service-account-issuer=https://gitops",
		"--service-account-key-file="+accounts, "--service-account-signing-key-file="+accounts, "--token-auth-file="+tokens,
		"--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")
	w.kube = fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"+
		"clusters: [{name: c, cluster: {server: https://%s, certificate-authority: %s/apiserver.crt}}]\nusers: [{name: u, user: {token: TOKEN}}]\n",
		port, certificates)
	w.file("kubeconfig", strings.ReplaceAll(w.kube, "TOKEN", admin))
	w.await(2*time.Minute, "the API server is ready", func() error {
		_, err := w.try(w.t.Context(), "get", "--raw", "/readyz")
		return err
	})
	w.start("kube-controller-manager", nil, w.program("kube-controller-manager"), "--kubeconfig="+w.kubeconfig, "--leader-elect=false",
		"--bind-address=127.0.0.1", "--secure-port="+strings.Split(w.port(), ":")[1], "--use-service-account-credentials=false",
		"--controllers=replicaset-controller,garbage-collector-controller")
}

// install applies the objects that the stack applies, as the golden files have them.
func (w *world) install() {
	w.t.Helper()
	for _, name := range []string{"argocd", "shop", "tracing"} {
		w.kubectl("create", "namespace", name)
	}
	for _, folder := range []string{"delivery/crds", "gateway/traefik-crds", "gitops/crds/applications", "gitops/crds/appprojects"} {
		w.kubectl("apply", "--server-side", "-f", filepath.Join(root, "infra", folder))
	}
	for _, file := range []string{"delivery/testdata/localargocd.yaml", "delivery/testdata/rollback.yaml", "workload/testdata/quarantine.yaml"} {
		w.apply(w.golden(file))
	}
	objects := w.golden("gitops/testdata/applications.yaml")
	for _, o := range objects {
		spec := o["spec"].(map[string]any)
		if o["kind"] == "AppProject" {
			spec["sourceRepos"] = []any{w.gitURL}
			for group, kind := range map[string]string{"traefik.io": "TraefikService", "autoscaling": "HorizontalPodAutoscaler", "argoproj.io": "AnalysisTemplate"} {
				spec["namespaceResourceWhitelist"] = append(spec["namespaceResourceWhitelist"].([]any), map[string]any{"group": group, "kind": kind})
			}
			continue
		}
		o["metadata"].(map[string]any)["name"] = "estoque"
		spec["source"] = map[string]any{"repoURL": w.gitURL, "targetRevision": "main", "path": "services/estoque"}
		ignored := func(group, kind, name, pointer string) map[string]any {
			return map[string]any{"group": group, "kind": kind, "name": name, "namespace": "shop", "jsonPointers": []any{pointer}}
		}
		spec["ignoreDifferences"] = []any{
			ignored("traefik.io", "TraefikService", "estoque", "/spec/weighted/services"),
			ignored("", "Service", "estoque-stable", "/spec/selector"), ignored("", "Service", "estoque-canary", "/spec/selector"),
		}
	}
	w.apply(objects)
}

// golden reads the objects of a golden file, without those that need a node.
func (w *world) golden(file string) []map[string]any {
	w.t.Helper()
	f, err := os.Open(filepath.Join(root, "infra", file))
	w.fail(err)
	defer f.Close()
	var all []map[string]any
	for d := yaml.NewDecoder(f); ; {
		var o map[string]any
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			w.t.Fatal(err)
		}
		data, _ := o["stringData"].(map[string]any)
		if data["type"] == "git" {
			data["url"] = w.gitURL
		}
		if kind := o["kind"]; kind != "Deployment" && kind != "Namespace" {
			all = append(all, o)
		}
	}
}

func (w *world) apply(objects []map[string]any) {
	w.t.Helper()
	var all strings.Builder
	e := yaml.NewEncoder(&all)
	for _, o := range objects {
		w.fail(e.Encode(o))
	}
	w.kubectl("apply", "--server-side", "-f", w.file("objects.yaml", all.String()))
}

func (w *world) startControllers() {
	w.t.Helper()
	redis, repoServer := w.port(), w.port()
	w.start("rollouts", nil, w.program("rollouts-controller"), "--kubeconfig="+w.kubeconfig, "--namespace=shop", "--leader-elect=false",
		"--traefik-api-group=traefik.io", "--traefik-api-version=traefik.io/v1alpha1", "--healthzPort="+portOf(w.port()), "--metricsPort="+portOf(w.port()))
	_, redisPort, _ := strings.Cut(redis, ":")
	server, err := exec.LookPath("redis-check-rdb")
	if err != nil {
		w.t.Fatal("redis-tools is not installed: make e2e-gitops installs it")
	}
	// The program is redis-server by this name.
	w.fail(os.Symlink(server, filepath.Join(w.dir, "redis-server")))
	w.start("redis", nil, filepath.Join(w.dir, "redis-server"), "--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--requirepass", "password")
	bin := filepath.Dir(w.program("argocd"))
	for _, name := range []string{"argocd-application-controller", "argocd-repo-server", "argocd-git-ask-pass", "kustomize"} {
		w.fail(os.Symlink(filepath.Join(bin, "argocd"), filepath.Join(w.dir, name)))
	}
	account := w.account("argocd", "argocd-application-controller")
	env := []string{
		"REDIS_PASSWORD=password", "ARGOCD_GPG_ENABLED=false", "ARGOCD_CONTROLLER_REPLICAS=1", "HOME=" + w.dir, "GOGC=50",
		"ARGOCD_FAKE_IN_CLUSTER=true", "KUBECONFIG=" + account, "PATH=" + w.dir + ":" + os.Getenv("PATH"),
	}
	w.start("argocd-repo-server", env, filepath.Join(w.dir, "argocd-repo-server"), "--redis="+redis, "--loglevel=warn", "--parallelismlimit=2",
		"--address=127.0.0.1", "--port="+portOf(repoServer), "--metrics-address=127.0.0.1", "--metrics-port="+portOf(w.port()))
	w.start("argocd-application-controller", env, filepath.Join(w.dir, "argocd-application-controller"), "--kubeconfig="+account,
		"--namespace=argocd", "--redis="+redis, "--repo-server="+repoServer, "--loglevel=warn", "--status-processors=2", "--operation-processors=2",
		"--kubectl-parallelism-limit=2", "--metrics-port="+portOf(w.port()))

	console := filepath.Join(w.dir, "console")
	build := exec.CommandContext(w.t.Context(), "go", "build", "-o", console, "./console")
	build.Dir, build.Env = filepath.Join(root, "apps"), append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("building the console: %v\n%s", err, out)
	}
	proxy := w.port()
	w.start("proxy", []string{"KUBECONFIG=" + w.account("argocd", "rollback")}, w.program("kubectl"), "proxy", "--port="+portOf(proxy))
	w.start("rollback", []string{
		"KUBERNETES_URL=http://" + proxy, "GIT_URL=" + w.gitURL, "GIT_PATH=services", "GIT_TOKEN_FILE=" + w.file("token", w.token),
		"PORT=" + portOf(w.port()), "POD_NAME=rollback",
	}, console, "rollback")
}

// account returns a kubeconfig with the rights of a service account.
func (w *world) account(namespace, name string) string {
	w.t.Helper()
	return w.file(name+".kubeconfig", strings.ReplaceAll(w.kube, "TOKEN", w.kubectl("-n", namespace, "create", "token", name, "--duration=8h")))
}

// release commits and pushes a version.
func (w *world) release(n int) {
	w.t.Helper()
	w.commit(fmt.Sprintf("release: estoque %d", n), func(string) {
		for name, text := range manifests {
			w.write("services/estoque/"+name, strings.ReplaceAll(text, "DIGEST", digest(n)))
		}
	})
}

// commit changes the service's directory, pushes that, and tells Argo CD.
func (w *world) commit(message string, change func(folder string)) {
	w.t.Helper()
	if _, err := w.tryGit("fetch", "--quiet", w.gitURL, "main"); err == nil {
		w.clone("reset", "--quiet", "--hard", "FETCH_HEAD")
	}
	change(filepath.Join(w.dir, "work", "services", "estoque"))
	w.clone("add", "--all")
	w.clone("-c", "user.name=release", "-c", "user.email=release@example.com", "commit", "--quiet", "-m", message)
	w.clone("push", "--quiet", strings.Replace(w.gitURL, "://", "://"+gitserver.User+":"+w.token+"@", 1), "HEAD:refs/heads/main")
	w.kubectl("-n", "argocd", "annotate", "--overwrite", "application", "estoque", "argocd.argoproj.io/refresh=normal")
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "work", name)
	w.fail(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)))
}

func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	w.fail(os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (w *world) fail(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must(check func() error) {
	w.t.Helper()
	if err := check(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) await(limit time.Duration, what string, check func() error) {
	w.t.Helper()
	if err := process.Await(w.t.Context(), limit, 200*time.Millisecond, func(context.Context) error { return check() }, nil); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// program finds one in the folders of LOJA_GITOPS_BIN, which make e2e-gitops sets.
func (w *world) program(name string) string {
	w.t.Helper()
	for _, folder := range filepath.SplitList(os.Getenv("LOJA_GITOPS_BIN")) {
		if path := filepath.Join(folder, name); executable(path) {
			return path
		}
	}
	w.t.Fatalf("LOJA_GITOPS_BIN has no %s: run make e2e-gitops", name)
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

func (w *world) port() string {
	w.t.Helper()
	port, err := process.FreePort(w.t.Context())
	w.fail(err)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func portOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }

// start starts a program that ends with the test, which prints its last lines if it has failed.
func (w *world) start(name string, env []string, args ...string) {
	w.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(w.t.Context()), args[0], args[1:]...)
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), env...)
	log := filepath.Join(w.dir, name+".log")
	f, err := os.Create(log)
	w.fail(err)
	cmd.Stdout, cmd.Stderr = f, f
	w.fail(process.Start(cmd, syscall.SIGKILL))
	w.pids[name] = cmd.Process.Pid
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = f.Close()
		if w.t.Failed() {
			w.t.Logf("the last lines of %s:\n%s", name, process.TailOf(log))
		}
	})
}

func (w *world) try(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.program("kubectl"), append([]string{"--kubeconfig=" + w.kubeconfig}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %v: %w: %s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := w.try(w.t.Context(), args...)
	w.fail(err)
	return out
}

// field reads a field of an object of the service, or of an Application.
func (w *world) field(kind, name, path string) string {
	w.t.Helper()
	return w.kubectl("-n", namespaceOf(kind), "get", kind, name, "-o", "jsonpath="+path)
}

func (w *world) object(kind, name string, into any) {
	w.t.Helper()
	w.fail(decode(w.kubectl("-n", namespaceOf(kind), "get", kind, name, "--ignore-not-found", "-o", "json"), into))
}

func namespaceOf(kind string) string {
	if kind == "application" {
		return "argocd"
	}
	return "shop"
}

func (w *world) tryGit(args ...string) (string, error) {
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = filepath.Join(w.dir, "work")
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null")
	if err := os.MkdirAll(cmd.Dir, 0o755); err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (w *world) clone(args ...string) string {
	w.t.Helper()
	out, err := w.tryGit(args...)
	w.fail(err)
	return out
}

// git reads the server's repository.
func (w *world) git(args ...string) string {
	w.t.Helper()
	return w.clone(append([]string{"--git-dir=" + filepath.Join(w.dir, "git", "deployments.git")}, args...)...)
}
