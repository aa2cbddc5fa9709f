// Package postgres is what every service with a database shares: the pool and
// its settings, the schema's migrations and the rules for them, and the databases'
// roles.
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
	"unicode"

	"github.com/exaring/otelpgx"
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
	// The pool replaces connections regularly, spread over some minutes, so that it
	// follows a server that moved and spreads over its addresses.
	maxConnLifetime       = 30 * time.Minute
	maxConnLifetimeJitter = 5 * time.Minute
	maxConnIdleTime       = 5 * time.Minute
)

// sessionDefaults are the server-side limits of a service's sessions, unless
// its URL says otherwise. They end what a request's own deadline does not: a
// session whose client has gone silent, holding locks.
var sessionDefaults = map[string]string{
	"statement_timeout":                   "10s",
	"lock_timeout":                        "5s",
	"idle_in_transaction_session_timeout": "15s",
}

// keepAlive notices within half a minute that a server is gone without a word.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Settings of the connections to a service's database.
type Settings struct {
	URL            string // DATABASE_URL: a secret, as it has the password
	MaxConnections int32  // DATABASE_MAX_CONNECTIONS: 8
	Application    string // SERVICE_NAME, for pg_stat_activity; "": the role's name
}

// ReadSettings reads DATABASE_URL (required), DATABASE_MAX_CONNECTIONS and
// SERVICE_NAME. An error about the URL does not contain it.
func ReadSettings(env *config.Reader) Settings {
	settings := Settings{
		URL:            ReadURL(env, "DATABASE_URL"),
		MaxConnections: int32(env.Int("DATABASE_MAX_CONNECTIONS", defaultMaxConnections, 1, maxConnections)),
		Application:    env.Text("SERVICE_NAME", ""),
	}
	return settings
}

// ReadURL reads the URL of a database, which is required. An error does not contain it.
func ReadURL(env *config.Reader, variable string) string {
	raw := env.Text(variable, "")
	if raw == "" {
		env.Reject(variable, "required: postgres://user:password@host:port/database")
	} else if err := checkURL(raw); err != nil {
		env.Reject(variable, "%s", err)
	}
	return raw
}

// checkURL says what is wrong with a URL in words that hold no part of it.
func checkURL(raw string) error {
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
		return errors.New("not a URL of the form postgres://user:password@host:port/database")
	}
	switch {
	case parsed.Host == "":
		return errors.New("names no host")
	case parsed.User.Username() == "":
		return errors.New("names no user")
	case strings.Trim(parsed.Path, "/") == "":
		return errors.New("names no database")
	}
	if _, err := pgxpool.ParseConfig(raw); err != nil {
		return errors.New("has a parameter that cannot be read, such as sslmode or a certificate's file")
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

// Redact returns where a database's URL leads, without password and parameters.
func Redact(raw string) string {
	parsed, err := url.Parse(raw)
	if err != nil || parsed.Host == "" {
		return "(unreadable)"
	}
	return parsed.Scheme + "://" + url.User(parsed.User.Username()).String() + "@" + parsed.Host + parsed.Path
}

// Open returns a pool of connections. Each statement has its own span if its context has
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
	poolConfig.ConnConfig.Tracer = newTracer(provider)
	// Notices that the server sends unasked, for example that it shuts down.
	poolConfig.ConnConfig.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		logger.Debug("notice of the database", "severity", notice.Severity, "code", notice.Code, "notice", notice.Message)
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

// prepareConn sets what all connections have in common.
func prepareConn(connConfig *pgx.ConnConfig, application string) {
	if application == "" {
		application = connConfig.User
	}
	if connConfig.RuntimeParams["application_name"] == "" {
		connConfig.RuntimeParams["application_name"] = application
	}
	connConfig.RuntimeParams["timezone"] = "UTC"
	if connConfig.ConnectTimeout == 0 || connConfig.ConnectTimeout > time.Minute {
		connConfig.ConnectTimeout = connectTimeout
	}
	connConfig.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
}

// tracer is the part of otelpgx's that tells of statements and connections:
// spans for acquiring and preparing would only repeat them.
type tracer struct {
	pgx.QueryTracer
	pgx.BatchTracer
	pgx.CopyFromTracer
	pgx.ConnectTracer
}

func newTracer(provider trace.TracerProvider) tracer {
	spans := otelpgx.NewTracer(
		otelpgx.WithTracerProvider(provider),
		otelpgx.WithTrimSQLInSpanName(),
		otelpgx.WithDisableQuerySpanNamePrefix(),
		otelpgx.WithSpanNameFunc(operation),
	)
	return tracer{spans, spans, spans, spans}
}

// operation is a statement's first word.
func operation(statement string) string {
	words := scan(statement)
	if len(words) > 0 && words[0].kind == plain && unicode.IsLetter([]rune(words[0].text)[0]) {
		return strings.ToUpper(words[0].text)
	}
	return "SQL"
}
