package invariant_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

// changesOnly are the options of an audit of what has changed.
var changesOnly = invariant.Options{WholeEvery: time.Hour}

// audit audits. Only tests that watch the recheck need its wait.
func (s shop) audit(t *testing.T, options invariant.Options) *invariant.Report {
	t.Helper()
	report, err := invariant.Check(t.Context(), s.databases, options.Quick())
	if err != nil || report.Unsaved != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	return report
}

// audited checks that an audit of what has changed finds what a whole one does, and returns its report.
func (s shop) audited(t *testing.T) *invariant.Report {
	t.Helper()
	report, whole := s.audit(t, changesOnly), s.audit(t, invariant.Options{}.Discarded())
	got, want := *report, *whole
	for _, r := range []*invariant.Report{&got, &want} {
		r.Read, r.Whole, r.WholeAge = 0, "", 0
		for _, v := range r.Violations { // the recheck reports in the order of the ids, and lists the first
			slices.SortFunc(v.Listed, func(a, b invariant.Violation) int { return strings.Compare(a.Subject+a.Detail, b.Subject+b.Detail) })
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("an audit of what has changed (%s) reports\n%+v, a whole one\n%+v", report.Whole, got, want)
	}
	return report
}

// orderID returns the id of an order in a bucket of its own for each hour.
func orderID(hour, number int) string {
	return fmt.Sprintf("%08x-0000-7000-8000-%012x", 0x01900000+hour*56, number)
}

// place stores a confirmed order of 100 and of one unit of SHOE, charged by the simulator.
func (s shop) place(t *testing.T, id string) {
	t.Helper()
	exec(t, s.estoque,
		`INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand) VALUES ('SHOE', 'Shoe', '', 100, 'BRL', 0)
			ON CONFLICT (sku) DO NOTHING`,
		`INSERT INTO estoque_top_ups (key, sku, quantity, reason) VALUES ('`+id+`', 'SHOE', 1, 'r')`, // and sold at once
		`INSERT INTO estoque_reservations (order_id, state, expires_at) VALUES ('`+id+`', 'confirmed', now())`,
		`INSERT INTO estoque_reservation_lines VALUES ('`+id+`', 'SHOE', 1, 100, 'BRL')`)
	exec(t, s.pagamentos,
		`INSERT INTO pagamentos (order_id, state, amount, currency, capture, fingerprint, acquirer, acquirer_reference) VALUES
			('`+id+`', 'captured', 100, 'BRL', true, '\x00', 'simulator', '`+id+`')`,
		`INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state) VALUES
			('`+id+`', '`+id+`', '`+id+`', 100, 'BRL', 'tok', true, 'captured')`)
	exec(t, s.pedidos, `INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency) VALUES
			('`+id+`', 'c', '`+id+`', '', 'confirmed', '[]', 100, 'BRL')`)
}

// changes are what can happen to an order, or what a fault can do to it, by statements as the services use them. $ is
// its id, and # a number that is used once.
var changes = []map[string][]string{
	{"pedidos": {`UPDATE pedidos SET state = 'failed', attend_at = NULL WHERE id = '$'`}},
	{"pedidos": {`UPDATE pedidos SET state = 'confirmed', attend_at = NULL WHERE id = '$'`}},
	{"pedidos": {`UPDATE pedidos SET state = 'paid', attend_at = now() + interval '1 hour' WHERE id = '$'`}},
	{"pedidos": {`UPDATE pedidos SET state = 'paid', attend_at = now() - interval '1 hour' WHERE id = '$'`}},
	{"pedidos": {`UPDATE pedidos SET total_amount = 100 + # WHERE id = '$'`}},
	{"pedidos": {`UPDATE pedidos SET total_currency = 'USD' WHERE id = '$'`}},
	{"pedidos": {`INSERT INTO pedido_refunds (id, pedido_id, idempotency_key, request_hash, amount, lines, reason, attend_at)
		VALUES (gen_random_uuid(), '$', '#', '', 1, '[]', 'x', now() + interval '1 hour')`}},
	{"pedidos": {`UPDATE pedido_refunds SET state = 'succeeded', attend_at = NULL WHERE pedido_id = '$'`}},
	{"pedidos": {`UPDATE pedidos SET refunds_amount = 1 WHERE id = '$'`}},
	{"pagamentos": {`UPDATE pagamentos SET state = 'refunded', refunded_amount = amount WHERE order_id = '$'`}},
	{"pagamentos": {`UPDATE pagamentos SET state = 'captured', refunded_amount = 0, due_at = NULL WHERE order_id = '$'`}},
	{"pagamentos": {`UPDATE pagamentos SET amount = 100 + # WHERE order_id = '$' AND state = 'captured'`}},
	{"pagamentos": {
		`INSERT INTO pagamento_refunds (id, order_id, amount, reason, due_at) VALUES (gen_random_uuid(), '$', 1, 'x', now())`,
		`UPDATE pagamento_refunds SET problem = 'refused' WHERE order_id = '$'`,
	}},
	{"pagamentos": {`UPDATE pagamento_refunds SET state = 'succeeded', refund_reference = 'r', due_at = NULL WHERE order_id = '$'`}},
	{"pagamentos": {`INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state)
		VALUES ('#', '#', '$', 100, 'BRL', 'tok', true, 'pending')`}},
	{"pagamentos": {`UPDATE simulator_charges SET state = 'captured' WHERE order_id = '$'`}},
	{"pagamentos": {`INSERT INTO simulator_refunds (key, reference, amount, state) VALUES ('#', '$', 7, 'pending')`}},
	{"pagamentos": {`UPDATE simulator_refunds SET state = 'refunded' WHERE reference = '$'`}},
	{"estoque": {`UPDATE estoque_reservations SET state = 'released' WHERE order_id = '$'`}},
	{"estoque": {`UPDATE estoque_reservations SET state = 'confirmed' WHERE order_id = '$'`}},
	{"estoque": {`UPDATE estoque_reservations SET state = 'reserved', expires_at = now() + interval '1 hour' WHERE order_id = '$'`}},
}

// mend lets the items agree with the reservations.
const mend = `UPDATE estoque SET reserved = held, on_hand = added - sold FROM (
		SELECT coalesce(sum(quantity) FILTER (WHERE state = 'reserved'), 0) AS held,
			coalesce(sum(quantity) FILTER (WHERE state = 'confirmed'), 0) + (SELECT coalesce(sum(units), 0) FROM estoque_settled_units) AS sold
		FROM estoque_reservations JOIN estoque_reservation_lines USING (order_id)
	) AS r, (SELECT sum(quantity) AS added FROM estoque_top_ups) AS t`

// In any history, an audit of what has changed finds the same as a whole one.
func TestAnAuditOfChangesFindsWhatAWholeOneDoes(t *testing.T) {
	t.Parallel()
	const rounds, hours = 60, 12
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newShop(t)
	var orders []string
	place := func(hour int) {
		orders = append(orders, orderID(hour, len(orders)))
		s.place(t, orders[len(orders)-1])
	}
	for i := range 3 * hours {
		place(i / 3)
	}
	s.audit(t, invariant.Options{})
	incremental, violated := 0, 0
	for round := range rounds {
		for range random.IntN(5) {
			switch id := orders[6+random.IntN(len(orders)-6)]; { // those of the first hours are pruned
			case random.IntN(4) == 0:
				place(2 + random.IntN(hours))
			default:
				replace := strings.NewReplacer("$", id, "#", fmt.Sprint(round*100+random.IntN(100)))
				for name, statements := range changes[random.IntN(len(changes))] {
					database := map[string]postgrestest.Database{"pedidos": s.pedidos, "pagamentos": s.pagamentos, "estoque": s.estoque}[name]
					for _, statement := range statements {
						// A constraint may refuse what does not fit the order's state.
						_, _ = database.Pool.Exec(t.Context(), replace.Replace(statement))
					}
				}
			}
		}
		if round == 10 || round == 30 {
			s.prune(t, orderID(2, 0), 3)
		}
		if random.IntN(8) > 0 {
			exec(t, s.estoque, mend)
		}
		report := s.audited(t)
		if report.Whole == "" {
			incremental++
		}
		if len(report.Violations) > 0 {
			violated++
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	if incremental < rounds/2 || violated < rounds/2 {
		t.Errorf("of %d audits, %d were of what has changed, and %d found a violation", rounds, incremental, violated)
	}
}

// prune lets reservations before an order leave.
func (s shop) prune(t *testing.T, before string, want int64) {
	t.Helper()
	exec(t, s.estoque, `UPDATE estoque_reservations SET updated_at = '2020-01-01' WHERE order_id < '`+before+`'`)
	var at time.Time
	if err := s.estoque.Pool.QueryRow(t.Context(),
		`SELECT to_timestamp(('x' || left($1, 8) || substr($1, 10, 4))::bit(48)::bigint / 1000.0)`, before).Scan(&at); err != nil {
		t.Fatal(err)
	}
	if pruned, err := stock.New(s.estoque.Pool).Prune(t.Context(), at, int32(want)); err != nil || pruned != want {
		t.Fatalf("%d reservations left, %v", pruned, err)
	}
}

// What has changed is read, and nothing else.
func TestAnAuditReadsWhatHasChanged(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 30 {
		s.place(t, orderID(i/3, i))
	}
	read := func(want string, whole string, number int64) {
		t.Helper()
		if report := s.audited(t); report.Whole != whole || report.Read != number || len(report.Violations) > 0 {
			t.Errorf("%s: %+v", want, report)
		}
	}
	read("the first audit", "there is no checkpoint", 30)
	read("nothing has changed", "", 0)
	s.place(t, orderID(20, 100))
	read("a new order", "", 1)
	s.prune(t, orderID(1, 0), 3)
	read("reservations of an hour have left", "", 3)
	exec(t, s.pagamentos, `INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state)
		VALUES ('k', 'k', '`+orderID(5, 15)+`', 100, 'BRL', 'tok', true, 'pending')`)
	read("an old charge", "", 3)
	exec(t, s.pedidos, `UPDATE pedidos SET answer_status = NULL, shipment = 'x', updated_at = now()`)
	read("nothing has changed that matters", "", 0)
	for d, table := range map[*postgrestest.Database]string{&s.pedidos: "pedidos", &s.pagamentos: "pagamentos", &s.estoque: "estoque_reservations"} {
		unmarked(t, *d, `UPDATE `+table+` SET changed_xid = 9000000000000`)
	}
	read("marks of another server were restored", "", 0)
	exec(t, s.pedidos, `UPDATE pedidos SET state = state WHERE id = '`+orderID(5, 15)+`'`)
	read("such a row has changed", "", 3)
}

// unmarked runs a statement as the administrator, and without triggers, as a restore does.
func unmarked(t *testing.T, d postgrestest.Database, statement string) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	if _, err := admin.Exec(t.Context(), `SET session_replication_role = replica; `+statement); err != nil {
		t.Fatal(err)
	}
}

// A violation is reported until it is mended, by audits that read nothing else. One that left no mark is reported by
// the next whole audit, and from then on.
func TestAViolationIsReportedUntilItIsMended(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 30 {
		s.place(t, orderID(i/3, i))
	}
	s.audit(t, invariant.Options{})
	violate := `UPDATE pedidos SET state = 'failed' WHERE id = '` + orderID(4, 12) + `'`
	found := func(when string, options invariant.Options, want bool) {
		t.Helper()
		report := s.audit(t, options)
		narrow := report.Whole == "" && report.Read <= 3
		if (report.Violations[invariant.CaptureHasOrder].Total == 1) != want || options.WholeEvery > 0 && !narrow {
			t.Errorf("%s: %+v", when, report)
		}
	}
	exec(t, s.pedidos, violate)
	for range 3 {
		found("a marked violation", changesOnly, true)
	}
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'confirmed' WHERE id = '`+orderID(4, 12)+`'`)
	for range 2 {
		found("it is mended", changesOnly, false)
	}
	unmarked(t, s.pedidos, violate)
	found("it left no mark", changesOnly, false)
	found("a whole audit", invariant.Options{}, true)
	for range 2 {
		found("after a whole audit", changesOnly, true)
	}
}

// An order becomes overdue without a change of its row.
func TestAnOrderBecomesOverdueByTimeAlone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 9 {
		s.place(t, orderID(i/3, i))
	}
	refund := `INSERT INTO pedido_refunds (id, pedido_id, idempotency_key, request_hash, amount, lines, reason, attend_at)
		VALUES (gen_random_uuid(), '` + orderID(0, 0) + `', 'k', '', 1, '[]', 'x', now())`
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'paid', attend_at = now() WHERE id = '`+orderID(1, 3)+`'`, refund,
		`UPDATE pedidos SET refunds = 1, refunds_amount = 1 WHERE id = '`+orderID(0, 0)+`'`)
	s.audit(t, invariant.Options{})
	for _, table := range []string{"pedidos", "pedido_refunds"} {
		exec(t, s.pedidos, `UPDATE `+table+` SET attend_at = now() - interval '1 hour' WHERE attend_at IS NOT NULL`) // as if it had passed
		report := s.audited(t)
		if v := report.Violations[invariant.OrdersEnd]; v.Total == 0 || report.Whole != "" || report.Read > 6 {
			t.Errorf("%s: %+v", table, report)
		}
		exec(t, s.pedidos, `UPDATE `+table+` SET attend_at = now() WHERE attend_at IS NOT NULL`)
	}
}

// A checkpoint of another version, server or time is not used.
func TestACheckpointThatDoesNotFitIsNotUsed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.place(t, orderID(1, 1))
	set := func(path, value string) func() {
		return func() {
			unmarked(t, s.pedidos, `UPDATE audit.checkpoint SET state = jsonb_set(state, '{`+path+`}', '`+value+`')`)
		}
	}
	for _, test := range []struct {
		what, why string
		change    func()
	}{
		{"program", "another version", set("program", `"older"`)},
		{"another type of a field", "cannot be read", set("whole_at", `true`)},
		{"another type of a map's values", "cannot be read", set("total,held", `{"BRL": "1"}`)},
		{"another type in a part", "cannot be read", func() {
			unmarked(t, s.pedidos, `UPDATE audit.parts SET sums = jsonb_set(sums, '{orders}', '"1"')`)
			exec(t, s.pedidos, `UPDATE pedidos SET state = 'confirmed'`)
		}},
		{"restored to an earlier time", "pagamentos is not the one", set("marks,pagamentos,xid", "9000000000000")},
		{"a crash in pedidos", "pedidos is not the one", func() { restart(t, s.pedidos) }},
		{"a crash in pagamentos", "pagamentos is not the one", func() { restart(t, s.pagamentos) }},
		{"a crash in estoque", "estoque is not the one", func() { restart(t, s.estoque) }},
		{"a database that was created again", "estoque is not the one", set("marks,estoque,origin", `"1/1"`)},
		{"too old", "the last one was 1h0m", set("whole_at", `"`+time.Now().Add(-time.Hour).Format(time.RFC3339)+`"`)},
		{"the clock was set back", "the last one was -", set("whole_at", `"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"`)},
		{"lost", "no checkpoint", func() { unmarked(t, s.pedidos, `DELETE FROM audit.checkpoint`) }},
		{"more open violations than are kept", "no checkpoint", func() {
			// Each in a bucket of its own.
			exec(t, s.pedidos, `INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency)
				SELECT (lpad(to_hex(i * 16), 8, '0') || '-0000-7000-8000-000000000000')::uuid, 'c', i, '', 'confirmed', '[]', 100, 'BRL'
				FROM generate_series(1, 1001) AS i`)
			s.audit(t, changesOnly)
		}},
	} {
		s.audit(t, invariant.Options{})
		if report := s.audit(t, changesOnly); report.Whole != "" {
			t.Fatalf("before %s: %+v", test.what, report)
		}
		test.change()
		if report := s.audit(t, changesOnly); !strings.Contains(report.Whole, test.why) {
			t.Errorf("%s: a whole audit because of %q, want %q", test.what, report.Whole, test.why)
		}
	}
}

// restart lets the server of the database seem to be in another run.
func restart(t *testing.T, d postgrestest.Database) {
	t.Helper()
	const another = `CREATE OR REPLACE FUNCTION server_run() RETURNS text LANGUAGE sql STABLE AS $$ SELECT '%s' $$`
	unmarked(t, d, fmt.Sprintf(another, uuid.NewString()))
}

// What an audit has seen before a crash is not stored after it.
func TestNoCheckpointIsStoredInAnotherRun(t *testing.T) {
	t.Parallel()
	for what, options := range map[string]invariant.Options{"a whole one": {}, "one of what has changed": changesOnly} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.place(t, orderID(1, 1))
			s.audit(t, invariant.Options{})
			stored := func() (checkpoint string) {
				t.Helper()
				if err := s.databases.Pedidos.QueryRow(t.Context(), `SELECT c::text FROM audit.checkpoint AS c`).Scan(&checkpoint); err != nil {
					t.Fatal(err)
				}
				return checkpoint
			}
			before := stored()
			exec(t, s.pedidos, `UPDATE pedidos SET state = 'failed'`) // so that the audit waits for its recheck
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				report, err := invariant.Check(t.Context(), s.databases, options)
				if err != nil || report.Unsaved == nil || !strings.Contains(report.Unsaved.Error(), "restarted") {
					t.Errorf("%v: %+v", err, report)
				}
			}()
			waitIdle(t, s.pedidos, ended)
			restart(t, s.pedidos)
			<-ended
			if after := stored(); after != before {
				t.Errorf("the checkpoint %s became %s", before, after)
			}
		})
	}
}

// process returns the shop with connections of another process: each audit needs two.
func (s shop) process(t *testing.T) shop {
	t.Helper()
	for _, pool := range []**pgxpool.Pool{&s.databases.Pedidos, &s.databases.Pagamentos, &s.databases.Estoque} {
		p, err := pgxpool.New(t.Context(), (*pool).Config().ConnString())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		*pool = p
	}
	return s
}

// A whole audit that ends while another one runs keeps its checkpoint, and the other's is discarded.
func TestAConcurrentAuditDoesNotSpoilTheCheckpoint(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 9 {
		s.place(t, orderID(i/3, i))
	}
	s.audit(t, invariant.Options{})
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'failed' WHERE id = '`+orderID(1, 4)+`'`)
	// It waits for its recheck when the whole one begins, and reads less. The pools have a connection for each.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if report, err := invariant.Check(t.Context(), s.databases, changesOnly); err != nil || report.Unsaved != nil {
			t.Errorf("%v: %+v", err, report)
		}
	}()
	waitIdle(t, s.pedidos, ended)
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'confirmed' WHERE id = '`+orderID(1, 4)+`'`)
	s.place(t, orderID(2, 100))
	var run, after string
	stored := `SELECT run::text || generation FROM audit.checkpoint`
	s.process(t).audit(t, invariant.Options{})
	if err := s.databases.Pedidos.QueryRow(t.Context(), stored).Scan(&run); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := s.databases.Pedidos.QueryRow(t.Context(), stored).Scan(&after); err != nil || run != after {
		t.Errorf("the checkpoint of the whole audit, %s, became %s: %v", run, after, err)
	}
	// Many at once, while the shop sells.
	var audits sync.WaitGroup
	for i := range 6 {
		process := s.process(t)
		audits.Go(func() {
			options := changesOnly.Quick()
			if i%3 == 0 {
				options.WholeEvery = 0
			}
			if report, err := invariant.Check(t.Context(), process.databases, options); err != nil || report.Unsaved != nil {
				t.Errorf("%v: %+v", err, report)
			}
		})
	}
	for i := range 20 {
		s.place(t, orderID(i%3, 200+i))
	}
	audits.Wait()
	if report := s.audited(t); report.Whole != "" || report.Orders != 30 {
		t.Errorf("after many audits: %+v", report)
	}
}

// The audit reads no column of which a change leaves no mark, except times that are compared with the present, and
// those of small tables, which it reads whole, and of tables whose rows are never changed: the test takes the
// right to read any other column from it.
func TestTheAuditReadsOnlyWhatIsMarked(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 9 {
		s.place(t, orderID(i/3, i))
	}
	s.prune(t, orderID(1, 0), 3)
	for _, d := range []postgrestest.Database{s.pedidos, s.pagamentos, s.estoque} {
		admin, err := pgx.Connect(t.Context(), d.AdminURL)
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close(context.Background())
		// A superuser becomes a role of this test: the auditor's own is shared by tests.
		role := "marked_" + d.Name
		if _, err := admin.Exec(t.Context(), fmt.Sprintf(`
			CREATE ROLE %[1]s LOGIN PASSWORD 'x';
			GRANT CONNECT ON DATABASE %[2]s TO %[1]s;
			GRANT USAGE ON SCHEMA public, audit TO %[1]s;
			GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA audit TO %[1]s;
			DO $$ DECLARE statement text; BEGIN
				FOR statement IN
					SELECT format('GRANT SELECT (%%s, changed_xid) ON %%I TO %[1]s', string_agg(DISTINCT event_object_column, ', '), event_object_table)
					FROM information_schema.triggered_update_columns WHERE trigger_name = event_object_table || '_audit_mark' GROUP BY event_object_table
					UNION ALL
					SELECT format('GRANT SELECT (%%I) ON %%I TO %[1]s', column_name, table_name) FROM information_schema.columns
					WHERE (table_name, column_name) IN (VALUES ('pedidos', 'id'), ('pedidos', 'attend_at'), ('pedido_refunds', 'pedido_id'),
						('pedido_refunds', 'attend_at'), ('pagamentos', 'order_id'), ('pagamento_refunds', 'order_id'),
						('simulator_charges', 'reference'), ('estoque_reservations', 'order_id'))
					UNION ALL
					SELECT format('GRANT SELECT ON %%I TO %[1]s', relname) FROM pg_class WHERE relname IN ('goose_db_version',
						'estoque', 'estoque_reservation_lines', 'estoque_top_ups', 'estoque_settled_units', 'estoque_settled_orders', 'estoque_pruned')
				LOOP EXECUTE statement; END LOOP;
			END $$`, role, d.Name)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			admin, err := pgx.Connect(context.Background(), d.AdminURL)
			if err == nil {
				_, err = admin.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
				_ = admin.Close(context.Background())
			}
			if err != nil {
				t.Error(err)
			}
		})
		config, err := pgxpool.ParseConfig(d.AdminURL)
		if err != nil {
			t.Fatal(err)
		}
		config.ConnConfig.User, config.ConnConfig.Password, config.MaxConns = role, "x", 2
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		switch d.Name {
		case s.pedidos.Name:
			s.databases.Pedidos = pool
		case s.pagamentos.Name:
			s.databases.Pagamentos = pool
		default:
			s.databases.Estoque = pool
		}
	}
	s.audit(t, invariant.Options{})
	s.place(t, orderID(1, 100))
	if report := s.audit(t, changesOnly); report.Whole != "" || report.Read == 0 {
		t.Errorf("%+v", report)
	}
}

// In every other table, the auditor can only read, and only the auditor can say what it has read.
func TestTheAuditWritesItsCheckpointOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var tables []string
	for _, pool := range []*pgxpool.Pool{s.databases.Pedidos, s.databases.Pagamentos, s.databases.Estoque} {
		rows, err := pool.Query(t.Context(), `SELECT oid::regclass::text FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'audit'::regnamespace) AND relkind = 'r'
			AND has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		some, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, some...)
	}
	if want := []string{"audit.checkpoint", "audit.parts"}; !slices.Equal(tables, want) {
		t.Errorf("the auditor can write to %v, want %v", tables, want)
	}
	for _, table := range tables {
		if _, err := s.pedidos.Pool.Exec(t.Context(), `SELECT FROM `+table); postgres.Code(err) != "42501" {
			t.Errorf("the service reads %s: %v, want it refused", table, err)
		}
	}
}
