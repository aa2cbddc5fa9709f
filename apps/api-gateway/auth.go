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
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/value"
)

var errAnonymous = fmt.Errorf("must not be %s", value.Anonymous)

// parsePrincipal returns the client that a credential names. It refuses the name
// anonymous, whose bearer would own the orders placed without authentication. The
// text of an error completes a sentence that begins with the field's name.
func parsePrincipal(name string) (value.ClientID, error) {
	client, err := value.ParseClientID(name)
	if err == nil && client == value.Anonymous {
		return "", errAnonymous
	}
	return client, err
}

// authenticator identifies the client that sent a request.
type authenticator interface {
	// principal returns the client, or why the request's credentials are refused.
	principal(request http.Header) (value.ClientID, error)
	// challenge returns the header WWW-Authenticate of a refusal; given tells
	// whether the request has credentials.
	challenge(given bool) string
}

// The errors of credentials go to the log only. A client reads the same text for
// all of them.
var (
	errNoCredentials   = errors.New("no credentials")
	errManyCredentials = errors.New("more than one credential")
	errUnknownKey      = errors.New("unknown API key")
)

// readAuth reads AUTH and the settings of the chosen kind. It returns nil only if
// env has an error.
func readAuth(env *config.Reader) authenticator {
	switch required(env, "AUTH", "off", "api-key", "jwt") {
	case "off":
		return noAuth{}
	case "api-key":
		return readKeys(env)
	case "jwt":
		tokens := readTokens(env)
		if env.Text("API_KEYS", "") != "" || env.Text("API_KEYS_FILE", "") != "" {
			return either{readKeys(env), tokens}
		}
		return tokens
	}
	return nil
}

// either accepts API keys in the header X-Api-Key, for programs such as the storefront, and
// tokens otherwise.
type either struct {
	keys   keys
	tokens *tokens
}

func (e either) principal(request http.Header) (value.ClientID, error) {
	if len(request["X-Api-Key"]) > 0 {
		return e.keys.principal(request)
	}
	client, err := e.tokens.principal(request)
	if err == nil && slices.ContainsFunc(e.keys, func(k key) bool { return k.client == client }) {
		return digestOf(string(client)), nil // whoever issues tokens must not name a program's client
	}
	return client, err
}

func (e either) challenge(given bool) string { return e.tokens.challenge(given) }

type noAuth struct{}

func (noAuth) principal(http.Header) (value.ClientID, error) { return value.Anonymous, nil }
func (noAuth) challenge(bool) string                         { return "" }

// bearer returns the credential of the header Authorization, or "" without the header.
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
		return "", errors.New("the header Authorization does not have the form Bearer CREDENTIAL")
	}
	return strings.TrimSpace(credential), nil
}

const realm = `realm="loja-veloz"`

// keys are API keys. The gateway knows only their digests.
type keys []key

type key struct {
	client value.ClientID
	digest [sha256.Size]byte
}

// readKeys reads API_KEYS or the file API_KEYS_FILE: pairs NAME:SHA256, with the
// key's digest in hexadecimal. A name may have several keys, so that a new key can
// replace an old one without an interruption.
func readKeys(env *config.Reader) keys {
	raw := secret(env, "API_KEYS")
	var found keys
	for i, pair := range strings.FieldsFunc(raw, func(r rune) bool { return strings.ContainsRune(", \n\t\r", r) }) {
		// No error prints an entry: it may be a key in the place of its digest.
		name, digest, paired := strings.Cut(pair, ":")
		client, nameErr := parsePrincipal(name)
		decoded, digestErr := hex.DecodeString(digest)
		switch {
		case !paired:
			env.Reject("API_KEYS", "entry %d must have the form NAME:SHA256", i+1)
		case nameErr != nil:
			env.Reject("API_KEYS", "entry %d: NAME %v", i+1, nameErr)
		case digestErr != nil || len(decoded) != sha256.Size:
			env.Reject("API_KEYS", "entry %d (%s): SHA256 must be the key's digest of 64 hexadecimal digits", i+1, client)
		default:
			found = append(found, key{client, [sha256.Size]byte(decoded)})
		}
	}
	return found
}

func (k keys) principal(request http.Header) (value.ClientID, error) {
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
	// Compare every entry in constant time, so that the time does not reveal which
	// entry matches, or how much of it.
	digest := sha256.Sum256([]byte(given))
	match := -1
	for i := range k {
		same := subtle.ConstantTimeCompare(digest[:], k[i].digest[:])
		match = subtle.ConstantTimeSelect(same, i, match)
	}
	if match < 0 {
		return "", errUnknownKey
	}
	return k[match].client, nil
}

func (keys) challenge(bool) string { return "Bearer " + realm }

// tokens verifies JSON Web Tokens of one issuer, for one audience, signed with one
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
			env.Reject("JWT_SECRET", "has %d bytes: HS256 needs at least 32", len(material))
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
		env.Reject("JWT_ISSUER", "required with AUTH=jwt: the iss that a token must have")
	}
	if audience == "" {
		env.Reject("JWT_AUDIENCE", "required with AUTH=jwt: the aud that a token must have")
	}
	return &tokens{
		parser: jwt.NewParser(
			// Accept one algorithm only. A token that could choose would choose none, or
			// HS256 with the public key as the secret (RFC 8725, 2.1).
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

// publicKeys reads the public keys that verify tokens. There may be several, so that
// a new key can replace an old one without an interruption.
func publicKeys(algorithm, material string) (jwt.VerificationKeySet, error) {
	var set jwt.VerificationKeySet
	for rest := []byte(material); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return set, fmt.Errorf("has a PEM block of type %q: only PUBLIC KEY is accepted", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return set, fmt.Errorf("reading public key %d: %w", len(set.Keys)+1, err)
		}
		switch key := parsed.(type) {
		case *rsa.PublicKey:
			if algorithm != "RS256" || key.N.BitLen() < 2048 {
				return set, fmt.Errorf("has an RSA key of %d bits, which JWT_ALGORITHM=%s does not accept: RS256 needs at least 2048 bits",
					key.N.BitLen(), algorithm)
			}
			set.Keys = append(set.Keys, key)
		case *ecdsa.PublicKey:
			if algorithm != "ES256" || key.Curve != elliptic.P256() {
				return set, fmt.Errorf("has a key on the curve %s, which JWT_ALGORITHM=%s does not accept: ES256 needs P-256",
					key.Curve.Params().Name, algorithm)
			}
			set.Keys = append(set.Keys, key)
		default:
			return set, fmt.Errorf("has a key of type %T, which JWT_ALGORITHM=%s does not accept", parsed, algorithm)
		}
	}
	if len(set.Keys) == 0 {
		return set, errors.New("has no public key in PEM")
	}
	return set, nil
}

func (t *tokens) principal(request http.Header) (value.ClientID, error) {
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
	client, err := subject(claims.Subject)
	if err != nil {
		return "", fmt.Errorf("verifying the token: sub %w", err)
	}
	return client, nil
}

// subject returns the client that a token's sub names. RFC 7519 (4.1.2) allows any text, such as
// auth0|1 or an address. A text that is no client's name here, or that is a person's address, which
// no log or table may hold, is represented by its digest.
func subject(sub string) (value.ClientID, error) {
	if strings.ContainsFunc(sub, unicode.IsControl) {
		return "", errors.New("has a control character")
	}
	if sub == "" || len(sub) > maxSubject {
		return "", fmt.Errorf("must have 1 to %d bytes", maxSubject)
	}
	client, err := parsePrincipal(sub)
	switch {
	case errors.Is(err, errAnonymous):
		return "", err
	case err == nil && !strings.Contains(sub, "@") && !strings.HasPrefix(sub, digestPrefix): // only a digest may look like one
		return client, nil
	}
	return digestOf(sub), nil
}

const (
	maxSubject   = 1024
	digestPrefix = "sub-sha256-"
)

func digestOf(sub string) value.ClientID {
	digest := sha256.Sum256([]byte(sub))
	return value.ClientID(digestPrefix + hex.EncodeToString(digest[:]))
}

func (*tokens) challenge(given bool) string {
	if given {
		return "Bearer " + realm + `, error="invalid_token"`
	}
	return "Bearer " + realm
}

// credentialHeaders are not forwarded: services get Client-Id instead.
var credentialHeaders = []string{"Authorization", "X-Api-Key"}

func hasCredentials(request http.Header) bool {
	return slices.ContainsFunc(credentialHeaders, func(name string) bool { return len(request[name]) > 0 })
}
