package clientip_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/loja-veloz/platform/apps/internal/clientip"
)

func TestOf(t *testing.T) {
	for _, test := range []struct {
		proxies   int
		forwarded []string
		want      string
	}{
		{0, []string{"198.51.100.1"}, "192.0.2.1"},
		{1, nil, "192.0.2.1"},
		{1, []string{"198.51.100.1"}, "198.51.100.1"},
		{1, []string{"10.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		{1, []string{"10.0.0.1", "198.51.100.1"}, "198.51.100.1"},
		{2, []string{"10.0.0.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{2, []string{"10.0.0.1,198.51.100.1", " 10.9.9.9 "}, "198.51.100.1"},
		{2, []string{"198.51.100.1"}, "192.0.2.1"}, // the client may have written the only entry
		{1, []string{"198.51.100.1, junk"}, "192.0.2.1"},
		{1, []string{""}, "192.0.2.1"},
		{1, []string{"198.51.100.1,"}, "192.0.2.1"},
		{1, []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{1, []string{"2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2::"},
		{1, []string{"fe80::1%eth0"}, "fe80::"},
	} {
		r := httptest.NewRequest("GET", "/", nil) // from 192.0.2.1
		r.Header["X-Forwarded-For"] = test.forwarded
		if got := clientip.Of(r, test.proxies); got.String() != test.want {
			t.Errorf("%d proxies, %q: %s, want %s", test.proxies, test.forwarded, got, test.want)
		}
	}
	r := &http.Request{RemoteAddr: "@", Header: http.Header{}}
	if got := clientip.Of(r, 0); got.IsValid() {
		t.Errorf("a connection without an address has %s", got)
	}
}
