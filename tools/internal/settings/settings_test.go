package settings

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

func newReader(t *testing.T) *Reader {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"Pulumi.dev.yaml": "", "Pulumi.prod.yaml": "", "Pulumi.local.yaml": "",
		"apps/shop/service.yaml": "port: 8081", "apps/database/service.yaml": "kind: setup",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{
		"KUBE_CONTEXT", "REGISTRY", "IMAGES", "LOJA_DATA", "SERVICE", "WAIT", "LOAD", "URL_PATH", "RATE", "REQUESTS",
		"STACK", "DIFF", "ONLINE", "COMMENT", "REASON", "WHAT", "TOOLS", "TOOLS_MIRROR", "FORMAT", "YES", "REFRESH", "FILE", "PULL_REQUEST", "ISSUE",
		"EXPECT", "PULUMI_BACKEND_URL", "GITHUB_TOKEN", "GITHUB_STEP_SUMMARY", "GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_OUTPUT",
	} {
		t.Setenv(v, "")
	}
	return NewReader(root)
}

func TestDefaults(t *testing.T) {
	r := newReader(t)
	m, deploy, load := r.Machine(), r.Deploy(), r.Load()
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if m.Registry != "localhost:5000" || m.Images != "auto" || m.Tools != "auto" || m.Mirror != "" || m.Data != repo.Local(r.root, "cluster") {
		t.Errorf("the machine is %+v", m)
	}
	if len(deploy.Programs) > 0 || !deploy.Wait || !deploy.Load {
		t.Errorf("a deploy is %+v", deploy)
	}
	if load != (Load{Path: "/", PerSecond: 20, Requests: 1200}) {
		t.Errorf("a load is %+v", load)
	}
	if got := r.Services(); len(got) != 1 || got[0] != "shop" {
		t.Errorf("services are %v", got)
	}
}

// refused fails unless the reader's error names every variable.
func refused(t *testing.T, r *Reader, variables ...string) {
	t.Helper()
	err := r.Err()
	if err == nil {
		t.Fatalf("%v are accepted", variables)
	}
	for _, v := range variables {
		if !strings.Contains(err.Error(), v) {
			t.Errorf("the error does not name %s: %v", v, err)
		}
	}
}

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	r := newReader(t)
	for name, v := range map[string]string{
		"IMAGES": "steal", "REGISTRY": "example.com", "SERVICE": "shoop", "WAIT": "no", "LOAD": "0",
		"URL_PATH": "x", "TOOLS": "steal", "TOOLS_MIRROR": "mirror.example", "RATE": "1001", "REQUESTS": "many", "STACK": "nope", "DIFF": "yes", "ONLINE": "2",
	} {
		t.Setenv(name, v)
	}
	r.Machine()
	r.Deploy()
	r.Load()
	r.Preview()
	refused(t, r, "IMAGES", "TOOLS is", "TOOLS_MIRROR", "REGISTRY", "SERVICE=shoop", "WAIT", "LOAD", "URL_PATH", "RATE", "REQUESTS", "DIFF", "ONLINE",
		"STACK=nope has no Pulumi.nope.yaml: name one of dev, prod")
}

func TestAnotherClusterNeedsNoRegistry(t *testing.T) {
	r := newReader(t)
	t.Setenv("KUBE_CONTEXT", "kind")
	if m := r.Machine(); r.Err() != nil || m.Registry != "" {
		t.Errorf("the registry is %q (%v)", m.Registry, r.Err())
	}
}

func TestDeployTakesSeveralServices(t *testing.T) {
	r := newReader(t)
	t.Setenv("SERVICE", "shop,database")
	t.Setenv("GROUP", "sale-2")
	if d := r.Deploy(); r.Err() != nil || strings.Join(d.Programs, " ") != "shop database" || d.Group != "sale-2" {
		t.Errorf("deploying two: %v, %v", d, r.Err())
	}
	r.Service()
	refused(t, r, `SERVICE is "shop,database": name one`)
	r = newReader(t)
	t.Setenv("SERVICE", "shop,shop")
	t.Setenv("GROUP", "a b")
	r.Deploy()
	refused(t, r, `SERVICE is "shop,shop": it names shop twice`, `GROUP is "a b": use letters`)
}

func TestOnlyAServiceHasACanary(t *testing.T) {
	r := newReader(t)
	t.Setenv("SERVICE", "database")
	if d := r.Deploy(); r.Err() != nil || len(d.Programs) != 1 {
		t.Errorf("deploying database: %v, %v", d, r.Err())
	}
	r.Service()
	refused(t, r, "SERVICE=database is not a service: name one of shop")
}

func TestServiceIsRequired(t *testing.T) {
	r := newReader(t)
	r.Service()
	refused(t, r, "SERVICE is not set: name one of shop")
}

func TestAReleaseNeedsAReason(t *testing.T) {
	r := newReader(t)
	t.Setenv("SERVICE", "shop")
	t.Setenv("REASON", "the registry was down")
	if release := r.Release(); release != (Release{Service: "shop", Reason: "the registry was down"}) || r.Err() != nil {
		t.Errorf("the release is %+v (%v)", release, r.Err())
	}
	t.Setenv("REASON", " ")
	if abort := r.Abort(); abort.Service != "shop" || r.Err() != nil {
		t.Errorf("an abort without a reason is %+v (%v)", abort, r.Err())
	}
	r.Release()
	refused(t, r, "REASON is not set")
}

func TestOnlineNeedsABackend(t *testing.T) {
	r := newReader(t)
	t.Setenv("STACK", "dev")
	t.Setenv("ONLINE", "1")
	t.Setenv("PULUMI_BACKEND_URL", "")
	if p := r.Preview(); p.Stack != "dev" || !p.Online {
		t.Errorf("the preview is %+v", p)
	}
	refused(t, r, "PULUMI_BACKEND_URL")
}

func TestCommentNeedsAFolderAndNoDiff(t *testing.T) {
	r := newReader(t)
	folder := t.TempDir()
	t.Setenv("STACK", "dev")
	t.Setenv("COMMENT", filepath.Join(folder, "comment.md"))
	if p := r.Preview(); r.Err() != nil || p.Comment != filepath.Join(folder, "comment.md") {
		t.Errorf("the preview is %+v (%v)", p, r.Err())
	}
	for comment, want := range map[string]string{folder: "a folder", filepath.Join(folder, "none", "comment.md"): "does not exist"} {
		r := newReader(t)
		t.Setenv("STACK", "dev")
		t.Setenv("COMMENT", comment)
		t.Setenv("DIFF", "1")
		r.Preview()
		refused(t, r, "COMMENT is", want, "DIFF=1 and COMMENT exclude each other")
	}
}

func TestTheFaultsAreThoseOfTheServices(t *testing.T) {
	source, err := os.ReadFile("../../../apps/internal/fault/inject.go")
	if err != nil {
		t.Fatal(err)
	}
	if known := `case "` + strings.Join(Faults, `", "`) + `":`; !strings.Contains(string(source), known) {
		t.Errorf("apps/internal/fault does not have the line %s", known)
	}
}

// TestStacksInAWSNeedABackend: the account's stack is one, the local environment is one of outputs alone.
func TestStacksInAWSNeedABackend(t *testing.T) {
	for _, read := range []func(*Reader){
		func(r *Reader) { r.Outputs() }, func(r *Reader) { r.Update() }, func(r *Reader) { r.Drift() },
	} {
		r := newReader(t)
		read(r)
		refused(t, r, "STACK is not set", "PULUMI_BACKEND_URL")
		t.Setenv("STACK", "account")
		t.Setenv("PULUMI_BACKEND_URL", "s3://state")
		r = NewReader(r.root)
		if read(r); r.Err() != nil {
			t.Error(r.Err())
		}
	}
	r := newReader(t)
	t.Setenv("STACK", "local")
	t.Setenv("FORMAT", "github")
	t.Setenv("GITHUB_OUTPUT", "file")
	if o := r.Outputs(); r.Err() != nil || o != (Outputs{Stack: "local", GitHub: true, File: "file"}) {
		t.Errorf("the outputs of the local environment are %+v (%v)", o, r.Err())
	}
	r.Update()
	refused(t, r, "STACK=local is the local environment")
}

func TestCommentNeedsAPlaceAndAToken(t *testing.T) {
	r := newReader(t)
	file := filepath.Join(t.TempDir(), "comment.md")
	r.Comment()
	refused(t, r, "FILE", "GITHUB_TOKEN is not set")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FILE", file)
	t.Setenv("GITHUB_STEP_SUMMARY", "summary") // a fork has no token, and needs nothing else
	r = NewReader(r.root)
	if c := r.Comment(); r.Err() != nil || c.Token != "" || c.Summary != "summary" {
		t.Errorf("without a token, the comment is %+v (%v)", c, r.Err())
	}
	t.Setenv("GITHUB_TOKEN", "token")
	t.Setenv("GITHUB_REPOSITORY", "platform")
	r.Comment()
	refused(t, r, "either PULL_REQUEST")
	t.Setenv("PULL_REQUEST", "12")
	r = NewReader(r.root)
	r.Comment()
	refused(t, r, "GITHUB_REPOSITORY")
	t.Setenv("GITHUB_REPOSITORY", "loja-veloz/platform")
	r = NewReader(r.root)
	if c := r.Comment(); r.Err() != nil || c.PullRequest != 12 || c.API != "https://api.github.com" {
		t.Errorf("the comment is %+v (%v)", c, r.Err())
	}
}

func TestPublish(t *testing.T) {
	for _, name := range []string{
		"GITHUB_ACTIONS", "GITHUB_REPOSITORY", "COSIGN_PRIVATE_KEY", "COSIGN_PUBLIC_KEY", "COSIGN_PASSWORD", "SIGNING", "SIGNER", "REGISTRY", "KUBE_CONTEXT",
	} {
		t.Setenv(name, "")
	}
	read := func(variables ...string) (Publish, error) {
		t.Helper()
		for _, v := range variables {
			name, value, _ := strings.Cut(v, "=")
			t.Setenv(name, value)
		}
		r := NewReader(t.TempDir())
		p := r.Publish()
		r.Machine()
		return p, r.Err()
	}
	if p, err := read(); err != nil || p.Keyless || p.Registry != cluster.Registry {
		t.Errorf("on a machine: %+v, %v", p, err)
	}
	if p, err := read("REGISTRY=registry.example.com/loja/"); err != nil || p.Registry != "registry.example.com/loja" {
		t.Errorf("another registry without a cluster: %+v, %v", p, err)
	}
	if _, err := read("COSIGN_PRIVATE_KEY=pem"); err == nil || !strings.Contains(err.Error(), "set SIGNING=keyless") {
		t.Errorf("a second key on a machine: %v", err)
	}
	if _, err := read("SIGNING=keyless", "COSIGN_PRIVATE_KEY="); err == nil || !strings.Contains(err.Error(), "SIGNER is not set") {
		t.Errorf("keyless without a signer: %v", err)
	}
	p, err := read("SIGNING=", "GITHUB_ACTIONS=true", "GITHUB_REPOSITORY=o/r.s")
	signer := regexp.MustCompile(p.Signer)
	if err != nil || !p.Keyless || p.SecondKey || !signer.MatchString("https://github.com/o/r.s/.github/workflows/release.yml@refs/heads/main") ||
		signer.MatchString("https://github.com/o/r.s/.github/workflows/release.yml@refs/heads/main2") ||
		signer.MatchString("https://github.com/o/r-s/.github/workflows/release.yml@refs/heads/main") {
		t.Errorf("in a workflow: %+v, %v", p, err)
	}
	if _, err := read("COSIGN_PRIVATE_KEY=pem", "COSIGN_PASSWORD=p"); err == nil || !strings.Contains(err.Error(), "COSIGN_PUBLIC_KEY") {
		t.Errorf("a second key without its public half: %v", err)
	}
	if p, err := read("COSIGN_PUBLIC_KEY=pem"); err != nil || !p.SecondKey {
		t.Errorf("a second key: %+v, %v", p, err)
	}
}
