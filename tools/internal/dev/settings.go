package dev

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// Names of the programs that are not in the catalogue, and of Jaeger's other ports.
const (
	PostgreSQL = "postgresql"
	Jaeger     = "jaeger"
	Prometheus = "prometheus"
	otlpHTTP   = "jaeger-otlp-http"
	otlpGRPC   = "jaeger-otlp-grpc"
)

// ports are the default ports of the programs that are not in the catalogue.
var ports = map[string]int{PostgreSQL: 5432, Jaeger: 16686, otlpHTTP: 4318, otlpGRPC: 4317, Prometheus: 9090}

var logLevel = "info"

// settings returns the variables that make dev passes on to a program: those that its
// declaration lists, and LOG_LEVEL.
func settings(p catalogue.Program) []catalogue.Setting {
	all := append([]catalogue.Setting{{Name: "LOG_LEVEL", Host: &logLevel}}, p.Settings...)
	for _, secret := range p.Secrets {
		all = append(all, catalogue.Setting{Name: secret.Name})
	}
	return all
}

// environment returns a program's settings as NAME=value. read returns the value that the
// user chose, or unset; a variable whose value is empty is left out.
func environment(p catalogue.Program, read func(name, unset string) string) []string {
	var env []string
	for _, setting := range settings(p) {
		unset := ""
		if setting.Host != nil {
			unset = *setting.Host
		}
		if value := read(setting.Name, unset); value != "" {
			env = append(env, setting.Name+"="+value)
		}
	}
	return env
}

// prefix returns what the names of one program's variables begin with.
func prefix(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_" }

func portVariable(name string) string { return "DEV_PORT_" + strings.TrimSuffix(prefix(name), "_") }

// ReadOptions reads Ports, Env and Telemetry of make dev's Options from DEV_TELEMETRY,
// DEV_PORT_<NAME> and the settings that programs declare. It looks each variable up in
// the environment first, and then in the file, which may be missing. The file may also set
// any setting of one program, as <PROGRAM>_<SETTING>. All errors are reported at once.
func ReadOptions(file string, getenv func(string) string, c *catalogue.Catalogue) (Options, error) {
	values, err := readEnvFile(file)
	if err != nil {
		return Options{}, err
	}
	r := settingsReader{file: file, values: values, getenv: getenv, known: map[string]bool{}}
	programs := listening(c)
	o := Options{Telemetry: r.telemetry(), Ports: r.ports(programs), Env: map[string][]string{}}
	for _, p := range programs {
		o.Env[p.Name] = environment(p, r.read)
	}
	r.ofOneProgram(programs, o.Env)
	r.storefrontKey(o.Env)
	return o, errors.Join(r.errs...)
}

// storefrontKey gives the storefront a key of the API if the API asks for credentials and the
// user has set none: otherwise the shop would be closed.
func (r *settingsReader) storefrontKey(env map[string][]string) {
	const gateway, storefront, client = "api-gateway", "sample-web-app", "storefront:"
	auth, file := last(env[gateway], "AUTH"), last(env[gateway], "API_KEYS_FILE")
	if auth != "api-key" && auth != "jwt" || file != "" || last(env[storefront], "API_KEY") != "" {
		return
	}
	keys := last(env[gateway], "API_KEYS")
	if strings.Contains(keys, client) {
		r.errorf("%sAPI_KEYS has the client storefront, but %sAPI_KEY is missing: set it to the storefront's key",
			prefix(gateway), prefix(storefront))
		return
	}
	key := rand.Text()
	if keys != "" {
		keys += ","
	}
	env[gateway] = append(env[gateway], fmt.Sprintf("API_KEYS=%s%s%x", keys, client, sha256.Sum256([]byte(key))))
	env[storefront] = append(env[storefront], "API_KEY="+key)
}

// last returns the value of the last entry NAME=value, or "".
func last(env []string, name string) string {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// listening returns the programs that make dev runs: those with a port on the host.
func listening(c *catalogue.Catalogue) []catalogue.Program {
	return slices.DeleteFunc(c.Programs(), func(p catalogue.Program) bool { return p.Port == 0 })
}

type settingsReader struct {
	file   string
	values map[string]string // of the file
	getenv func(string) string
	known  map[string]bool // names of the variables that were read
	errs   []error
}

func (r *settingsReader) read(name, unset string) string {
	r.known[name] = true
	if v := r.getenv(name); v != "" {
		return v
	}
	if v := r.values[name]; v != "" {
		return v
	}
	return unset
}

func (r *settingsReader) errorf(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

func (r *settingsReader) telemetry() bool {
	v := r.read("DEV_TELEMETRY", "on")
	if v != "on" && v != "off" {
		r.errorf("DEV_TELEMETRY is %q: use on or off", v)
	}
	return v == "on"
}

func (r *settingsReader) ports(programs []catalogue.Program) map[string]int {
	all := maps.Clone(ports)
	for _, p := range programs {
		all[p.Name] = p.Port
	}
	taken := map[int]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		variable := portVariable(name)
		value := r.read(variable, strconv.Itoa(all[name]))
		port, err := strconv.Atoi(value)
		switch other := taken[port]; {
		case err != nil || port < 1 || port > 65535:
			r.errorf("%s is %q: a port is a number from 1 to 65535", variable, value)
		case other != "":
			r.errorf("%s is %d, which is already the port of %s: choose another port", variable, port, other)
		default:
			all[name], taken[port] = port, name
		}
	}
	return all
}

// ofOneProgram adds the file's settings of one program, <PROGRAM>_<SETTING>, to env.
func (r *settingsReader) ofOneProgram(programs []catalogue.Program, env map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(r.values)) {
		if r.known[name] {
			continue
		}
		program := "" // the longest name that matches: one program's name may be a prefix of another's
		for _, p := range programs {
			if strings.HasPrefix(name, prefix(p.Name)) && len(p.Name) > len(program) {
				program = p.Name
			}
		}
		if program == "" {
			r.errorf("%s: %s is not a setting of make dev; to set it for one program, such as pedidos, write %s%s",
				r.file, name, prefix("pedidos"), name)
			continue
		}
		env[program] = append(env[program], strings.TrimPrefix(name, prefix(program))+"="+r.values[name])
	}
}

// readEnvFile reads lines of NAME=value, whose values may be quoted. It skips lines that
// begin with #. Its errors contain no values, which may be secrets. A missing file counts
// as empty.
func readEnvFile(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values, errs, n := map[string]string{}, []error{}, 0
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
			errs = append(errs, fmt.Errorf("%s: line %d is not of the form NAME=value", path, n))
			continue
		}
		if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		values[name] = value
	}
	return values, errors.Join(errs...)
}
