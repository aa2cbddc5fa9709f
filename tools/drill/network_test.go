//go:build e2e

package drill

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/dev"
)

// A harm is what the network does to one request between two services. One that is doubled is sent twice,
// one after the other, and the last answer is returned, as a proxy that repeats requests does. No harm
// returns the first answer while the second request is on its way: HTTP gives a caller one answer, and its
// request has no effect after it.
type harm string

// The harms. Doubled sends the request twice, one after the other, and returns the last answer, as a proxy
// that repeats requests does. An answer that is older than what the service did last would be a lie that HTTP over
// one connection cannot tell.
const (
	cut     harm = "cut"      // the request is lost, and the connection breaks
	late    harm = "late"     // the connection breaks, and the request arrives afterwards
	lost    harm = "lost"     // the request arrives, and the connection breaks before the answer
	slow    harm = "slow"     // the request arrives late
	slowEnd harm = "slow end" // the answer arrives late
	doubled harm = "doubled"
)

var harms = []harm{cut, late, lost, slow, slowEnd, doubled}

// network passes the requests between the services on, and harms some of them while it is told to.
type network struct {
	left    atomic.Int64 // how many requests are still to be harmed; 0: none
	mu      sync.Mutex
	dice    *rand.Rand
	count   map[harm]int
	passing sync.WaitGroup // the requests whose caller does not wait for them
	to      *http.Transport
	target  func(service string) string
	// answered is called with each request whose answer has arrived, before its caller gets it.
	answered atomic.Pointer[func(service string, r *http.Request)]
}

// connect returns a network between the services, and puts its addresses into the options. The shop
// starts later, and tells the network by target where its services are.
func connect(t *testing.T, seed uint64, o *dev.Options) *network {
	t.Helper()
	n := &network{
		dice: rand.New(rand.NewPCG(seed, 1)), count: map[harm]int{},
		to: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 5 * time.Second, DisableCompression: true},
	}
	for _, link := range []struct{ caller, variable, service string }{
		{entry, "PEDIDOS_URL", "pedidos"}, {entry, "ESTOQUE_URL", "estoque"}, {entry, "PAGAMENTOS_URL", "pagamentos"},
		{"pedidos", "ESTOQUE_URL", "estoque"}, {"pedidos", "PAGAMENTOS_URL", "pagamentos"},
	} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: n.link(link.service), ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
		o.Env[link.caller] = append(o.Env[link.caller], link.variable+"=http://"+listener.Addr().String())
	}
	return n
}

// choose returns the harm for the next request, or "".
func (n *network) choose() (harm, time.Duration) {
	if n.left.Load() <= 0 {
		return "", 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dice.IntN(100) >= 30 || n.left.Add(-1) < 0 {
		return "", 0
	}
	what := harms[n.dice.IntN(len(harms))]
	n.count[what]++
	return what, time.Duration(10+n.dice.IntN(600)) * time.Millisecond
}

func (n *network) link(service string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		pass := func(ctx context.Context) *answer { return n.pass(ctx, service, r, body) }
		what, pause := n.choose()
		switch what {
		case cut:
			panic(http.ErrAbortHandler)
		case late:
			n.passing.Go(func() {
				time.Sleep(pause)
				pass(context.WithoutCancel(r.Context()))
			})
			panic(http.ErrAbortHandler)
		case lost:
			pass(context.WithoutCancel(r.Context()))
			panic(http.ErrAbortHandler)
		case slow:
			time.Sleep(pause)
		case doubled:
			pass(r.Context())
		}
		a := pass(r.Context())
		if a == nil {
			panic(http.ErrAbortHandler)
		}
		if done := n.answered.Load(); done != nil {
			(*done)(service, r)
		}
		if what == slowEnd {
			time.Sleep(pause)
		}
		a.write(w)
	}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) write(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range a.header {
		if name != "Connection" && name != "Transfer-Encoding" {
			header[name] = values
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// pass sends a request to its service. It returns nil if the connection broke.
func (n *network) pass(ctx context.Context, service string, r *http.Request, body []byte) *answer {
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.RequestURI, out.Close = "http", n.target(service), "", false
	out.Header.Del("Connection")
	out.Body, out.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body)) // without GetBody, so that the transport repeats nothing
	}
	response, err := n.to.RoundTrip(out)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	a := &answer{status: response.StatusCode, header: response.Header}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		return nil
	}
	return a
}
