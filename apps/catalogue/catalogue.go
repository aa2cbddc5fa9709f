// Package catalogue reads the declaration of each of the shop's programs,
// apps/NAME/service.yaml. The stacks, make dev, benchmarks, drills and the scaffold use
// it, so that no other list of programs exists. docs/services.md describes the file.
package catalogue

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// File is the name of a program's declaration in its folder.
const File = "service.yaml"

// Kind is how a program runs.
type Kind string

const (
	// Service runs permanently: as a Rollout in the cluster, as a process of make dev.
	Service Kind = "service"
	// CronJob runs on a schedule and ends.
	CronJob Kind = "cronjob"
	// Setup runs to completion before any service starts.
	Setup Kind = "setup"
	// Platform is a tool of the platform's operators, which a component of infra deploys. It is
	// no part of the shop: it has no canary, and nothing calls it.
	Platform Kind = "platform"
)

// Program is one declaration. All lists are sorted by their first field.
type Program struct {
	Name string
	Kind Kind // Service unless declared
	// Port is the port on the host with make dev, 1024 to 65535, or 0 if the program
	// does not listen. In the cluster every service listens on 8080.
	Port   int
	Public []Path // the paths that the edge answers, in the order of the file
	Calls  []Call
	// Database says whether the program has its own database, with the program's name.
	Database bool
	Reads    []Read
	Schedule string // cron's five fields; required for a CronJob, "" for other kinds
	Settings []Setting
	Secrets  []Secret
	// Internet says when the program may call hosts outside the cluster; nil means never.
	Internet *Condition
	// Objectives are a service's objectives; nil for the other kinds.
	Objectives *Objectives
	Size       Size
}

// Objectives are a service's objectives. infra/slo has a type with the same fields, so that
// one converts to the other, and defines their meaning and limits.
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

// Path is a path that the edge answers. It answers 404 to all other paths.
type Path struct {
	Value string
	// Prefix says that Value matches all paths below it too; otherwise only itself.
	Prefix bool
	// Strip is the prefix that the edge removes before it forwards the request; "" removes
	// nothing.
	Strip string
}

// Call is a service that a program calls, and the variable that contains its URL.
type Call struct{ Service, Variable string }

// Read is another program's database that the program reads as the role auditor, and the
// variable that contains its URL.
type Read struct{ Database, Variable string }

// Setting is an environment variable of a program.
type Setting struct {
	Name string
	// Default is the value in a stack; nil leaves the variable out.
	Default *string
	// Config is the key of the stack's configuration, such as shop.auth, that has the
	// value; "" if there is none. An empty value leaves the variable out. Only one of Default
	// and Config may be set.
	Config string
	// Host is the value in make dev; nil leaves the variable out.
	Host *string
}

// Secret is an environment variable from a Secret in the services' namespace.
type Secret struct {
	Name, Secret, Key string
	When              Condition
}

// Condition holds if each key of the stack's configuration has the given value, or one of
// several that are separated by "|". An empty condition always holds.
type Condition map[string]string

// Holds tells whether the condition holds, where value returns the value of a key.
func (c Condition) Holds(value func(key string) string) bool {
	for key, expected := range c {
		if !slices.Contains(strings.Split(expected, "|"), value(key)) {
			return false
		}
	}
	return true
}

// Size is the number of a program's pods and the resources of each: CPU in thousandths of
// a core, memory in MiB.
type Size struct {
	MinReplicas, MaxReplicas            int32 // 2 and 6 unless declared
	MilliCPU, MemoryMiB, MemoryLimitMiB int32 // 50, 48 and 128 unless declared
}

// Catalogue has all programs of the shop.
type Catalogue struct {
	programs []Program // sorted as Programs describes
}

// Load reads every service.yaml one folder below apps. It reports all errors at once,
// each with its file and field.
func Load(apps fs.FS) (*Catalogue, error) {
	files, err := fs.Glob(apps, path.Join("*", File))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no folder in apps contains a " + File)
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

// Programs returns all programs. A program comes after those that it calls and after the
// setup programs. Otherwise they are sorted by name.
func (c *Catalogue) Programs() []Program { return slices.Clone(c.programs) }

// Services returns the programs of kind Service, in the order of Programs.
func (c *Catalogue) Services() []Program { return c.kind(Service) }

// CronJobs returns the programs of kind CronJob, in the order of Programs.
func (c *Catalogue) CronJobs() []Program { return c.kind(CronJob) }

func (c *Catalogue) kind(kind Kind) []Program {
	return slices.DeleteFunc(c.Programs(), func(p Program) bool { return p.Kind != kind })
}

// Program finds a program by name.
func (c *Catalogue) Program(name string) (Program, bool) {
	i := slices.IndexFunc(c.programs, func(p Program) bool { return p.Name == name })
	if i < 0 {
		return Program{}, false
	}
	return c.programs[i], true
}

// Databases returns the sorted names of the programs that have a database.
func (c *Catalogue) Databases() []string {
	return c.names(func(p Program) bool { return p.Database })
}

// Images returns the sorted names of all programs: each has a container image.
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

// Names returns the names of programs, in the same order.
func Names(programs []Program) []string {
	names := make([]string, len(programs))
	for i, p := range programs {
		names[i] = p.Name
	}
	return names
}

// order sorts programs so that each comes after those that it calls. Of the programs that
// may come next it takes setup programs first, and then the first by name.
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
