package catalogue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// declaration is the content of service.yaml.
type declaration struct {
	Kind     Kind                 `yaml:"kind"`
	Port     int                  `yaml:"port"`
	Public   []publicPath         `yaml:"public"`
	Calls    map[string]string    `yaml:"calls"`
	Database bool                 `yaml:"database"`
	Reads    map[string]string    `yaml:"reads"`
	Schedule string               `yaml:"schedule"`
	Settings map[string]setting   `yaml:"settings"`
	Secrets  map[string]secretKey `yaml:"secrets"`
	Internet *struct {
		When Condition `yaml:"when"`
	} `yaml:"internet"`
	Objectives objectives `yaml:"objectives"`
	Size       size       `yaml:"size"`
}

type publicPath struct {
	Exact  string `yaml:"exact"`
	Prefix string `yaml:"prefix"`
	Strip  string `yaml:"strip"`
}

type setting struct {
	Default *string `yaml:"default"`
	Config  string  `yaml:"config"`
	Host    *string `yaml:"host"`
}

type secretKey struct {
	Secret string    `yaml:"secret"`
	Key    string    `yaml:"key"`
	When   Condition `yaml:"when"`
}

type objectives struct {
	Availability struct {
		Percent float64 `yaml:"percent"`
		Window  period  `yaml:"window"`
	} `yaml:"availability"`
	Latency struct {
		Percent   float64 `yaml:"percent"`
		Threshold period  `yaml:"threshold"`
		Window    period  `yaml:"window"`
	} `yaml:"latency"`
	ErrorRate struct {
		Percent float64 `yaml:"percent"`
		Window  period  `yaml:"window"`
	} `yaml:"errorRate"`
	P50         period  `yaml:"p50"`
	P99         period  `yaml:"p99"`
	BaselineRPS float64 `yaml:"baselineRPS"`
}

// defaultObjectives returns the objectives that a service has unless it declares others.
func defaultObjectives() objectives {
	var o objectives
	o.Availability.Percent, o.Availability.Window = 99.9, 30*day
	o.Latency.Percent, o.Latency.Threshold, o.Latency.Window = 95, period(200*time.Millisecond), 7*day
	o.ErrorRate.Percent, o.ErrorRate.Window = 0.1, day
	o.P50, o.P99 = period(100*time.Millisecond), period(500*time.Millisecond)
	o.BaselineRPS = 10
	return o
}

const day = period(24 * time.Hour)

// period is a duration in Go's notation, or a number of days such as 30d.
type period time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *period) UnmarshalYAML(node *yaml.Node) error {
	text := node.Value
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err == nil && n > 0 && n <= 365 {
			*p = period(n) * day
			return nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d > 0 {
		*p = period(d)
		return nil
	}
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is not a duration: use for example 200ms, 24h or 30d", node.Line, text)}}
}

type size struct {
	MinReplicas    int32 `yaml:"minReplicas"`
	MaxReplicas    int32 `yaml:"maxReplicas"`
	MilliCPU       int32 `yaml:"milliCPU"`
	MemoryMiB      int32 `yaml:"memoryMiB"`
	MemoryLimitMiB int32 `yaml:"memoryLimitMiB"`
}

// read decodes one file strictly: an unknown key is an error, and so is a duplicate key.
func read(apps fs.FS, file string) (Program, error) {
	source, err := fs.ReadFile(apps, file)
	if err != nil {
		return Program{}, err
	}
	d := declaration{
		Kind: Service, Objectives: defaultObjectives(),
		Size: size{MinReplicas: 2, MaxReplicas: 6, MilliCPU: 50, MemoryMiB: 48, MemoryLimitMiB: 128},
	}
	decoder := yaml.NewDecoder(bytes.NewReader(source))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil && !errors.Is(err, io.EOF) {
		return Program{}, syntaxErrors(file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Program{}, fmt.Errorf("apps/%s: contains more than one YAML document", file)
	}
	return d.program(file)
}

var unknownKey = regexp.MustCompile(`^line (\d+): field (\S+) not found in type .*$`)

// syntaxErrors returns each of the decoder's errors as one line with the file.
func syntaxErrors(file string, err error) error {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		return fmt.Errorf("apps/%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var errs []error
	for _, text := range typed.Errors {
		text = unknownKey.ReplaceAllString(text, "line $1: unknown key $2")
		errs = append(errs, fmt.Errorf("apps/%s: %s", file, text))
	}
	return errors.Join(errs...)
}

func (d *declaration) program(file string) (Program, error) {
	p := Program{
		Name: path.Dir(file), Kind: d.Kind, Port: d.Port, Database: d.Database, Schedule: d.Schedule, Size: Size(d.Size),
	}
	var errs []error
	for i, public := range d.Public {
		if (public.Exact == "") == (public.Prefix == "") {
			errs = append(errs, fmt.Errorf("apps/%s: public[%d]: give either exact or prefix", file, i))
		}
		p.Public = append(p.Public, Path{
			Value: public.Exact + public.Prefix, Prefix: public.Prefix != "", Strip: public.Strip,
		})
	}
	for _, service := range slices.Sorted(maps.Keys(d.Calls)) {
		p.Calls = append(p.Calls, Call{Service: service, Variable: d.Calls[service]})
	}
	for _, database := range slices.Sorted(maps.Keys(d.Reads)) {
		p.Reads = append(p.Reads, Read{Database: database, Variable: d.Reads[database]})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Settings)) {
		s := d.Settings[name]
		p.Settings = append(p.Settings, Setting{Name: name, Default: s.Default, Config: s.Config, Host: s.Host})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Secrets)) {
		s := d.Secrets[name]
		p.Secrets = append(p.Secrets, Secret{Name: name, Secret: s.Secret, Key: s.Key, When: s.When})
	}
	switch o := d.Objectives; {
	case d.Kind == Service:
		p.Objectives = &Objectives{
			Availability: o.Availability.Percent, AvailabilityWindow: time.Duration(o.Availability.Window),
			Latency: o.Latency.Percent, LatencyThreshold: time.Duration(o.Latency.Threshold), LatencyWindow: time.Duration(o.Latency.Window),
			ErrorRate: o.ErrorRate.Percent, ErrorRateWindow: time.Duration(o.ErrorRate.Window),
			P50: time.Duration(o.P50), P99: time.Duration(o.P99), BaselineRPS: o.BaselineRPS,
		}
	case o != defaultObjectives():
		errs = append(errs, fmt.Errorf("apps/%s: objectives: only a service answers requests", file))
	}
	if d.Internet != nil {
		when := d.Internet.When
		if when == nil {
			when = Condition{}
		}
		p.Internet = &when
	}
	return p, errors.Join(errs...)
}
