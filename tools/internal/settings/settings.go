package settings

import (
	"cmp"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Machine has the settings that every command reads.
type Machine struct {
	// KubeContext (KUBE_CONTEXT) is a context of the user's kubeconfig; empty means the
	// bundled cluster.
	KubeContext string
	// Registry (REGISTRY) is the registry that the services' images are pushed to. Without it,
	// and with KUBE_CONTEXT, the cluster announces one or gets one. Without KUBE_CONTEXT it is
	// refused: the bundled cluster has its own.
	Registry string
	// Images (IMAGES) says where the images of controllers in the bundled cluster come from:
	// build, pull, or auto (default), which pulls if they are not built yet and the upstream
	// registries answer.
	Images string
	// Tools (TOOLS) says where the programs come from whose projects publish releases with
	// checksums: release, build, or auto (default), which takes releases if they can be reached.
	Tools toolchain.Source
	// Mirror (TOOLS_MIRROR) is the URL of a mirror of the releases; empty means the projects' pages.
	Mirror string
	// Delivery (DELIVERY) says who applies the services' objects: pulumi or gitops; empty means as
	// configured before, and pulumi at first.
	Delivery string
	// Signatures (SIGNATURES, on by default) has the bundled cluster refuse images that this machine's key has not
	// signed. It is off for another cluster, which does not have that key.
	Signatures bool
	// Data (LOJA_DATA) is the folder of the bundled cluster's data; by default
	// .local/cluster in the repo.
	Data string
	// Cache (LOJA_CACHE) is the folder of built tools; by default loja-veloz in the user's
	// cache folder.
	Cache string
}

// GitOps is the delivery by Argo CD.
const GitOps = "gitops"

// Machine reads KUBE_CONTEXT, REGISTRY, IMAGES, TOOLS, TOOLS_MIRROR, DELIVERY, SIGNATURES,
// LOJA_DATA and LOJA_CACHE.
func (r *Reader) Machine() Machine {
	m := Machine{
		KubeContext: os.Getenv("KUBE_CONTEXT"), Registry: strings.TrimSuffix(os.Getenv("REGISTRY"), "/"),
		Images: r.choice("IMAGES", "auto", "build", "pull"), Mirror: os.Getenv("TOOLS_MIRROR"),
		Tools: toolchain.Source(r.choice("TOOLS", string(toolchain.Auto), string(toolchain.Released), string(toolchain.Built))),
	}
	if u, err := url.Parse(m.Mirror); m.Mirror != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		r.refuse("TOOLS_MIRROR is %q: use a URL that begins with https:// or http://", m.Mirror)
	}
	signatures := r.choice("SIGNATURES", "on", "off") == "on"
	m.Signatures = signatures && m.KubeContext == ""
	if os.Getenv("DELIVERY") != "" {
		m.Delivery = r.choice("DELIVERY", "pulumi", GitOps)
	}
	switch {
	case m.KubeContext != "" && os.Getenv("SIGNATURES") == "on":
		r.refuse("SIGNATURES is on with KUBE_CONTEXT: this machine's key is that of the bundled cluster; unset SIGNATURES")
	case r.publishes:
	case m.KubeContext == "" && m.Registry != "":
		r.refuse("REGISTRY is set without KUBE_CONTEXT: the bundled cluster has its own registry; unset REGISTRY")
	case m.KubeContext == "":
		m.Registry = cluster.Registry
	}
	data := os.Getenv("LOJA_DATA")
	if data == "" {
		data = repo.Local(r.root, "cluster")
	}
	var err error
	if m.Data, err = filepath.Abs(data); err != nil {
		r.refuse("LOJA_DATA: %w", err)
	}
	if m.Cache, err = toolchain.DefaultRoot(); err != nil {
		r.refuse("LOJA_CACHE: %w", err)
	}
	return m
}

// None has the settings of a command without settings of its own.
type None struct{}

// None reads nothing.
func (*Reader) None() None { return None{} }

// Deploy has the settings of deploy.
type Deploy struct {
	Programs []string // SERVICE: to build, separated by commas; none means all
	Group    string   // GROUP: name under which what is shipped stays together; none unless set
	Wait     bool     // WAIT, on unless 0: watch the canaries to their end
	Load     bool     // LOAD, on unless off: send requests to each service shipped
	Fault    string   // FAULT: what the first of Programs does wrong, for a drill; none unless set
}

// Faults are the kinds that apps/internal/fault injects.
var Faults = []string{"errors", "latency", "crash", "crashloop", "leak", "migration", "unready"}

var faultForm = regexp.MustCompile(`^([a-z]+)(:(method=[A-Z]+|share=0?\.[0-9]+|(delay|after)=[0-9]+m?s))*$`)

// Deploy reads SERVICE, GROUP, WAIT, LOAD and FAULT. Every program has an image to ship, also those
// that have no Rollout.
func (r *Reader) Deploy() Deploy {
	d := Deploy{
		Programs: r.programs(repo.Programs), Group: os.Getenv("GROUP"), Fault: os.Getenv("FAULT"),
		Wait: r.flag("WAIT", true), Load: r.choice("LOAD", "on", "off") == "on",
	}
	if d.Group != "" {
		if err := rollout.ValidGroup(d.Group); err != nil {
			r.refuse("GROUP %w", err)
		}
	}
	form := faultForm.FindStringSubmatch(d.Fault)
	switch {
	case d.Fault == "":
	case form == nil || !slices.Contains(Faults, form[1]):
		r.refuse("FAULT is %q: use %s, with options such as :method=POST:share=0.1:delay=400ms:after=60s", d.Fault, strings.Join(Faults, ", "))
	case len(d.Programs) == 0:
		r.refuse("FAULT needs SERVICE: name the one that is to fail")
	}
	return d
}

// Service reads SERVICE, which is required.
func (r *Reader) Service() string {
	name := r.program(repo.Services)
	if name == "" {
		if all, err := repo.Services(r.root); err == nil {
			r.refuse("SERVICE is not set: name one of %s", strings.Join(all, ", "))
		}
	}
	return name
}

// Abort has the settings of abort.
type Abort struct {
	Service string // SERVICE; required
	Reason  string // REASON: why, for those who want to ship it again; none unless set
}

// Abort reads SERVICE, which is required, and REASON.
func (r *Reader) Abort() Abort { return Abort{Service: r.Service(), Reason: os.Getenv("REASON")} }

// Release has the settings of release.
type Release struct {
	Service string // SERVICE; required
	What    string // WHAT: how the digest or the name of the settings begins; needed if several are quarantined
	Reason  string // REASON: why it is shipped in spite of its abort; required
}

// Release reads SERVICE, WHAT and REASON.
func (r *Reader) Release() Release {
	release := Release{Service: r.Service(), What: os.Getenv("WHAT"), Reason: strings.TrimSpace(os.Getenv("REASON"))}
	if release.Reason == "" {
		r.refuse(`REASON is not set: say why it is to be shipped again, for example REASON="the registry was down"`)
	}
	return release
}

// Services returns SERVICE alone, or all services if it is not set.
func (r *Reader) Services() []string {
	if name := r.program(repo.Services); name != "" {
		return []string{name}
	}
	all, err := repo.Services(r.root)
	if err != nil {
		r.errs = append(r.errs, err)
	}
	return all
}

// program reads SERVICE, which may be empty and otherwise must be one of known.
func (r *Reader) program(known func(root string) ([]string, error)) string {
	names := r.programs(known)
	if len(names) > 1 {
		r.refuse("SERVICE is %q: name one", os.Getenv("SERVICE"))
	}
	return strings.Join(names, ",")
}

// programs reads SERVICE, names of known that commas separate; none if it is empty.
func (r *Reader) programs(known func(root string) ([]string, error)) []string {
	value := os.Getenv("SERVICE")
	if value == "" {
		return nil
	}
	all, err := known(r.root)
	if err != nil {
		r.errs = append(r.errs, err)
		return nil
	}
	names := strings.Split(value, ",")
	for i, name := range names {
		switch {
		case !slices.Contains(all, name):
			r.refuse("SERVICE=%s is not a service: name one of %s", name, strings.Join(all, ", "))
		case slices.Contains(names[:i], name):
			r.refuse("SERVICE is %q: it names %s twice", value, name)
		}
	}
	return names
}

// Load has the settings of load.
type Load struct {
	Path      string // URL_PATH; default: /
	PerSecond int    // RATE: requests per second, 1 to 1000; default: 20
	Requests  int    // REQUESTS: requests in all, 1 to 100,000; default: 1200
}

// Load reads URL_PATH, RATE and REQUESTS.
func (r *Reader) Load() Load {
	path := os.Getenv("URL_PATH")
	if path == "" {
		path = "/"
	}
	if !strings.HasPrefix(path, "/") {
		r.refuse("URL_PATH is %q: use a path that begins with /", path)
	}
	return Load{Path: path, PerSecond: r.count("RATE", 20, 1000), Requests: r.count("REQUESTS", 1200, 100_000)}
}

// Preview has the settings of preview.
type Preview struct {
	Stack  string // STACK: the environment; required
	Diff   bool   // DIFF=1: show every input
	Online bool   // ONLINE=1: compare with the real state, with the user's credentials
	// Comment (COMMENT) is the file for a comment on the plan, which is then not printed; none unless set.
	Comment string
}

// Preview reads STACK, which is required, DIFF, ONLINE and COMMENT.
func (r *Reader) Preview() Preview {
	p := Preview{Stack: r.stack(), Diff: r.flag("DIFF", false), Online: r.flag("ONLINE", false), Comment: r.comment()}
	if p.Stack == AccountStack && !p.Online {
		r.refuse("STACK=%s needs ONLINE=1: every plan without an account brings bootstrap up by itself", p.Stack)
	}
	if p.Comment != "" && p.Diff {
		r.refuse("DIFF=1 and COMMENT exclude each other: the file next to the comment has every input; unset DIFF")
	}
	if p.Online {
		r.backend("ONLINE=1")
	}
	return p
}

// AccountStack is the stack of stacks/bootstrap.
const AccountStack = "account"

// stack reads STACK, which is required: an environment in AWS or the account's stack. Others are accepted if
// they are named.
func (r *Reader) stack(others ...string) string {
	name := os.Getenv("STACK")
	stacks, err := repo.AWSStacks(r.root)
	known := slices.Concat(stacks, []string{AccountStack}, others)
	switch {
	case err != nil:
		r.errs = append(r.errs, err)
	case name == "":
		r.refuse("STACK is not set: name an environment, for example STACK=dev")
	case !slices.Contains(known, name) && name == repo.LocalStack:
		r.refuse("STACK=%s is the local environment, which this command does not know: run pulumi preview -s local", name)
	case !slices.Contains(known, name):
		r.refuse("STACK=%s has no Pulumi.%s.yaml: name one of %s", name, name, strings.Join(known, ", "))
	}
	return name
}

// comment reads COMMENT, the file for a review, whose folder must exist.
func (r *Reader) comment() string {
	file := os.Getenv("COMMENT")
	if file == "" {
		return ""
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		r.refuse("COMMENT is %q, whose folder does not exist: create it", file)
	} else if info, err := os.Stat(file); err == nil && info.IsDir() {
		r.refuse("COMMENT is %q, a folder: name a file, such as comment.md", file)
	}
	return file
}

// backend refuses a command that needs Pulumi's state in AWS and does not know where it is.
func (r *Reader) backend(what string) {
	if os.Getenv("PULUMI_BACKEND_URL") == "" {
		r.refuse("%s needs AWS credentials and PULUMI_BACKEND_URL: set it to the backendURL that make outputs STACK=%s prints, "+
			"or that pulumi stack output prints in stacks/bootstrap", what, AccountStack)
	}
}

// Outputs has the settings of outputs.
type Outputs struct {
	Stack  string // STACK: an environment, account or local; required
	GitHub bool   // FORMAT=github: a line for each output, to the file GITHUB_OUTPUT if it is set
	File   string // GITHUB_OUTPUT, if FORMAT=github
	Expect string // EXPECT: an earlier contract, which has to be the same but for services and images; none unless set
}

// Outputs reads STACK, which is required, EXPECT, FORMAT and, for FORMAT=github, GITHUB_OUTPUT.
func (r *Reader) Outputs() Outputs {
	o := Outputs{
		Stack: r.stack(repo.LocalStack), GitHub: r.choice("FORMAT", "json", "github") == "github", Expect: os.Getenv("EXPECT"),
	}
	if o.Stack != repo.LocalStack {
		r.backend("this command")
	}
	if o.GitHub {
		o.File = os.Getenv("GITHUB_OUTPUT")
	}
	return o
}

// Update has the settings of update.
type Update struct {
	Stack string // STACK: an environment in AWS or account; required
	Yes   bool   // YES=1: apply the plan, which is otherwise only printed
	// Refresh (REFRESH=1) reads every object first, and takes back what people have changed.
	Refresh bool
}

// Update reads STACK, which is required, YES and REFRESH.
func (r *Reader) Update() Update {
	u := Update{Stack: r.stack(), Yes: r.flag("YES", false), Refresh: r.flag("REFRESH", false)}
	r.backend("this command")
	return u
}

// Drift has the settings of drift.
type Drift struct {
	Stack   string // STACK: an environment in AWS or account; required
	Comment string // COMMENT: the file for the review, which is otherwise printed
}

// Drift reads STACK, which is required, and COMMENT.
func (r *Reader) Drift() Drift {
	d := Drift{Stack: r.stack(), Comment: r.comment()}
	r.backend("this command")
	return d
}

// Record has the settings of record.
type Record struct {
	Stack string // STACK: an environment in AWS; required
	Push  bool   // PUSH=1: commit to main of origin
}

// Record reads STACK, which is required, and PUSH.
func (r *Reader) Record() Record {
	record := Record{Stack: r.stack(), Push: r.flag("PUSH", false)}
	if record.Stack == AccountStack {
		r.refuse("STACK=%s has no images: name an environment", AccountStack)
	}
	return record
}

// Comment has the settings of comment.
type Comment struct {
	File        string // FILE: the review; required
	PullRequest int    // PULL_REQUEST: the number of the pull request to comment on; 0 unless set
	Issue       string // ISSUE: the title of the issue to open or to replace; none unless set
	Token       string // GITHUB_TOKEN; without it, the review is appended to Summary
	Summary     string // GITHUB_STEP_SUMMARY: the file that GitHub shows below the job; none outside a job
	API         string // GITHUB_API_URL; default: https://api.github.com
	Repository  string // GITHUB_REPOSITORY: owner/name
}

var repositoryForm = regexp.MustCompile(`^[\w.-]+/[\w.-]+$`)

// Comment reads FILE, which is required, PULL_REQUEST or ISSUE, and what GitHub sets in its jobs.
func (r *Reader) Comment() Comment {
	c := Comment{
		File: os.Getenv("FILE"), Issue: os.Getenv("ISSUE"), Token: os.Getenv("GITHUB_TOKEN"), Summary: os.Getenv("GITHUB_STEP_SUMMARY"),
		API:        strings.TrimSuffix(cmp.Or(os.Getenv("GITHUB_API_URL"), "https://api.github.com"), "/"),
		Repository: os.Getenv("GITHUB_REPOSITORY"), PullRequest: r.count("PULL_REQUEST", 0, 1_000_000_000),
	}
	if info, err := os.Stat(c.File); c.File == "" || err != nil || info.IsDir() {
		r.refuse("FILE is %q, which is not a file: name the one that make preview or make drift wrote with COMMENT", c.File)
	}
	switch {
	case c.Token == "" && c.Summary == "":
		r.refuse("GITHUB_TOKEN is not set: create a token that may write pull requests and issues of the repository")
	case c.Token == "":
	case (c.PullRequest == 0) == (c.Issue == ""):
		r.refuse("set either PULL_REQUEST, to the number of a pull request, or ISSUE, to the title of an issue")
	case !repositoryForm.MatchString(c.Repository):
		r.refuse("GITHUB_REPOSITORY is %q: use owner/name", c.Repository)
	}
	return c
}

// BenchShop has the settings of bench-shop.
type BenchShop struct {
	Short bool     // SHORT=1: a trial run, in a tenth of the time
	Only  []string // ONLY: parts to measure, separated by commas; empty means all
	Env   []string // BENCH_ENV: variables of the services, separated by blanks

	Against string // AGAINST: a commit to compare with
}

// Against reads AGAINST: a commit to compare with; empty if it is not set.
func (*Reader) Against() string { return os.Getenv("AGAINST") }

// BenchShop reads SHORT, ONLY, BENCH_ENV and AGAINST.
func (r *Reader) BenchShop() BenchShop {
	b := BenchShop{Short: r.flag("SHORT", false), Env: strings.Fields(os.Getenv("BENCH_ENV")), Against: r.Against()}
	if only := os.Getenv("ONLY"); only != "" {
		b.Only = strings.Split(only, ",")
	}
	return b
}

// NewService reads NAME, the name of the service to create. Package scaffold validates it.
func (*Reader) NewService() string { return os.Getenv("NAME") }

// Order reads ORDER, the id of an order. Package dev validates it.
func (*Reader) Order() string { return os.Getenv("ORDER") }

// Publish has the settings of publish and verify.
type Publish struct {
	// Registry (REGISTRY) gets the images: a host and a folder. By default the bundled cluster's.
	Registry string
	// Keyless (SIGNING=keyless) signs by the OIDC token of the job instead of this machine's key. That is
	// the default (SIGNING=auto) in a workflow of GitHub.
	Keyless bool
	// SecondKey (COSIGN_PRIVATE_KEY, with COSIGN_PASSWORD and COSIGN_PUBLIC_KEY) signs in addition to the
	// token, for those who verify by a key alone; off unless set.
	SecondKey bool
	// Signer (SIGNER) is a regular expression of the workflows whose keyless signatures count; by default
	// those of GITHUB_REPOSITORY on its branch main.
	Signer string
	// Images (IMAGE) are to be verified, separated by spaces; by default those of the last release.
	Images []string
}

// Publish reads REGISTRY, SIGNING, SIGNER, IMAGE and COSIGN_PRIVATE_KEY. It is called before Machine.
func (r *Reader) Publish() Publish {
	r.publishes = true
	p := Publish{
		Registry: strings.TrimSuffix(os.Getenv("REGISTRY"), "/"), Signer: os.Getenv("SIGNER"), Images: strings.Fields(os.Getenv("IMAGE")),
		SecondKey: os.Getenv("COSIGN_PRIVATE_KEY") != "",
	}
	if p.Registry == "" {
		p.Registry = cluster.Registry
	}
	workflow := os.Getenv("GITHUB_ACTIONS") == "true"
	switch r.choice("SIGNING", "auto", "keyless", "key") {
	case "auto":
		p.Keyless = workflow
	case "keyless":
		p.Keyless = true
	}
	repository := os.Getenv("GITHUB_REPOSITORY")
	if p.Signer == "" && repository != "" {
		p.Signer = "^https://github.com/" + regexp.QuoteMeta(repository) + "/\\.github/workflows/[^@]+@refs/heads/main$"
	}
	switch {
	case !p.Keyless && p.SecondKey:
		r.refuse("COSIGN_PRIVATE_KEY is set, and this machine signs by its own key: unset it, or set SIGNING=keyless in a workflow")
	case p.Keyless && p.Signer == "":
		r.refuse("SIGNER is not set: give a regular expression of the workflow that signs, for example " +
			"^https://github.com/OWNER/REPOSITORY/\\.github/workflows/release\\.yml@refs/heads/main$")
	case p.Keyless && p.SecondKey && (os.Getenv("COSIGN_PUBLIC_KEY") == "" || os.Getenv("COSIGN_PASSWORD") == ""):
		r.refuse("COSIGN_PRIVATE_KEY is set: set COSIGN_PASSWORD, which opens it, and COSIGN_PUBLIC_KEY, which verifies what it signs")
	}
	if _, err := regexp.Compile(p.Signer); err != nil {
		r.refuse("SIGNER is not a regular expression: %w", err)
	}
	return p
}
