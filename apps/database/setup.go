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

// credentials are the URLs of all roles.
type credentials struct {
	Runtime map[string]string // by database
	Owner   map[string]string // by database
	Auditor map[string]string // by database, all of one role
}

// store keeps credentials.
type store interface {
	// keep stores and returns the URL of every role: adopt derives it from the stored
	// one, or from "" for a new role.
	keep(ctx context.Context, databases []string, adopt func(database, role, existing string) string) (credentials, error)
}

// setup stores the credentials first and gives them to the roles afterwards. If it is
// killed in between, the next run completes the work: the password of a role is always a
// stored one. Only one process runs at a time. Otherwise one could set a password that it
// read before another process replaced it.
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
		_ = admin.Close(closing) // the server notices either way
	}()
	return postgres.Exclusively(ctx, admin, func(ctx context.Context) error {
		return setUp(ctx, settings, secrets, admin, logger)
	})
}

func setUp(ctx context.Context, settings settings, secrets store, admin *pgx.Conn, logger *slog.Logger) error {
	kept, err := secrets.keep(ctx, settings.Databases, settings.Admin.adopt)
	if err != nil {
		return fmt.Errorf("keeping the credentials: %w", err)
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
		logger.InfoContext(ctx, "the database is set up", "database", database)
	}
	for _, database := range settings.Databases {
		for _, address := range []string{kept.Owner[database], kept.Runtime[database], kept.Auditor[database]} {
			if err := try(ctx, address); err != nil {
				return fmt.Errorf("database %s: using the kept credentials: %w", database, err)
			}
		}
	}
	logger.InfoContext(ctx, "every role was tried and may come in", "server", settings.Admin)
	return nil
}

// adopt returns the URL of the role, with the password of the existing URL, or with a new
// one if existing is empty.
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
		// In a new cluster the server may take its password a moment later too.
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

// try connects once.
func try(ctx context.Context, address string) error {
	connConfig, err := pgx.ParseConfig(address)
	if err != nil {
		return errors.New("the URL is not to be read")
	}
	connConfig.RuntimeParams["application_name"] = name
	conn, err := pgx.ConnectConfig(ctx, connConfig)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// passwordOf returns a URL's password, or "".
func passwordOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	password, _ := parsed.User.Password()
	return password
}

// newPassword is 32 random bytes.
func newPassword() string {
	secret := make([]byte, 32)
	rand.Read(secret)
	return base64.RawURLEncoding.EncodeToString(secret)
}

// newID is eight random bytes in a form that a folder's name can have.
func newID() string {
	id := make([]byte, 8)
	rand.Read(id)
	return hex.EncodeToString(id)
}
