package benchshop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// replayed is the database in which pgbench replays the recorded order. It has a schema with
// the tables of each of the shop's databases, so that one session can run all statements.
const replayed = "replayed"

// server runs psql and pgbench on the shop's PostgreSQL, as the superuser.
type server struct {
	psql, pgbench string
	env           []string // of both programs: LD_LIBRARY_PATH, or nothing
	url           func(database string) string
	databases     []string // of the shop
}

// command runs a client program and returns its standard output. It passes the password in
// the environment, because other users can read a command line.
func (s server) command(ctx context.Context, database, program string, options string, in io.Reader, args ...string) (string, error) {
	u, err := url.Parse(s.url(database))
	if err != nil {
		return "", errors.New("the URL of PostgreSQL cannot be parsed") // the error would contain the password
	}
	password, _ := u.User.Password()
	env := append(slices.Clone(s.env), "PGHOST="+u.Hostname(), "PGPORT="+u.Port(), "PGUSER="+u.User.Username(), "PGPASSWORD="+password,
		"PGDATABASE="+database, "PGSSLMODE=disable", "PGOPTIONS="+options, "PSQLRC=/dev/null", "PGAPPNAME=bench-shop")
	return command.Command{Args: append([]string{program}, args...), Env: env, Stdin: in}.Text(ctx)
}

// query runs SQL and returns the rows, one a line, with | between the columns.
func (s server) query(ctx context.Context, database, sql string) (string, error) {
	out, err := s.command(ctx, database, s.psql, "", strings.NewReader(sql), "-XqAt", "-v", "ON_ERROR_STOP=1")
	return strings.TrimSpace(out), err
}

// number runs a query whose result is one whole number.
func (s server) number(ctx context.Context, database, sql string) (int64, error) {
	out, err := s.query(ctx, database, sql)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(out, 10, 64)
}

// counters are PostgreSQL's counters: commits and rollbacks of databases, and the whole server's
// syncs and bytes of the log.
type counters struct{ commits, rollbacks, syncs, walBytes int64 }

func (c counters) minus(o counters) counters {
	return counters{c.commits - o.commits, c.rollbacks - o.rollbacks, c.syncs - o.syncs, c.walBytes - o.walBytes}
}

// statsDelay is how long to wait until idle sessions have reported their counters. A session
// does so ten seconds after its last transaction.
const statsDelay = 11 * time.Second

// counters reads the counters that the sessions have reported so far.
func (s server) counters(ctx context.Context, databases ...string) (counters, error) {
	out, err := s.query(ctx, "postgres", fmt.Sprintf(
		`SELECT (SELECT sum(xact_commit) || ' ' || sum(xact_rollback) FROM pg_stat_database WHERE datname IN ('%s')), wal_sync, wal_bytes
		FROM pg_stat_wal`,
		strings.Join(databases, "','")))
	if err != nil {
		return counters{}, err
	}
	var c counters
	if _, err := fmt.Sscanf(strings.ReplaceAll(out, "|", " "), "%d %d %d %d", &c.commits, &c.rollbacks, &c.syncs, &c.walBytes); err != nil {
		return counters{}, fmt.Errorf("the server's counters are %q: %w", out, err)
	}
	return c, nil
}

// A rate is the server's work per order or per second.
type rate struct{ commits, rollbacks, syncs, walBytes float64 }

// counted runs do, which returns how many orders it placed, and returns the server's work per
// order without the idle rate. With an idle rate of zero, it returns the work per second.
func (s server) counted(ctx context.Context, idle rate, do func() (int, error)) (rate, error) {
	before, err := s.counters(ctx, s.databases...)
	if err != nil {
		return rate{}, err
	}
	began := time.Now()
	n, err := do()
	if err != nil {
		return rate{}, err
	}
	if err := sleep(ctx, statsDelay); err != nil {
		return rate{}, err
	}
	after, err := s.counters(ctx, s.databases...)
	if err != nil {
		return rate{}, err
	}
	d, seconds := after.minus(before), time.Since(began).Seconds()
	by := float64(max(1, n))
	if idle == (rate{}) {
		by = seconds
	}
	return rate{
		(float64(d.commits) - idle.commits*seconds) / by,
		(float64(d.rollbacks) - idle.rollbacks*seconds) / by,
		(float64(d.syncs) - idle.syncs*seconds) / by,
		(float64(d.walBytes) - idle.walBytes*seconds) / by,
	}, nil
}

// prepareReplay creates the database for the replay with the services' own migrations, and
// copies the stock to it.
func (s server) prepareReplay(ctx context.Context, programs string) error {
	if _, err := s.query(ctx, "postgres", "CREATE DATABASE "+replayed); err != nil {
		return err
	}
	for _, service := range s.databases {
		if _, err := s.query(ctx, replayed, "CREATE SCHEMA "+service); err != nil {
			return err
		}
		err := command.Command{
			Args: []string{filepath.Join(programs, service), "migrate"},
			Env:  []string{"DATABASE_URL=" + s.url(replayed) + "&search_path=" + service, "LOG_LEVEL=warn"},
		}.Run(ctx)
		if err != nil {
			return fmt.Errorf("creating the schema of %s for the replay: %w", service, err)
		}
	}
	items, err := s.query(ctx, "estoque", "COPY estoque TO STDOUT")
	if err != nil {
		return err
	}
	_, err = s.query(ctx, replayed, "COPY estoque.estoque FROM STDIN;\n"+items+
		"\n\\.\nUPDATE estoque.estoque SET on_hand = on_hand + 1000000000;")
	return err
}

// infer sets the types of the statements' parameters, as the server infers them.
func (s server) infer(ctx context.Context, statements []statement) error {
	for i := range statements {
		st := &statements[i]
		if len(st.params) == 0 {
			continue
		}
		sql := "PREPARE recorded AS " + st.bare() + ";\nSELECT array_to_string(parameter_types, '|') FROM pg_prepared_statements;"
		out, err := s.command(ctx, replayed, s.psql, s.sessionOptions(), strings.NewReader(sql), "-XqAt", "-v", "ON_ERROR_STOP=1")
		if err != nil {
			return fmt.Errorf("preparing %s: %w", st.first(), err)
		}
		st.types = strings.Split(strings.TrimSpace(out), "|")
	}
	return nil
}

// sessionOptions returns the settings of the services' sessions as PGOPTIONS.
func (s server) sessionOptions() string {
	return "-c search_path=" + strings.Join(s.databases, ",") + ",public -c statement_timeout=10s -c lock_timeout=5s" +
		" -c idle_in_transaction_session_timeout=15s -c random_page_cost=1.1 -c timezone=UTC"
}

// A replay is the result of a run of pgbench.
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

// replay runs the script with pgbench and the number of clients.
func (s server) replay(ctx context.Context, script string, variables []string, clients int, length time.Duration) (replay, error) {
	args := []string{
		"-n", "-r", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)),
		"-T", strconv.Itoa(max(1, int(length.Seconds()))), "-f", script, "-D", fmt.Sprintf("seq=%d", time.Now().UnixMicro()),
	}
	for _, v := range variables {
		args = append(args, "-D", v)
	}
	out, err := s.command(ctx, replayed, s.pgbench, s.sessionOptions(), nil, args...)
	if err != nil {
		return replay{}, err
	}
	var r replay
	rate, count := tps.FindStringSubmatch(out), processed.FindStringSubmatch(out)
	if count != nil && count[1] == "0" {
		return r, nil // pgbench prints no rate if the run was too short for one transaction
	}
	if rate == nil || count == nil {
		return r, fmt.Errorf("pgbench prints no rate:\n%s", out)
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

// verify fails unless the replay left the rows that so many confirmed orders leave.
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
			return fmt.Errorf("pgbench replayed %d orders, but there are %d %s: the recording is not a complete order", orders, n, name)
		}
	}
	return nil
}

// tries is how many orders are recorded, to find the statements of a typical one.
const tries = 9

// record has the server log the statements of several orders. It returns the most frequent
// sequence and how many orders had it; the others contain statements of something else that
// ran at the same time.
func (s server) record(ctx context.Context, log string, place placer) (e example, agree int, err error) {
	set := func(value string) error {
		_, err := s.query(ctx, "postgres",
			"ALTER SYSTEM SET log_statement = "+value+"; ALTER SYSTEM SET log_parameter_max_length = -1; SELECT pg_reload_conf()")
		if err != nil {
			return err
		}
		return sleep(ctx, 500*time.Millisecond)
	}
	if err := set("'all'"); err != nil {
		return e, 0, err
	}
	defer func() { err = errors.Join(err, set("DEFAULT")) }()
	// Log what runs without any order.
	if err := sleep(ctx, 5*time.Second); err != nil {
		return e, 0, err
	}
	reader := logReader{path: log, databases: s.databases}
	idle, err := reader.read()
	if err != nil {
		return e, 0, err
	}
	background := map[string]bool{}
	for _, s := range idle {
		background[s.text] = true
	}
	// pedidos caches a price for a moment, so that under load hardly any order reads one.
	// This order fills the cache for the recorded ones.
	if _, _, err := place(ctx); err != nil {
		return e, 0, err
	}
	seen := map[string][]example{}
	common := ""
	for range tries {
		e, err := recordOne(ctx, &reader, background, place)
		if err != nil {
			return e, 0, err
		}
		sign := signature(e.statements)
		seen[sign] = append(seen[sign], e)
		if len(seen[sign]) > len(seen[common]) {
			common = sign
		}
	}
	if len(seen[common]) == 0 || len(seen[common][0].statements) == 0 {
		return e, 0, errors.New("the server logged no statement of an order")
	}
	return seen[common][0], len(seen[common]), nil
}

// A placer places an order and returns its key and item.
type placer func(ctx context.Context) (key, sku string, err error)

// recordOne places an order and returns its statements, without those of the background.
func recordOne(ctx context.Context, log *logReader, background map[string]bool, place placer) (example, error) {
	if _, err := log.read(); err != nil {
		return example{}, err
	}
	key, sku, err := place(ctx)
	if err != nil {
		return example{}, fmt.Errorf("placing the order to record: %w", err)
	}
	if err := sleep(ctx, 150*time.Millisecond); err != nil { // some statements follow the answer
		return example{}, err
	}
	all, err := log.read()
	all = slices.DeleteFunc(all, func(s statement) bool { return background[s.text] })
	return example{key: key, sku: sku, statements: all}, err
}

// A logReader reads the statements that were logged since its last call.
type logReader struct {
	path      string
	databases []string
	offset    int64
}

func (r *logReader) read() ([]statement, error) {
	f, err := os.Open(r.path)
	if err != nil {
		return nil, fmt.Errorf("reading the server's log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	r.offset += int64(len(b))
	return readLog(bytes.NewReader(b), r.databases)
}

// sleep waits for d. It fails when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
