//go:build e2e

package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	slashes "path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/postgres"
)

// runUnfenced is the bug of apps/internal/fault that a history finds only by chance.
const runUnfenced = "run-unfenced"

// A crashPoint is an answer to pedidos after which PostgreSQL loses what was answered.
type crashPoint struct {
	name, service, method, suffix string // of the request
	database, sql                 string // selects the state that the answer is about
	answered                      string
}

var crashPoints = []crashPoint{
	{"charge", "pagamentos", "PUT", "", "pagamentos", "SELECT state FROM pagamentos WHERE order_id = $1", "captured"},
	{"sale", "estoque", "POST", "/confirm", "estoque", "SELECT state FROM estoque_reservations WHERE order_id = $1", "confirmed"},
}

// TestACrashTakesAnAnswerBack crashes PostgreSQL between the answer of a service, of which the commit did not wait for
// the disk, and the save of the order. The log's writer sleeps for as long as it can, so that the commit is lost.
// Nothing that relies on it is stored: the steps are repeated.
func TestACrashTakesAnAnswerBack(t *testing.T) {
	found, s := takeAnswersBack(t, "")
	for _, one := range found {
		t.Errorf("%s: %s", one.check, one.text)
	}
	s.audit(t)
}

// takeAnswersBack returns what a confirmed order says that no other service knows of. With a bug it goes on until each
// answer that was taken back is found: if the server starts slowly, a job has repeated the steps meanwhile.
func takeAnswersBack(t *testing.T, bug string) (found []finding, s shop) {
	t.Helper()
	o := options(t)
	if bug != "" {
		plant(&o, bug)
	}
	o.Postgres = postgres.Options{Settings: []string{"wal_writer_delay=10s"}}
	n := connect(t, 1, &o)
	n.target = func(service string) string { return strings.TrimPrefix(s.URL(service), "http://") }
	s = run(t, o)
	goods := s.items(t)
	for _, point := range crashPoints {
		// Another commit may have written the log in time.
		for try := 0; ; try++ {
			if try == 20 {
				t.Fatalf("no crash lost the %s, or it was not found", point.name)
			}
			state, lost := s.takeBack(t, n, point, orderOf(goods[try%len(goods)], 1, "tok_approved"), fmt.Sprint(point.name, try))
			if !lost || bug != "" && state == point.answered {
				continue
			}
			if state != point.answered {
				found = append(found, finding{point.name, fmt.Sprintf("the order is confirmed, and %s says %q", point.service, state)})
			}
			break
		}
	}
	return found, s
}

// takeBack places an order, crashes PostgreSQL at the point, and returns the state there once the order is
// confirmed, and whether the crash has lost what was answered.
func (s shop) takeBack(t *testing.T, n *network, point crashPoint, body, key string) (state string, lost bool) {
	t.Helper()
	var once sync.Once
	n.answered.Store(new(func(service string, r *http.Request) {
		if service != point.service || r.Method != point.method || !strings.HasSuffix(r.URL.Path, point.suffix) {
			return
		}
		once.Do(func() {
			if err := s.Kill(dev.PostgreSQL); err != nil {
				t.Error(err)
			}
			if err := s.Restart(t.Context(), dev.PostgreSQL); err != nil {
				t.Error(err)
			}
			id := slashes.Base(strings.TrimSuffix(r.URL.Path, point.suffix))
			lost = s.state(t, point, id) != point.answered
		})
	}))
	defer n.answered.Store(nil)
	placed, err := s.place(t.Context(), body, key)
	if err == nil {
		placed, err = s.ends(t.Context(), placed.ID)
	}
	if err != nil || placed.State != "confirmed" {
		t.Fatalf("the order is %s, %v\n%s", placed.State, err, s.history(t, placed.ID))
	}
	return s.state(t, point, placed.ID), lost
}

// state returns the state that a service has stored for an order; "" if there is none.
func (s shop) state(t *testing.T, point crashPoint, id string) (state string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.DatabaseURL(point.database))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, point.sql, id).Scan(&state); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Error(err)
	}
	return state
}

// TestARunEndsWithACrash kills one backend of PostgreSQL, and then the server: each time another run begins, in every
// database the same one.
func TestARunEndsWithACrash(t *testing.T) {
	s := start(t)
	known := map[string]bool{}
	next := func(after string) (postmaster string) {
		err := until(t.Context(), "another run begins after "+after, func() (bool, error) {
			one, begun, err := s.serverRun(t, "pedidos")
			if err != nil || known[one] {
				return false, err
			}
			for _, database := range []string{"pagamentos", "estoque"} {
				if other, _, err := s.serverRun(t, database); err != nil || other != one {
					return false, fmt.Errorf("%s is in the run %q, pedidos in %q: %w", database, other, one, err)
				}
			}
			known[one], postmaster = true, begun
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return postmaster
	}
	first := next("the start")
	pid, err := ask(t.Context(), s.Postgres(), "SELECT pid::text FROM pg_stat_activity WHERE datname = 'pedidos' LIMIT 1")
	if err != nil {
		t.Fatal(err)
	}
	backend, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(backend, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if postmaster := next("the death of a backend"); postmaster != first {
		t.Errorf("the postmaster started at %s, and again at %s: it must survive its backend", first, postmaster)
	}
	if err := s.Kill(dev.PostgreSQL); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context(), dev.PostgreSQL); err != nil {
		t.Fatal(err)
	}
	next("the death of the server")
	if err := s.Restart(t.Context(), dev.PostgreSQL); err != nil {
		t.Fatal(err)
	}
	next("a restart")
}

// serverRun returns the run of the server as a database says it, and when the postmaster started.
func (s shop) serverRun(t *testing.T, database string) (run, postmaster string, err error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DatabaseURL(database))
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	err = conn.QueryRow(t.Context(), "SELECT server_run(), pg_postmaster_start_time()::text").Scan(&run, &postmaster)
	return run, postmaster, err
}
