package postgrestest

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
)

var scramVerifier = regexp.MustCompile(`^SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)$`)

// HasPassword tells whether the server's verifier for the role matches the password. A
// connection does not tell, since the test server accepts any password.
func HasPassword(t testing.TB, role, password string) bool {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, ServerURL(t))
	if err != nil {
		t.Fatalf("reading the password of %s: %v", role, err)
	}
	defer conn.Close(ctx)
	var stored *string
	if err := conn.QueryRow(ctx, `SELECT rolpassword FROM pg_authid WHERE rolname = $1`, role).Scan(&stored); err != nil {
		t.Fatalf("reading the password of %s: %v", role, err)
	}
	if stored == nil {
		return false
	}
	parts := scramVerifier.FindStringSubmatch(*stored)
	if parts == nil {
		t.Fatalf("the stored password of %s is not a verifier of SCRAM-SHA-256", role)
	}
	decode := func(text string) []byte {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatalf("the verifier of %s: %v", role, err)
		}
		return raw
	}
	iterations, err := strconv.Atoi(parts[1])
	if err != nil {
		t.Fatalf("the verifier of %s: %v", role, err)
	}
	// RFC 5802: StoredKey is H(HMAC(SaltedPassword, "Client Key")).
	salted, err := pbkdf2.Key(sha256.New, password, decode(parts[2]), iterations, sha256.Size)
	if err != nil {
		t.Fatalf("the verifier of %s: %v", role, err)
	}
	mac := func(text string) []byte {
		hash := hmac.New(sha256.New, salted)
		hash.Write([]byte(text))
		return hash.Sum(nil)
	}
	client := sha256.Sum256(mac("Client Key"))
	return hmac.Equal(client[:], decode(parts[3])) && hmac.Equal(mac("Server Key"), decode(parts[4]))
}
