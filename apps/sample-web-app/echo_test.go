package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEchoShowsEveryPartOfTheRequest(t *testing.T) {
	a := newApp(t)
	for _, method := range echoMethods {
		request := httptest.NewRequest(method, "/echo/a/b?item=42&item=43&note=ol%C3%A1", strings.NewReader("two\nlines"))
		request.Header.Set("Content-Type", "text/plain")
		request.Header.Add("X-Colour", "red")
		request.Header.Add("X-Colour", "blue")
		response := a.send(request)
		if response.Code != http.StatusOK {
			t.Errorf("%s /echo = %d", method, response.Code)
		}
		wantIn(t, response.Body.String(), `<span class="method">`+method, "/echo/a/b", "<dt>Host</dt><dd>example.com",
			"<dt>X-Colour</dt><dd>red", "<dt>X-Colour</dt><dd>blue", "<dt>item</dt><dd>42", "<dt>item</dt><dd>43",
			"<dt>note</dt><dd>olá", "two\nlines", "9 bytes", "text/plain")
	}
}

func TestEchoEscapesWhatItShows(t *testing.T) {
	const attack = `"'><script>alert(1)</script><img src=x onerror=alert(1)>`
	request := httptest.NewRequest("POST", "/echo/"+url.PathEscape(attack)+"?"+url.QueryEscape(attack)+"="+url.QueryEscape(attack),
		strings.NewReader("m="+url.QueryEscape(attack)))
	request.Host = "host.example"
	request.Header.Set("X-Attack", attack)
	request.Header.Set("Content-Type", `application/x-www-form-urlencoded; x="</code><script>"`)
	page := newApp(t).send(request).Body.String()
	for _, live := range []string{"<script", "<img", "</textarea><"} {
		if strings.Contains(page, live) {
			t.Errorf("the page contains %q", live)
		}
	}
	if got := strings.Count(page, "&lt;script&gt;alert(1)&lt;/script&gt;"); got < 5 {
		t.Errorf("the attack is shown %d times, want path, query name and value, header and form field:\n%s", got, page)
	}
}

func TestEchoHidesCredentials(t *testing.T) {
	request := httptest.NewRequest("GET", "/echo", nil)
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "X-Amz-Security-Token",
		"X-Csrf-Token", "Apikey", "X-Client-Secret", "X-Forwarded-Client-Cert",
	} {
		request.Header.Set(name, "hunter2")
	}
	request.Header.Set("X-Forwarded-Proto", "https")
	page := newApp(t).send(request).Body.String()
	if strings.Contains(page, "hunter2") {
		t.Errorf("the page shows a credential:\n%s", page)
	}
	wantIn(t, page, "<dt>Authorization</dt>", "<dt>X-Api-Key</dt>", "<dt>X-Forwarded-Proto</dt><dd>https")
}

func TestEchoLimitsTheBody(t *testing.T) {
	a := newApp(t)
	if got := a.send(httptest.NewRequest("POST", "/echo", strings.NewReader(strings.Repeat("x", echoLimit)))); got.Code != http.StatusOK {
		t.Errorf("64 KiB = %d, want 200", got.Code)
	}
	for _, accept := range []string{"text/html", "application/json"} {
		// The request has no Content-Length, so the limit applies while the body is read.
		request := httptest.NewRequest("POST", "/echo", io.MultiReader(strings.NewReader(strings.Repeat("x", echoLimit+1))))
		request.Header.Set("Accept", accept)
		response := a.send(request)
		if response.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("one byte more = %d, want 413", response.Code)
		}
		wantIn(t, response.Body.String(), "64 KiB")
	}
}

func TestDescribeBody(t *testing.T) {
	tests := map[string]struct {
		contentType, content string
		text, dump           string
		fields               int
	}{
		"none":            {"", "", "", "", 0},
		"text":            {"text/plain", "olá\r\n\t<b>", "olá\n\t<b>", "", 0},
		"form":            {"application/x-www-form-urlencoded; charset=utf-8", "a=1&b=%zz&&c", "a=1&b=%zz&&c", "", 3},
		"reversed text":   {"", "pay \u202eevil", `pay \u202eevil`, "", 0},
		"invalid UTF-8":   {"text/plain", "ol\xe1", "", "6f 6c e1", 0},
		"control":         {"text/plain", "a\x1b[2J", "", "61 1b 5b 32 4a", 0},
		"NUL in a form":   {"application/x-www-form-urlencoded", "a=\x00", "", "61 3d 00", 0},
		"replacement":     {"", "\uFFFD", "\uFFFD", "", 0},
		"broken MIME":     {";;;", "a=1", "a=1", "", 0},
		"only separators": {"application/x-www-form-urlencoded", "&&&", "&&&", "", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := describeBody(test.contentType, []byte(test.content))
			if got.Size != len(test.content) || got.Text != test.text || len(got.Fields) != test.fields || !strings.Contains(got.Dump, test.dump) || (test.dump == "") != (got.Dump == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
	long := describeBody("", bytes.Repeat([]byte{0}, dumpLimit+1))
	if long.Shown != dumpLimit || strings.Count(long.Dump, "\n") != dumpLimit/16 {
		t.Errorf("a long dump shows %d bytes in %d lines", long.Shown, strings.Count(long.Dump, "\n"))
	}
}

// FuzzEcho sends any query, header and body through the whole service. The answer must
// be a page in UTF-8, without tags from the input and without invisible characters.
func FuzzEcho(f *testing.F) {
	f.Add("a=1&b=2", "text/plain", []byte("hello"))
	f.Add("", "", []byte{})
	f.Add("%zz=%&&==;+", "application/x-www-form-urlencoded", []byte("a=%00&b=%ff&%3Cscript%3E=<x>"))
	f.Add("q=%3Cscript%3Ealert(1)%3C/script%3E", "</code><script>", []byte("<script>alert(1)</script>"))
	f.Add("%e2%80%ae", "multipart/form-data; boundary=x", []byte("\xff\xfe\x00\x1b[2J"))
	f.Add("\u202e", "application/x-www-form-urlencoded", []byte("\u202e=\xc3\x28"))
	a := newApp(f)
	f.Fuzz(func(t *testing.T, query, contentType string, content []byte) {
		a.spans.Reset()
		request := httptest.NewRequest("POST", "/echo", bytes.NewReader(content))
		request.URL.RawQuery = query
		request.Header.Set("Content-Type", contentType)
		response := a.send(request)
		if want := len(content) > echoLimit; want != (response.Code == http.StatusRequestEntityTooLarge) || !want && response.Code != http.StatusOK {
			t.Fatalf("%d bytes = %d", len(content), response.Code)
		}
		page := response.Body.String()
		if !utf8.ValidString(page) {
			t.Error("the page is not UTF-8")
		}
		if strings.Contains(page, "<script") || strings.ContainsAny(page, "\x00\x1b\x7f\u202e\u2066") {
			t.Errorf("the page contains live or invisible input:\n%q", page)
		}
	})
}
