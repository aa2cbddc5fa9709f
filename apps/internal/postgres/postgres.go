// Package postgres has what the services with a database share: the pool and its
// settings, the migrations and the rules for them, and the databases' roles.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
)

const (
	defaultMaxConnections = 8
	maxConnections        = 100

	connectTimeout = 5 * time.Second
	pingTimeout    = 2 * time.Second
	// The pool replaces its connections from time to time, and not all in the same
	// minute. So it follows a server that moved, and spreads over the server's addresses.
	maxConnLifetime       = 30 * time.Minute
	maxConnLifetimeJitter = 5 * time.Minute
	maxConnIdleTime       = 5 * time.Minute
)

// sessionDefaults are parameters of a service's sessions; those of the URL override them. The
// limits end a session that holds locks after its client is lost, which the deadline of a
// request cannot do.
var sessionDefaults = map[string]string{
	"statement_timeout":                   "10s",
	"lock_timeout":                        "5s",
	"idle_in_transaction_session_timeout": "15s",
	// What PostgreSQL's documentation names for SSDs ("Planner Cost Constants"). With the default of 4,
	// the planner reads a catalogue of 1000 items to find two of them.
	"random_page_cost": "1.1",
}

// keepAlive detects within half a minute that a server is lost without closing its
// connections.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Settings of the connections to a service's database.
type Settings struct {
	URL            string // DATABASE_URL: a secret, since it has the password
	MaxConnections int32  // DATABASE_MAX_CONNECTIONS: 8
	Application    string // SERVICE_NAME, for pg_stat_activity; "": the role's name
}

// ReadSettings reads DATABASE_URL (required), DATABASE_MAX_CONNECTIONS and
// SERVICE_NAME. Errors do not show the URL.
func ReadSettings(env *config.Reader) Settings {
	settings := Settings{
		URL:            ReadURL(env, "DATABASE_URL"),
		MaxConnections: int32(env.Int("DATABASE_MAX_CONNECTIONS", defaultMaxConnections, 1, maxConnections)),
		Application:    env.Text("SERVICE_NAME", ""),
	}
	return settings
}

// ReadURL reads the URL of a database, which is required. Errors do not show it.
func ReadURL(env *config.Reader, variable string) string {
	raw := env.Text(variable, "")
	if raw == "" {
		env.Reject(variable, "required: postgres://user:password@host:port/database")
	} else if err := checkURL(raw); err != nil {
		env.Reject(variable, "%s", err)
	}
	return raw
}

// checkURL returns why a URL is refused, in a text that contains no part of it.
func checkURL(raw string) error {
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
		return errors.New("must have the form postgres://user:password@host:port/database")
	}
	switch {
	case parsed.Host == "":
		return errors.New("the host is missing")
	case parsed.User.Username() == "":
		return errors.New("the user is missing")
	case strings.Trim(parsed.Path, "/") == "":
		return errors.New("the database is missing")
	}
	if _, err := pgxpool.ParseConfig(raw); err != nil {
		return errors.New("a parameter is invalid: check sslmode, and the files of certificates")
	}
	return nil
}

// String shows the settings without the URL's password.
func (s Settings) String() string {
	return fmt.Sprintf("{URL:%s MaxConnections:%d Application:%s}", Redact(s.URL), s.MaxConnections, s.Application)
}

// GoString is String, so that %#v shows no password either.
func (s Settings) GoString() string { return s.String() }

// LogValue is String for slog.
func (s Settings) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Redact returns a database's URL without password and parameters.
func Redact(raw string) string {
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Host == "" {
		return "(unreadable)"
	}
	return parsed.Scheme + "://" + url.User(parsed.User.Username()).String() + "@" + parsed.Host + parsed.Path
}

// Open returns a pool of connections. A statement gets its own span if its context has
// one. The server need not be up: the pool connects when a connection is needed. The
// caller closes the pool.
func Open(ctx context.Context, settings Settings, logger *slog.Logger, provider trace.TracerProvider) (*pgxpool.Pool, error) {
	if err := checkURL(settings.URL); err != nil {
		return nil, fmt.Errorf("reading the database's URL: %w", err)
	}
	poolConfig, err := pgxpool.ParseConfig(settings.URL)
	if err != nil {
		return nil, fmt.Errorf("reading the database's URL: %w", err)
	}
	prepareConn(poolConfig.ConnConfig, settings.Application)
	for name, value := range sessionDefaults {
		if _, set := poolConfig.ConnConfig.RuntimeParams[name]; !set {
			poolConfig.ConnConfig.RuntimeParams[name] = value
		}
	}
	poolConfig.ConnConfig.Tracer = newTracer(provider, poolConfig.ConnConfig)
	// Log what the server reports on its own, such as that it shuts down.
	poolConfig.ConnConfig.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		logger.Debug("the database sent a notice", "severity", notice.Severity, "code", notice.Code, "notice", notice.Message)
	}

	if settings.MaxConnections > 0 {
		poolConfig.MaxConns = settings.MaxConnections
	}
	poolConfig.MaxConnLifetime = maxConnLifetime
	poolConfig.MaxConnLifetimeJitter = maxConnLifetimeJitter
	poolConfig.MaxConnIdleTime = maxConnIdleTime
	poolConfig.PingTimeout = pingTimeout

	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, fmt.Errorf("preparing the database's pool: %w", err)
	}
	return pool, nil
}

// prepareConn sets the parameters that all connections share.
func prepareConn(connConfig *pgx.ConnConfig, application string) {
	if application == "" {
		application = connConfig.User
	}
	if connConfig.RuntimeParams["application_name"] == "" {
		connConfig.RuntimeParams["application_name"] = application
	}
	connConfig.RuntimeParams["timezone"] = "UTC"
	TrustRDS(connConfig)
	if connConfig.ConnectTimeout == 0 || connConfig.ConnectTimeout > time.Minute {
		connConfig.ConnectTimeout = connectTimeout
	}
	connConfig.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
}
