package benchshop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// replayed is the database that the recorded order is replayed in: all three
// schemas, each as one of its own, so that one session runs all statements.
const replayed = "replayed"

// server is PostgreSQL as its superuser uses it.
type server struct {
	psql, pgbench string
	env           []string // LD_LIBRARY_PATH
	url           func(database string) string
}

// command runs a client program. The password goes by the environment: others
// see a command line.
func (s server) command(ctx context.Context, database, program string, options string, in io.Reader, args ...string) (string, error) {
	u, err := url.Parse(s.url(database))
	if err != nil {
		return "", errors.New("the address of PostgreSQL cannot be read")
	}
	password, _ := u.User.Password()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Env = append(cmd.Env, "PGHOST="+u.Hostname(), "PGPORT="+u.Port(), "PGUSER="+u.User.Username(), "PGPASSWORD="+password,
		"PGDATABASE="+database, "PGSSLMODE=disable", "PGOPTIONS="+options, "PSQLRC=/dev/null", "PGAPPNAME=bench-shop")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second
	var out, faults bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &faults
	if err := process.Start(cmd, syscall.SIGKILL); err != nil {
		return "", fmt.Errorf("starting %s: %w", filepath.Base(program), err)
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		lines := strings.Split(strings.TrimSpace(faults.String()), "\n")
		return "", fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, strings.Join(lines[:min(len(lines), 5)], "\n"))
	}
	return out.String(), nil
}

// query runs SQL and returns what it prints, columns separated by |.
func (s server) query(ctx context.Context, database, sql string) (string, error) {
	out, err := s.command(ctx, database, s.psql, "", strings.NewReader(sql), "-XqAt", "-v", "ON_ERROR_STOP=1")
	return strings.TrimSpace(out), err
}

// number is a query's one whole number.
func (s server) number(ctx context.Context, database, sql string) (int64, error) {
	out, err := s.query(ctx, database, sql)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(out, 10, 64)
}

// counters are those of the whole server by which work is counted.
type counters struct{ commits, syncs, walBytes int64 }

func (c counters) minus(o counters) counters {
	return counters{c.commits - o.commits, c.syncs - o.syncs, c.walBytes - o.walBytes}
}

// statsDelay is after what time an idle session has told its counters, which it
// does ten seconds after its last transaction.
const statsDelay = 11 * time.Second

// counters reads what the sessions have told by now.
func (s server) counters(ctx context.Context, databases ...string) (counters, error) {
	out, err := s.query(ctx, "postgres", fmt.Sprintf(`SELECT (SELECT sum(xact_commit) FROM pg_stat_database WHERE datname IN ('%s')), wal_sync, wal_bytes FROM pg_stat_wal`, strings.Join(databases, "','")))
	if err != nil {
		return counters{}, err
	}
	var c counters
	if _, err := fmt.Sscanf(strings.ReplaceAll(out, "|", " "), "%d %d %d", &c.commits, &c.syncs, &c.walBytes); err != nil {
		return counters{}, fmt.Errorf("the server's counters are %q: %w", out, err)
	}
	return c, nil
}

// prepareReplay makes the database by the services' own migrations.
func (s server) prepareReplay(ctx context.Context, programs string) error {
	if _, err := s.query(ctx, "postgres", "CREATE DATABASE "+replayed); err != nil {
		return err
	}
	for _, service := range databases {
		if _, err := s.query(ctx, replayed, "CREATE SCHEMA "+service); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, filepath.Join(programs, service), "migrate")
		cmd.Env = append(os.Environ(), "DATABASE_URL="+s.url(replayed)+"&search_path="+service, "LOG_LEVEL=warn")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("making the schema of %s for the replay: %w\n%s", service, err, out.String())
		}
	}
	articles, err := s.query(ctx, "estoque", "COPY estoque TO STDOUT")
	if err != nil {
		return err
	}
	_, err = s.query(ctx, replayed, "COPY estoque.estoque FROM STDIN;\n"+articles+"\n\\.\nUPDATE estoque.estoque SET on_hand = on_hand + 1000000000;")
	return err
}

// infer asks the server for the types of the statements' parameters.
func (s server) infer(ctx context.Context, statements []statement) error {
	for i := range statements {
		st := &statements[i]
		if len(st.params) == 0 {
			continue
		}
		out, err := s.command(ctx, replayed, s.psql, sessionOptions,
			strings.NewReader("PREPARE recorded AS "+st.bare()+";\nSELECT array_to_string(parameter_types, '|') FROM pg_prepared_statements;"), "-XqAt", "-v", "ON_ERROR_STOP=1")
		if err != nil {
			return fmt.Errorf("preparing %s: %w", st.first(), err)
		}
		st.types = strings.Split(strings.TrimSpace(out), "|")
	}
	return nil
}

// sessionOptions are the settings of the services' sessions.
const sessionOptions = "-c search_path=pedidos,pagamentos,estoque,public -c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s -c timezone=UTC"

// A replay is what pgbench came to.
type replay struct {
	perSecond float64
	orders    int64
	latencies []float64 // milliseconds, by statement
}

var (
	tps       = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	processed = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failed    = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	latency   = regexp.MustCompile(`^\s+([0-9.]+)\s+\d+\s+(.*)$`)
)

// replay runs the script by so many clients.
func (s server) replay(ctx context.Context, script string, variables []string, clients int, length time.Duration) (replay, error) {
	args := []string{"-n", "-r", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(max(1, int(length.Seconds()))),
		"-f", script, "-D", fmt.Sprintf("seq=%d", time.Now().UnixMicro())}
	for _, v := range variables {
		args = append(args, "-D", v)
	}
	out, err := s.command(ctx, replayed, s.pgbench, sessionOptions, nil, args...)
	if err != nil {
		return replay{}, err
	}
	var r replay
	rate, count := tps.FindStringSubmatch(out), processed.FindStringSubmatch(out)
	if rate == nil || count == nil {
		return r, fmt.Errorf("pgbench says no rate:\n%s", out)
	}
	if f := failed.FindStringSubmatch(out); f != nil && f[1] != "0" {
		return r, fmt.Errorf("%s transactions of pgbench failed:\n%s", f[1], out)
	}
	r.perSecond, _ = strconv.ParseFloat(rate[1], 64)
	r.orders, _ = strconv.ParseInt(count[1], 10, 64)
	for line := range strings.Lines(out) {
		if m := latency.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil && !strings.HasPrefix(m[2], "\\") {
			ms, _ := strconv.ParseFloat(m[1], 64)
			r.latencies = append(r.latencies, ms)
		}
	}
	return r, nil
}

// verify fails unless the replay did to the rows what orders do.
func (s server) verify(ctx context.Context, orders int64) error {
	for name, sql := range map[string]string{
		"confirmed orders":       "SELECT count(*) FROM pedidos.pedidos WHERE state = 'confirmed'",
		"captured payments":      "SELECT count(*) FROM pagamentos.pagamentos WHERE state = 'captured'",
		"confirmed reservations": "SELECT count(*) FROM estoque.estoque_reservations WHERE state = 'confirmed'",
	} {
		n, err := s.number(ctx, replayed, sql)
		if err != nil {
			return err
		}
		if n != orders {
			return fmt.Errorf("pgbench replayed %d orders, and there are %d %s: the recording is not a whole order", orders, n, name)
		}
	}
	return nil
}

// tries is how many orders are recorded to find what one of them does.
const tries = 9

// record has the server log what an order does. Of several orders the sequence
// of statements counts that is seen most often: in the others, something else
// ran at the same time.
func (s server) record(ctx context.Context, log string, place func(ctx context.Context) (key, sku string, err error)) (e example, agree int, err error) {
	set := func(value string) error {
		_, err := s.query(ctx, "postgres", "ALTER SYSTEM SET log_statement = "+value+"; ALTER SYSTEM SET log_parameter_max_length = -1; SELECT pg_reload_conf()")
		if err != nil {
			return err
		}
		return sleep(ctx, 500*time.Millisecond)
	}
	known := map[string]bool{}
	for _, d := range databases {
		known[d] = true
	}
	offset := int64(0)
	read := func() ([]statement, error) {
		f, err := os.Open(log)
		if err != nil {
			return nil, fmt.Errorf("the server's log: %w", err)
		}
		defer f.Close()
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, err
		}
		b, err := io.ReadAll(f)
		if err != nil {
			return nil, err
		}
		offset += int64(len(b))
		return readLog(bytes.NewReader(b), known)
	}
	if err := set("'all'"); err != nil {
		return e, 0, err
	}
	defer func() { err = errors.Join(err, set("DEFAULT")) }()
	// What runs without any order.
	if err := sleep(ctx, 5*time.Second); err != nil {
		return e, 0, err
	}
	background := map[string]bool{}
	idle, err := read()
	if err != nil {
		return e, 0, err
	}
	for _, s := range idle {
		background[s.text] = true
	}
	// A price is remembered for a moment by pedidos: under load hardly any order
	// asks for one, so the one that is recorded does not either.
	if _, _, err := place(ctx); err != nil {
		return e, 0, err
	}
	seen := map[string][]example{}
	most := ""
	for range tries {
		if _, err := read(); err != nil {
			return e, 0, err
		}
		key, sku, err := place(ctx)
		if err != nil {
			return e, 0, fmt.Errorf("placing the order to record: %w", err)
		}
		if err := sleep(ctx, 150*time.Millisecond); err != nil { // what follows its answer
			return e, 0, err
		}
		all, err := read()
		if err != nil {
			return e, 0, err
		}
		all = slices.DeleteFunc(all, func(s statement) bool { return background[s.text] })
		sign := signature(all)
		seen[sign] = append(seen[sign], example{key: key, sku: sku, statements: all})
		if len(seen[sign]) > len(seen[most]) {
			most = sign
		}
	}
	if len(seen[most]) == 0 || len(seen[most][0].statements) == 0 {
		return e, 0, errors.New("the server logged no statement of an order")
	}
	return seen[most][0], len(seen[most]), nil
}

// sleep fails when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
