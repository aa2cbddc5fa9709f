package cluster

import (
	"net/http"
	"os"
	"slices"
	"testing"
)

// TestLocalAddressesBypassTheProxy asks the function of net/http, which the API server's clients
// use. It reads the variables once per process, so this is the package's only test of it.
func TestLocalAddressesBypassTheProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.example:3128")
	t.Setenv("HTTP_PROXY", "http://proxy.example:3128")
	t.Setenv("no_proxy", "10.0.0.0/28")
	t.Setenv("NO_PROXY", "intranet.example")
	var values []string
	for range 2 { // make inherits what make env has printed
		if err := BypassProxy(); err != nil {
			t.Fatal(err)
		}
		values = append(values, os.Getenv("NO_PROXY"), os.Getenv("no_proxy"))
	}
	if slices.Sort(values); values[0] != values[3] {
		t.Errorf("the variables are %q, want the same value every time", values)
	}
	for address, proxied := range map[string]bool{
		"https://" + nodeIP + ":6443": false, "http://10.214.0.7:8080": false, "http://" + dnsIP: false,
		"https://webhook.signatures.svc:443": false,
		"http://" + Registry + "/v2/":        false, "http://intranet.example": false, "http://10.0.0.1": false,
		"https://pulumi.example": true, "https://10.216.0.1": true,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		proxy, err := http.ProxyFromEnvironment(request)
		if err != nil {
			t.Fatal(err)
		}
		if (proxy != nil) != proxied {
			t.Errorf("%s goes through the proxy %v", address, proxy)
		}
	}
}
