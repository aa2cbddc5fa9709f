// Command database prepares the PostgreSQL server for the services: `database
// setup` makes their databases and roles and says where to find them, in Secrets
// or in an env file; `database admin` makes the password of the server in a
// local cluster. Both may be run again at any time, also two at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
)

const name = "database"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("a command is missing: setup or admin")
	}
	env := config.NewReader(args[1:], getenv)
	switch args[0] {
	case "setup":
		return runSetup(ctx, env, getenv, stdout)
	case "admin":
		return runAdmin(ctx, env, getenv, stdout)
	}
	return fmt.Errorf("command %q: it is setup or admin", args[0])
}

func runSetup(ctx context.Context, env *config.Reader, getenv func(string) string, stdout io.Writer) error {
	settings := readSettings(env)
	var secrets store = &envFile{path: settings.File, auditor: settings.Auditor}
	if settings.Namespace != "" {
		secrets = &secretStore{cluster: readCluster(env, getenv), namespace: settings.Namespace, auditor: settings.Auditor}
	}
	if err := env.Err(); err != nil {
		return err
	}
	return setup(ctx, settings, secrets, logging.New(stdout, settings.Log))
}

// runAdmin makes the Secret ADMIN_SECRET in ADMIN_SECRET_NAMESPACE, with a new
// password under the key password, unless there is one.
func runAdmin(ctx context.Context, env *config.Reader, getenv func(string) string, stdout io.Writer) error {
	secret := env.Text("ADMIN_SECRET", "")
	namespace := env.Text("ADMIN_SECRET_NAMESPACE", "")
	for variable, value := range map[string]string{"ADMIN_SECRET": secret, "ADMIN_SECRET_NAMESPACE": namespace} {
		if value == "" {
			env.Reject(variable, "required")
		}
	}
	wait := env.Duration("WAIT_TIMEOUT", 2*time.Minute, time.Second, time.Hour)
	logger := logging.New(stdout, logging.ReadSettings(env, name))
	cluster := readCluster(env, getenv)
	if err := env.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	made, err := cluster.ensure(ctx, namespace, secret, func(data map[string][]byte) map[string][]byte {
		if len(data["password"]) > 0 {
			return nil
		}
		return map[string][]byte{"password": []byte(newPassword()), "id": []byte(newID())}
	})
	if err != nil {
		return fmt.Errorf("the server's password: %w", err)
	}
	logger.Info("the server's password is there", "namespace", namespace, "secret", secret, "made", made)
	return nil
}
