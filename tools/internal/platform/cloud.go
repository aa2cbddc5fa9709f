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

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

const (
	bootstrapStack = settings.AccountStack
	// offlinePassphrase opens the state of previews, which holds no secret: its account is
	// fictitious.
	offlinePassphrase = "offline" // #nosec G101 -- see above
)

// A Cloud runs the AWS stacks without an account: by the real Pulumi engine and EKS
// component, a stand-in for AWS, and a backend and a fictitious account of its own.
type Cloud struct {
	w   Workspace
	dir string
	env []string
}

// OpenCloud prepares everything that an AWS stack needs on this machine, in the folder dir
// of .local.
func OpenCloud(ctx context.Context, w Workspace, dir string) (*Cloud, error) {
	if err := provide(ctx, w, deployTools(ctx, w)); err != nil {
		return nil, err
	}
	c := &Cloud{w: w, dir: w.Local(dir)}
	for _, sub := range []string{"state", "world"} {
		if err := os.MkdirAll(filepath.Join(c.dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	component, err := w.Cache.Install(ctx, toolchain.EKS, nil)
	if err != nil {
		return nil, err
	}
	programs := w.Local("cloud", "bin")
	if err := cloudPlugins(ctx, w, programs); err != nil {
		return nil, err
	}
	source, err := command.Command{
		Args: []string{"go", "list", "-m", "-f", "{{.Dir}}", "github.com/pulumi/pulumi-aws/sdk/v6"}, Dir: filepath.Join(w.Root, "infra"),
		Env: goEnv,
	}.Text(ctx)
	if err != nil {
		return nil, err
	}
	c.env = []string{
		"PATH=" + strings.Join([]string{programs, w.Local("bin"), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"PULUMI_HOME=" + w.Local("cloud", "home"),
		"PULUMI_BACKEND_URL=file://" + filepath.Join(c.dir, "state"),
		"PULUMI_CONFIG_PASSPHRASE=" + offlinePassphrase,
		"PULUMI_SKIP_UPDATE_CHECK=true",
		// These processes end within seconds, so they collect less often. The limit is for a compiler that
		// the language host starts.
		"GOGC=400", "GOMEMLIMIT=2GiB",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true",
		"KUBECONFIG=" + filepath.Join(c.dir, "no-kubeconfig"),
		"AWS_ACCESS_KEY_ID=offline", "AWS_SECRET_ACCESS_KEY=offline", "AWS_EC2_METADATA_DISABLED=true",
		schema.SourceVariable + "=" + source, world.DirVariable + "=" + filepath.Join(c.dir, "world"),
		"LOJA_EKS_MODULES=" + component,
	}
	c.env = append(c.env, goEnv...)
	return c, nil
}

// releasedAWS reports whether Pulumi has installed the released AWS plugin.
func releasedAWS() bool { _, err := os.Stat(releasedPlugin("aws", schema.Version)); return err == nil }

// releasedPlugin is the path of a plugin of the user's own Pulumi.
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

// cloudPlugins fills a PULUMI_HOME with the plugins of the AWS stacks, a second one with the
// released AWS plugin if that is installed, and a folder with the programs that plugins call.
func cloudPlugins(ctx context.Context, w Workspace, programs string) error {
	if err := os.MkdirAll(programs, 0o755); err != nil {
		return err
	}
	standIn := w.Local("cloud", "pulumi-resource-aws")
	if err := (command.Command{
		Args: []string{"go", "build", "-trimpath", "-buildvcs=false", "-o", standIn, "./cmd/pulumi-resource-aws"},
		Dir:  filepath.Join(w.Root, "tools"), Env: toolchain.BuildEnv,
	}).Run(ctx); err != nil {
		return err
	}
	kubernetes := filepath.Join(pulumiHome(w), "plugins", "resource-kubernetes-v"+toolchain.KubernetesProviderVersion, providerProgram)
	if !executable(kubernetes) {
		kubernetes = releasedPlugin("kubernetes", toolchain.KubernetesProviderVersion)
	}
	// The component requires aws and kubectl in every run; this aws calls no cloud.
	links := map[string]string{filepath.Join(programs, "aws"): standIn}
	plugins := func(home, aws string) {
		for name, to := range map[string]string{
			"aws-v" + schema.Version:                             aws,
			"eks-v" + schema.ComponentVersion:                    filepath.Join(w.Root, "tools", "eks", "pulumi-resource-eks"),
			"kubernetes-v" + toolchain.KubernetesProviderVersion: kubernetes,
		} {
			program, _, _ := strings.Cut(name, "-")
			links[filepath.Join(w.Local("cloud", home), "plugins", "resource-"+name, "pulumi-resource-"+program)] = to
		}
	}
	plugins("home", standIn)
	if releasedAWS() {
		plugins("released", releasedPlugin("aws", schema.Version))
	}
	if _, err := exec.LookPath("kubectl"); err != nil && !executable(w.Local("bin", "kubectl")) {
		links[filepath.Join(programs, "kubectl")] = standIn
	}
	if err := os.RemoveAll(filepath.Join(programs, "kubectl")); err != nil {
		return err
	}
	for link, to := range links {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := removeFile(link); err != nil {
			return err
		}
		if err := os.Symlink(to, link); err != nil {
			return err
		}
	}
	return nil
}

// As lets the environment's up role, which bootstrap has created in the account of the shipped stack
// files, do what follows, instead of an administrator.
func (c *Cloud) As(environment string) {
	c.env = append(c.env, fmt.Sprintf("%s=arn:aws:iam::111122223333:role/%s-ci-%s-up", world.CallerVariable, project, environment))
}

var (
	// secretValue is an encrypted value of a stack file, which only the environment's own
	// key decrypts: on a line of its own or in braces.
	secretValue = regexp.MustCompile(`(?m):[ \t]*(?:\n[ \t]+secure:[^\n]*|\{[ \t]*secure:[^}\n]*\})`)
	projectName = regexp.MustCompile(`(?m)^name:\s*(\S+)`)
	// stackKey is a line of a stack file about its key.
	stackKey = regexp.MustCompile(`^(secretsprovider|encryptedkey|encryptionsalt):`)
)

// A Stack is a stack of AWS: of a Cloud, in a project folder of its own, so that nothing is written next
// to the repo's stack files; or, from OpenStack, of the backend that people and workflows use.
type Stack struct {
	w         Workspace
	pulumi    string // the program
	env       []string
	dir, name string
}

// Stack creates a stack from a stack file of the repo: without the environment's key, with
// its secrets replaced, and with the given settings, full paths to values. project is the
// folder of its Pulumi.yaml, program that of its Go program, which Pulumi's language host compiles as
// the repo's own Pulumi.yaml, above the program, says.
func (c *Cloud) Stack(ctx context.Context, project, program, name string, settings map[string]string) (*Stack, error) {
	about, err := os.ReadFile(filepath.Join(project, "Pulumi.yaml"))
	if err != nil {
		return nil, err
	}
	title := projectName.FindSubmatch(about)
	if title == nil {
		return nil, fmt.Errorf("%s names no project", filepath.Join(project, "Pulumi.yaml"))
	}
	s := &Stack{w: c.w, pulumi: c.w.program("pulumi"), env: c.env, dir: filepath.Join(c.dir, string(title[1])), name: name}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	shadow := fmt.Sprintf("name: %s\nmain: %s\nruntime: go\n", title[1], program)
	if err := os.WriteFile(filepath.Join(s.dir, "Pulumi.yaml"), []byte(shadow), 0o600); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(filepath.Join(project, "Pulumi."+name+".yaml"))
	if err != nil {
		return nil, err
	}
	// Pulumi derives a key from the passphrase once for each salt, which takes 0.2 CPU seconds.
	salt := filepath.Join(c.dir, "salt")
	shared, err := os.ReadFile(salt)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	copied := filepath.Join(s.dir, "Pulumi."+name+".yaml")
	if err := os.WriteFile(copied, slices.Concat(shared, unlocked(file)), 0o600); err != nil {
		return nil, err
	}
	// Starting Pulumi's CLI costs as much as a third of a warm build.
	if _, err := os.Stat(filepath.Join(c.dir, "state", ".pulumi", "stacks", string(title[1]), name+".json")); err != nil {
		if err := s.Pulumi("stack", "select", "--create", "--stack", name).Run(ctx); err != nil {
			return nil, err
		}
		created, err := os.ReadFile(copied)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(salt, saltLine.Find(created), 0o600); err != nil {
			return nil, err
		}
	}
	return s, s.Set(ctx, settings)
}

// saltLine is the line of a stack file with the salt of the passphrase.
var saltLine = regexp.MustCompile(`(?m)^encryptionsalt:.*\n?`)

// unlocked is a stack file without its environment's key, and with a text instead of each
// secret.
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

// offline sets cloud.offline in the copy of the stack file. A second command of Pulumi's would cost
// more, and preview --config with --config-path replaces all other settings of cloud.
func (s *Stack) offline() error {
	path := filepath.Join(s.dir, "Pulumi."+s.name+".yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var file map[string]any
	if err := yaml.Unmarshal(text, &file); err != nil {
		return fmt.Errorf("Pulumi.%s.yaml: %w", s.name, err)
	}
	config, _ := file["config"].(map[string]any)
	cloud, found := config[project+":cloud"].(map[string]any)
	if !found {
		return fmt.Errorf("Pulumi.%s.yaml has no %s:cloud, which names the account", s.name, project)
	}
	cloud["offline"] = true
	if text, err = yaml.Marshal(file); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// Pulumi prepares the CLI to work on the stack.
func (s *Stack) Pulumi(args ...string) command.Command {
	return command.Command{Args: append([]string{s.pulumi, "--non-interactive"}, args...), Dir: s.dir, Env: s.env}
}

// Show runs the CLI on the stack and shows what it says.
func (s *Stack) Show(ctx context.Context, args ...string) error {
	return show(ctx, s.Pulumi(append(args, "--stack", s.name)...), "pulumi "+args[0], s.w.Out)
}

// Bootstrap creates the account's singletons in the fictitious account, once for each
// version of program, stack file and stand-in.
func (c *Cloud) Bootstrap(ctx context.Context) error {
	dir := filepath.Join(c.w.Root, "stacks", "bootstrap")
	s, err := c.Stack(ctx, dir, dir, bootstrapStack, nil)
	if err != nil {
		return err
	}
	binary := c.w.Local("bootstrap")
	if err := (command.Command{Args: []string{"go", "build", "-o", binary, "."}, Dir: dir, Env: goEnv}).Run(ctx); err != nil {
		return err
	}
	hash := sha256.New()
	for _, f := range []string{
		binary, c.w.Local("cloud", "pulumi-resource-aws"), filepath.Join(dir, "Pulumi."+bootstrapStack+".yaml"),
	} {
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
	c.w.Out.Step("bringing bootstrap up in a fictitious account")
	up := s.Pulumi("up", "--yes", "--skip-preview", "--stack", bootstrapStack)
	if err := up.Run(ctx); err != nil {
		return fmt.Errorf("bringing bootstrap up: %w", err)
	}
	return os.WriteFile(done, []byte(inputs), 0o600)
}
