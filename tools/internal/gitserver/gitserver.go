// Package gitserver serves git repositories of a folder by HTTP: a small server around git's own
// http-backend. Everybody who reaches it may read; who writes needs a token.
package gitserver

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi" // #nosec G504 -- Go has passed no client's Proxy header on since 1.6.3
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// User is the name that goes with the token.
const User = "loja"

// tokenFile is the file in a server's folder with the token, mode 0600.
const tokenFile = "token"

// Init creates the folder with its token and an empty bare repository, unless they are there.
func Init(ctx context.Context, folder, repository, branch string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	token := filepath.Join(folder, tokenFile)
	if _, err := os.Stat(token); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(token, []byte(rand.Text()+rand.Text()), 0o600); err != nil {
			return err
		}
	}
	bare := filepath.Join(folder, repository)
	if _, err := os.Stat(filepath.Join(bare, "HEAD")); err == nil {
		return nil
	}
	return command.Command{Args: []string{"git", "init", "--quiet", "--bare", "--initial-branch=" + branch, bare}}.Run(ctx)
}

// Token reads the token of a server's folder.
func Token(folder string) (string, error) {
	b, err := os.ReadFile(filepath.Join(folder, tokenFile))
	if err != nil {
		return "", fmt.Errorf("the git server's token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Serve serves the folder's repositories at address until ctx ends.
func Serve(ctx context.Context, folder, address string) error {
	handler, err := Handler(folder)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Handler answers git's smart protocol. A push without the token is a 401.
func Handler(folder string) (http.Handler, error) {
	token, err := Token(folder)
	if err != nil {
		return nil, err
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("git is not on PATH: install it: %w", err)
	}
	// The environment of a cgi.Handler has no HOME: git reads no person's configuration.
	backend := func(more ...string) http.Handler {
		return &cgi.Handler{Path: git, Args: []string{"http-backend"}, Dir: folder, Env: append(more,
			"GIT_PROJECT_ROOT="+folder, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")}
	}
	// http-backend accepts pushes from a REMOTE_USER only.
	reader, writer := backend(), backend("REMOTE_USER="+User)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		switch {
		case name == User && subtle.ConstantTimeCompare([]byte(password), []byte(token)) == 1:
			writer.ServeHTTP(w, r)
		case r.URL.Query().Get("service") == "git-receive-pack" || strings.HasSuffix(r.URL.Path, "/git-receive-pack") || name != "":
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "a push needs the user "+User+" and its token", http.StatusUnauthorized)
		default:
			reader.ServeHTTP(w, r)
		}
	}), nil
}
