package main

import (
	"net/http"
	"testing"
)

func TestWithoutOriginsThereAreNoCORSHeaders(t *testing.T) {
	g := newGate(t)
	answer := g.get(t, "/estoque", "Origin", "https://loja.example")
	for name := range answer.Header {
		if len(name) > 14 && name[:14] == "Access-Control" {
			t.Errorf("%s: %s", name, answer.Header.Get(name))
		}
	}
}

func TestCrossOriginRequests(t *testing.T) {
	for _, test := range []struct {
		settings    []string
		origin      string
		allowed     string
		credentials string
	}{
		{[]string{"CORS_ORIGINS=https://loja.example,http://localhost:8084"}, "https://loja.example", "https://loja.example", ""},
		{[]string{"CORS_ORIGINS=https://loja.example http://localhost:8084"}, "http://localhost:8084", "http://localhost:8084", ""},
		{[]string{"CORS_ORIGINS=https://loja.example", "CORS_CREDENTIALS=true"}, "https://loja.example", "https://loja.example", "true"},
		{[]string{"CORS_ORIGINS=https://loja.example", "CORS_CREDENTIALS=true"}, "https://evil.example", "", ""},
		{[]string{"CORS_ORIGINS=https://loja.example"}, "https://loja.example.evil.example", "", ""},
		{[]string{"CORS_ORIGINS=https://loja.example"}, "http://loja.example", "", ""},
		{[]string{"CORS_ORIGINS=https://loja.example"}, "null", "", ""},
		{[]string{"CORS_ORIGINS=https://loja.example"}, "", "", ""},
		{[]string{"CORS_ORIGINS=*"}, "https://anywhere.example", "*", ""},
	} {
		g := newGate(t, test.settings...)
		check := func(what string, header http.Header) {
			if got := header.Get("Access-Control-Allow-Origin"); got != test.allowed {
				t.Errorf("%v, %s, %s: allowed %q, want %q", test.settings, test.origin, what, got, test.allowed)
			}
			if got := header.Get("Access-Control-Allow-Credentials"); got != test.credentials {
				t.Errorf("%v, %s, %s: credentials %q", test.settings, test.origin, what, got)
			}
			if test.allowed != "*" && header.Get("Vary") != "Origin" {
				t.Errorf("%v, %s, %s: Vary %q", test.settings, test.origin, what, header.Get("Vary"))
			}
		}
		check("GET", g.get(t, "/estoque", "Origin", test.origin).Header)
		g.backend.requests()

		answer := g.do(t, "OPTIONS", "/pedidos", "", "Origin", test.origin, "Access-Control-Request-Method", "POST")
		check("preflight", answer.Header)
		want := ""
		if test.allowed != "" {
			want = "GET, HEAD, POST"
		}
		if got := answer.Header.Get("Access-Control-Allow-Methods"); answer.StatusCode != 204 || got != want {
			t.Errorf("%v, %s: preflight = %d, methods %q", test.settings, test.origin, answer.StatusCode, got)
		}
		if len(g.backend.requests()) > 0 {
			t.Error("a preflight was forwarded")
		}
	}
}

func TestRefusalsHaveCORSHeaders(t *testing.T) {
	g := newGate(t, "CORS_ORIGINS=https://loja.example", "AUTH=api-key", "API_KEYS=loja:"+digest("k"))
	answer := g.get(t, "/pedidos", "Origin", "https://loja.example")
	if answer.StatusCode != 401 || answer.Header.Get("Access-Control-Allow-Origin") != "https://loja.example" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
	// Browsers send preflights without credentials: https://fetch.spec.whatwg.org/#cors-preflight-fetch
	answer = g.do(t, "OPTIONS", "/pedidos", "", "Origin", "https://loja.example", "Access-Control-Request-Method", "GET")
	if answer.StatusCode != 204 {
		t.Errorf("preflight = %d", answer.StatusCode)
	}
}
