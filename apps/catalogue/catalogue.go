// Package catalogue reads what each program of the shop declares about itself, in
// apps/NAME/service.yaml. The stacks, make dev, benchmarks, drills and the scaffold
// read it, so that nothing else lists programs by hand. docs/services.md describes
// the file.
package catalogue

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"
)

// File is the name of a program's declaration, in its own folder.
const File = "service.yaml"

// Kind is how a program runs.
type Kind string

const (
	// Service runs all the time: a Rollout in the cluster, a process of make dev.
	Service Kind = "service"
	// CronJob runs on a schedule and ends.
	CronJob Kind = "cronjob"
	// Setup runs to its end before any service starts.
	Setup Kind = "setup"
)

// Program is one declaration. All lists are sorted by their first field.
type Program struct {
	Name string
	Kind Kind // Service unless declared
	// Port is where the program listens on the host, run by make dev; 0 if it does
	// not listen. In the cluster every service listens on 8080.
	Port   int
	Public []Path // what the edge answers; in the order of the file
	Calls  []Call
	// Database says whether the program has a database of its own, of its own name.
	Database bool
	Reads    []Read
	Schedule string // in cron's five fields; of a CronJob only
	Settings []Setting
	Secrets  []Secret
	// Internet says when the program may call hosts outside the cluster; nil is never.
	Internet *Condition
	// Objectives are what a service promises; nil for the other kinds.
	Objectives *Objectives
	Size       Size
}

// Objectives are what a service promises. Their meaning and their limits are those of
// infra/slo, which has the same fields, so that one converts into the other.
type Objectives struct {
	Availability       float64 // percent of requests without a server error
	AvailabilityWindow time.Duration
	Latency            float64 // percent of requests within LatencyThreshold
	LatencyThreshold   time.Duration
	LatencyWindow      time.Duration
	ErrorRate          float64 // percent of server errors
	ErrorRateWindow    time.Duration
	P50, P99           time.Duration
	BaselineRPS        float64 // requests per second
}

// Path is a path that the edge answers; it answers 404 to every other one.
type Path struct {
	Value string
	// Prefix matches the path and everything below it; otherwise the path itself.
	Prefix bool
	// Strip is what the edge removes from the beginning before the service sees the path.
	Strip string
}

// Call is a service that a program calls, and the variable with its address.
type Call struct{ Service, Variable string }

// Read is the database of another program, read by the role auditor, and the variable
// with its URL.
type Read struct{ Database, Variable string }

// Setting is an environment variable of a program.
type Setting struct {
	Name string
	// Default is the value in a stack; nil leaves the variable out.
	Default *string
	// Config is a configuration key of the stack, such as shop.auth, whose value is used
	// instead of Default. Empty is none.
	Config string
	// Host is the value in make dev; nil leaves the variable out.
	Host *string
}

// Secret is an environment variable from a Secret in the services' namespace.
type Secret struct {
	Name, Secret, Key string
	When              Condition
}

// Condition holds when each configuration key of the stack has the value; an empty one
// always holds.
type Condition map[string]string

// Holds asks value for each key.
func (c Condition) Holds(value func(key string) string) bool {
	for key, expected := range c {
		if value(key) != expected {
			return false
		}
	}
	return true
}

// Size bounds the pods of a program. CPU is in thousandths of a core, memory in MiB.
type Size struct {
	MinReplicas, MaxReplicas            int32 // 2 and 6 unless declared
	MilliCPU, MemoryMiB, MemoryLimitMiB int32 // 50, 48 and 128 unless declared
}

// Catalogue is every program of the shop.
type Catalogue struct {
	programs []Program // called before caller
}

// Load reads every service.yaml one folder below apps. It reports all errors at once,
// each with its file and field.
func Load(apps fs.FS) (*Catalogue, error) {
	files, err := fs.Glob(apps, path.Join("*", File))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no folder of apps has a " + File)
	}
	var programs []Program
	var errs []error
	for _, file := range files {
		program, err := read(apps, file)
		errs = append(errs, err)
		programs = append(programs, program)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := check(programs); err != nil {
		return nil, err
	}
	ordered, err := order(programs)
	return &Catalogue{programs: ordered}, err
}

// Programs are all programs. A program comes after those that it calls, and after the
// setup programs; otherwise the names decide.
func (c *Catalogue) Programs() []Program { return slices.Clone(c.programs) }

// Services are the programs of kind Service, in the order of Programs.
func (c *Catalogue) Services() []Program { return c.kind(Service) }

// CronJobs are the programs of kind CronJob, in the order of Programs.
func (c *Catalogue) CronJobs() []Program { return c.kind(CronJob) }

func (c *Catalogue) kind(kind Kind) []Program {
	return slices.DeleteFunc(c.Programs(), func(p Program) bool { return p.Kind != kind })
}

// Program finds one by name.
func (c *Catalogue) Program(name string) (Program, bool) {
	i := slices.IndexFunc(c.programs, func(p Program) bool { return p.Name == name })
	if i < 0 {
		return Program{}, false
	}
	return c.programs[i], true
}

// Databases are the names of the programs that have one, sorted.
func (c *Catalogue) Databases() []string {
	return c.names(func(p Program) bool { return p.Database })
}

// Images are the names of all programs, sorted: each has a container image.
func (c *Catalogue) Images() []string {
	return c.names(func(Program) bool { return true })
}

func (c *Catalogue) names(wanted func(Program) bool) []string {
	var names []string
	for _, p := range c.programs {
		if wanted(p) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Names of programs.
func Names(programs []Program) []string {
	names := make([]string, len(programs))
	for i, p := range programs {
		names[i] = p.Name
	}
	return names
}

// order sorts programs so that each comes after those that it calls. Of those that may
// come next, setup programs are first, then the names decide.
func order(programs []Program) ([]Program, error) {
	waiting := slices.SortedFunc(slices.Values(programs), func(a, b Program) int {
		switch {
		case a.Kind == Setup && b.Kind != Setup:
			return -1
		case a.Kind != Setup && b.Kind == Setup:
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	var ordered []Program
	for len(waiting) > 0 {
		next := slices.IndexFunc(waiting, func(p Program) bool {
			return !slices.ContainsFunc(p.Calls, func(call Call) bool {
				return slices.ContainsFunc(waiting, func(w Program) bool { return w.Name == call.Service })
			})
		})
		if next < 0 {
			return nil, cycle(waiting)
		}
		ordered = append(ordered, waiting[next])
		waiting = slices.Delete(waiting, next, next+1)
	}
	return ordered, nil
}
