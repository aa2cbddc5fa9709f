package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/kube"
)

// publicKey is that of no private key that anybody has kept.
const publicKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAER4MPHGe3ALP84ZSSLgYJpF8k5qpa
blFaBYefQ4nSuPZ8lWXkyDAdNUx6RRfS58XQRZce4GK6qY5cbghCe6ZKaQ==
-----END PUBLIC KEY-----`

// TestStrictDryRun sends every object of the environment to a real API server with the real
// CRDs, which refuses unknown fields, wrong types and invalid values. It also sends a pod of
// every template, into namespaces that enforce the restricted standard. The CRDs are the full
// ones of the Go modules, not the shortened ones that are deployed; the test sends those first,
// to check that the server accepts them too.
//
// LOJA_KUBE_BIN is a folder with kube-apiserver and etcd; make test sets it.
func TestStrictDryRun(t *testing.T) {
	bin := os.Getenv("LOJA_KUBE_BIN")
	if bin == "" {
		t.Skip("LOJA_KUBE_BIN is not set: run make test, which builds kube-apiserver and etcd and sets it")
	}
	stages := objectsOf(t, map[string]string{
		"loja-veloz:gateway":  `{"replicas": 2}`,
		"loja-veloz:delivery": `{"publicKey": ` + strconv.Quote(publicKey) + `}`,
		"loja-veloz:database": `{"localPath": "/var/lib/loja-veloz/postgres"}`,
		"loja-veloz:services": `{"sample-web-app": {"env": {"GREETING": "hello"}}}`,
	})
	server := startAPIServer(t, bin)

	// Definitions and namespaces are created for real, because other objects need them.
	upstream := map[string]map[string]any{}
	readDefinitions(t, "github.com/argoproj/argo-rollouts", "manifests/crds", upstream)
	readDefinitions(t, "sigs.k8s.io/gateway-api", "config/crd/standard", upstream)
	used := 0
	var rest []map[string]any
	for _, m := range stages.All() {
		fields, err := kube.Encode(m.Object)
		if err != nil {
			t.Fatal(err)
		}
		switch fields["kind"] {
		case "CustomResourceDefinition":
			if err := server.apply(t.Context(), fields, true); err != nil {
				t.Error(err)
			}
			if full, there := upstream[m.Object.GetName()]; there {
				fields = full
				used++
			}
			fallthrough
		case "Namespace":
			if err := server.apply(t.Context(), fields, false); err != nil {
				t.Fatal(err)
			}
		default:
			rest = append(rest, fields)
		}
	}
	if used != len(upstream) {
		t.Errorf("the environment deploys %d of the %d definitions that the modules have", used, len(upstream))
	}
	server.takes(t, rest)

	// The charts' objects are missing, but their definitions are there, and our objects of those
	// kinds are checked against them.
	readCharts(t, server)
	delivered, signed := inMode(t, true), stackFile(t, "dev")
	signed["loja-veloz:delivery"] = signedMode
	for name, values := range map[string]map[string]string{
		"dev": stackFile(t, "dev"), "prod": stackFile(t, "prod"),
		"dev, gitops": delivered["dev"].values, "prod, gitops": delivered["prod"].values,
		"dev, signed": signed,
	} {
		t.Run(name, func(t *testing.T) {
			environment, _, _ := strings.Cut(name, ",")
			recorder, err := inCloud(t, environment, values)
			if err != nil {
				t.Fatal(err)
			}
			var rest []map[string]any
			for _, r := range recorder.Resources() {
				switch {
				case !strings.HasPrefix(r.Type, "kubernetes:") || strings.HasPrefix(r.Type, "kubernetes:helm.sh/"):
				case r.Inputs["kind"] == "CustomResourceDefinition", r.Inputs["kind"] == "Namespace":
					if err := server.apply(t.Context(), r.Inputs, false); err != nil {
						t.Error(err)
					}
				default:
					rest = append(rest, resource.NewPropertyMapFromMap(r.Inputs).MapRepl(nil, opened))
				}
			}
			server.takes(t, rest)
		})
	}

	t.Run("refuses what is wrong", func(t *testing.T) {
		for _, fields := range rest {
			if fields["kind"] != "Rollout" {
				continue
			}
			broken := clone(t, fields)
			broken["spec"].(map[string]any)["weightless"] = true
			if err := server.apply(t.Context(), broken, true); err == nil || !strings.Contains(err.Error(), "weightless") {
				t.Errorf("a Rollout with an unknown field gives %v", err)
			}
			root := podOf(clone(t, fields))
			root["spec"].(map[string]any)["securityContext"] = map[string]any{"runAsUser": 0}
			if err := server.apply(t.Context(), root, true); err == nil || !strings.Contains(err.Error(), "restricted") {
				t.Errorf("a pod that runs as root gives %v", err)
			}
			return
		}
		t.Error("the environment has no Rollout")
	})
}

// readCharts creates the definitions of the test charts, and of Argo CD, which are complete.
func readCharts(t *testing.T, server *apiServer) {
	t.Helper()
	files := 0
	read := func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, "/crds/") {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var definition map[string]any
		if err := yaml.Unmarshal(raw, &definition); err != nil {
			return err
		}
		return server.apply(t.Context(), definition, false)
	}
	for _, folder := range []string{"../../infra/charts/testcharts", "../../infra/gitops/crds"} {
		if err := filepath.WalkDir(folder, read); err != nil {
			t.Fatal(err)
		}
	}
	if files == 0 {
		t.Fatal("the test charts have no definitions")
	}
}

// readDefinitions adds the CRDs in a folder of a Go module in go.mod.
func readDefinitions(t *testing.T, module, folder string, into map[string]map[string]any) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("finding %s: %v", module, err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no files in %s (%v)", module, folder, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		definition := map[string]any{}
		if err := yaml.Unmarshal(raw, &definition); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if definition["kind"] == "CustomResourceDefinition" {
			into[definition["metadata"].(map[string]any)["name"].(string)] = definition
		}
	}
}

// podOf returns a pod of an object's pod template, or nil.
func podOf(fields map[string]any) map[string]any {
	spec, _ := fields["spec"].(map[string]any)
	template, _ := spec["template"].(map[string]any)
	kinds := []any{"Deployment", "Rollout", "StatefulSet", "Job"}
	if !slices.Contains(kinds, fields["kind"]) || template == nil {
		return nil
	}
	meta := fields["metadata"].(map[string]any)
	labels := template["metadata"].(map[string]any)["labels"]
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
		"metadata": map[string]any{"name": meta["name"], "namespace": meta["namespace"], "labels": labels},
	}
}

func clone(t *testing.T, fields map[string]any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	c := map[string]any{}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// opened is what the engine sends of a secret.
func opened(v resource.PropertyValue) (any, bool) {
	if !v.IsSecret() {
		return nil, false
	}
	return v.SecretValue().Element.V, true
}

// apiServer is a kube-apiserver on loopback.
type apiServer struct {
	url    string
	client *http.Client
	// certificate is the file with its serving certificate.
	certificate string
	// resources caches discovery: "apiVersion kind" to its resource.
	resources map[string]apiResource
}

type apiResource struct {
	Name       string `json:"name"`
	Kind       string `json:"kind"`
	Namespaced bool   `json:"namespaced"`
}

const token = "dry-run"

func startAPIServer(t *testing.T, bin string) *apiServer {
	t.Helper()
	dir := t.TempDir()
	etcd, etcdPeer, port := freePort(t), freePort(t), freePort(t)
	launch(t, bin, "etcd", "--data-dir="+filepath.Join(dir, "etcd"),
		"--listen-client-urls=http://"+etcd, "--advertise-client-urls=http://"+etcd,
		"--listen-peer-urls=http://"+etcdPeer, "--initial-advertise-peer-urls=http://"+etcdPeer,
		"--initial-cluster=default=http://"+etcdPeer, "--unsafe-no-fsync")

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	keyFile := write(t, dir, "service-accounts.key", encoded)
	tokens := write(t, dir, "tokens.csv", []byte(token+",dry-run,dry-run,system:masters\n"))
	_, portNumber, _ := net.SplitHostPort(port)
	certificates := filepath.Join(dir, "certificates")
	launch(t, bin, "kube-apiserver", "--etcd-servers=http://"+etcd,
		"--bind-address=127.0.0.1", "--secure-port="+portNumber, "--cert-dir="+certificates,
		"--service-account-issuer=https://dry-run", "--service-account-key-file="+keyFile, "--service-account-signing-key-file="+keyFile,
		"--token-auth-file="+tokens, "--authorization-mode=RBAC",
		// A dry run does not really create the ServiceAccounts that pods refer to.
		"--disable-admission-plugins=ServiceAccount")

	server := &apiServer{
		url: "https://" + port, certificate: filepath.Join(certificates, "apiserver.crt"), resources: map[string]apiResource{},
	}
	waitFor(t, "kube-apiserver to be ready", func() error {
		certificate, err := os.ReadFile(server.certificate)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(certificate) {
			return errors.New("its certificate is not written yet")
		}
		server.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		if _, err := server.do(t.Context(), http.MethodGet, "/readyz", nil, nil); err != nil {
			return err
		}
		_, err = server.do(t.Context(), http.MethodGet, "/api/v1/namespaces/kube-system", nil, nil)
		return err
	})
	return server
}

// launch starts one program of the folder and ends it with the test.
func launch(t *testing.T, bin, name string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			t.Logf("the end of %s's log:\n%s", name, strings.Join(lines[max(0, len(lines)-10):], "\n"))
		}
	})
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// freePort returns an address of loopback on which no process listens. The port is below those
// that Linux hands out by itself (32768 and higher) and below Kubernetes' node ports (30000 and
// higher): another process would take one of those before the program here listens.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+mathrand.IntN(18000)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close()
		return listener.Addr().String()
	}
	t.Fatal("of 100 ports of 127.0.0.1 that were tried, every one is in use")
	return ""
}

// waitFor calls try until it succeeds, for up to 90 seconds: a busy machine starts an API
// server slowly.
func waitFor(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// waitUntilServed waits until the server serves every kind, including those of new definitions.
func (s *apiServer) waitUntilServed(t *testing.T, objects []map[string]any) {
	t.Helper()
	for _, fields := range objects {
		waitFor(t, fmt.Sprintf("%s %s to be served", fields["apiVersion"], fields["kind"]), func() error {
			_, err := s.resource(t.Context(), fields)
			return err
		})
	}
}

// takes sends objects, and pods of their templates, as strict dry runs.
func (s *apiServer) takes(t *testing.T, objects []map[string]any) {
	t.Helper()
	s.waitUntilServed(t, objects)
	for _, fields := range objects {
		if err := s.apply(t.Context(), fields, true); err != nil {
			t.Error(err)
		}
		if pod := podOf(fields); pod != nil {
			if err := s.apply(t.Context(), pod, true); err != nil {
				t.Error(err)
			}
		}
	}
}

func (s *apiServer) resource(ctx context.Context, fields map[string]any) (apiResource, error) {
	apiVersion, kind := fields["apiVersion"].(string), fields["kind"].(string)
	if known, there := s.resources[apiVersion+" "+kind]; there {
		return known, nil
	}
	body, err := s.do(ctx, http.MethodGet, groupPath(apiVersion), nil, nil)
	if err != nil {
		return apiResource{}, err
	}
	var list struct{ Resources []apiResource }
	if err := json.Unmarshal(body, &list); err != nil {
		return apiResource{}, err
	}
	for _, r := range list.Resources {
		if r.Kind == kind && !strings.Contains(r.Name, "/") {
			s.resources[apiVersion+" "+kind] = r
			return r, nil
		}
	}
	return apiResource{}, fmt.Errorf("the API server has no %s %s", apiVersion, kind)
}

func groupPath(apiVersion string) string {
	if !strings.Contains(apiVersion, "/") {
		return "/api/" + apiVersion
	}
	return "/apis/" + apiVersion
}

// apply applies one object with strict validation.
func (s *apiServer) apply(ctx context.Context, fields map[string]any, dryRun bool) error {
	meta := fields["metadata"].(map[string]any)
	object := fmt.Sprintf("%s %v", fields["kind"], meta["name"])
	resource, err := s.resource(ctx, fields)
	if err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	path := groupPath(fields["apiVersion"].(string))
	if resource.Namespaced {
		namespace, _ := meta["namespace"].(string)
		if namespace == "" {
			return fmt.Errorf("%s has no namespace", object)
		}
		path += "/namespaces/" + namespace
	}
	path += fmt.Sprintf("/%s/%s", resource.Name, url.PathEscape(meta["name"].(string)))
	query := url.Values{"fieldValidation": {"Strict"}, "fieldManager": {"loja-veloz"}, "force": {"true"}}
	if dryRun {
		query.Set("dryRun", "All")
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	if _, err := s.do(ctx, http.MethodPatch, path, query, body); err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	return nil
}

func (s *apiServer) do(ctx context.Context, method, path string, query url.Values, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.url+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/apply-patch+yaml")
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		var status struct{ Message string }
		if json.Unmarshal(answer, &status) == nil && status.Message != "" {
			return nil, fmt.Errorf("%s: %s", response.Status, status.Message)
		}
		return nil, fmt.Errorf("%s: %s", response.Status, answer)
	}
	return answer, nil
}
