//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An order has the fields that the tests check.
type order struct {
	ID            string
	State         string
	FailureReason string `json:"failure_reason"`
	Transitions   []struct{ To string }
}

func (o order) path() string {
	var states []string
	for _, t := range o.Transitions {
		states = append(states, t.To)
	}
	return strings.Join(states, " ")
}

// place orders one pair of shoes at the edge, and waits until the order is final.
//
// It claims to belong to a trace that is not recorded. The edge must not believe that.
func place(t *testing.T, token string) order {
	t.Helper()
	body := fmt.Sprintf(`{"lines":[{"sku":"SHOE-VENTO","quantity":1}],"total":{"amount":34990,"currency":"BRL"},"card_token":%q}`, token)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/pedidos", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", fmt.Sprintf("e2e-%d", time.Now().UnixNano()))
	request.Header.Set("Traceparent", "00-"+strangersTrace+"-00f067aa0ba902b7-00")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated && response.StatusCode != http.StatusAccepted {
		t.Fatalf("POST /api/pedidos = %s", response.Status)
	}
	return ended(t, response.Header.Get("Location"))
}

// strangersTrace is the id of a trace that place claims to belong to.
const strangersTrace = "5772616e676572732074726163650001"

// ended waits until the order at a path of the edge is final, and returns it.
func ended(t *testing.T, path string) order {
	t.Helper()
	var o order
	eventually(t, time.Minute, "the order is final", func() error {
		response, body := fetch(t, http.MethodGet, url+path, "")
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s = %s %s", path, response.Status, body)
		}
		o = order{}
		if err := json.Unmarshal([]byte(body), &o); err != nil {
			return err
		}
		switch o.State {
		case "confirmed", "cancelled", "refunded", "failed":
			return nil
		}
		return fmt.Errorf("the order is %s", o.State)
	})
	return o
}

// change turns the next build of a service other than sample-web-app into a new version,
// until the test ends.
func change(t *testing.T, service string) {
	t.Helper()
	path := filepath.Join(root, "apps", service, "e2e.go")
	source := fmt.Sprintf("package main\n\nimport \"os\"\n\nfunc init() { _ = os.Getenv(%q) }\n", "E2E "+time.Now().String())
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
}

// answered returns how many requests for one item each version of estoque has answered. It
// reads the pods' own counters, because api-gateway does not pass on estoque's
// Service-Version header.
func answered() (stable, canary float64, err error) {
	out, err := kubectl("-n", "shop", "get", "pods", "-l", "app.kubernetes.io/name=estoque", "--field-selector=status.phase=Running", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.metadata.labels.loja-veloz\.dev/role}{"\n"}{end}`)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(out)) {
		pod, role, _ := strings.Cut(strings.TrimSpace(line), " ")
		metrics, err := kubectl("get", "--raw", "/api/v1/namespaces/shop/pods/"+pod+":8080/proxy/metrics")
		if err != nil {
			return 0, 0, err
		}
		for metric := range strings.Lines(string(metrics)) {
			if !strings.HasPrefix(metric, "http_requests_total{") || !strings.Contains(metric, `route="/estoque/:sku"`) {
				continue
			}
			count, err := strconv.ParseFloat(strings.TrimSpace(metric[strings.LastIndex(metric, " "):]), 64)
			if err != nil {
				return 0, 0, err
			}
			if role == "canary" {
				canary += count
			} else {
				stable += count
			}
		}
	}
	return stable, canary, nil
}

// weightOf returns the weight of a service's canary in percent.
func weightOf(service string) (int, error) {
	out, err := kubectl("-n", "shop", "get", "traefikservice", service, "-o",
		`jsonpath={.spec.weighted.services[?(@.name=="`+service+`-canary")].weight}`)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(out))
}

// shares ships a new version of estoque, which only other services call, under a steady load.
// At each weight it compares the canary's share of the answers with the weight.
func shares(t *testing.T) {
	t.Helper()
	const perSecond, tolerance = 50, 5.0
	change(t, "estoque")
	stop := traffic(t, perSecond, 15*60*perSecond)
	deploy := start(t, "make", "--no-print-directory", "deploy", "LOAD=off", "SERVICE=estoque")
	type sample struct{ stable, canary float64 }
	seen := map[int][]sample{}
	for done := false; !done; {
		select {
		case err := <-deploy.end:
			if err != nil {
				t.Fatalf("make deploy: %v\n%s", err, deploy.out.String())
			}
			done = true
		default:
			before, err := weightOf("estoque")
			if err != nil {
				continue
			}
			stable, canary, err := answered()
			if after, errAfter := weightOf("estoque"); err == nil && errAfter == nil && before == after && before > 0 && before < 100 {
				seen[before] = append(seen[before], sample{stable, canary})
			}
			time.Sleep(time.Second)
		}
	}
	r := stop()
	t.Logf("load: %s", r)
	if r.Failed > 0 {
		t.Errorf("%d of %d requests failed during the canary: %v", r.Failed, r.Requests, r.Errors)
	}
	for _, weight := range []int{20, 40, 60, 80} {
		samples := seen[weight]
		if len(samples) < 4 {
			t.Errorf("weight %d has %d samples, want at least 4", weight, len(samples))
			continue
		}
		// The first sample of a weight may be from before the gateway applied it.
		from, to := samples[1], samples[len(samples)-1]
		stable, canary := to.stable-from.stable, to.canary-from.canary
		share := 100 * canary / max(1, stable+canary)
		t.Logf("weight %d: the canary answered %.1f %% of %.0f calls", weight, share, stable+canary)
		if share < float64(weight)-tolerance || share > float64(weight)+tolerance || stable+canary < 300 {
			t.Errorf("weight %d: the canary answered %.1f %% of %.0f calls, want within %.0f points",
				weight, share, stable+canary, tolerance)
		}
	}
}
