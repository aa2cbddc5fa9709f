package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

// shop is a setup of two databases with unused names.
type shop struct {
	t                          *testing.T
	pedidos, estoque, auditor  string
	env                        map[string]string
	mu                         sync.Mutex
	log                        bytes.Buffer
	host                       string // and port, of the server
	pedidosSecret, ownerSecret string
	estoqueSecret, auditSecret string
}

func newShop(t *testing.T, extra map[string]string) *shop {
	t.Helper()
	address, err := url.Parse(postgrestest.ServerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprintf("t%08x", mathrand.Uint32())
	s := &shop{t: t, pedidos: prefix + "pedidos", estoque: prefix + "estoque", auditor: prefix + "auditor", host: address.Host}
	s.pedidosSecret, s.ownerSecret = "shop/"+s.pedidos+"-database", "shop/"+s.pedidos+"-database-owner"
	s.estoqueSecret, s.auditSecret = "shop/"+s.estoque+"-database", "shop/"+s.auditor+"-databases"
	s.env = map[string]string{
		"ADMIN_DATABASE_HOST": address.Hostname(), "ADMIN_DATABASE_PORT": address.Port(), "ADMIN_DATABASE_USER": address.User.Username(),
		"ADMIN_DATABASE_PASSWORD": "hunter2", "ADMIN_DATABASE_SSLMODE": "disable",
		"DATABASES": s.pedidos + "," + s.estoque, "AUDITOR_ROLE": s.auditor, "WAIT_TIMEOUT": "30s",
	}
	if password, set := address.User.Password(); set { // the server requires it
		s.env["ADMIN_DATABASE_PASSWORD"] = password
	}
	maps.Copy(s.env, extra)
	t.Cleanup(func() {
		admin := s.admin()
		for _, database := range []string{s.pedidos, s.estoque} {
			for _, statement := range []string{
				"DROP DATABASE IF EXISTS " + database + " WITH (FORCE)", "DROP ROLE IF EXISTS " + database + ", " + database + "_owner",
			} {
				if _, err := admin.Exec(context.Background(), statement); err != nil {
					t.Error(err)
				}
			}
		}
		if _, err := admin.Exec(context.Background(), "DROP ROLE IF EXISTS "+s.auditor); err != nil {
			t.Error(err)
		}
		_ = admin.Close(context.Background())
		if strings.Contains(s.log.String(), s.env["ADMIN_DATABASE_PASSWORD"]) {
			t.Errorf("the log shows the administrator's password:\n%s", &s.log)
		}
	})
	return s
}

func (s *shop) admin() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), postgrestest.ServerURL(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// Write appends a line to the log. Concurrent commands share the log.
func (s *shop) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(line)
}

func (s *shop) run(ctx context.Context, args ...string) error {
	return run(ctx, args, func(name string) string { return s.env[name] }, s)
}

func (s *shop) setup() {
	s.t.Helper()
	if err := s.run(s.t.Context(), "setup"); err != nil {
		s.t.Fatal(err)
	}
}

// verify checks that every stored URL has the right database, role and password.
func (s *shop) verify(kept map[string]string) {
	s.t.Helper()
	want := map[string][2]string{
		"pedidos":         {s.pedidos, s.pedidos},
		"pedidos owner":   {s.pedidos, s.pedidos + "_owner"},
		"pedidos auditor": {s.pedidos, s.auditor},
		"estoque":         {s.estoque, s.estoque},
		"estoque owner":   {s.estoque, s.estoque + "_owner"},
		"estoque auditor": {s.estoque, s.auditor},
	}
	for name, target := range want { // target is a database and a role
		address, err := url.Parse(kept[name])
		if err != nil || kept[name] == "" {
			s.t.Errorf("%s: %q is not a URL", name, kept[name])
			continue
		}
		password, _ := address.User.Password()
		if address.Scheme != "postgres" || address.Host != s.host || address.Path != "/"+target[0] || address.User.Username() != target[1] || address.RawQuery != "sslmode=disable" {
			s.t.Errorf("%s: the URL is %s, want database %s and role %s", name, address.Redacted(), target[0], target[1])
		}
		if len(password) != 43 { // 32 bytes in base64url
			s.t.Errorf("%s: the password has %d characters, want 43", name, len(password))
		}
		if !postgrestest.HasPassword(s.t, target[1], password) {
			s.t.Errorf("%s: the stored password is not the role's", name)
		}
		if strings.Contains(s.log.String(), password) {
			s.t.Errorf("%s: the log shows the password:\n%s", name, &s.log)
		}
	}
}

func (s *shop) inSecrets(a *api) map[string]string {
	audit := a.data(s.auditSecret)
	return map[string]string{
		"pedidos":         a.data(s.pedidosSecret)["url"],
		"pedidos owner":   a.data(s.ownerSecret)["url"],
		"pedidos auditor": audit[s.pedidos],
		"estoque":         a.data(s.estoqueSecret)["url"],
		"estoque owner":   a.data(s.estoqueSecret + "-owner")["url"],
		"estoque auditor": audit[s.estoque],
	}
}

func newClusterShop(t *testing.T) (*shop, *api) {
	t.Helper()
	a := newAPI(t)
	s := newShop(t, a.env())
	s.env["SECRETS_NAMESPACE"] = "shop"
	return s, a
}

func TestSetupStoresTheCredentialsInSecrets(t *testing.T) {
	s, a := newClusterShop(t)
	s.setup()
	s.verify(s.inSecrets(a))
	if len(a.secrets) != 5 {
		t.Errorf("%d Secrets, want 5", len(a.secrets))
	}
	before, writes := s.inSecrets(a), a.writes
	s.setup()
	s.verify(s.inSecrets(a))
	if !reflect.DeepEqual(s.inSecrets(a), before) || a.writes != writes {
		t.Errorf("the second run wrote %d Secrets, want none", a.writes-writes)
	}
}

func TestARoleCannotConnectToAnotherDatabase(t *testing.T) {
	s, a := newClusterShop(t)
	s.setup()
	address, _ := url.Parse(a.data(s.pedidosSecret)["url"])
	address.Path = "/" + s.estoque
	if _, err := pgx.Connect(t.Context(), address.String()); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("pedidos connecting to the database of estoque: %v, want 42501", err)
	}
}

func TestConcurrentSetupsAgree(t *testing.T) {
	s, a := newClusterShop(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if err := s.run(t.Context(), "setup"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	s.verify(s.inSecrets(a))
}

func TestSetupCompletesAnInterruptedRun(t *testing.T) {
	for _, at := range []int{1, 3, 5} { // of the five Secrets that are written
		t.Run(fmt.Sprint("after Secret ", at), func(t *testing.T) {
			s, a := newClusterShop(t)
			ctx, crash := context.WithCancel(t.Context())
			var count atomic.Int32
			a.beforeWrite = func(string, string) {
				if count.Add(1) == int32(at) {
					crash() // the client may or may not learn whether this write succeeds
				}
			}
			if err := s.run(ctx, "setup"); !errors.Is(err, context.Canceled) {
				t.Fatalf("%v, want context.Canceled", err)
			}
			a.beforeWrite = nil
			s.setup()
			s.verify(s.inSecrets(a))
		})
	}
}

func TestSetupRestoresTheStoredPasswordOfARole(t *testing.T) {
	s, a := newClusterShop(t)
	s.setup()
	admin := s.admin()
	defer admin.Close(t.Context())
	if _, err := admin.Exec(t.Context(), "ALTER ROLE "+s.pedidos+" PASSWORD 'other'"); err != nil {
		t.Fatal(err)
	}
	before := s.inSecrets(a)
	s.setup()
	s.verify(s.inSecrets(a))
	if !reflect.DeepEqual(s.inSecrets(a), before) {
		t.Error("a Secret changed, want the role's password to change")
	}
}

func TestSetupReplacesADeletedSecret(t *testing.T) {
	s, a := newClusterShop(t)
	s.setup()
	before := s.inSecrets(a)
	a.remove(s.pedidosSecret)
	a.remove(s.auditSecret)
	s.setup()
	after := s.inSecrets(a)
	s.verify(after)
	for name := range after {
		deleted := name == "pedidos" || strings.HasSuffix(name, "auditor")
		if (after[name] != before[name]) != deleted {
			t.Errorf("%s: changed is %t, want %t", name, after[name] != before[name], deleted)
		}
	}
}

func TestSetupUsesASecretThatAnotherClientCreatedFirst(t *testing.T) {
	s, a := newClusterShop(t)
	theirs := strings.Repeat("x", 43)
	a.beforeWrite = func(method, key string) {
		if method == http.MethodPost && key == s.pedidosSecret && len(a.data(key)) == 0 {
			a.set(key, map[string]string{"url": "postgres://" + s.pedidos + ":" + theirs + "@" + s.host + "/" + s.pedidos + "?sslmode=disable"})
		}
	}
	s.setup()
	s.verify(s.inSecrets(a))
	if got := passwordOf(a.data(s.pedidosSecret)["url"]); got != theirs {
		t.Error("the password of the other client was replaced")
	}
}

func TestSetupFollowsAServerThatMoved(t *testing.T) {
	s, a := newClusterShop(t)
	password := strings.Repeat("p", 43)
	a.set(s.pedidosSecret, map[string]string{"url": "postgres://" + s.pedidos + ":" + password + "@old:5432/" + s.pedidos, "note": "kept"})
	// Another client changes the Secret before setup writes it. That change must stay.
	var once sync.Once
	a.beforeWrite = func(method, key string) {
		if method == http.MethodPut && key == s.pedidosSecret {
			once.Do(func() {
				data := a.data(key)
				data["another"] = "kept too"
				a.set(key, data)
			})
		}
	}
	s.setup()
	s.verify(s.inSecrets(a))
	data := a.data(s.pedidosSecret)
	if passwordOf(data["url"]) != password || data["note"] != "kept" || data["another"] != "kept too" {
		t.Errorf("the Secret has lost its password or other keys: it has %d keys", len(data))
	}
	if labels := fmt.Sprint(a.secrets[s.pedidosSecret]["metadata"]); !strings.Contains(labels, "team:shop") {
		t.Errorf("the Secret has lost its labels: %s", labels)
	}
}

func TestOneAuditorHasOnePassword(t *testing.T) {
	s, a := newClusterShop(t)
	a.set(s.auditSecret, map[string]string{
		s.pedidos: "postgres://x:" + strings.Repeat("1", 43) + "@old/x",
		s.estoque: "postgres://x:" + strings.Repeat("2", 43) + "@old/x",
	})
	s.setup()
	s.verify(s.inSecrets(a))
}

func TestSetupRetriesWhileTheAPIFails(t *testing.T) {
	s, a := newClusterShop(t)
	var count atomic.Int32
	a.interfere = func(w http.ResponseWriter, r *http.Request) bool {
		switch count.Add(1) {
		case 1:
			http.Error(w, "restarting", http.StatusServiceUnavailable)
		case 3:
			panic(http.ErrAbortHandler)
		default:
			return false
		}
		return true
	}
	a.loseAnswers = 2
	s.setup()
	s.verify(s.inSecrets(a))
}

func TestARenewedTokenIsRead(t *testing.T) {
	s, a := newClusterShop(t)
	var once sync.Once
	a.beforeWrite = func(string, string) {
		once.Do(func() {
			a.write("token", "token-2")
			a.mu.Lock()
			a.token = "token-2"
			a.mu.Unlock()
		})
	}
	s.setup()
	s.verify(s.inSecrets(a))
}

func TestARefusalOfTheAPIIsNotRetried(t *testing.T) {
	s, a := newClusterShop(t)
	a.write("token", "stolen")
	s.env["WAIT_TIMEOUT"] = "5m" // retries would last that long
	started := time.Now()
	err := s.run(t.Context(), "setup")
	if err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), s.pedidosSecret) || strings.Contains(err.Error(), "stolen") {
		t.Errorf("%v, want 401 of the Secret, without the token", err)
	}
	a.write("token", a.token)
	s.env["SECRETS_NAMESPACE"] = "nowhere"
	err = s.run(t.Context(), "setup")
	if err == nil || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), `namespaces "nowhere" not found`) {
		t.Errorf("%v, want 404 of the namespace", err)
	}
	if took := time.Since(started); took > 2*time.Minute {
		t.Errorf("it took %s: setup retried after a refusal", took)
	}
	var databases int
	admin := s.admin()
	defer admin.Close(t.Context())
	if err := admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_roles WHERE rolname = $1`, s.pedidos).Scan(&databases); err != nil || databases != 0 {
		t.Errorf("setup created a role whose password is not stored (%v)", err)
	}
}

func TestAnAPIWithAForeignCertificateGetsNoRequest(t *testing.T) {
	s, a := newClusterShop(t)
	var asked atomic.Bool
	a.interfere = func(http.ResponseWriter, *http.Request) bool {
		asked.Store(true)
		return false
	}
	a.write("ca.crt", newAuthority(t))
	s.env["WAIT_TIMEOUT"] = "1s"
	if err := s.run(t.Context(), "setup"); err == nil || !strings.Contains(err.Error(), "unknown authority") || asked.Load() {
		t.Errorf("%v, requests: %t; want an error about the certificate, and no request", err, asked.Load())
	}
	a.write("ca.crt", "nothing")
	if err := s.run(t.Context(), "setup"); err == nil || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("%v, want an error about ca.crt", err)
	}
}

// newAuthority returns the certificate of a new authority, which has signed no other.
func newAuthority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

func TestSetupStoresTheCredentialsInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets.env")
	s := newShop(t, map[string]string{"SECRETS_FILE": file})
	if err := os.WriteFile(file, []byte("# mine\nOTHER=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.setup()
	content := s.readFile(file)
	s.verify(s.inFile(content))
	if !strings.HasPrefix(content, "# mine\nOTHER=1\n") {
		t.Error("the other lines of the file are lost")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	s.setup()
	if s.readFile(file) != content {
		t.Error("the second run changed the file")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v (%v), want only the file", entries, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.setup()
	s.verify(s.inFile(s.readFile(file)))
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the new file %v (%v), want 0600", info.Mode(), err)
	}
}

func (s *shop) readFile(file string) string {
	s.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

func (s *shop) inFile(content string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(content) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[name] = value
	}
	pedidos, estoque := strings.ToUpper(s.pedidos), strings.ToUpper(s.estoque)
	return map[string]string{
		"pedidos":         values[pedidos+"_DATABASE_URL"],
		"pedidos owner":   values[pedidos+"_DATABASE_OWNER_URL"],
		"pedidos auditor": values["AUDITOR_"+pedidos+"_DATABASE_URL"],
		"estoque":         values[estoque+"_DATABASE_URL"],
		"estoque owner":   values[estoque+"_DATABASE_OWNER_URL"],
		"estoque auditor": values["AUDITOR_"+estoque+"_DATABASE_URL"],
	}
}

func TestAFileThatCannotBeWrittenLeavesTheRolesAlone(t *testing.T) {
	s := newShop(t, map[string]string{"SECRETS_FILE": filepath.Join(t.TempDir(), "missing", "secrets.env")})
	if err := s.run(t.Context(), "setup"); err == nil || !strings.Contains(err.Error(), "SECRETS_FILE") {
		t.Errorf("%v, want an error of SECRETS_FILE", err)
	}
}

func TestSetupWaitsForTheServerUntilWaitTimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	s := newShop(t, map[string]string{"SECRETS_FILE": filepath.Join(t.TempDir(), "env"), "WAIT_TIMEOUT": "1s", "ADMIN_DATABASE_PORT": port})
	err = s.run(t.Context(), "setup")
	if err == nil || !strings.Contains(err.Error(), "WAIT_TIMEOUT") || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v, want that the server refused until WAIT_TIMEOUT", err)
	}
	if tries := strings.Count(s.log.String(), "waiting for the server"); tries < 2 {
		t.Errorf("%d tries, want at least 2", tries)
	}
}

func TestAdminCreatesThePasswordOnce(t *testing.T) {
	a := newAPI(t)
	env := a.env()
	maps.Copy(env, map[string]string{"ADMIN_SECRET": "postgresql", "ADMIN_SECRET_NAMESPACE": "shop"})
	var log bytes.Buffer
	var mu sync.Mutex
	admin := func() error {
		return run(t.Context(), []string{"admin"}, func(name string) string { return env[name] }, writer(func(line []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(line)
		}))
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if err := admin(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	password := a.data("shop/postgresql")["password"]
	if len(password) != 43 || a.writes != 1 {
		t.Errorf("a password of %d characters after %d writes, want 43 and one", len(password), a.writes)
	}
	if id := a.data("shop/postgresql")["id"]; len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("the id is %q, want 16 hex digits", id)
	}
	if strings.Contains(log.String(), password) {
		t.Errorf("the log shows the password: %s", &log)
	}
	a.set("shop/postgresql", map[string]string{"note": "kept"})
	if err := admin(); err != nil {
		t.Fatal(err)
	}
	if data := a.data("shop/postgresql"); data["note"] != "kept" || len(data["password"]) != 43 {
		t.Errorf("the Secret has %d keys, want the old note and a password", len(data))
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(line []byte) (int, error) { return w(line) }

func TestErrorsOfTheSettingsNameTheirVariables(t *testing.T) {
	good := map[string]string{"ADMIN_DATABASE_URL": "postgres://a:hunter2@server/postgres", "DATABASES": "pedidos", "SECRETS_FILE": "/tmp/x.env"}
	for _, test := range []struct {
		args   []string
		change map[string]string
		want   []string
	}{
		{nil, nil, []string{"admin or setup"}},
		{[]string{"start"}, nil, []string{`"start"`}},
		{[]string{"setup", "-v"}, nil, []string{`"-v"`}},
		{[]string{"setup"}, map[string]string{"ADMIN_DATABASE_URL": "", "DATABASES": "", "SECRETS_FILE": "", "WAIT_TIMEOUT": "soon"}, []string{
			"ADMIN_DATABASE_HOST", "ADMIN_DATABASE_USER", "ADMIN_DATABASE_PASSWORD", "DATABASES", "SECRETS_NAMESPACE", "WAIT_TIMEOUT"}},
		{[]string{"setup"}, map[string]string{"DATABASES": "pedidos,pedidos"}, []string{"DATABASES", "twice"}},
		{[]string{"setup"}, map[string]string{"DATABASES": "pedidos; DROP"}, []string{"DATABASES"}},
		{[]string{"setup"}, map[string]string{"AUDITOR_ROLE": "pedidos"}, []string{"AUDITOR_ROLE"}},
		{[]string{"setup"}, map[string]string{"ADMIN_DATABASE_HOST": "server"}, []string{"ADMIN_DATABASE_URL"}},
		{[]string{"setup"}, map[string]string{"ADMIN_DATABASE_URL": "mysql://a:hunter2@server"}, []string{"ADMIN_DATABASE_URL"}},
		{[]string{"setup"}, map[string]string{"ADMIN_DATABASE_URL": "postgres://a:hunter2@server:99999/x?sslmode=never"}, []string{"ADMIN_DATABASE_PORT", "ADMIN_DATABASE_SSLMODE"}},
		{[]string{"setup"}, map[string]string{"ADMIN_DATABASE_URL": "postgres://a:hunter2@server/x?sslrootcert=/nothing"}, []string{"ADMIN_DATABASE_SSLROOTCERT"}},
		{[]string{"setup"}, map[string]string{"SECRETS_NAMESPACE": "shop"}, []string{"SECRETS_NAMESPACE", "KUBERNETES_SERVICE_HOST"}},
		{[]string{"admin"}, nil, []string{"ADMIN_SECRET:", "ADMIN_SECRET_NAMESPACE", "KUBERNETES_SERVICE_HOST"}},
	} {
		env := maps.Clone(good)
		maps.Copy(env, test.change)
		err := run(t.Context(), test.args, func(name string) string { return env[name] }, &bytes.Buffer{})
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v with %v: %v, want an error with %s, without the password", test.args, test.change, err, want)
			}
		}
	}
}

func TestByDefaultTheServerMustUseTLS(t *testing.T) {
	s := newShop(t, map[string]string{"ADMIN_DATABASE_SSLMODE": "", "SECRETS_FILE": filepath.Join(t.TempDir(), "env"), "WAIT_TIMEOUT": "1s"})
	if err := s.run(t.Context(), "setup"); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("%v, want an error since the server has no TLS", err)
	}
}
