package traces

import (
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/rollout/jaeger"
)

func sample() jaeger.Trace {
	at := time.UnixMicro(1000)
	insert := &jaeger.Span{Service: "pedidos", Name: "INSERT", Began: at.Add(600 * time.Microsecond), Took: 100 * time.Microsecond, Failed: true}
	placed := &jaeger.Span{
		Service: "pedidos", Name: "POST /pedidos", Began: at.Add(500 * time.Microsecond), Took: 900 * time.Microsecond, Status: "201",
		Children: []*jaeger.Span{insert},
	}
	entry := &jaeger.Span{
		Service: "api-gateway", Version: "0fbee1de0d70", Name: "POST /pedidos", Parent: "client", Began: at, Took: 2 * time.Millisecond,
		Children: []*jaeger.Span{placed},
	}
	return jaeger.Trace{ID: "t1", Began: at, Count: 3, Roots: []*jaeger.Span{entry}}
}

func TestTraceTree(t *testing.T) {
	want := `trace t1, 1970-01-01 00:00:00, 3 spans of 2 services
     at ms    took ms
       0.0        2.0  api-gateway@0fbee1de0d70: POST /pedidos
       0.5        0.9    pedidos: POST /pedidos [201]
       0.6        0.1      pedidos: INSERT ERROR
`
	if got := tree(sample()); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
}

func TestWhatATraceLacks(t *testing.T) {
	both := []string{"api-gateway", "pedidos"}
	if text := lacks(sample(), "client", both); text != "" {
		t.Errorf("a whole trace: %s", text)
	}
	if text := lacks(sample(), "client", append(both, "estoque")); !strings.Contains(text, "no span of estoque") {
		t.Errorf("without estoque: %q", text)
	}
	torn := sample()
	torn.Roots = append(torn.Roots, &jaeger.Span{Service: "pedidos", Name: "SELECT", Parent: "lost"})
	if text := lacks(torn, "client", both); !strings.Contains(text, `parent of the span "SELECT"`) {
		t.Errorf("with a lost parent: %q", text)
	}
}
