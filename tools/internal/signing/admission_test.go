package signing

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// An api is a kube-apiserver with the objects of infra/delivery, and policy-controller as a process.
type api struct {
	t                  *testing.T
	bin, dir, endpoint string
	kubeconfig         string
}

// TestUnsignedDoesNotRun sends pods to a real API server that asks the real policy-controller, by the
// objects that the program installs in the bundled cluster.
func TestUnsignedDoesNotRun(t *testing.T) {
	c := signer(t)
	a := startAPI(t)
	end := a.install(c, "signatures", nil)

	host := serve(t, nil)
	signed, unsigned, foreign := push(t, host+"/loja/pedidos:signed"), push(t, host+"/loja/pedidos:unsigned"), push(t, host+"/loja/pedidos:foreign")
	a.sign(c, signed)
	a.sign(otherKey(t, c), foreign)
	waitFor(t, func() error { return a.run("shop", signed) })
	for what, image := range map[string]string{
		"no signatures found": unsigned, "invalid signature when validating ASN.1 encoded signature": foreign,
		"must be an image digest": host + "/loja/pedidos:signed",
	} {
		err := a.run("shop", image)
		refused(t, err, image, what)
		t.Logf("%s: %v", what, err)
	}
	if err := a.run("default", unsigned); err != nil {
		t.Errorf("in another namespace: %v", err)
	}
	end()
	refused(t, a.run("shop", signed), "failed calling webhook")
	if err := a.run("default", signed); err != nil {
		t.Errorf("in another namespace, without the controller: %v", err)
	}
}

// TestUnsignedDoesNotRunInAWS does the same by the objects of an AWS environment that takes the signatures of a key and
// of a workflow. Three things differ from AWS: the registry is this test's and wants no credentials, the controller
// is the bundled cluster's build, and Sigstore's roots are left out, so that no signature of a workflow counts.
func TestUnsignedDoesNotRunInAWS(t *testing.T) {
	c := signer(t)
	a := startAPI(t)
	host := serve(t, nil)
	a.install(c, "signatures-aws", func(objects string) string {
		return strings.ReplaceAll(objects, "111122223333.dkr.ecr.us-east-1.amazonaws.com", host)
	})

	signed, unsigned, foreign := push(t, host+"/loja-veloz/pedidos:signed"), push(t, host+"/loja-veloz/pedidos:unsigned"),
		push(t, host+"/loja-veloz/pedidos:foreign")
	a.sign(c, signed)
	a.sign(otherKey(t, c), foreign)
	elsewhere, nested := push(t, host+"/others/pedidos:signed"), push(t, host+"/loja-veloz/drill/pedidos:signed")
	a.sign(c, elsewhere, nested)
	moved := push(t, host+"/loja-veloz/pedidos:signed") // the tag of the signed image is now another's
	bundled := push(t, host+"/loja-veloz/pedidos:bundled")
	bundle := c
	bundle.Tagged = false
	a.sign(bundle, bundled)
	waitFor(t, func() error { return a.run("shop", signed) })
	for image, what := range map[string]string{
		unsigned: "no signatures found", moved: "no signatures found", foreign: "invalid signature when validating ASN.1 encoded signature",
		host + "/loja-veloz/pedidos:signed": "must be an image digest", elsewhere: "no matching policies", nested: "no matching policies",
		bundled: "no signatures found", // which is why a workflow with a key signs in both forms
	} {
		err := a.run("shop", image)
		refused(t, err, image, what)
		t.Logf("%s: %v", what, err)
	}
	// A workflow's signature would need Sigstore's roots, which the policy asks for and nobody gives here.
	refused(t, a.run("shop", unsigned), "failed to fetch trusted root")
	a.sign(c, bundled)
	if err := a.run("shop", bundled); err != nil {
		t.Errorf("signed in both forms: %v", err)
	}

	// The API server asks the controller about policies too, and it has taken that of the workflow.
	compiled := a.kubectl("", "-n", "signatures", "get", "configmap", "config-image-policies", "-o", "jsonpath={.data.signed}")
	for _, part := range []string{"keyless", GitHubIssuer, "/.github/workflows/release.yml@refs/heads/main", signatureType, "bundle"} {
		if !strings.Contains(compiled, part) {
			t.Errorf("the compiled policy lacks %q: %s", part, compiled)
		}
	}
	policy := a.kubectl("", "get", "clusterimagepolicy", "signed", "-o", "json")
	if err := a.try(policy, "replace", "--dry-run=server", "-f", "-"); err != nil {
		t.Errorf("the policy itself is refused: %v", err)
	}
	for broken, what := range map[string]string{
		strings.Replace(policy, `"subject": "`, `"subjectRegExp": "(`, 1):                          "regex is invalid",
		strings.Replace(policy, `"issuer": "`+GitHubIssuer+`"`, `"issuer": ""`, 1):                 "missing field(s): spec.authorities[1].keyless.identities[0].issuer",
		regexp.MustCompile(`"identities": \[[^]]*\]`).ReplaceAllString(policy, `"identities": []`): "missing field(s): spec.authorities[1].keyless.identities",
	} {
		refused(t, a.try(broken, "replace", "--dry-run=server", "-f", "-"), `admission webhook "validating.clusterimagepolicy.sigstore.dev" denied the request`, what)
	}
}

// install installs the golden objects with this key, after change, and starts policy-controller.
func (a *api) install(c Cosign, golden string, change func(string) string) (end func()) {
	t := a.t
	t.Helper()
	key, err := os.ReadFile(c.Key.Public)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := os.ReadFile("../../../infra/delivery/testdata/" + golden + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The golden objects have another key. The policy's is indented.
	pemBlock := regexp.MustCompile(`(?s)-----BEGIN PUBLIC KEY-----.*-----END PUBLIC KEY-----`)
	indent := regexp.MustCompile(`\n( +)-----BEGIN PUBLIC`).FindSubmatch(objects)
	if indent == nil {
		t.Fatal("the golden objects have no public key")
	}
	ours := strings.ReplaceAll(strings.TrimSpace(string(key)), "\n", "\n"+string(indent[1]))
	text := string(pemBlock.ReplaceAll(objects, []byte(ours)))
	if change != nil {
		text = change(text)
	}
	a.kubectl("", "create", "namespace", "shop")
	before, after, found := strings.Cut(text, "---\n# policies-webhook, ignoring changes of webhooks\n")
	if !found {
		t.Fatal("the golden objects have no webhook for policies")
	}
	for _, definition := range []string{"policies/clusterimagepolicies", "roots/trustroots"} { // golden files have none
		b, err := os.ReadFile("../../../infra/delivery/" + definition + ".policy.sigstore.dev.yaml")
		if err != nil {
			t.Fatal(err)
		}
		a.kubectl(strings.ReplaceAll(string(b), "cosign-system", "signatures"), "apply", "--server-side", "-f", "-")
	}
	waitFor(t, func() error { return a.try(before, "apply", "--server-side", "--force-conflicts", "-f", "-") })
	end = a.startController()
	// From the moment at which the controller has changed the webhooks, the API server asks it about the policy.
	a.kubectl(a.endpoint, "apply", "-f", "-")
	waitFor(t, func() error { return a.try(after, "apply", "--server-side", "--force-conflicts", "-f", "-") })
	waitFor(t, func() error {
		for _, webhook := range []struct{ name, resource string }{
			{"policy.sigstore.dev", "pods"}, {"validating.clusterimagepolicy.sigstore.dev", "clusterimagepolicies"},
		} {
			rules := a.kubectl("", "get", "validatingwebhookconfiguration", webhook.name, "-o", "jsonpath={.webhooks[0].rules}")
			if !strings.Contains(rules, webhook.resource) {
				return fmt.Errorf("the webhook %s is asked for %s", webhook.name, rules)
			}
		}
		policies := a.kubectl("", "-n", "signatures", "get", "configmap", "config-image-policies", "-o", "jsonpath={.data}")
		if !strings.Contains(policies, "signed") {
			return fmt.Errorf("the policies are %s", policies)
		}
		return nil
	})
	return end
}

func (a *api) sign(c Cosign, images ...string) {
	a.t.Helper()
	if err := c.Sign(a.t.Context(), images...); err != nil {
		a.t.Fatal(err)
	}
}

// otherKey signs by a key that no policy has.
func otherKey(t *testing.T, c Cosign) Cosign {
	t.Helper()
	c.Key = LocalKey(t.TempDir())
	if err := c.Key.Ensure(t.Context(), c.Program); err != nil {
		t.Fatal(err)
	}
	return c
}

// run sends a pod with the image as a dry run.
func (a *api) run(namespace, image string) error {
	return a.try(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: pod, namespace: %s}\n"+
		"spec: {containers: [{name: one, image: %q}]}\n", namespace, image), "create", "--dry-run=server", "-f", "-")
}

func (a *api) kubectl(stdin string, args ...string) string {
	a.t.Helper()
	out, err := a.command(stdin, args...)
	if err != nil {
		a.t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (a *api) try(stdin string, args ...string) error {
	_, err := a.command(stdin, args...)
	return err
}

func (a *api) command(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(a.t.Context(), filepath.Join(a.bin, "kubectl"), append([]string{"--kubeconfig=" + a.kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

func startAPI(t *testing.T) *api {
	t.Helper()
	root, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	cache := &toolchain.Cache{Root: root, Pins: "../../pins", Out: console.New(io.Discard)}
	if err := cache.Ensure(t.Context(), toolchain.Kubernetes, toolchain.PolicyController); err != nil {
		t.Fatal(err)
	}
	a := &api{t: t, dir: t.TempDir()}
	if a.bin, err = cache.Dir(toolchain.Kubernetes); err != nil {
		t.Fatal(err)
	}
	a.kubeconfig = filepath.Join(a.dir, "kubeconfig")
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(a.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	port := func() string {
		t.Helper()
		p, err := process.FreePort(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("127.0.0.1:%d", p)
	}
	etcd, peer, address := port(), port(), port()
	launch(t, nil, filepath.Join(a.bin, "etcd"), "--data-dir="+filepath.Join(a.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=http://"+etcd, "--advertise-client-urls=http://"+etcd, "--listen-peer-urls=http://"+peer,
		"--initial-advertise-peer-urls=http://"+peer, "--initial-cluster=default=http://"+peer)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	accounts := write("accounts.key",
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})))
	_, number, _ := net.SplitHostPort(address)
	launch(t, nil, filepath.Join(a.bin, "kube-apiserver"), "--etcd-servers=http://"+etcd, "--bind-address=127.0.0.1", "--secure-port="+number,
		"--cert-dir="+filepath.Join(a.dir, "certificates"), "--service-account-issuer=https://test", "--service-account-key-file="+accounts,
		"--service-account-signing-key-file="+accounts, "--token-auth-file="+write("tokens.csv", "test,test,test,system:masters\n"+
			"controller,system:serviceaccount:signatures:policy-controller,controller,system:serviceaccounts\n"),
		"--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
		"--enable-aggregator-routing=true") // it calls webhooks at their endpoints: nothing routes addresses of Services
	for name, token := range map[string]string{"kubeconfig": "test", "controller": "controller"} {
		write(name, fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: test\n"+
			"clusters: [{name: test, cluster: {server: https://%s, insecure-skip-tls-verify: true}}]\n"+
			"users: [{name: test, user: {token: %s}}]\ncontexts: [{name: test, context: {cluster: test, user: test}}]\n", address, token))
	}
	waitFor(t, func() error { return a.try("", "get", "namespace", "default") })

	// Kubernetes refuses an endpoint on loopback.
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range addresses {
		if ip, ok := of.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			a.endpoint = fmt.Sprintf("apiVersion: v1\nkind: Endpoints\nmetadata: {name: webhook, namespace: signatures}\n"+
				"subsets: [{addresses: [{ip: %s}], ports: [{name: https, port: 8443, protocol: TCP}]}]\n", ip.IP)
		}
	}
	if a.endpoint == "" {
		t.Skip("this machine has no address but loopback")
	}
	return a
}

// startController starts policy-controller with the environment and the rights of its pod.
func (a *api) startController() (end func()) {
	a.t.Helper()
	root, err := toolchain.DefaultRoot()
	if err != nil {
		a.t.Fatal(err)
	}
	program, err := (&toolchain.Cache{Root: root, Pins: "../../pins"}).Binary(toolchain.PolicyController, "policy-controller")
	if err != nil {
		a.t.Fatal(err)
	}
	return launch(a.t, []string{
		"KUBECONFIG=" + filepath.Join(a.dir, "controller"), "SYSTEM_NAMESPACE=signatures", "CONFIG_LOGGING_NAME=config-logging", "METRICS_DOMAIN=sigstore.dev/policy",
		"CONFIG_OBSERVABILITY_NAME=config-observability", "WEBHOOK_NAME=webhook", "HOME=" + a.dir, "PROFILING_PORT=18008",
		"GOMEMLIMIT=96MiB", "GOGC=50", "HTTPS_PROXY=http://127.0.0.1:9", // nothing leaves this machine
	}, program, "-disable-tuf")
}

// launch starts a program that ends with the test.
func launch(t *testing.T, env []string, program string, args ...string) (end func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(func() {
		end()
		if lines := strings.Split(strings.TrimSpace(log.String()), "\n"); t.Failed() {
			t.Logf("the end of %s's log:\n%s", filepath.Base(program), strings.Join(lines[max(0, len(lines)-8):], "\n"))
		}
	})
	return end
}

// waitFor calls try until it succeeds, for two minutes at most.
func waitFor(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
