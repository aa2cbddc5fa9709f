package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func digest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func TestAPIKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	content := "loja:" + digest("first") + "\nloja:" + digest("second") + "\nparceiro:" + digest("third") + "\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, "AUTH=api-key", "API_KEYS_FILE="+file)
	for _, test := range []struct {
		headers []string
		client  string
	}{
		{[]string{"X-Api-Key", "first"}, "loja"},
		{[]string{"X-Api-Key", "second"}, "loja"},
		{[]string{"Authorization", "Bearer third"}, "parceiro"},
		{[]string{"Authorization", "bearer third"}, "parceiro"},
		{nil, ""},
		{[]string{"X-Api-Key", ""}, ""},
		{[]string{"X-Api-Key", "firs"}, ""},
		{[]string{"X-Api-Key", "first "}, "loja"}, // HTTP strips white space around a value
		{[]string{"X-Api-Key", digest("first")}, ""},
		{[]string{"Authorization", "Basic first"}, ""},
		{[]string{"Authorization", "first"}, ""},
		{[]string{"X-Api-Key", "first", "X-Api-Key", "first"}, ""},
		{[]string{"X-Api-Key", "first", "Authorization", "Bearer third"}, ""},
		{[]string{"Client-Id", "loja"}, ""},
	} {
		answer := g.get(t, "/pedidos", test.headers...)
		got := g.backend.requests()
		if test.client == "" {
			g.wantRefused(t, answer, 401, "unauthorized")
			if len(got) > 0 || answer.Header.Get("WWW-Authenticate") != `Bearer realm="loja-veloz"` {
				t.Errorf("%q: %d upstream, WWW-Authenticate %q", test.headers, len(got), answer.Header.Get("WWW-Authenticate"))
			}
			continue
		}
		if answer.StatusCode != 200 || len(got) != 1 || got[0].Header.Get("Client-Id") != test.client {
			t.Errorf("%q = %d, as %v", test.headers, answer.StatusCode, got)
			continue
		}
		if got[0].Header.Get("X-Api-Key")+got[0].Header.Get("Authorization") != "" {
			t.Errorf("%q: the credential was forwarded", test.headers)
		}
	}
	if answer := g.get(t, "/health"); answer.StatusCode != 200 {
		t.Errorf("/health = %d", answer.StatusCode)
	}
}

// TestRefusedCredentialsAreLogged: an operator finds the reason, which the client does not learn,
// and nobody finds the credential.
func TestRefusedCredentialsAreLogged(t *testing.T) {
	secret := strings.Repeat("s", 32)
	keys := newGate(t, "AUTH=api-key", "API_KEYS=loja:"+digest("first"))
	tokens := newGate(t, "AUTH=jwt", "JWT_ISSUER=https://id.loja.example", "JWT_AUDIENCE=shop", "JWT_ALGORITHM=HS256", "JWT_SECRET="+secret)
	expired := sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()}))
	for _, test := range []struct {
		gate                  *gate
		name, credential, log string
	}{
		{keys, "X-Api-Key", "hunter2hunter2", "unknown API key"},
		{keys, "Authorization", "Basic hunter2hunter2", "does not have the form Bearer CREDENTIAL"},
		{tokens, "Authorization", "Bearer " + expired, "token is expired"},
	} {
		answer := test.gate.get(t, "/pedidos", test.name, test.credential)
		log := test.gate.log.String()
		if answer.StatusCode != 401 || strings.Contains(answer.body, test.log) {
			t.Errorf("%s is answered with %d %s", test.log, answer.StatusCode, answer.body)
		}
		if !strings.Contains(log, "credentials refused") || !strings.Contains(log, test.log) {
			t.Errorf("the log does not say %q:\n%s", test.log, log)
		}
		if _, secret, _ := strings.Cut(test.credential, " "); strings.Contains(log, test.credential) || secret != "" && strings.Contains(log, secret) {
			t.Errorf("the log has the credential:\n%s", log)
		}
	}
	if answer := keys.get(t, "/pedidos"); answer.StatusCode != 401 || strings.Contains(keys.log.String(), "no credentials") {
		t.Errorf("a request without credentials: %d, logged as refused", answer.StatusCode)
	}
}

func publicPEM(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// With AUTH=jwt the storefront, which has no token, uses a key.
func TestTokensAndKeysTogether(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	g := newGate(t, "AUTH=jwt", "JWT_ISSUER=https://id.loja.example", "JWT_AUDIENCE=shop", "JWT_ALGORITHM=HS256", "JWT_SECRET="+secret,
		"API_KEYS=storefront:"+digest("front"))
	bearer := func(sub string) string {
		return "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": sub}))
	}
	for _, test := range []struct {
		headers []string
		want    string // the client; "" is refused
	}{
		{[]string{"X-Api-Key", "front"}, "storefront"},
		{[]string{"Authorization", bearer("maria")}, "maria"},
		{[]string{"Authorization", bearer("storefront")}, string(digestOf("storefront"))}, // not the storefront's orders
		{[]string{"X-Api-Key", "wrong"}, ""},
		{[]string{"X-Api-Key", "front", "Authorization", bearer("maria")}, ""},
		{[]string{"Authorization", "Bearer front"}, ""},
		{nil, ""},
	} {
		g.backend.requests()
		answer := g.get(t, "/estoque", test.headers...)
		if test.want == "" {
			g.wantRefused(t, answer, 401, "unauthorized")
			continue
		}
		got := g.backend.requests()
		if answer.StatusCode != 200 || len(got) != 1 || got[0].Header.Get("Client-Id") != test.want {
			t.Errorf("%v = %d, %v; want the client %s", test.headers, answer.StatusCode, got, test.want)
		}
	}
}

func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// claims returns valid claims with changes. A nil value removes a claim.
func claims(changes jwt.MapClaims) jwt.MapClaims {
	all := jwt.MapClaims{"iss": "https://id.loja.example", "aud": "shop", "sub": "cliente-7", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range changes {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

func TestTokens(t *testing.T) {
	secret := strings.Repeat("s", 32)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPEM := publicPEM(t, ecKey.Public())
	base := []string{"AUTH=jwt", "JWT_ISSUER=https://id.loja.example", "JWT_AUDIENCE=shop", "JWT_LEEWAY=10s"}
	gates := map[string]*gate{
		"HS256": newGate(t, append(base, "JWT_ALGORITHM=HS256", "JWT_SECRET="+secret)...),
		"RS256": newGate(t, append(base, "JWT_ALGORITHM=RS256", "JWT_PUBLIC_KEY="+publicPEM(t, rsaKey.Public()))...),
		"ES256": newGate(t, append(base, "JWT_ALGORITHM=ES256", "JWT_PUBLIC_KEY="+publicPEM(t, otherEC.Public())+ecPEM)...),
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	good := sign(t, jwt.SigningMethodHS256, []byte(secret), claims(nil))
	parts := strings.Split(good, ".")
	tampered := parts[0] + "." + strings.Split(sign(t, jwt.SigningMethodHS256, []byte("other"), claims(jwt.MapClaims{"sub": "root"})), ".")[1] + "." + parts[2]

	for _, test := range []struct {
		what, gate, token string
		client            string
	}{
		{"good", "HS256", good, "cliente-7"},
		{"good", "RS256", sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil)), "cliente-7"},
		{"good", "ES256", sign(t, jwt.SigningMethodES256, ecKey, claims(nil)), "cliente-7"},
		{"the older key", "ES256", sign(t, jwt.SigningMethodES256, otherEC, claims(nil)), "cliente-7"},
		{"several audiences", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"aud": []string{"other", "shop"}})), "cliente-7"},
		{"expired within the leeway", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"exp": ago(3 * time.Second)})), "cliente-7"},
		{"none", "HS256", "", ""},
		{"junk", "HS256", "a.b.c", ""},
		{"expired", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"exp": ago(time.Minute)})), ""},
		{"without exp", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"exp": nil})), ""},
		{"not yet", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"nbf": ago(-time.Hour)})), ""},
		{"wrong iss", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"iss": "https://evil.example"})), ""},
		{"without iss", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"iss": nil})), ""},
		{"wrong aud", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"aud": "other"})), ""},
		{"without aud", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"aud": nil})), ""},
		{"without sub", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": nil})), ""},
		{"sub with a line break", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": "a\r\nClient-Id: root"})), ""},
		{"sub of a provider", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": "auth0|1"})), string(digestOf("auth0|1"))},
		{"sub an address", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": "ana@loja.example"})), string(digestOf("ana@loja.example"))},
		{"sub like a digest", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": string(digestOf("a"))})), string(digestOf(string(digestOf("a"))))},
		{"sub too long", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": strings.Repeat("x", 1025)})), ""},
		{"sub anonymous", "HS256", sign(t, jwt.SigningMethodHS256, []byte(secret), claims(jwt.MapClaims{"sub": "anonymous"})), ""},
		{"tampered", "HS256", tampered, ""},
		{"without signature", "HS256", parts[0] + "." + parts[1] + ".", ""},
		{"another secret", "HS256", sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), claims(nil)), ""},
		{"HS384", "HS256", sign(t, jwt.SigningMethodHS384, []byte(secret), claims(nil)), ""},
		{"alg none", "HS256", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil)), ""},
		{"alg none", "RS256", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil)), ""},
		{"HS256 with the public key", "RS256", sign(t, jwt.SigningMethodHS256, []byte(publicPEM(t, rsaKey.Public())), claims(nil)), ""},
		{"HS256 with the public key", "ES256", sign(t, jwt.SigningMethodHS256, []byte(ecPEM), claims(nil)), ""},
		{"PS256", "RS256", sign(t, jwt.SigningMethodPS256, rsaKey, claims(nil)), ""},
		{"RS256", "ES256", sign(t, jwt.SigningMethodRS256, rsaKey, claims(nil)), ""},
	} {
		g := gates[test.gate]
		var headers []string
		if test.token != "" {
			headers = []string{"Authorization", "Bearer " + test.token}
		}
		answer := g.get(t, "/pedidos", headers...)
		got := g.backend.requests()
		if test.client != "" {
			if answer.StatusCode != 200 || len(got) != 1 || got[0].Header.Get("Client-Id") != test.client {
				t.Errorf("%s at %s = %d %s", test.what, test.gate, answer.StatusCode, answer.body)
			}
			continue
		}
		challenge := `Bearer realm="loja-veloz"`
		if test.token != "" {
			challenge += `, error="invalid_token"`
		}
		if answer.StatusCode != 401 || answer.code(t) != "unauthorized" || len(got) > 0 || answer.Header.Get("WWW-Authenticate") != challenge {
			t.Errorf("%s at %s = %d, %d upstream, challenge %q", test.what, test.gate, answer.StatusCode, len(got), answer.Header.Get("WWW-Authenticate"))
		}
	}
}
