package traces

import (
	"encoding/json"
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
