package main

import (
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// settings are the gateway's own. All have safe defaults except the upstreams' addresses
// and AUTH, which each environment must set.
type settings struct {
	upstreams map[string]*url.URL // ESTOQUE_URL, PAGAMENTOS_URL, PEDIDOS_URL
	// publicPath (PUBLIC_PATH) is the prefix that the edge strips from requests, such
	// as /api. The gateway adds it to Location headers again.
	publicPath string
	bodyLimit  int64 // BODY_LIMIT, in bytes

	readTimeout  time.Duration // TIMEOUT_READ: the whole exchange of a GET, retries included
	writeTimeout time.Duration // TIMEOUT_WRITE: the whole exchange of a POST

	breaker  breakerSettings
	bulkhead bulkheadSettings
	retries  retrySettings
	rate     rateSettings
	cors     corsSettings
	auth     authenticator // AUTH and the settings of the chosen kind
}

// breakerSettings tell when a circuit opens: when failing percent of at least
// minimum requests within window failed.
type breakerSettings struct {
	window  time.Duration // BREAKER_WINDOW
	minimum int           // BREAKER_MIN_REQUESTS
	failing int           // BREAKER_FAILURE_PERCENT
	open    time.Duration // BREAKER_OPEN: time until an open circuit lets probes through
	probes  int           // BREAKER_PROBES: probes that must succeed to close the circuit
}

type bulkheadSettings struct {
	size int           // BULKHEAD_SIZE: requests at once of one operation
	wait time.Duration // BULKHEAD_WAIT: how long a further request waits for a slot
}

type retrySettings struct {
	max     int           // RETRIES: tries after the first
	backoff time.Duration // RETRY_BACKOFF: longest pause before the first retry; doubles with each
}

// readSettings reads all settings. The caller reports the errors that env collects.
func readSettings(env *config.Reader) settings {
	s := settings{
		upstreams: map[string]*url.URL{
			"estoque":    upstreamURL(env, "ESTOQUE_URL"),
			"pagamentos": upstreamURL(env, "PAGAMENTOS_URL"),
			"pedidos":    upstreamURL(env, "PEDIDOS_URL"),
		},
		publicPath:   publicPath(env, "PUBLIC_PATH"),
		bodyLimit:    int64(env.Int("BODY_LIMIT", 64<<10, 1<<10, 1<<20)),
		readTimeout:  env.Duration("TIMEOUT_READ", 5*time.Second, 10*time.Millisecond, 30*time.Second),
		writeTimeout: env.Duration("TIMEOUT_WRITE", 10*time.Second, 10*time.Millisecond, 30*time.Second),
		breaker: breakerSettings{
			window:  env.Duration("BREAKER_WINDOW", 10*time.Second, 100*time.Millisecond, 10*time.Minute),
			minimum: env.Int("BREAKER_MIN_REQUESTS", 20, 1, 100_000),
			failing: env.Int("BREAKER_FAILURE_PERCENT", 50, 1, 100),
			open:    env.Duration("BREAKER_OPEN", 5*time.Second, 10*time.Millisecond, 5*time.Minute),
			probes:  env.Int("BREAKER_PROBES", 3, 1, 100),
		},
		bulkhead: bulkheadSettings{
			size: env.Int("BULKHEAD_SIZE", 256, 1, 10_000),
			wait: env.Duration("BULKHEAD_WAIT", 100*time.Millisecond, 0, 5*time.Second),
		},
		retries: retrySettings{
			max:     env.Int("RETRIES", 2, 0, 5),
			backoff: env.Duration("RETRY_BACKOFF", 25*time.Millisecond, time.Millisecond, time.Second),
		},
		rate: readRate(env),
		cors: readCORS(env),
		auth: readAuth(env),
	}
	return s
}

// upstreamURL returns a service's base URL, which is required.
func upstreamURL(env *config.Reader, name string) *url.URL {
	raw := env.Text(name, "")
	parsed, err := url.Parse(raw)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Hostname() == "" ||
		parsed.User != nil || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		// Do not print the value: a URL may hold a password.
		env.Reject(name, "must be a URL of scheme, host and port only, such as http://estoque")
		return &url.URL{}
	}
	return parsed
}

func publicPath(env *config.Reader, name string) string {
	value := env.Text(name, "")
	if value != "" && (!plainPath(value) || value == "/") {
		env.Reject(name, "%q is not a path such as /api, without a slash at the end", value)
	}
	return value
}

// words splits a variable at commas and white space.
func words(env *config.Reader, name string) []string {
	return strings.FieldsFunc(env.Text(name, ""), func(r rune) bool {
		return r == ',' || r == ' ' || r == '\n' || r == '\t' || r == '\r'
	})
}

// secret returns the value of the variable name, or the content of the file whose
// path is in name_FILE. It prints neither.
func secret(env *config.Reader, name string) string {
	value, path := env.Text(name, ""), env.Text(name+"_FILE", "")
	switch {
	case value != "" && path != "":
		env.Reject(name, "and %s_FILE are both set: set only one of them", name)
	case path != "":
		content, err := os.ReadFile(path)
		if err != nil {
			var where *os.PathError
			if errors.As(err, &where) {
				err = where.Err
			}
			env.Reject(name+"_FILE", "reading %s: %v", path, err)
			return ""
		}
		if value = strings.TrimSpace(string(content)); value == "" {
			env.Reject(name+"_FILE", "%s is empty", path)
		}
	case value == "":
		env.Reject(name, "required, unless %s_FILE is the path of a file that holds it", name)
	}
	return value
}

// required returns one of choices. There is no default.
func required(env *config.Reader, name string, choices ...string) string {
	value := env.Text(name, "")
	if !slices.Contains(choices, value) {
		env.Reject(name, "%q is not one of %s; there is no default", value, strings.Join(choices, ", "))
		return ""
	}
	return value
}
