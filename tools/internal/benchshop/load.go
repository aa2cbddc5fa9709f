package benchshop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A target receives a load. Requests are ready-made bytes, which saves CPU: the generator
// shares the machine with what it measures.
type target struct {
	address string
	request func() []byte
	// good reports whether an answer counts as a success.
	good func(status int, body []byte) bool
}

// A run is the result of a load.
type run struct {
	latencies []time.Duration // of good answers, sorted
	bad       int
	why       string // error or beginning of a bad answer
	elapsed   time.Duration
}

func (r run) perSecond() float64 { return float64(len(r.latencies)) / r.elapsed.Seconds() }

// percentile returns a percentile of the latencies, or 0 if there are none.
func (r run) percentile(p float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(len(r.latencies)-1, int(p/100*float64(len(r.latencies))))]
}

// failed returns why a load does not count: it was interrupted, or an order was not confirmed when answered.
func (r run) failed(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if r.bad > 0 || len(r.latencies) == 0 {
		return fmt.Errorf("%d of %d orders were not confirmed when answered, such as: %s", r.bad, r.bad+len(r.latencies), r.why)
	}
	return nil
}

// exchangeTimeout bounds one request.
const exchangeTimeout = 15 * time.Second

// A connection is reused for the next request, and opened again after an error.
type connection struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (c *connection) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *connection) exchange(ctx context.Context, request []byte) (status int, body []byte, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.conn == nil {
		if c.conn, err = new(net.Dialer).DialContext(ctx, "tcp4", c.address); err != nil {
			return 0, nil, err
		}
		c.reader = bufio.NewReader(c.conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, nil, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		return 0, nil, err
	}
	if response.Close {
		c.close()
	}
	return response.StatusCode, body, nil
}

// closed sends a closed load: each client sends its next request when it has the answer to
// the previous one.
func closed(ctx context.Context, t target, clients int, length time.Duration) run {
	end := time.Now().Add(length)
	return drive(ctx, t, clients, func() (time.Time, bool) {
		now := time.Now()
		return now, now.Before(end)
	})
}

// counted sends a closed load of a number of requests.
func counted(ctx context.Context, t target, clients, requests int) run {
	left := atomic.Int64{}
	left.Store(int64(requests))
	return drive(ctx, t, clients, func() (time.Time, bool) { return time.Now(), left.Add(-1) >= 0 })
}

// maxWaiting is the maximum number of requests of an open load that wait for their answers.
// It is below the limits of api-gateway's bulkhead and of Traefik.
const maxWaiting = 120

// open sends an open load: requests at a steady rate, without waiting for answers. A latency
// counts from the time at which the request was due, so that it includes the time during
// which no client was free to send it.
func open(ctx context.Context, t target, perSecond float64, length time.Duration) run {
	start := time.Now()
	var next atomic.Int64
	return drive(ctx, t, maxWaiting, func() (time.Time, bool) {
		due := start.Add(time.Duration(float64(next.Add(1)-1) / perSecond * float64(time.Second)))
		if due.Sub(start) >= length {
			return due, false
		}
		time.Sleep(time.Until(due))
		return due, true
	})
}

func drive(ctx context.Context, t target, clients int, turn func() (time.Time, bool)) run {
	var (
		mu    sync.Mutex
		total run
		all   sync.WaitGroup
	)
	start := time.Now()
	for range clients {
		all.Go(func() {
			c := connection{address: t.address}
			defer c.close()
			var mine run
			for ctx.Err() == nil {
				since, more := turn()
				if !more {
					break
				}
				status, body, err := c.exchange(ctx, t.request())
				switch {
				case err != nil:
					mine.bad++
					mine.why = err.Error()
				case !t.good(status, body):
					mine.bad++
					mine.why = fmt.Sprintf("%d %.200s", status, body)
				default:
					mine.latencies = append(mine.latencies, time.Since(since))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.latencies = append(total.latencies, mine.latencies...)
			total.bad += mine.bad
			if total.why == "" {
				total.why = mine.why
			}
		})
	}
	all.Wait()
	total.elapsed = time.Since(start)
	slices.Sort(total.latencies)
	return total
}
