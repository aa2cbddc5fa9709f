package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/postgres"
)

// A signer signs servers' certificates.
type signer struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string // its certificate
}

func newSigner(t *testing.T, name string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &signer{t: t, key: key, file: filepath.Join(t.TempDir(), "ca.pem"), certificate: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	if err := os.WriteFile(a.file, a.sign(a.certificate, key), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign returns a certificate in PEM.
func (a *signer) sign(template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// server returns the certificate and the key of a server with these names, valid until a time.
func (a *signer) server(until time.Time, hosts ...string) (certificate, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: hosts, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}, private), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// serveTLS gives the real server of the tests a certificate until the test ends. Other tests, which
// do not ask for TLS, do not notice.
func serveTLS(s *shop, certificate, key []byte) {
	s.t.Helper()
	admin := s.admin()
	exec := func(ctx context.Context, statements ...string) {
		s.t.Helper()
		for _, statement := range statements {
			if _, err := admin.Exec(ctx, statement); err != nil {
				s.t.Fatalf("%.60s: %v", statement, err)
			}
		}
	}
	write := func(file string, content []byte) string { // by the server, whose user alone may read the key
		return fmt.Sprintf("COPY (SELECT unnest(string_to_array('%s', E'\\n'))) TO PROGRAM 'umask 077; cat > %s'",
			strings.TrimSpace(string(content)), file)
	}
	exec(s.t.Context(), write("test-tls.crt", certificate), write("test-tls.key", key),
		"ALTER SYSTEM SET ssl_cert_file = 'test-tls.crt'", "ALTER SYSTEM SET ssl_key_file = 'test-tls.key'", "ALTER SYSTEM SET ssl = on",
		"SELECT pg_reload_conf()")
	s.t.Cleanup(func() {
		exec(context.Background(), "ALTER SYSTEM RESET ssl", "ALTER SYSTEM RESET ssl_cert_file", "ALTER SYSTEM RESET ssl_key_file",
			"SELECT pg_reload_conf()")
		_ = admin.Close(context.Background())
		s.awaitTLS(nil)
	})
	s.awaitTLS(certificate)
}

// awaitTLS waits until new connections get a certificate, or with nil none.
func (s *shop) awaitTLS(certificate []byte) {
	s.t.Helper()
	block, _ := pem.Decode(certificate)
	for deadline := time.Now().Add(time.Minute); ; {
		connConfig, err := pgx.ParseConfig("postgres://nobody:nothing@" + s.host + "/postgres?sslmode=require")
		if err != nil {
			s.t.Fatal(err)
		}
		var served []byte
		connConfig.TLSConfig.VerifyConnection = func(state tls.ConnectionState) error {
			served = state.PeerCertificates[0].Raw
			return errors.New("seen")
		}
		_, err = pgx.ConnectConfig(context.Background(), connConfig)
		if block != nil && string(served) == string(block.Bytes) || block == nil && served == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server's certificate is not the one that was set: %v", err)
		}
	}
}

// connectAs connects as the setup, a migration and a service do, and returns their errors.
func (s *shop) connectAs(host, mode, root string) map[string]error {
	s.t.Helper()
	port := s.host[strings.LastIndex(s.host, ":")+1:]
	s.env["ADMIN_DATABASE_HOST"], s.env["ADMIN_DATABASE_SSLMODE"], s.env["ADMIN_DATABASE_SSLROOTCERT"] = host, mode, root
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword(s.env["ADMIN_DATABASE_USER"], s.env["ADMIN_DATABASE_PASSWORD"]),
		Host: host + ":" + port, Path: "/postgres", RawQuery: url.Values{"sslmode": {mode}, "sslrootcert": {root}}.Encode(),
	}
	silent := slog.New(slog.DiscardHandler)
	files := fstest.MapFS{"00001_nothing.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}}
	connected := map[string]error{"setup": s.run(s.t.Context(), "setup")}
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	connected["migration"] = postgres.Migrate(ctx, address.String(), files, silent)
	pool, err := postgres.Open(s.t.Context(), postgres.Settings{URL: address.String()}, silent, noop.NewTracerProvider())
	if err != nil {
		s.t.Fatal(err)
	}
	defer pool.Close()
	ctx, cancel = context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	connected["service"] = postgres.WaitSchema(ctx, pool, files)
	return connected
}

// On the real server: whom verify-full connects to, and what it says otherwise.
func TestVerifyFull(t *testing.T) {
	const instance = "shop.us-east-1.rds.amazonaws.com"
	file := filepath.Join(t.TempDir(), "env")
	s := newShop(t, map[string]string{"SECRETS_FILE": file, "WAIT_TIMEOUT": "2s"})
	ours, other := newSigner(t, "ours"), newSigner(t, "other")
	refused := func(situation, host, root, want string) {
		t.Helper()
		for who, err := range s.connectAs(host, "verify-full", root) {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "database.sslMode") {
				t.Errorf("%s: %s: %v, want an error with %q and the setting", situation, who, err, want)
			}
		}
	}
	refused("a server without TLS", "localhost", ours.file, "asks for TLS, and the server has none")

	certificate, key := ours.server(time.Now().Add(time.Hour), "localhost", instance)
	serveTLS(s, certificate, key)
	t.Cleanup(func() { // before the server stops to serve TLS
		admin := s.admin()
		if _, err := admin.Exec(context.Background(), "DROP TABLE IF EXISTS goose_db_version"); err != nil {
			t.Error(err)
		}
		_ = admin.Close(context.Background())
	})
	for who, err := range s.connectAs("localhost", "verify-full", ours.file) {
		if err != nil {
			t.Errorf("the right server: %s: %v", who, err)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil || strings.Count(string(content), "sslmode=verify-full") != 6 {
		t.Errorf("%d of the 6 URLs that the services get verify the server (%v)", strings.Count(string(content), "sslmode=verify-full"), err)
	}
	refused("another name", "127.0.0.1", ours.file, "a certificate with the name 127.0.0.1")
	refused("another authority", "localhost", other.file, `a certificate of a known authority, and "ours"`)
	// The name of an instance of RDS, where this server answers: its authority is not RDS's.
	connConfig, err := pgx.ParseConfig("postgres://nobody:nothing@" + strings.Replace(s.host, "127.0.0.1", instance, 1) + "/postgres?sslmode=verify-full")
	if err != nil {
		t.Fatal(err)
	}
	postgres.TrustRDS(connConfig)
	connConfig.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	if _, err := pgx.ConnectConfig(t.Context(), connConfig); err == nil || !strings.Contains(postgres.ExplainTLS(err).Error(), "known authority") {
		t.Errorf("a server that says it is RDS: %v", err)
	}
}

func TestVerifyFullRefusesAnExpiredCertificate(t *testing.T) {
	s := newShop(t, map[string]string{"SECRETS_FILE": filepath.Join(t.TempDir(), "env"), "WAIT_TIMEOUT": "2s"})
	ours := newSigner(t, "ours")
	certificate, key := ours.server(time.Now().Add(-time.Hour), "localhost")
	serveTLS(s, certificate, key)
	for who, err := range s.connectAs("localhost", "verify-full", ours.file) {
		if err == nil || !strings.Contains(err.Error(), "a valid certificate, and the server's is not") {
			t.Errorf("%s: %v, want an error of the expired certificate", who, err)
		}
	}
}
