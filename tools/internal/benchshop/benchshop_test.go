package benchshop

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

var recorded = strings.Join([]string{
	`{"dbname":"pedidos","message":"execute stmtcache_1: ` +
		`-- name: Place :one\nINSERT INTO pedidos (id, key, state, note) VALUES ($1, $2, $3, $4)",` +
		`"detail":"parameters: $1 = '01a201e9-50e5-776f-8942-6dd07ea1e141', $2 = 'key-1', $3 = 'it''s, $4 = new', $4 = NULL"}`,
	`{"dbname":"postgres","message":"execute <unnamed>: SELECT 1"}`,
	`{"dbname":"pedidos","message":"duration: 1 ms"}`,
	`{"dbname":"pedidos","message":"statement: begin"}`,
	`{"dbname":"pagamentos","message":"execute stmtcache_2: UPDATE c SET at = $3::text WHERE key = $1 AND sku = ANY($2)",` +
		`"detail":"parameters: $1 = '01a201e9-50e5-776f-8942-6dd07ea1e141:authorise', $2 = '{SHOE}', $3 = '10:00:00'"}`,
	`{"dbname":"pagamentos","mess`,
}, "\n")

func TestARecordedOrderBecomesAScript(t *testing.T) {
	statements, err := readLog(strings.NewReader(recorded), []string{"pedidos", "pagamentos"})
	if err != nil || len(statements) != 3 {
		t.Fatalf("%d statements, %v", len(statements), err)
	}
	statements[0].types = []string{"uuid", "text", "text", "text"}
	statements[2].types = []string{"text", "text[]", "text"}
	e := example{key: "key-1", sku: "SHOE", skus: []string{"SHOE", "BIKE"}, statements: statements}
	script, variables, err := e.script()
	if err != nil {
		t.Fatal(err)
	}
	want := "\\set seq :seq + 1\n\\set sku random(1, 2)\n" +
		"INSERT INTO pedidos (id, key, state, note) VALUES ((" + newID + ")::uuid, (" + newKey + ")::text," +
		" (:s1p3)::text, (NULL)::text);\n" +
		"begin;\n" +
		"UPDATE c SET at = (:s3p3)::text::text WHERE key = ((E'' || " + newID + ` || E'\x3aauthorise'))::text` +
		" AND sku = ANY((ARRAY[" + anySKU + "])::text[]);\n"
	if script != want {
		t.Errorf("the script is\n%s\nwant\n%s", script, want)
	}
	if got := strings.Join(variables, "|"); got != "skus={SHOE,BIKE}|s1p3=it's, $4 = new|s3p3=10:00:00" {
		t.Errorf("variables: %s", got)
	}
	if got := statements[0].first(); !strings.HasPrefix(got, "Place (INSERT INTO pedidos") {
		t.Errorf("first = %s, want the name Place and the beginning of the statement", got)
	}
}

func TestParametersThatAreCutOffAreRefused(t *testing.T) {
	for _, text := range []string{"$1 = 'x", "$2 = 'x'", "$1 = x"} {
		if p, err := readParams(text); err == nil {
			t.Errorf("%q is read as %v", text, p)
		}
	}
}

// An open load measures a latency from the time at which the request was due, so that a
// pause of the server also counts for the requests that could not be sent during it.
func TestOpenLoadMeasuresFromWhenARequestWasDue(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		time.Sleep(time.Until(began.Add(400 * time.Millisecond))) // the pause that the latencies must show
	})}
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Close() }()
	r := open(context.Background(), target{
		address: l.Addr().String(), request: func() []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") },
		good: func(status int, _ []byte) bool { return status == http.StatusOK },
	}, 500, time.Second)
	if len(r.latencies) != 500 || r.bad != 0 {
		t.Fatalf("%d answers, %d bad: %s", len(r.latencies), r.bad, r.why)
	}
	// A fifth of the requests was due in the first 200 ms, and waited for at least 200 ms.
	if p := r.percentile(80); p < 150*time.Millisecond {
		t.Errorf("p80 is %s, want at least 150ms", p)
	}
}

func TestPercentiles(t *testing.T) {
	r := run{elapsed: 2 * time.Second}
	for i := range 100 {
		r.latencies = append(r.latencies, time.Duration(i+1))
	}
	if r.percentile(50) != 51 || r.percentile(99) != 100 || r.perSecond() != 50 || (run{}).percentile(99) != 0 {
		t.Errorf("p50 %d, p99 %d, %f/s", r.percentile(50), r.percentile(99), r.perSecond())
	}
	if median([]int64{9, 1, 5}) != 5 || median([]float64{1, 2}) != 1.5 {
		t.Error("median of 9, 1, 5 is not 5, or of 1, 2 is not 1.5")
	}
}
