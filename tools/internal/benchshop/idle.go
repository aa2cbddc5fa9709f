package benchshop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

const (
	// idleClients are connections that are kept open, and send nothing for idleTime.
	idleClients = 10_000
	idleTime    = 30 * time.Second
	// idleWorkers are how many of them are opened or asked at a time, which is less than api-gateway's bulkhead.
	idleWorkers = 64
)

// idle is what became of idle clients.
type idle struct {
	held   int     // that were answered on the same connection after the pause
	failed string  // why one was not; "" if all were
	memory float64 // resident KiB of the proxy per client, at the end of the pause
}

// holdIdle opens clients connections to a proxy, each of which gets one answer, keeps them idle
// for pause, and asks for another answer on each.
func holdIdle(ctx context.Context, t target, pid, clients int, pause time.Duration) (idle, error) {
	if err := enoughFiles(clients); err != nil {
		return idle{}, err
	}
	before, err := process.RSS(pid)
	if err != nil {
		return idle{}, err
	}
	list := make([]*connection, clients)
	defer func() {
		for _, c := range list {
			c.close()
		}
	}()
	for i := range list {
		list[i] = &connection{address: t.address}
	}
	if held, failed := ask(ctx, t, list); held < clients {
		return idle{}, fmt.Errorf("%d of %d clients got no first answer, such as: %s", clients-held, clients, failed)
	}
	if err := sleep(ctx, pause); err != nil {
		return idle{}, err
	}
	after, err := process.RSS(pid)
	if err != nil {
		return idle{}, err
	}
	result := idle{memory: float64(after-before) / 1024 / float64(clients)}
	result.held, result.failed = ask(ctx, t, list)
	return result, context.Cause(ctx)
}

// ask sends a request on each connection that is open or new. It returns how many were answered
// well, and why another was not. A connection that was closed is not opened again.
func ask(ctx context.Context, t target, list []*connection) (good int, failed string) {
	var next, answered atomic.Int64
	var why atomic.Pointer[string]
	var all sync.WaitGroup
	for range idleWorkers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				status, body, err := list[i].exchange(ctx, t.request())
				if err == nil && (list[i].conn == nil || !t.good(status, body)) {
					err = fmt.Errorf("%d %.200s", status, body)
				}
				if err != nil {
					why.Store(new(err.Error()))
					continue
				}
				answered.Add(1)
			}
		})
	}
	all.Wait()
	if text := why.Load(); text != nil {
		failed = *text
	}
	return int(answered.Load()), failed
}

// enoughFiles refuses a number of connections that the limit of open files does not allow, here
// and in the proxies, which inherit it.
func enoughFiles(connections int) error {
	const others = 1000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < uint64(connections+others) {
		return errors.New("the hard limit of open files is " + fmt.Sprint(limit.Max) +
			fmt.Sprintf(": %d idle clients need %d (ulimit -Hn)", connections, connections+others))
	}
	return nil
}
