package workload

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/validate"
)

// maxNameLength leaves room for what Kubernetes and Rollouts append to a
// service's name: "-canary" for Services (63 characters in all), two hashes for pods.
const maxNameLength = 46

var (
	envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// byDigest matches registry/path@sha256:..., with an optional port and without a tag.
	byDigest = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}$`)
)

// reservedEnv are the variables that the platform sets itself.
var reservedEnv = []string{
	"PORT", "SERVICE_NAME", VersionVariable, "POD_NAME", "LOG_FORMAT",
	"OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
	"OTEL_RESOURCE_ATTRIBUTES", "GOMEMLIMIT",
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *Spec) Validate() error {
	name := s.Service
	if name == "" {
		name = "(unnamed)"
	}
	errs := &validate.Errors{Prefix: "service " + name + ": "}
	switch {
	case !validate.DNSLabel(s.Service):
		errs.Add("Service", "is %q: use lower-case letters, digits and dashes, beginning with a letter", s.Service)
	case len(s.Service) > maxNameLength:
		errs.Add("Service", "has %d characters: at most %d leave room for suffixes", len(s.Service), maxNameLength)
	}
	if !validate.DNSLabel(s.Namespace) {
		errs.Add("Namespace", "is %q: use lower-case letters, digits and dashes, beginning with a letter", s.Namespace)
	}
	if !validate.DNSLabel(s.Environment) {
		errs.Add("Environment", "is %q: use lower-case letters, digits and dashes, beginning with a letter", s.Environment)
	}
	s.validateImage(errs)
	if s.LogFormat != "json" && s.LogFormat != "text" {
		errs.Add("LogFormat", "is %q: use json or text", s.LogFormat)
	}
	s.validateEnv(errs)
	s.Size.validate(errs)
	s.Canary.validate(errs, s.Namespace)
	if s.Group != "" {
		if err := rollout.ValidGroup(s.Group); err != nil {
			errs.Add("Group", "%s", err)
		}
	}
	s.validateTraffic(errs)
	s.validateTelemetry(errs)
	if s.Scraper != nil && s.Scraper.Pods.TooWide() {
		errs.Add("Scraper.Pods", "has no namespace or no labels: it would admit every pod")
	}
	if s.Objectives != nil {
		if err := s.Objectives.Validate(); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				errs.Add("Objectives", "%s", line)
			}
		}
	}
	if s.Metrics != nil {
		s.Metrics.validate(errs)
	}
	if s.Wait != nil {
		if s.Cluster == nil {
			errs.Add("Cluster", "is nil: Wait has nothing to ask")
		}
		s.Wait.validate(errs)
	}
	return errs.Err()
}

func (s *Spec) validateImage(errs *validate.Errors) {
	switch {
	case s.Image == "":
		errs.Add("Image", "is empty")
	case !strings.Contains(s.Image, DigestPrefix):
		errs.Add("Image", "is %q: name it by digest (registry/name@sha256:...), because a tag can move during a canary", s.Image)
	case !byDigest.MatchString(s.Image):
		errs.Add("Image", "is %q: use the form registry/name@sha256:<64 hex digits>", s.Image)
	}
}

func (s *Spec) validateEnv(errs *validate.Errors) {
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		switch {
		case !envName.MatchString(name):
			errs.Add("Env", "contains %q, which is not the name of an environment variable", name)
		case slices.Contains(reservedEnv, name):
			errs.Add("Env", "sets %s, which the platform sets itself", name)
		case name == databaseURL:
			errs.Add("Env", "sets %s, which is secret: use Database", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.SecretEnv)) {
		_, twice := s.Env[name]
		switch {
		case !envName.MatchString(name):
			errs.Add("SecretEnv", "contains %q, which is not the name of an environment variable", name)
		case slices.Contains(reservedEnv, name), name == databaseURL:
			errs.Add("SecretEnv", "sets %s, which the platform sets itself", name)
		case twice:
			errs.Add("SecretEnv", "sets %s, which Env sets too", name)
		case s.SecretEnv[name].Secret == "" || s.SecretEnv[name].Key == "":
			errs.Add("SecretEnv", "names no Secret or no key of it for %s", name)
		}
	}
	if s.Database != nil {
		s.Database.validate(errs, s.Service)
	}
}

func (s Size) validate(errs *validate.Errors) {
	if s.MinReplicas < 1 {
		errs.Add("Size.MinReplicas", "is %d: at least 1 is needed", s.MinReplicas)
	}
	if s.MinReplicas > s.MaxReplicas {
		errs.Add("Size.MinReplicas", "is %d, more than Size.MaxReplicas (%d)", s.MinReplicas, s.MaxReplicas)
	}
	if s.MilliCPU < 1 {
		errs.Add("Size.MilliCPU", "is %d: the autoscaler needs a CPU request to measure against", s.MilliCPU)
	}
	if s.MemoryMiB < 1 {
		errs.Add("Size.MemoryMiB", "is %d: without a memory request the scheduler overfills nodes", s.MemoryMiB)
	}
	if s.MemoryLimitMiB < s.MemoryMiB {
		errs.Add("Size.MemoryLimitMiB", "is %d, less than Size.MemoryMiB (%d)", s.MemoryLimitMiB, s.MemoryMiB)
	}
}

func (c Canary) validate(errs *validate.Errors, namespace string) {
	if len(c.Weights) == 0 {
		errs.Add("Canary.Weights", "is empty: a new version would get all traffic at once")
	}
	last := int32(0)
	for i, weight := range c.Weights {
		field := fmt.Sprintf("Canary.Weights[%d]", i)
		switch {
		case weight < 1 || weight > 100:
			errs.Add(field, "is %d: weights are percent, 1 to 100", weight)
		case weight <= last:
			errs.Add(field, "is %d: weights rise, and the one before is %d", weight, last)
		}
		last = max(last, weight)
	}
	if c.Pause < time.Second || c.Pause%time.Second != 0 {
		errs.Add("Canary.Pause", "is %s: use whole seconds, at least 1", c.Pause)
	}
	if c.ProgressDeadline < 10*time.Second || c.ProgressDeadline%time.Second != 0 {
		errs.Add("Canary.ProgressDeadline", "is %s: use whole seconds, at least 10, so that pods have time to start", c.ProgressDeadline)
	}
	for i, template := range c.Analysis {
		c.validateTemplate(errs, fmt.Sprintf("Canary.Analysis[%d]", i), template, namespace)
	}
}

func (s *Spec) validateTraffic(errs *validate.Errors) {
	if s.Gateway == nil {
		errs.Add("Gateway", "is nil: without it Canary.Weights would scale pods and not shift traffic")
	} else if routing := s.Gateway.TrafficRouting(s.Service); routing == nil {
		errs.Add("Gateway", "has no traffic routing: Canary.Weights would scale pods and not shift traffic")
	}
	errs.Join(gateway.Validate("Public", s.Public))
	for i, call := range s.Calls {
		if call.Service == s.Service {
			errs.Add(fmt.Sprintf("Calls[%d]", i), "names the service itself")
		}
		if !validate.DNSLabel(call.Service) {
			errs.Add(fmt.Sprintf("Calls[%d]", i), "is %q, which is not the name of a service", call.Service)
		}
	}
	for i, pods := range s.CalledBy {
		if pods.TooWide() {
			errs.Add(fmt.Sprintf("CalledBy[%d]", i), "has no namespace or no labels: it would admit every pod")
		}
	}
}

func (s *Spec) validateTelemetry(errs *validate.Errors) {
	if s.Telemetry == nil {
		return
	}
	if _, err := s.Telemetry.port(); err != nil {
		errs.Add("Telemetry.Endpoint", "is %q: %s", s.Telemetry.Endpoint, err)
	}
	if s.Telemetry.Collector.TooWide() {
		errs.Add("Telemetry.Collector", "has no namespace or no labels: the policy would allow egress to every pod")
	}
}

// protocol returns the value of OTEL_EXPORTER_OTLP_PROTOCOL: port 4317 is registered for OTLP
// over gRPC, and every other port is assumed to speak HTTP.
func (t *Telemetry) protocol() string {
	if port, err := t.port(); err == nil && port == 4317 {
		return "grpc"
	}
	return "http/protobuf"
}

// port returns the endpoint's port. It has to be in the URL, because policies need the number.
func (t *Telemetry) port() (int32, error) {
	u, err := url.Parse(t.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return 0, errors.New("use http://host:port")
	}
	n, err := strconv.ParseInt(u.Port(), 10, 32)
	if err != nil || n < 1 || n > 65535 {
		return 0, errors.New("give its port, 4317 for gRPC or 4318 for HTTP")
	}
	return int32(n), nil
}
