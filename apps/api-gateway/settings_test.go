package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// settingErrors returns the errors of the settings by variable.
func settingErrors(t *testing.T, values map[string]string) map[string]string {
	t.Helper()
	err := run(t.Context(), nil, func(name string) string { return values[name] }, io.Discard)
	if err == nil {
		t.Fatal("the settings were accepted")
	}
	found := map[string]string{}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if name, text, ok := strings.Cut(line, ": "); ok {
			found[name] += text
		}
	}
	return found
}

func TestAllErrorsOfTheSettingsAreReportedAtOnce(t *testing.T) {
	values := map[string]string{
		"PORT": "x", "AUTH": "", "ESTOQUE_URL": "", "PAGAMENTOS_URL": "ftp://pagamentos", "PEDIDOS_URL": "http://user:hunter2@pedidos/x?y",
		"PUBLIC_PATH": "/api/", "BODY_LIMIT": "-1", "TIMEOUT_READ": "0s", "TIMEOUT_WRITE": "5", "BREAKER_WINDOW": "1ms",
		"BREAKER_MIN_REQUESTS": "0", "BREAKER_FAILURE_PERCENT": "101", "BREAKER_OPEN": "never", "BREAKER_PROBES": "0",
		"BULKHEAD_SIZE": "0", "BULKHEAD_WAIT": "-1s", "RETRIES": "99", "RETRY_BACKOFF": "0s", "RATE_PER_SECOND": "-1",
		"RATE_BURST": "0", "RATE_CLIENTS": "0", "TRUSTED_PROXIES": "-1", "CORS_ORIGINS": "https://loja.example/", "CORS_CREDENTIALS": "yes",
	}
	found := settingErrors(t, values)
	for name := range values {
		if found[name] == "" {
			t.Errorf("no error for %s=%q", name, values[name])
		}
	}
	if text := found["PEDIDOS_URL"]; strings.Contains(text, "hunter2") {
		t.Errorf("the error shows a password: %s", text)
	}
	if len(found) != len(values)+1 && len(found) != len(values) { // the heading may count as one
		t.Errorf("%d errors for %d variables: %v", len(found), len(values), found)
	}
}

func TestErrorsOfTheSettingsOfCredentials(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		values []string
		errs   map[string]string // by variable
	}{
		{[]string{"AUTH=basic"}, map[string]string{"AUTH": `"basic" is not one of off, api-key, jwt`}},
		{[]string{"AUTH=api-key"}, map[string]string{"API_KEYS": "required"}},
		{[]string{"AUTH=api-key", "API_KEYS=loja:hunter2"}, map[string]string{"API_KEYS": "entry 1 (loja)"}},
		{[]string{"AUTH=api-key", "API_KEYS=anonymous:" + digest("k")}, map[string]string{"API_KEYS": "entry 1"}},
		{[]string{"AUTH=api-key", "API_KEYS=hunter2"}, map[string]string{"API_KEYS": "entry 1"}},
		{[]string{"AUTH=api-key", "API_KEYS=a:" + digest("k"), "API_KEYS_FILE=x"}, map[string]string{"API_KEYS": "only one"}},
		{[]string{"AUTH=api-key", "API_KEYS_FILE=" + missing}, map[string]string{"API_KEYS_FILE": "no such file"}},
		{[]string{"AUTH=jwt"}, map[string]string{"JWT_ALGORITHM": "no default", "JWT_ISSUER": "required", "JWT_AUDIENCE": "required"}},
		{[]string{"AUTH=jwt", "JWT_ALGORITHM=none"}, map[string]string{"JWT_ALGORITHM": "not one of"}},
		{[]string{"AUTH=jwt", "JWT_ALGORITHM=HS256", "JWT_SECRET=hunter2"}, map[string]string{"JWT_SECRET": "at least 32"}},
		{[]string{"AUTH=jwt", "JWT_ALGORITHM=HS256"}, map[string]string{"JWT_SECRET": "required"}},
		{[]string{"AUTH=jwt", "JWT_ALGORITHM=RS256", "JWT_PUBLIC_KEY=hunter2"}, map[string]string{"JWT_PUBLIC_KEY": "no public key"}},
		{[]string{"AUTH=jwt", "JWT_ALGORITHM=RS256", "JWT_PUBLIC_KEY=" + publicPEM(t, small.Public())}, map[string]string{"JWT_PUBLIC_KEY": "1024 bits"}},
		{[]string{"AUTH=jwt", "JWT_ALGORITHM=ES256", "JWT_PUBLIC_KEY=" + publicPEM(t, p384.Public())}, map[string]string{"JWT_PUBLIC_KEY": "P-384"}},
		{[]string{"AUTH=jwt", "JWT_ALGORITHM=ES256", "JWT_LEEWAY=1h"}, map[string]string{"JWT_PUBLIC_KEY": "required", "JWT_LEEWAY": "1h"}},
		{[]string{"CORS_ORIGINS=*", "CORS_CREDENTIALS=true"}, map[string]string{"CORS_CREDENTIALS": "*"}},
		{[]string{"CORS_ORIGINS=* https://loja.example"}, map[string]string{"CORS_ORIGINS": "*"}},
		{[]string{"CORS_ORIGINS=https://Loja.example"}, map[string]string{"CORS_ORIGINS": "Loja"}},
	} {
		getenv := environment("http://estoque", test.values)
		err := run(t.Context(), nil, getenv, io.Discard)
		if err == nil {
			t.Errorf("%v: the settings were accepted", test.values)
			continue
		}
		for name, part := range test.errs {
			if !regexp.MustCompile(`(?m)^` + name + `: .*` + regexp.QuoteMeta(part)).MatchString(err.Error()) {
				t.Errorf("%v: no error of %s with %q in:\n%v", test.values, name, part, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: the error shows a secret:\n%v", test.values, err)
		}
	}
}

func TestRunStartsAndStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out bytes.Buffer
	getenv := environment("http://estoque", []string{"PORT=0", "BIND_ADDRESS=127.0.0.1", "DRAIN_PAUSE=0s"})
	if err := run(ctx, nil, getenv, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"message":"stopped"`) {
		t.Errorf("log: %s", &out)
	}
}
