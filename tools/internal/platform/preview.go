package platform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/standin"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

const (
	bootstrapStack = "account"
	// offlinePassphrase opens the state of previews, which holds no secret: the
	// world in it is made up.
	offlinePassphrase = "offline" // #nosec G101 -- see above
)

// A Cloud is where the stacks of AWS are tried without an account: the real
// Pulumi engine and the real EKS component, a stand-in for AWS, a backend and a
// world of its own.
type Cloud struct {
	p   *Platform
	dir string
	env []string
}

// Preview prints the plan of an environment of AWS: against the empty state of a
// throw-away backend, or, online, against the environment's own.
func (p *Platform) Preview(ctx context.Context, name string, online bool, args ...string) error {
	stacks, err := p.awsStacks()
	if err != nil {
		return err
	}
	if !slices.Contains(stacks, name) {
		return fmt.Errorf("STACK=%s has no Pulumi.%s.yaml: there are %s (the local environment: pulumi preview -s local)", name, name, strings.Join(stacks, ", "))
	}
	if online {
		return p.previewOnline(ctx, name, args...)
	}
	c, err := p.OpenCloud(ctx, filepath.Join("preview", name))
	if err != nil {
		return err
	}
	if err := c.Bootstrap(ctx); err != nil {
		return err
	}
	s, err := c.Stack(ctx, p.Root, filepath.Join(p.Root, "stacks", "environment"), name, map[string]string{project + ":cloud.offline": "true"})
	if err != nil {
		return err
	}
	by := "a stand-in for the AWS plugin"
	if releasedAWS() {
		by = "the released AWS plugin, unasked for credentials"
		c.env = append(c.env, "PULUMI_HOME="+p.Local("cloud", "released"))
	}
	p.Out.Step("pulumi preview -s %s, against empty state, by the EKS component and %s", name, by)
	return s.Show(ctx, append([]string{"preview"}, args...)...)
}

// previewOnline uses the backend and the credentials that the environment has.
func (p *Platform) previewOnline(ctx context.Context, name string, args ...string) error {
	if os.Getenv("PULUMI_BACKEND_URL") == "" {
		return errors.New("ONLINE=1 needs PULUMI_BACKEND_URL, the backendURL that stacks/bootstrap prints, and AWS credentials")
	}
	if _, err := exec.LookPath("pulumi"); err != nil {
		return errors.New("ONLINE=1 needs the released pulumi on PATH, which brings the plugins of AWS")
	}
	c := command.Command{Args: append([]string{"pulumi", "preview", "--non-interactive", "--stack", name}, args...), Dir: p.Root, Output: p.Out.Indented()}
	return c.Run(ctx)
}

// awsStacks are the environments whose stack files are kept in git.
func (p *Platform) awsStacks() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(p.Root, "Pulumi.*.yaml"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "Pulumi."), ".yaml"); name != stack {
			names = append(names, name)
		}
	}
	return names, nil
}

// OpenCloud prepares everything that a stack of AWS needs on this machine, in
// the folder dir of .local.
func (p *Platform) OpenCloud(ctx context.Context, dir string) (*Cloud, error) {
	tools := p.deployTools(ctx)
	if err := p.Cache.Ensure(ctx, tools...); err != nil {
		return nil, err
	}
	if err := p.link(tools); err != nil {
		return nil, err
	}
	c := &Cloud{p: p, dir: p.Local(dir)}
	for _, sub := range []string{"state", "world"} {
		if err := os.MkdirAll(filepath.Join(c.dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	component, err := p.Cache.Install(ctx, toolchain.EKS, nil)
	if err != nil {
		return nil, err
	}
	programs := p.Local("cloud", "bin")
	if err := p.cloudPlugins(ctx, programs); err != nil {
		return nil, err
	}
	source, err := command.Command{
		Args: []string{"go", "list", "-m", "-f", "{{.Dir}}", "github.com/pulumi/pulumi-aws/sdk/v6"}, Dir: filepath.Join(p.Root, "infra"),
	}.Text(ctx)
	if err != nil {
		return nil, err
	}
	c.env = []string{
		"PATH=" + strings.Join([]string{programs, p.Local("bin"), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"PULUMI_HOME=" + p.Local("cloud", "home"),
		"PULUMI_BACKEND_URL=file://" + filepath.Join(c.dir, "state"),
		"PULUMI_CONFIG_PASSPHRASE=" + offlinePassphrase,
		"PULUMI_SKIP_UPDATE_CHECK=true",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true",
		"KUBECONFIG=" + filepath.Join(c.dir, "no-kubeconfig"),
		"AWS_ACCESS_KEY_ID=offline", "AWS_SECRET_ACCESS_KEY=offline", "AWS_EC2_METADATA_DISABLED=true",
		schema.SourceVariable + "=" + source, standin.WorldVariable + "=" + filepath.Join(c.dir, "world"),
		"LOJA_EKS_MODULES=" + component,
	}
	return c, nil
}

// releasedAWS gives the released AWS plugin, if Pulumi has installed it.
func releasedAWS() bool { _, err := os.Stat(releasedPlugin("aws", schema.Version)); return err == nil }

// releasedPlugin is where the user's own Pulumi keeps a plugin.
func releasedPlugin(name, version string) string {
	home := os.Getenv("PULUMI_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		home = filepath.Join(user, ".pulumi")
	}
	return filepath.Join(home, "plugins", "resource-"+name+"-v"+version, "pulumi-resource-"+name)
}

// cloudPlugins fills a PULUMI_HOME with the plugins of AWS, a second one in which
// the AWS plugin is the released one if that is installed, and a folder with the
// programs that plugins call.
func (p *Platform) cloudPlugins(ctx context.Context, programs string) error {
	if err := os.MkdirAll(programs, 0o755); err != nil {
		return err
	}
	standIn := p.Local("cloud", "pulumi-resource-aws")
	if err := (command.Command{
		Args: []string{"go", "build", "-trimpath", "-buildvcs=false", "-o", standIn, "./cmd/pulumi-resource-aws"},
		Dir:  filepath.Join(p.Root, "tools"), Env: []string{"GOWORK=off", "CGO_ENABLED=0"},
	}).Run(ctx); err != nil {
		return err
	}
	kubernetes := filepath.Join(p.pulumiHome(), "plugins", "resource-kubernetes-v"+toolchain.KubernetesProviderVersion, "pulumi-resource-kubernetes")
	if !executable(kubernetes) {
		kubernetes = releasedPlugin("kubernetes", toolchain.KubernetesProviderVersion)
	}
	// The component asks for both in every run; no cloud is behind this aws.
	links := map[string]string{filepath.Join(programs, "aws"): standIn}
	plugins := func(home, aws string) {
		for name, to := range map[string]string{
			"aws-v" + schema.Version: aws, "eks-v" + schema.ComponentVersion: filepath.Join(p.Root, "tools", "eks", "pulumi-resource-eks"),
			"kubernetes-v" + toolchain.KubernetesProviderVersion: kubernetes,
		} {
			program, _, _ := strings.Cut(name, "-")
			links[filepath.Join(p.Local("cloud", home), "plugins", "resource-"+name, "pulumi-resource-"+program)] = to
		}
	}
	plugins("home", standIn)
	if releasedAWS() {
		plugins("released", releasedPlugin("aws", schema.Version))
	}
	if _, err := exec.LookPath("kubectl"); err != nil && !executable(p.Local("bin", "kubectl")) {
		links[filepath.Join(programs, "kubectl")] = standIn
	}
	if err := os.RemoveAll(filepath.Join(programs, "kubectl")); err != nil {
		return err
	}
	for link, to := range links {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink(to, link); err != nil {
			return err
		}
	}
	return nil
}

var (
	// secretValue is an encrypted value of a stack file, which only the
	// environment's own key opens: on a line of its own or in braces.
	secretValue = regexp.MustCompile(`(?m):[ \t]*(?:\n[ \t]+secure:[^\n]*|\{[ \t]*secure:[^}\n]*\})`)
	projectName = regexp.MustCompile(`(?m)^name:\s*(\S+)`)
	// stackKey is a line of a stack file that names its key.
	stackKey = regexp.MustCompile(`^(secretsprovider|encryptedkey|encryptionsalt):`)
)

// A Stack is one stack of the throw-away backend, in a project folder of its own,
// so that nothing is written beside the checkout's stack files.
type Stack struct {
	c         *Cloud
	dir, name string
}

// Stack makes a stack from a stack file of the checkout: without the link to the
// environment's key, its secrets replaced, and with the settings given, full
// paths to values. project is the folder of its Pulumi.yaml, program that of its
// program.
func (c *Cloud) Stack(ctx context.Context, project, program, name string, settings map[string]string) (*Stack, error) {
	about, err := os.ReadFile(filepath.Join(project, "Pulumi.yaml"))
	if err != nil {
		return nil, err
	}
	title := projectName.FindSubmatch(about)
	if title == nil {
		return nil, fmt.Errorf("%s names no project", filepath.Join(project, "Pulumi.yaml"))
	}
	s := &Stack{c: c, dir: filepath.Join(c.dir, string(title[1])), name: name}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	binary := c.p.Local(filepath.Base(program))
	if err := (command.Command{Args: []string{"go", "build", "-o", binary, "."}, Dir: program}).Run(ctx); err != nil {
		return nil, err
	}
	shadow := fmt.Sprintf("name: %s\nmain: %s\nruntime:\n  name: go\n  options:\n    buildTarget: %s\n", title[1], program, binary)
	if err := os.WriteFile(filepath.Join(s.dir, "Pulumi.yaml"), []byte(shadow), 0o600); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(filepath.Join(project, "Pulumi."+name+".yaml"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "Pulumi."+name+".yaml"), unlocked(file), 0o600); err != nil {
		return nil, err
	}
	if err := s.Pulumi("stack", "select", "--create", "--stack", name).Run(ctx); err != nil {
		return nil, err
	}
	return s, s.Set(ctx, settings)
}

// unlocked is a stack file without the key of its environment, and with a text in
// the place of each secret.
func unlocked(file []byte) []byte {
	var kept strings.Builder
	for line := range strings.Lines(string(file)) {
		if !stackKey.MatchString(line) {
			kept.WriteString(line)
		}
	}
	return []byte(secretValue.ReplaceAllString(kept.String(), ": stands-in-for-a-secret"))
}

// Set changes the stack's configuration, full paths to values.
func (s *Stack) Set(ctx context.Context, settings map[string]string) error {
	if len(settings) == 0 {
		return nil
	}
	args := []string{"config", "set-all", "--stack", s.name, "--path"}
	for _, path := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "--plaintext", path+"="+settings[path])
	}
	return s.Pulumi(args...).Run(ctx)
}

// Pulumi prepares the CLI to work on the stack.
func (s *Stack) Pulumi(args ...string) command.Command {
	program := "pulumi"
	if built := s.c.p.Local("bin", program); executable(built) {
		program = built
	}
	return command.Command{Args: append([]string{program, "--non-interactive"}, args...), Dir: s.dir, Env: s.c.env}
}

// Show runs the CLI on the stack and shows what it says.
func (s *Stack) Show(ctx context.Context, args ...string) error {
	return s.c.p.showing(ctx, s.Pulumi(append(args, "--stack", s.name)...), args[0])
}

// Bootstrap brings the account's singletons up in the made-up world. It does so
// once per program, stack file and stand-in.
func (c *Cloud) Bootstrap(ctx context.Context) error {
	dir := filepath.Join(c.p.Root, "stacks", "bootstrap")
	s, err := c.Stack(ctx, dir, dir, bootstrapStack, nil)
	if err != nil {
		return err
	}
	hash := sha256.New()
	for _, f := range []string{c.p.Local("bootstrap"), c.p.Local("cloud", "pulumi-resource-aws"), filepath.Join(dir, "Pulumi."+bootstrapStack+".yaml")} {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		hash.Write(b)
	}
	inputs, done := hex.EncodeToString(hash.Sum(nil)), filepath.Join(c.dir, "bootstrapped")
	if before, err := os.ReadFile(done); err == nil && string(before) == inputs {
		return nil
	}
	c.p.Out.Step("bringing bootstrap up in a made-up account")
	up := s.Pulumi("up", "--yes", "--skip-preview", "--stack", bootstrapStack)
	if err := up.Run(ctx); err != nil {
		return fmt.Errorf("bringing bootstrap up: %w", err)
	}
	return os.WriteFile(done, []byte(inputs), 0o600)
}
