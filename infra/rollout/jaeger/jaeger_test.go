package jaeger

import (
	"fmt"
	"strings"
	"testing"
)

func TestSpansAreBelowTheirParents(t *testing.T) {
	const answer = `{"data":[{"traceID":"later","spans":[{"spanID":"x","startTime":2000}]},{"traceID":"t1",
		"processes":{"p1":{"serviceName":"api-gateway","tags":[{"key":"service.version","value":"0fbee1de0d70"}]},"p2":{"serviceName":"pedidos"}},
		"spans":[
		{"spanID":"b","operationName":"POST /pedidos","processID":"p2","startTime":1500,"duration":900,
			"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"a"}],"tags":[{"key":"http.response.status_code","value":201}]},
		{"spanID":"a","operationName":"POST /pedidos","processID":"p1","startTime":1000,"duration":2000,
			"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"gone"}]},
		{"spanID":"c","operationName":"INSERT","processID":"p2","startTime":1600,"duration":100,
			"references":[{"refType":"CHILD_OF","traceID":"t1","spanID":"b"}],
			"tags":[{"key":"error","value":true},{"key":"error.type","value":"23505"}]}]},{"traceID":"empty"}]}`
	traces, err := Parse([]byte(answer))
	if err != nil || len(traces) != 2 || traces[0].ID != "t1" || traces[0].Count != 3 || traces[0].Roots[0].Parent != "gone" {
		t.Fatalf("%+v, %v", traces, err)
	}
	var text strings.Builder
	traces[0].Walk(func(s *Span, depth int) {
		fmt.Fprintf(&text, "%d %s@%s %s %s %s %t\n", depth, s.Service, s.Version, s.Name, s.Took, s.Status, s.Failed)
	})
	want := "0 api-gateway@0fbee1de0d70 POST /pedidos 2ms  false\n1 pedidos@ POST /pedidos 900µs 201 false\n2 pedidos@ INSERT 100µs 23505 true\n"
	if text.String() != want {
		t.Errorf("the tree is\n%s\nwant\n%s", text.String(), want)
	}
}

func TestABrokenTraceEnds(t *testing.T) {
	broken := func(id, parent string) span {
		s := span{SpanID: id}
		s.References = []struct{ TraceID, SpanID string }{{"t", parent}}
		return s
	}
	tree := trace{TraceID: "t", Spans: []span{
		broken("root", "unknown"), broken("self", "self"), broken("a", "b"), broken("b", "a"), broken("child", "root"), broken("root", "child"),
	}}.tree()
	reached := 0
	tree.Walk(func(*Span, int) {
		if reached++; reached > 100 {
			t.Fatal("the tree has no end")
		}
	})
	if tree.Count != 6 || reached != 4 {
		t.Errorf("%d of %d spans are in the tree, want 4 of 6: those of the circle are not", reached, tree.Count)
	}
}

func TestAnAnswerThatIsNotJaegersIsRefused(t *testing.T) {
	if traces, err := Parse([]byte("<html>")); err == nil {
		t.Errorf("it is read as %v", traces)
	}
}
