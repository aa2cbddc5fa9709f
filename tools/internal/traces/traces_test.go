package traces

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTraceTree(t *testing.T) {
	const answer = `{"traceID":"t1","processes":{"p1":{"serviceName":"api-gateway","tags":[{"key":"service.version","value":"0fbee1de0d70"}]},"p2":{"serviceName":"pedidos"}},"spans":[
		{"spanID":"b","operationName":"POST /pedidos","processID":"p2","startTime":1500,"duration":900,
			"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"a"}],"tags":[{"key":"http.response.status_code","value":201}]},
		{"spanID":"a","operationName":"POST /pedidos","processID":"p1","startTime":1000,"duration":2000,
			"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"gone"}]},
		{"spanID":"c","operationName":"INSERT","processID":"p2","startTime":1600,"duration":100,
			"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"b"}],"tags":[{"key":"error","value":true}]}]}`
	var tr trace
	if err := json.Unmarshal([]byte(answer), &tr); err != nil {
		t.Fatal(err)
	}
	want := `trace t1, 1970-01-01 00:00:00, 3 spans of 2 services
     at ms    took ms
       0.0        2.0  api-gateway@0fbee1de0d70: POST /pedidos
       0.5        0.9    pedidos: POST /pedidos [201]
       0.6        0.1      pedidos: INSERT ERROR
`
	if got := tr.tree(); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
}

// TestFailing asks for an error of one version.
func TestFailing(t *testing.T) {
	jaeger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var tags map[string]string
		if err := json.Unmarshal([]byte(r.FormValue("tags")), &tags); err != nil {
			t.Error(err)
		}
		answer := `{"data":[]}`
		if r.FormValue("service") == "estoque" && tags["error"] == "true" && tags["service.version"] == "bad" {
			answer = `{"data":[{"traceID":"t1"}]}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(jaeger.Close)
	for version, want := range map[string]string{"bad": "t1", "good": ""} {
		if id, err := (Jaeger{URL: jaeger.URL}).Failing(t.Context(), "estoque", version); err != nil || id != want {
			t.Errorf("version %s: %q, %v; want %q", version, id, err, want)
		}
	}
	jaeger.Close()
	if _, err := (Jaeger{URL: jaeger.URL}).Failing(t.Context(), "estoque", "bad"); err == nil || !strings.Contains(err.Error(), "asking Jaeger") {
		t.Errorf("Jaeger is away: %v", err)
	}
}
