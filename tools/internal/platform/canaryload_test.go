package platform

import "testing"

func TestOnlyPagesGetLoadOfTheirOwn(t *testing.T) {
	for url, want := range map[string]bool{
		"http://localhost:30080/": true, "http://localhost:30080/reviews": true, "http://localhost:30080/health": false,
		"http://localhost:30080/webhooks/stripe": false, "": false,
	} {
		if got := isPage(url); got != want {
			t.Errorf("isPage(%q) = %v, want %v", url, got, want)
		}
	}
}
