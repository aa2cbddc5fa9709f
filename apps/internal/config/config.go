// Package config reads a service's settings from its environment. It collects all
// errors, each with its variable's name, and reports them at once, so that an operator
// can fix a deployment in one attempt.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Reader reads typed values and collects their errors.
type Reader struct {
	args   []string // that Argument has not returned yet
	getenv func(string) string
	errs   []error
}

// NewReader returns a Reader of the variables that getenv returns. An empty value
// counts as unset, as in the OpenTelemetry specification:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
// Each of args that no call of Argument returns is an error.
func NewReader(args []string, getenv func(string) string) *Reader {
	return &Reader{args: args, getenv: getenv}
}

// Argument returns the next argument of a command. name is for the error if it is missing.
func (r *Reader) Argument(name string) string {
	if len(r.args) == 0 {
		r.errs = append(r.errs, fmt.Errorf("the argument %s is missing", name))
		return ""
	}
	next := r.args[0]
	r.args = r.args[1:]
	return next
}

// Err returns all errors collected so far, joined, or nil.
func (r *Reader) Err() error {
	errs := r.errs
	for _, arg := range r.args {
		errs = append(errs, fmt.Errorf("argument %q is not accepted: settings are environment variables", arg))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("invalid settings:\n%w", errors.Join(errs...))
}

// Reject adds an error of the variable name.
func (r *Reader) Reject(name, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

// Text returns the variable without surrounding white space, or fallback if it is unset.
func (r *Reader) Text(name, fallback string) string {
	if value := strings.TrimSpace(r.getenv(name)); value != "" {
		return value
	}
	return fallback
}

// Labels are written to response headers, metric labels and log lines, so they must
// not contain characters that could end a header or a line.
var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// Label returns a name of letters, digits, dots, dashes and underscores. It has at
// most 253 characters, like the name of a Kubernetes object.
func (r *Reader) Label(name, fallback string) string {
	value := r.Text(name, fallback)
	if !label.MatchString(value) {
		r.Reject(name, "%q must be up to 253 letters, digits, '.', '-' or '_', and begin and end with a letter or digit", value)
	}
	return value
}

// Int returns a whole number from min to max.
func (r *Reader) Int(name string, fallback, min, max int) int {
	raw := r.Text(name, "")
	if raw == "" {
		return fallback
	}
	value, err := strconv.Atoi(raw)
	if err != nil || value < min || value > max {
		r.Reject(name, "%q is not a whole number from %d to %d", raw, min, max)
	}
	return value
}

// Duration returns a time span from min to max, written like 1.5s or 200ms.
func (r *Reader) Duration(name string, fallback, min, max time.Duration) time.Duration {
	raw := r.Text(name, "")
	if raw == "" {
		return fallback
	}
	value, err := time.ParseDuration(raw)
	if err != nil || value < min || value > max {
		r.Reject(name, "%q is not a duration from %s to %s, such as 5s or 500ms", raw, min, max)
	}
	return value
}

// Choice returns one of choices; the first is the default.
func (r *Reader) Choice(name string, choices ...string) string {
	value := r.Text(name, choices[0])
	for _, choice := range choices {
		if value == choice {
			return value
		}
	}
	r.Reject(name, "%q is not one of %s", value, strings.Join(choices, ", "))
	return choices[0]
}

// HTTPURL returns an absolute http or https URL, or "" when unset.
func (r *Reader) HTTPURL(name string) string {
	raw := r.Text(name, "")
	if raw == "" {
		return ""
	}
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		// Do not print the value: a URL may hold a password.
		r.Reject(name, "must be an absolute http or https URL, such as http://otel-collector.observability:4318")
	}
	return raw
}

// IP returns an IP address, or "" when unset.
func (r *Reader) IP(name string) string {
	value := r.Text(name, "")
	if value == "" {
		return ""
	}
	if _, err := netip.ParseAddr(value); err != nil {
		r.Reject(name, "%q is not an IP address", value)
	}
	return value
}

// Identity identifies a process.
type Identity struct {
	Service string // SERVICE_NAME
	Version string // SERVICE_VERSION; of the digest of an image the first 12 hex digits
	Pod     string // POD_NAME, or the host's name outside Kubernetes
}

// digest is that of an image, in hex digits.
var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// short returns as much of a digest as logs, traces and pages show; other versions stay as they are.
func short(version string) string {
	if digest.MatchString(version) {
		return version[:12]
	}
	return version
}

// Identity reads the process's identity; service is the default name.
func (r *Reader) Identity(service string) Identity {
	pod := r.Text("POD_NAME", "")
	if pod == "" {
		host, err := os.Hostname()
		if err != nil || !label.MatchString(host) {
			host = "localhost"
		}
		pod = host
	}
	if !label.MatchString(pod) {
		r.Reject("POD_NAME", "%q is not a pod's name", pod)
	}
	return Identity{
		Service: r.Label("SERVICE_NAME", service),
		Version: short(r.Label("SERVICE_VERSION", "dev")),
		Pod:     pod,
	}
}
