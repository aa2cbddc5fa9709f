package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Ports are those of make dev.
var Ports = map[string]int{
	"api-gateway": 8080, "pedidos": 8081, "pagamentos": 8082, "estoque": 8083, "sample-web-app": 8084, "audit": 8085,
	PostgreSQL: 5432, Jaeger: 16686, otlpHTTP: 4318, otlpGRPC: 4317, Prometheus: 9090,
}

// Names of the components that are no services, and of Jaeger's further ports.
const (
	PostgreSQL = "postgresql"
	Jaeger     = "jaeger"
	Prometheus = "prometheus"
	otlpHTTP   = "jaeger-otlp-http"
	otlpGRPC   = "jaeger-otlp-grpc"
)

// A knob is a setting of services that make dev gives them.
type knob struct {
	name     string
	value    string   // unless .env or the environment has another
	services []string // that get it; none means all
}

var knobs = []knob{
	{"LOG_LEVEL", "info", nil},
	{"ENABLE_DOCS", "true", []string{"api-gateway", "pedidos", "pagamentos", "estoque"}},
	{"DATABASE_MAX_CONNECTIONS", "8", []string{"pedidos", "pagamentos", "estoque"}},
	{"SEED_CATALOGUE", "true", []string{"estoque"}},
	{"ACQUIRER", "simulator", []string{"pagamentos"}},
	{"STRIPE_API_KEY", "", []string{"pagamentos"}},
	{"STRIPE_API_BASE", "", []string{"pagamentos"}},
	{"AUTH", "off", []string{"api-gateway"}},
	{"CORS_ORIGINS", "", []string{"api-gateway"}},
}

// Settings are what a person chooses about make dev.
type Settings struct {
	Telemetry bool
	Ports     map[string]int
	Env       map[string][]string // by service
}

// prefix is how a service's or a port's name begins a variable.
func prefix(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_" }

// ReadSettings reads the env file, if there is one, and what the environment says
// instead: DEV_TELEMETRY, DEV_PORT_<NAME>, the knobs, and any setting of one
// service as <SERVICE>_<SETTING>.
func ReadSettings(file string, getenv func(string) string, services []string) (Settings, error) {
	s := Settings{Telemetry: true, Ports: maps.Clone(Ports), Env: map[string][]string{}}
	values, err := readEnvFile(file)
	if err != nil {
		return s, err
	}
	known := map[string]bool{"DEV_TELEMETRY": true}
	read := func(name, unset string) string {
		known[name] = true
		if v := getenv(name); v != "" {
			return v
		}
		if v := values[name]; v != "" {
			return v
		}
		return unset
	}
	var faults []error
	switch v := read("DEV_TELEMETRY", "on"); v {
	case "on":
	case "off":
		s.Telemetry = false
	default:
		faults = append(faults, fmt.Errorf("DEV_TELEMETRY is %q: use on or off", v))
	}
	for _, service := range services {
		if s.Ports[service] == 0 {
			s.Ports[service] = 8086 + len(s.Ports) - len(Ports)
		}
	}
	taken := map[int]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Ports)) {
		variable := "DEV_PORT_" + strings.TrimSuffix(prefix(name), "_")
		port, err := strconv.Atoi(read(variable, strconv.Itoa(s.Ports[name])))
		if err != nil || port < 1 || port > 65535 {
			faults = append(faults, fmt.Errorf("%s is %q: a port is a number from 1 to 65535", variable, read(variable, "")))
			continue
		}
		if other := taken[port]; other != "" {
			faults = append(faults, fmt.Errorf("%s: port %d is already %s's", variable, port, other))
		}
		s.Ports[name], taken[port] = port, name
	}
	for _, k := range knobs {
		value := read(k.name, k.value)
		for _, service := range services {
			if value != "" && (k.services == nil || slices.Contains(k.services, service)) {
				s.Env[service] = append(s.Env[service], k.name+"="+value)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if known[name] {
			continue
		}
		i := slices.IndexFunc(services, func(service string) bool { return strings.HasPrefix(name, prefix(service)) })
		if i < 0 {
			faults = append(faults, fmt.Errorf("%s: %s is no setting of make dev; a setting of one service is written as %s%s", file, name, prefix("pedidos"), name))
			continue
		}
		s.Env[services[i]] = append(s.Env[services[i]], strings.TrimPrefix(name, prefix(services[i]))+"="+values[name])
	}
	return s, errors.Join(faults...)
}

// readEnvFile reads lines of NAME=value; # begins a comment line. Values may be
// in quotes, and are never printed.
func readEnvFile(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values, faults, n := map[string]string{}, []error{}, 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			faults = append(faults, fmt.Errorf("%s: line %d is not of the form NAME=value", path, n))
			continue
		}
		if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		values[name] = value
	}
	return values, errors.Join(faults...)
}
