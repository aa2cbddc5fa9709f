package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/postgres"
)

// settings of `database setup`.
type settings struct {
	Admin     server        // ADMIN_DATABASE_*
	Databases []string      // DATABASES
	Auditor   string        // AUDITOR_ROLE: auditor by default
	Namespace string        // SECRETS_NAMESPACE; exactly one of it and File is set
	File      string        // SECRETS_FILE
	Wait      time.Duration // WAIT_TIMEOUT: 2m by default
	Log       logging.Settings
}

// server is the PostgreSQL server with the administrator's credentials. The services'
// URLs have the same address and the same parameters for TLS.
type server struct {
	host, port     string
	user, password string
	database       string
	tls            url.Values
}

// The name of a database is also that of its runtime role. It is a part of the names of
// Secrets and, in capitals, of variables.
var databaseName = regexp.MustCompile(`^[a-z][a-z0-9]{0,39}$`)

func readSettings(env *config.Reader) settings {
	s := settings{
		Admin:     readServer(env),
		Auditor:   env.Text("AUDITOR_ROLE", "auditor"),
		Namespace: env.Text("SECRETS_NAMESPACE", ""),
		File:      env.Text("SECRETS_FILE", ""),
		Wait:      env.Duration("WAIT_TIMEOUT", 2*time.Minute, time.Second, time.Hour),
		Log:       logging.ReadSettings(env, name),
	}
	for _, database := range strings.Split(env.Text("DATABASES", ""), ",") {
		database = strings.TrimSpace(database)
		switch {
		case !databaseName.MatchString(database):
			env.Reject("DATABASES", "%q is not a name of up to 40 lower-case letters and digits: use a list such as pedidos,pagamentos", database)
		case slices.Contains(s.Databases, database):
			env.Reject("DATABASES", "has %q twice", database)
		default:
			s.Databases = append(s.Databases, database)
		}
	}
	if !databaseName.MatchString(s.Auditor) || slices.Contains(s.Databases, s.Auditor) {
		env.Reject("AUDITOR_ROLE", "%q is not a name of up to 40 lower-case letters and digits, different from those in DATABASES", s.Auditor)
	}
	if (s.Namespace == "") == (s.File == "") {
		env.Reject("SECRETS_NAMESPACE", "or SECRETS_FILE: set exactly one of them, for where to write the credentials")
	}
	return s
}

// readServer reads ADMIN_DATABASE_URL, or its parts from other ADMIN_DATABASE_*
// variables, for a Secret that has only a user and a password, like that of RDS.
func readServer(env *config.Reader) server {
	raw := env.Text("ADMIN_DATABASE_URL", "")
	parts := map[string]string{}
	for _, part := range []string{"HOST", "PORT", "USER", "PASSWORD", "NAME", "SSLMODE", "SSLROOTCERT"} {
		if value := env.Text("ADMIN_DATABASE_"+part, ""); value != "" {
			parts[part] = value
		}
	}
	if raw != "" {
		if len(parts) > 0 {
			env.Reject("ADMIN_DATABASE_URL", "and ADMIN_DATABASE_* parts are set: set either the URL or its parts")
		}
		parsed, err := url.Parse(raw)
		// Do not print the value: it has a password.
		if err != nil || parsed.Hostname() == "" || parsed.User.Username() == "" || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
			env.Reject("ADMIN_DATABASE_URL", "must have the form postgres://user:password@host:port/database")
			return server{}
		}
		password, _ := parsed.User.Password()
		parts = map[string]string{
			"HOST": parsed.Hostname(), "PORT": parsed.Port(), "USER": parsed.User.Username(), "PASSWORD": password,
			"NAME": strings.Trim(parsed.Path, "/"), "SSLMODE": parsed.Query().Get("sslmode"), "SSLROOTCERT": parsed.Query().Get("sslrootcert"),
		}
	} else {
		for _, part := range []string{"HOST", "USER", "PASSWORD"} {
			if parts[part] == "" {
				env.Reject("ADMIN_DATABASE_"+part, "required, unless ADMIN_DATABASE_URL is set")
			}
		}
	}

	s := server{
		host: parts["HOST"], port: parts["PORT"], user: parts["USER"], password: parts["PASSWORD"],
		database: parts["NAME"], tls: url.Values{},
	}
	if s.port == "" {
		s.port = "5432"
	}
	if number, err := strconv.Atoi(s.port); err != nil || number < 1 || number > 65535 {
		env.Reject("ADMIN_DATABASE_PORT", "%q is not a port from 1 to 65535", s.port)
	}
	if s.database == "" {
		s.database = "postgres"
	}
	// By default the server must prove its identity before it gets the password.
	mode := parts["SSLMODE"]
	if mode == "" {
		mode = "verify-full"
	}
	if !slices.Contains([]string{"verify-full", "verify-ca", "require", "prefer", "allow", "disable"}, mode) {
		env.Reject("ADMIN_DATABASE_SSLMODE", "%q is not one of verify-full, verify-ca, require, prefer, allow, disable", mode)
	}
	s.tls.Set("sslmode", mode)
	if file := parts["SSLROOTCERT"]; file != "" {
		if _, err := os.Stat(file); err != nil {
			env.Reject("ADMIN_DATABASE_SSLROOTCERT", "%v", err)
		}
		s.tls.Set("sslrootcert", file)
	}
	return s
}

// address returns the URL of a database for a role.
func (s server) address(database, role, password string) string {
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password),
		Host: net.JoinHostPort(s.host, s.port), Path: "/" + database, RawQuery: s.tls.Encode(),
	}
	return address.String()
}

// connConfig returns the configuration of the administrator's connection.
func (s server) connConfig() (*pgx.ConnConfig, error) {
	connConfig, err := pgx.ParseConfig(s.address(s.database, s.user, s.password))
	if err != nil {
		// Do not wrap the error: its text may have the password.
		return nil, errors.New("ADMIN_DATABASE_*: the driver does not accept these settings: check ADMIN_DATABASE_SSLROOTCERT and the host")
	}
	postgres.TrustRDS(connConfig)
	connConfig.RuntimeParams["application_name"] = name
	connConfig.ConnectTimeout = 5 * time.Second
	return connConfig, nil
}

// String shows the server without the password.
func (s server) String() string {
	return fmt.Sprintf("%s@%s/%s", s.user, net.JoinHostPort(s.host, s.port), s.database)
}

// LogValue is String for slog.
func (s server) LogValue() slog.Value { return slog.StringValue(s.String()) }
