package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/postgres"
)

const ownerSuffix = "_owner"

// credentials are the URLs of all roles, with their passwords.
type credentials struct {
	Runtime map[string]string // by database
	Owner   map[string]string // by database
	Auditor map[string]string // by database; all are of the same role
}

// store keeps credentials.
type store interface {
	// keep calls adopt for every role, with the URL that the store has or with "". It
	// stores the URLs that adopt returns, and returns them.
	keep(ctx context.Context, databases []string, adopt func(database, role, existing string) string) (credentials, error)
}

// setup stores the credentials before it gives them to the roles. A role's password is
// therefore always in the store, and if setup is interrupted, the next run completes
// it. Only one process runs setup at a time: otherwise one could give a role a password
// that another has replaced in the store.
func setup(ctx context.Context, settings settings, secrets store, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, settings.Wait)
	defer cancel()
	admin, err := connect(ctx, settings.Admin, logger)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = admin.Close(closing) // the server detects a connection that is not closed
	}()
	return postgres.Exclusively(ctx, admin, func(ctx context.Context) error {
		return setUp(ctx, settings, secrets, admin, logger)
	})
}

func setUp(ctx context.Context, settings settings, secrets store, admin *pgx.Conn, logger *slog.Logger) error {
	kept, err := secrets.keep(ctx, settings.Databases, settings.Admin.adopt)
	if err != nil {
		return fmt.Errorf("storing the credentials: %w", err)
	}
	for _, database := range settings.Databases {
		err := postgres.Provision(ctx, admin, database, postgres.Roles{
			Owner:   postgres.Role{Name: database + ownerSuffix, Password: passwordOf(kept.Owner[database])},
			Runtime: postgres.Role{Name: database, Password: passwordOf(kept.Runtime[database])},
			Auditor: postgres.Role{Name: settings.Auditor, Password: passwordOf(kept.Auditor[database])},
		})
		if err != nil {
			return fmt.Errorf("setting up: %w", err)
		}
		logger.InfoContext(ctx, "the database and its roles are ready", "database", database)
	}
	for _, database := range settings.Databases {
		for _, address := range []string{kept.Owner[database], kept.Runtime[database], kept.Auditor[database]} {
			if err := try(ctx, address); err != nil {
				return fmt.Errorf("database %s: connecting with the stored credentials: %w", database, err)
			}
		}
	}
	logger.InfoContext(ctx, "every role can connect", "server", settings.Admin)
	return nil
}

// adopt returns the URL of a role, with the password of the existing URL or with a new
// one if that has none.
func (s server) adopt(database, role, existing string) string {
	password := passwordOf(existing)
	if password == "" {
		password = newPassword()
	}
	return s.address(database, role, password)
}

// connect waits for the server.
func connect(ctx context.Context, server server, logger *slog.Logger) (*pgx.Conn, error) {
	connConfig, err := server.connConfig()
	if err != nil {
		return nil, err
	}
	pause := 100 * time.Millisecond
	for {
		conn, err := pgx.ConnectConfig(ctx, connConfig)
		if err == nil {
			return conn, nil
		}
		// Retry on every error: a new server may refuse even the right password at first.
		err = postgres.ExplainTLS(err)
		logger.WarnContext(ctx, "waiting for the server", "server", server, "error", err.Error())
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("waiting WAIT_TIMEOUT for the server: %w", err)
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// try opens and closes a connection.
func try(ctx context.Context, address string) error {
	connConfig, err := pgx.ParseConfig(address)
	if err != nil {
		return errors.New("the driver does not accept the URL")
	}
	postgres.TrustRDS(connConfig)
	connConfig.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(ctx, connConfig)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// passwordOf returns a URL's password, or "" if it has none.
func passwordOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	password, _ := parsed.User.Password()
	return password
}

// newPassword returns 32 random bytes in base64url.
func newPassword() string {
	secret := make([]byte, 32)
	rand.Read(secret)
	return base64.RawURLEncoding.EncodeToString(secret)
}

// newID returns eight random bytes in hexadecimal, which can be the name of a directory.
func newID() string {
	id := make([]byte, 8)
	rand.Read(id)
	return hex.EncodeToString(id)
}
