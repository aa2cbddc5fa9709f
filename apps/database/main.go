// Command database prepares the PostgreSQL server for the services. `database setup`
// creates their databases and roles and writes the credentials into Secrets or into an
// env file; `database admin` creates the password of the server in a local cluster. Both
// can run again at any time, even concurrently.
package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/service"
)

const name = "database"

var run = service.Commands{"setup": runSetup, "admin": runAdmin}.Run

func main() { service.Main(name, run) }

func runSetup(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	settings := readSettings(env)
	var secrets store = &envFile{path: settings.File, auditor: settings.Auditor}
	if settings.Namespace != "" {
		secrets = &secretStore{cluster: readCluster(env), namespace: settings.Namespace, auditor: settings.Auditor}
	}
	if err := env.Err(); err != nil {
		return err
	}
	return setup(ctx, settings, secrets, logging.New(stdout, settings.Log))
}

// runAdmin creates the Secret ADMIN_SECRET in ADMIN_SECRET_NAMESPACE, with a new
// password under the key password, unless it exists.
func runAdmin(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	secret := env.Text("ADMIN_SECRET", "")
	namespace := env.Text("ADMIN_SECRET_NAMESPACE", "")
	for variable, value := range map[string]string{"ADMIN_SECRET": secret, "ADMIN_SECRET_NAMESPACE": namespace} {
		if value == "" {
			env.Reject(variable, "required")
		}
	}
	wait := env.Duration("WAIT_TIMEOUT", 2*time.Minute, time.Second, time.Hour)
	logger := logging.New(stdout, logging.ReadSettings(env, name))
	cluster := readCluster(env)
	if err := env.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	created, err := cluster.ensure(ctx, namespace, secret, func(data map[string][]byte) map[string][]byte {
		if len(data["password"]) > 0 {
			return nil
		}
		return map[string][]byte{"password": []byte(newPassword()), "id": []byte(newID())}
	})
	if err != nil {
		return fmt.Errorf("creating the server's password: %w", err)
	}
	logger.Info("the Secret has the server's password", "namespace", namespace, "secret", secret, "created", created)
	return nil
}
