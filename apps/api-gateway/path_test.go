package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/internal/value"
)

// allowed are the requests that may reach an upstream, written independently of the routes.
var allowed = regexp.MustCompile(`^((GET|HEAD) /(estoque|pedidos)|(GET|HEAD) /(estoque|pedidos|pagamentos)/[A-Za-z0-9._~-]+|POST /pedidos|POST /pedidos/[A-Za-z0-9._~-]+/(cancel|payment)` +
	`|(GET|HEAD|POST) /webhooks|(GET|HEAD|DELETE) /webhooks/[A-Za-z0-9._~-]+|POST /webhooks/[A-Za-z0-9._~-]+/(rotate|disable|enable)` +
	`|(GET|HEAD) /webhooks/[A-Za-z0-9._~-]+/deliveries|POST /webhooks/[A-Za-z0-9._~-]+/deliveries/[A-Za-z0-9._~-]+/redeliver)(\?.*)?$`)

// raw sends the bytes of a request and returns the answer's status, or 0 if there is
// no answer. With closeWrite it closes its side of the connection after the bytes, so
// that the gateway does not wait for the rest of an incomplete request.
func (g *gate) raw(t testing.TB, request string, closeWrite bool) int {
	t.Helper()
	connection, err := net.Dial("tcp", g.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, request); err != nil {
		return 0
	}
	if closeWrite {
		_ = connection.(*net.TCPConn).CloseWrite()
	}
	_ = connection.SetReadDeadline(time.Now().Add(time.Second))
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// onlyAllowed fails the test if a request that is not allowed reached the upstream.
func (g *gate) onlyAllowed(t testing.TB, sent string) {
	t.Helper()
	for _, r := range g.backend.requests() {
		line := r.Method + " " + r.RequestURI
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if !allowed.MatchString(line) || strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/..") || strings.Contains(path, "/../") {
			t.Errorf("%q arrived upstream as %q", sent, line)
		}
		if "http://"+r.Host != g.backend.URL {
			t.Errorf("%q arrived upstream for host %q", sent, r.Host)
		}
		for _, name := range []string{"X-Forwarded-For", "X-Smuggled", "Cookie"} {
			if r.Header.Get(name) != "" {
				t.Errorf("%q carried %s upstream", sent, name)
			}
		}
		if r.Header.Get("Client-Id") != string(value.Anonymous) {
			t.Errorf("%q arrived upstream as client %q", sent, r.Header.Get("Client-Id"))
		}
	}
}

var tricks = []string{
	"/estoque/..", "/estoque/.", "/estoque/../reservations/x", "/estoque/./x", "/estoque//x", "//estoque", "//estoque/x", "/estoque/x/",
	"/estoque/%2e%2e", "/estoque/%2E%2e/admin", "/estoque/%2e", "/estoque/..%2fadmin", "/estoque/x%2f..%2f..%2fadmin",
	"/estoque/%2fadmin", "/estoque%2fx", "/%65stoque", "/estoque/%00", "/estoque/x%00", "/estoque/x%0d%0aClient-Id:%20root",
	"/estoque/x%20y", "/estoque/%252e%252e", `/estoque/..\admin`, "/estoque/x;/../admin", "/estoque/;x", "/estoque/%c0%ae%c0%ae",
	"/estoque/\x01", "/estoque/é", "/pedidos/../admin/estoque/x/top-ups", "/pedidos/x/../../reservations/x/cancel",
	"/pedidos/%2e%2e/cancel", "/pedidos/../cancel", "/pagamentos/", "/pagamentos/.", "/pagamentos//", "/pagamentos/%20", "/pagamentos/?x",
	"/pagamentos/..%3f", "/./pedidos", "/api/../pedidos", "*", "pedidos", "http:///admin", "http://evil.example/admin", "http://evil.example/reservations/x",
	"http://evil.example//pedidos", "http://user@evil.example/pagamentos", "/estoque/" + strings.Repeat("a", 600), "/estoque/%", "/estoque/%zz", "/estoque/%e2%80%ae",
}

func TestTricksWithPathsAreRefused(t *testing.T) {
	g := newGate(t)
	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		for _, path := range tricks {
			sent := method + " " + path
			if sent == "OPTIONS *" {
				continue // net/http answers it
			}
			if got := g.raw(t, sent+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", false); got < 400 || got >= 500 {
				t.Errorf("%q = %d", sent, got)
			}
			if got := g.backend.requests(); len(got) > 0 {
				t.Errorf("%q arrived upstream as %s %s", sent, got[0].Method, got[0].RequestURI)
			}
		}
	}
}

func TestOtherFormsOfARequestTarget(t *testing.T) {
	g := newGate(t)
	// The absolute form must be accepted (RFC 9112, 3.2.2); its host has no effect.
	if got := g.raw(t, "GET http://evil.example/estoque HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n", false); got != 200 {
		t.Errorf("absolute form = %d", got)
	}
	g.onlyAllowed(t, "absolute form")
	for _, request := range []string{
		"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /estoque HTTP/1.1\r\n\r\n",                                                                                 // no host
		"POST /pedidos HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",                         // two lengths
		"POST /pedidos HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",                             // no such coding
		"POST /pedidos HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",                                 // no such chunk
		"GET /estoque HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",                                                             // a space before the colon
		"GET /estoque HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 64<<10) + "\r\n\r\n",                            // far too much
		"GET /estoque\r\nHost: a HTTP/1.1\r\n\r\n",                                                                      // a line break in the target
		"POST /pedidos HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",                                            // less than was said
		"GET /estoque HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", // twice
	} {
		if got := g.raw(t, request, true); got >= 200 && got < 400 || got == 502 {
			t.Errorf("%.60q = %d", request, got)
		}
	}
	if got := g.backend.requests(); len(got) > 0 {
		t.Errorf("arrived upstream: %s %s %q", got[0].Method, got[0].RequestURI, got[0].body)
	}
	// The bytes after a request's end, or in its body, must not become a second request.
	g.raw(t, "GET /estoque HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /admin/estoque/x/top-ups HTTP/1.1\r\nHost: a\r\nX-Smuggled: 1\r\n\r\n", false)
	g.raw(t, "GET /estoque HTTP/1.1\r\nHost: a\r\nContent-Length: 80\r\n\r\nPOST /admin/estoque/x/top-ups HTTP/1.1\r\nHost: a\r\nX-Smuggled: 1\r\n\r\n", false)
	g.onlyAllowed(t, "smuggling")
}

func FuzzRequests(f *testing.F) {
	for _, path := range tricks {
		f.Add("GET", path, "")
		f.Add("POST", path, "Connection: close")
	}
	f.Add("GET", "/estoque?limit=1;x&%zz", "X-Forwarded-For: 10.0.0.1")
	f.Add("HEAD", "/pagamentos/"+orderID, "Client-Id: root")
	f.Add("POST", "/pedidos/"+orderID+"/cancel", "client-id: root\r\nConnection: client-id")
	f.Add("OPTIONS", "/pedidos", "Origin: https://loja.example\r\nAccess-Control-Request-Method: POST")
	f.Add("GET", "/estoque", "Upgrade: \xff\r\nConnection: upgrade")
	g := newGate(f, "CORS_ORIGINS=https://loja.example", "RETRIES=0", "BREAKER_MIN_REQUESTS=100000")
	f.Fuzz(func(t *testing.T, method, path, header string) {
		sent := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", method, path, header)
		if got := g.raw(t, sent, false); got >= 500 && got != 501 && got != 505 {
			t.Errorf("%q = %d", sent, got)
		}
		g.onlyAllowed(t, sent)
	})
}

func TestPlainPaths(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/a": true, "/a/b.c_d~e-f": true, "/...": true, "/a/.b": true,
		"": false, "a": false, "//": false, "/a/": false, "/a//b": false, "/.": false, "/..": false, "/a/..": false, "/a/./b": false,
		"/a b": false, "/a%41": false, "/é": false, "/a\x00": false, "/a\n": false, `/a\b`: false, "/a;b": false, "/a?b": false,
		"/" + strings.Repeat("a", 511): true, "/" + strings.Repeat("a", 512): false,
	} {
		if got := plainPath(path); got != want {
			t.Errorf("plainPath(%q) = %v", path, got)
		}
	}
}
