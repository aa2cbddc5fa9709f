package catalogue

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// maxName leaves room for the suffixes of Argo Rollouts: a name in Kubernetes has at most
// 63 characters.
const maxName = 40

var (
	nameForm     = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	variableForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	pathForm     = regexp.MustCompile(`^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$`)
	configForm   = regexp.MustCompile(`^[a-z][A-Za-z0-9]*(\.[a-zA-Z][A-Za-z0-9]*)+$`)
)

// CheckName returns an error if name is not valid for a program.
func CheckName(name string) error {
	if !nameForm.MatchString(name) || len(name) > maxName {
		return fmt.Errorf("%q is not a valid name: begin with a lower-case letter and use at most %d "+
			"lower-case letters, digits and single hyphens", name, maxName)
	}
	return nil
}

// checker collects the errors of one program.
type checker struct {
	program  *Program
	programs map[string]*Program
	errs     []error
}

func (c *checker) errorf(field, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("apps/%s/%s: %s: %s", c.program.Name, File, field, fmt.Sprintf(format, args...)))
}

// check returns the errors within the programs and between them.
func check(programs []Program) error {
	byName := map[string]*Program{}
	for i := range programs {
		byName[programs[i].Name] = &programs[i]
	}
	var errs []error
	ports, paths := map[int]string{}, map[string]string{}
	for i := range programs {
		c := checker{program: &programs[i], programs: byName}
		c.checkKind()
		c.checkPort(ports)
		c.checkPublic(paths)
		c.checkReferences()
		c.checkVariables()
		c.checkSettings()
		c.checkSize()
		errs = append(errs, c.errs...)
	}
	return errors.Join(errs...)
}

func (c *checker) checkKind() {
	p := c.program
	if err := CheckName(p.Name); err != nil {
		c.errorf("folder", "%v", err)
	}
	switch p.Kind {
	case Service, CronJob, Setup, Platform:
	default:
		c.errorf("kind", "is %q: use service, cronjob, setup or platform", p.Kind)
	}
	switch {
	case p.Kind == CronJob && len(strings.Fields(p.Schedule)) != 5:
		c.errorf("schedule", "is %q: a cronjob needs cron's five fields, such as \"*/5 * * * *\"", p.Schedule)
	case p.Kind != CronJob && p.Schedule != "":
		c.errorf("schedule", "only a cronjob has a schedule")
	}
	if p.Kind != Service && len(p.Public) > 0 {
		c.errorf("public", "only a service answers requests")
	}
}

func (c *checker) checkPort(taken map[int]string) {
	port := c.program.Port
	switch {
	case port == 0 && c.program.Kind == Service:
		c.errorf("port", "is missing: make dev needs a different port for each service")
	case port == 0:
	case port < 1024 || port > 65535:
		c.errorf("port", "is %d: use 1024 to 65535", port)
	case taken[port] != "":
		c.errorf("port", "%d is already the port of %s", port, taken[port])
	default:
		taken[port] = c.program.Name
	}
}

func (c *checker) checkPublic(taken map[string]string) {
	for i, public := range c.program.Public {
		field := fmt.Sprintf("public[%d]", i)
		switch {
		case !pathForm.MatchString(public.Value):
			c.errorf(field, "%q is not a path: begin with / and use letters, digits and ._~-", public.Value)
		case public.Prefix && public.Value == "/":
			c.errorf(field, "the prefix / would make every path public: list the public paths")
		case taken[public.Value] != "":
			c.errorf(field, "%s is already a public path of %s", public.Value, taken[public.Value])
		default:
			taken[public.Value] = c.program.Name
		}
		if public.Strip != "" && !strings.HasPrefix(public.Value, public.Strip+"/") {
			c.errorf(field, "strip %q is not the beginning of %s", public.Strip, public.Value)
		}
	}
}

// checkReferences checks the names of other programs.
func (c *checker) checkReferences() {
	for _, call := range c.program.Calls {
		other := c.programs[call.Service]
		switch {
		case call.Service == c.program.Name:
			c.errorf("calls", "%s cannot call itself", call.Service)
		case other == nil:
			c.errorf("calls", "there is no program %s", call.Service)
		case other.Kind != Service:
			c.errorf("calls", "%s is a %s: only services can be called", call.Service, other.Kind)
		}
	}
	for _, read := range c.program.Reads {
		if other := c.programs[read.Database]; other == nil || !other.Database {
			c.errorf("reads", "there is no program %s with a database", read.Database)
		}
	}
}

// checkVariables checks the names of all environment variables.
func (c *checker) checkVariables() {
	seen := map[string]string{}
	add := func(field, variable string) {
		switch {
		case !variableForm.MatchString(variable):
			c.errorf(field, "%q is not the name of a variable: use upper-case letters, digits and _", variable)
		case seen[variable] != "":
			c.errorf(field, "%s is already set by %s", variable, seen[variable])
		default:
			seen[variable] = field
		}
	}
	for _, call := range c.program.Calls {
		add("calls."+call.Service, call.Variable)
	}
	for _, read := range c.program.Reads {
		add("reads."+read.Database, read.Variable)
	}
	for _, setting := range c.program.Settings {
		add("settings."+setting.Name, setting.Name)
	}
	for _, secret := range c.program.Secrets {
		add("secrets."+secret.Name, secret.Name)
	}
}

func (c *checker) checkSettings() {
	for _, setting := range c.program.Settings {
		field := "settings." + setting.Name
		if setting.Config != "" {
			c.checkConfig(field+".config", setting.Config)
			if setting.Default != nil {
				c.errorf(field, "give either default or config")
			}
		}
	}
	for _, secret := range c.program.Secrets {
		field := "secrets." + secret.Name
		if secret.Secret == "" || secret.Key == "" {
			c.errorf(field, "needs both secret and key")
		}
		c.checkCondition(field+".when", secret.When)
	}
	if c.program.Internet != nil {
		c.checkCondition("internet.when", *c.program.Internet)
	}
}

func (c *checker) checkCondition(field string, condition Condition) {
	for _, key := range slices.Sorted(maps.Keys(condition)) {
		c.checkConfig(field, key)
	}
}

func (c *checker) checkConfig(field, key string) {
	if !configForm.MatchString(key) {
		c.errorf(field, "%q is not a configuration key such as shop.auth", key)
	}
}

func (c *checker) checkSize() {
	size := c.program.Size
	if size.MinReplicas < 1 {
		c.errorf("size.minReplicas", "is %d: at least 1", size.MinReplicas)
	}
	if size.MaxReplicas < size.MinReplicas {
		c.errorf("size.maxReplicas", "is %d, less than minReplicas %d", size.MaxReplicas, size.MinReplicas)
	}
	if size.MilliCPU < 1 {
		c.errorf("size.milliCPU", "is %d: at least 1", size.MilliCPU)
	}
	if size.MemoryMiB < 1 {
		c.errorf("size.memoryMiB", "is %d: at least 1", size.MemoryMiB)
	}
	if size.MemoryLimitMiB < size.MemoryMiB {
		c.errorf("size.memoryLimitMiB", "is %d, less than memoryMiB %d", size.MemoryLimitMiB, size.MemoryMiB)
	}
}

// cycle returns an error that names the programs of a cycle of calls.
func cycle(waiting []Program) error {
	byName := map[string]Program{}
	for _, p := range waiting {
		byName[p.Name] = p
	}
	var walk []string
	for name := waiting[0].Name; ; {
		if i := slices.Index(walk, name); i >= 0 {
			names := strings.Join(append(walk[i:len(walk):len(walk)], name), " > ")
			return fmt.Errorf("apps/%s/%s: calls: the programs call each other in a cycle, so none can start first: %s", name, File, names)
		}
		walk = append(walk, name)
		for _, call := range byName[name].Calls {
			if _, blocked := byName[call.Service]; blocked {
				name = call.Service
				break
			}
		}
	}
}
