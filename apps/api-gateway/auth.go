package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// anonymous is the client of everyone where nobody has to say who they are.
const anonymous = "anonymous"

// isPrincipal tells whether name can be the Client-Id of requests to services. It refuses
// the name anonymous: its bearer would own every order placed without authentication.
func isPrincipal(name string) bool {
	_, err := value.ParseClientID(name)
	return err == nil && name != anonymous
}

// authenticator finds out who sent a request.
type authenticator interface {
	// principal returns the client's name, or what its credentials lack.
	principal(request http.Header) (string, error)
	// challenge is the WWW-Authenticate of an answer to no or bad credentials.
	challenge(given bool) string
}

// Faults of credentials. What is wrong with a token is for the log alone.
var (
	errNoCredentials   = errors.New("no credentials")
	errManyCredentials = errors.New("more than one credential")
	errUnknownKey      = errors.New("unknown API key")
)

// readAuth reads AUTH and the settings of its kind. It returns nil only along
// with a fault.
func readAuth(env *config.Reader) authenticator {
	switch required(env, "AUTH", "off", "api-key", "jwt") {
	case "off":
		return noAuth{}
	case "api-key":
		return readKeys(env)
	case "jwt":
		return readTokens(env)
	}
	return nil
}

type noAuth struct{}

func (noAuth) principal(http.Header) (string, error) { return anonymous, nil }
func (noAuth) challenge(bool) string                 { return "" }

// bearer returns the credential of a Bearer Authorization, "" without one.
func bearer(request http.Header) (string, error) {
	values := request["Authorization"]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", errManyCredentials
	}
	scheme, credential, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", errors.New("an Authorization that is not Bearer")
	}
	return strings.TrimSpace(credential), nil
}

const realm = `realm="loja-veloz"`

// keys are API keys. Only their digests are known here.
type keys []key

type key struct {
	name   string
	digest [sha256.Size]byte
}

// readKeys reads API_KEYS or the file API_KEYS_FILE: name:digest pairs, the
// digest being the key's SHA-256 in hexadecimal. A name may have several keys,
// so that one can follow another.
func readKeys(env *config.Reader) keys {
	raw := secret(env, "API_KEYS")
	var found keys
	for i, pair := range strings.FieldsFunc(raw, func(r rune) bool { return strings.ContainsRune(", \n\t\r", r) }) {
		name, digest, named := strings.Cut(pair, ":")
		decoded, err := hex.DecodeString(digest)
		switch {
		case !named || !isPrincipal(name):
			env.Reject(
				"API_KEYS",
				"entry %d: must be NAME:SHA256; the name has up to 128 letters, digits, '.', '_', '@' or '-', and is not %s",
				i+1,
				anonymous,
			)
		case err != nil || len(decoded) != sha256.Size:
			// The value stays unprinted: it may be a key put where its digest belongs.
			env.Reject("API_KEYS", "entry %d (%s): needs the key's SHA-256, 64 hexadecimal digits", i+1, name)
		default:
			found = append(found, key{name, [sha256.Size]byte(decoded)})
		}
	}
	return found
}

func (k keys) principal(request http.Header) (string, error) {
	given, err := bearer(request)
	if err != nil {
		return "", err
	}
	if values := request["X-Api-Key"]; len(values) > 0 {
		if given != "" || len(values) > 1 {
			return "", errManyCredentials
		}
		given = values[0]
	}
	if given == "" {
		return "", errNoCredentials
	}
	// Every entry is compared, to the end: the time says neither whether a key is
	// nearly right nor whose it is.
	digest := sha256.Sum256([]byte(given))
	match := -1
	for i := range k {
		same := subtle.ConstantTimeCompare(digest[:], k[i].digest[:])
		match = subtle.ConstantTimeSelect(same, i, match)
	}
	if match < 0 {
		return "", errUnknownKey
	}
	return k[match].name, nil
}

func (keys) challenge(bool) string { return "Bearer " + realm }

// tokens verifies JSON Web Tokens of one issuer, for one audience, signed by one
// algorithm.
type tokens struct {
	parser *jwt.Parser
	keys   jwt.Keyfunc
}

// readTokens reads the JWT_* settings.
func readTokens(env *config.Reader) *tokens {
	algorithm := required(env, "JWT_ALGORITHM", "HS256", "RS256", "ES256")
	var verify any
	switch algorithm {
	case "HS256":
		material := []byte(secret(env, "JWT_SECRET"))
		if 0 < len(material) && len(material) < 32 {
			env.Reject("JWT_SECRET", "has %d bytes: a secret for HS256 needs at least 32", len(material))
		}
		verify = material
	case "RS256", "ES256":
		if material := secret(env, "JWT_PUBLIC_KEY"); material != "" {
			set, err := publicKeys(algorithm, material)
			if err != nil {
				env.Reject("JWT_PUBLIC_KEY", "%v", err)
			}
			verify = set
		}
	}
	issuer, audience := env.Text("JWT_ISSUER", ""), env.Text("JWT_AUDIENCE", "")
	if issuer == "" {
		env.Reject("JWT_ISSUER", "needed here: the iss that tokens must have")
	}
	if audience == "" {
		env.Reject("JWT_AUDIENCE", "needed here: the aud that tokens must have")
	}
	return &tokens{
		parser: jwt.NewParser(
			// Pinned, so that no token chooses how it is verified: not none, and not
			// HS256 with the public key as its secret.
			jwt.WithValidMethods([]string{algorithm}),
			jwt.WithExpirationRequired(),
			jwt.WithIssuer(issuer),
			jwt.WithAudience(audience),
			jwt.WithLeeway(env.Duration("JWT_LEEWAY", 30*time.Second, 0, 5*time.Minute)),
			jwt.WithStrictDecoding(),
		),
		keys: func(*jwt.Token) (any, error) { return verify, nil },
	}
}

// publicKeys reads the keys in PEM that may have signed a token; there can be
// several, so that one can follow another.
func publicKeys(algorithm, material string) (jwt.VerificationKeySet, error) {
	var set jwt.VerificationKeySet
	for rest := []byte(material); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return set, fmt.Errorf("block %q is not a PUBLIC KEY in PEM", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return set, fmt.Errorf("reading public key %d: %w", len(set.Keys)+1, err)
		}
		switch key := parsed.(type) {
		case *rsa.PublicKey:
			if algorithm != "RS256" || key.N.BitLen() < 2048 {
				return set, fmt.Errorf("an RSA key of %d bits: RS256 needs at least 2048, %s is asked for", key.N.BitLen(), algorithm)
			}
			set.Keys = append(set.Keys, key)
		case *ecdsa.PublicKey:
			if algorithm != "ES256" || key.Curve != elliptic.P256() {
				return set, fmt.Errorf("a key of curve %s: ES256 needs P-256, %s is asked for", key.Curve.Params().Name, algorithm)
			}
			set.Keys = append(set.Keys, key)
		default:
			return set, fmt.Errorf("a key of type %T, which %s cannot use", parsed, algorithm)
		}
	}
	if len(set.Keys) == 0 {
		return set, errors.New("no public key in PEM")
	}
	return set, nil
}

func (t *tokens) principal(request http.Header) (string, error) {
	given, err := bearer(request)
	if err != nil {
		return "", err
	}
	if given == "" {
		return "", errNoCredentials
	}
	var claims jwt.RegisteredClaims
	if _, err := t.parser.ParseWithClaims(given, &claims, t.keys); err != nil {
		return "", fmt.Errorf("verifying the token: %w", err)
	}
	if !isPrincipal(claims.Subject) {
		return "", errors.New("verifying the token: its sub is not a client's name")
	}
	return claims.Subject, nil
}

func (*tokens) challenge(given bool) string {
	if given {
		return "Bearer " + realm + `, error="invalid_token"`
	}
	return "Bearer " + realm
}

// credentialHeaders stay here: services know clients by Client-Id.
var credentialHeaders = []string{"Authorization", "X-Api-Key"}

func hasCredentials(request http.Header) bool {
	return slices.ContainsFunc(credentialHeaders, func(name string) bool { return len(request[name]) > 0 })
}
