package invariant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maxBuckets is how many changed buckets are read one by one, and kept in memory until they are stored. For
	// more, everything is read.
	maxBuckets = 20_000
	// maxOpen is how many buckets with violations a checkpoint remembers. A shop with more is read whole each time.
	maxOpen = 1000
	// batch is how many buckets are read, or stored, by one statement.
	batch = 500
)

// marked are the migrations with which the databases say what has changed, and in which run the server is.
var marked = map[string]int64{"pedidos": 10, "pagamentos": 7, "estoque": 5}

// originSQL names the database, and the run of its server. A change of it invalidates a checkpoint: the database was
// created again, or the server was restarted, restored, upgraded or replaced, or it crashed. An audit sees also what was
// committed without waiting for the disk. A crash may lose that, and later changes then have the same transaction
// numbers (docs/adr/0021).
const originSQL = `concat_ws('/', server_run(), (SELECT oid FROM pg_database WHERE datname = current_database()))`

// mark is how far an audit has read a database.
type mark struct {
	Origin string `json:"origin"`
	// Snapshot tells which transactions the audit saw. All before XID had ended.
	Snapshot string `json:"snapshot"`
	XID      int64  `json:"xid"`
}

// checkpoint is what an audit has found, and how far it has read: so the next one reads what has changed since.
type checkpoint struct {
	run        uuid.UUID // of the whole audit
	generation int64     // counts the audits that have changed it

	Program string          `json:"program"` // whose rules it is about
	Marks   map[string]mark `json:"marks"`   // by database
	WholeAt time.Time       `json:"whole_at"`
	Total   sums            `json:"total"`
	Open    []string        `json:"open"` // the buckets with violations, which are read each time
}

// marks returns how far the snapshots reach, and the time of the server. There are none before the migrations that
// let the audit find what has changed.
func (s snapshots) marks(ctx context.Context) (marks map[string]mark, now time.Time, err error) {
	marks = map[string]mark{}
	for name, tx := range s.byName() {
		var m mark
		var migrated bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM goose_db_version WHERE version_id = $1 AND is_applied)`, marked[name]).Scan(&migrated)
		if err == nil && !migrated {
			return nil, now, nil
		}
		if err == nil {
			err = tx.QueryRow(ctx, `SELECT `+originSQL+`, pg_current_snapshot()::text, pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).
				Scan(&m.Origin, &m.Snapshot, &m.XID)
		}
		if err != nil {
			return nil, now, fmt.Errorf("reading how far the database %s has got: %w", name, err)
		}
		marks[name] = m
	}
	if err := s.pedidos.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return nil, now, fmt.Errorf("reading the time: %w", err)
	}
	return marks, now, nil
}

// errUnreadable says that a checkpoint was written by a version with other types.
var errUnreadable = errors.New("the checkpoint cannot be read")

// checkpoint returns the one that is stored, or nil if there is none. The error is errUnreadable if it cannot be decoded.
func (s snapshots) checkpoint(ctx context.Context) (*checkpoint, error) {
	var c checkpoint
	var state string
	err := s.pedidos.QueryRow(ctx, `SELECT run, generation, state::text FROM audit.checkpoint`).Scan(&c.run, &c.generation, &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("reading the audit's checkpoint: %w", err)
	}
	c.Total = newSums()
	if json.Unmarshal([]byte(state), &c) != nil {
		return nil, errUnreadable
	}
	return &c, nil
}

// unusable says why an audit cannot go on from the checkpoint, or nothing.
func (c *checkpoint) unusable(marks map[string]mark, now time.Time, o Options) string {
	switch {
	case c == nil:
		return "there is no checkpoint"
	case c.Program != o.Program:
		return "the checkpoint is of another version of the audit"
	}
	for name, m := range marks {
		if before := c.Marks[name]; before.Origin != m.Origin || before.XID > m.XID {
			return fmt.Sprintf("the database %s is not the one of the checkpoint, or its server was restarted", name)
		}
	}
	if age := now.Sub(c.WholeAt); age < 0 || age >= o.WholeEvery {
		return fmt.Sprintf("the last one was %s ago", age.Round(time.Second))
	}
	return ""
}

// changes are the statements that find the buckets to read again, by database: what the snapshot $1 did not see, whose
// XID is $2, and orders and refunds that break a rule by the time alone, which is $3.
var changes = func() map[string]string {
	// Who can see a row has a snapshot that ends after its transaction. Another mark is of another server, and was
	// restored from a dump.
	unseen := func(bucket, table string) string {
		const condition = "changed_xid >= $2 AND changed_xid < pg_snapshot_xmax(pg_current_snapshot())::text::bigint" +
			" AND NOT pg_visible_in_snapshot(changed_xid::text::xid8, $1::text::pg_snapshot)"
		return fmt.Sprintf("SELECT %s FROM %s WHERE %s", bucket, table, condition)
	}
	late := func(id, table string) string {
		return fmt.Sprintf("SELECT %s FROM %s WHERE attend_at < now() - $3::interval", bucketSQL(id), table)
	}
	of := func(id, table string) string { return unseen(bucketSQL(id), table) }
	const or = "\nUNION\n"
	return map[string]string{
		"pedidos": of("id", "pedidos") + or + of("pedido_id", "pedido_refunds") + or +
			late("id", "pedidos") + or + late("pedido_id", "pedido_refunds"),
		"pagamentos": of("order_id", "pagamentos") + or + of("order_id", "pagamento_refunds") + or + of("order_id", "simulator_charges") + or +
			of("order_id", "(SELECT c.order_id, r.changed_xid FROM simulator_refunds AS r JOIN simulator_charges AS c USING (reference)) AS book"),
		"estoque": of("order_id", "estoque_reservations") + or + unseen("bucket", "estoque_pruned"),
	}
}()

// changed returns the buckets to read again, at most about limit more than that.
func (s snapshots) changed(ctx context.Context, since map[string]mark, limit int) (map[string]bool, error) {
	buckets := map[string]bool{}
	for name, tx := range s.byName() {
		args := []any{since[name].Snapshot, since[name].XID}
		if name == "pedidos" {
			args = append(args, overdue)
		}
		rows, err := tx.Query(ctx, fmt.Sprintf("%s\nLIMIT %d", changes[name], limit), args...)
		if err != nil {
			return nil, fmt.Errorf("looking for changes in the database %s: %w", name, err)
		}
		var bucket string
		if _, err = pgx.ForEachRow(rows, []any{&bucket}, func() error { buckets[bucket] = true; return nil }); err != nil {
			return nil, fmt.Errorf("looking for changes in the database %s: %w", name, err)
		}
	}
	return buckets, nil
}

// parts returns the sum of the stored parts of buckets. The error is errUnreadable if one cannot be decoded.
func (s snapshots) parts(ctx context.Context, run uuid.UUID, buckets []string) (sums, error) {
	total := newSums()
	rows, err := s.pedidos.Query(ctx, `SELECT sums::text FROM audit.parts WHERE run = $1 AND bucket = ANY($2)`, run, buckets)
	if err != nil {
		return total, fmt.Errorf("reading the audit's checkpoint: %w", err)
	}
	var text string
	if _, err = pgx.ForEachRow(rows, []any{&text}, func() error {
		part := newSums()
		if json.Unmarshal([]byte(text), &part) != nil {
			return errUnreadable
		}
		total.add(part, 1)
		return nil
	}); err != nil {
		return total, fmt.Errorf("reading the audit's checkpoint: %w", err)
	}
	return total, nil
}

// part is a bucket's part of the sums, encoded.
type part struct{ bucket, sums string }

type execer interface {
	Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error)
}

// writeParts stores parts, at most batch.
func writeParts(ctx context.Context, db execer, run uuid.UUID, parts []part) error {
	buckets, values := make([]string, len(parts)), make([]string, len(parts))
	for i, p := range parts {
		buckets[i], values[i] = p.bucket, p.sums
	}
	_, err := db.Exec(ctx, `INSERT INTO audit.parts (run, bucket, sums)
		SELECT $1, bucket, sums::jsonb FROM unnest($2::text[], $3::text[]) AS part (bucket, sums)
		ON CONFLICT (run, bucket) DO UPDATE SET sums = excluded.sums`, run, buckets, values)
	return err
}

// errRestarted says that what the audit has seen may be lost.
var errRestarted = errors.New("the server has been restarted since the audit began")

// errOvertaken says that another audit, which ran at the same time, has stored its checkpoint.
var errOvertaken = errors.New("another audit has stored a checkpoint meanwhile")

// replace stores the checkpoint of a whole audit, whose number of parts is stored already, instead of any other one.
func (c *checkpoint) replace(ctx context.Context, db *pgxpool.Pool, parts int64) error {
	return c.write(ctx, db, func(tx pgx.Tx, state string) error {
		if _, err := tx.Exec(ctx, `INSERT INTO audit.checkpoint (run, generation, state) VALUES ($1, 0, $2::jsonb)
			ON CONFLICT (one) DO UPDATE SET run = excluded.run, generation = 0, state = excluded.state`, c.run, state); err != nil {
			return err
		}
		// The audit that another one overtakes loses its parts here.
		var stored int64
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM audit.parts WHERE run = $1`, c.run).Scan(&stored); err != nil {
			return err
		}
		if stored != parts {
			return errOvertaken
		}
		_, err := tx.Exec(ctx, `DELETE FROM audit.parts WHERE run <> $1`, c.run)
		return err
	})
}

// advance stores the checkpoint, and the parts that differ from those of the one that the audit went on from.
func (c *checkpoint) advance(ctx context.Context, db *pgxpool.Pool, parts []part) error {
	return c.write(ctx, db, func(tx pgx.Tx, state string) error {
		stored, err := tx.Exec(ctx, `UPDATE audit.checkpoint SET generation = generation + 1, state = $3::jsonb
			WHERE run = $1 AND generation = $2`, c.run, c.generation, state)
		if err != nil {
			return err
		}
		if stored.RowsAffected() == 0 {
			return errOvertaken
		}
		for len(parts) > 0 {
			some := parts[:min(batch, len(parts))]
			parts = parts[len(some):]
			if err := writeParts(ctx, tx, c.run, some); err != nil {
				return err
			}
		}
		return nil
	})
}

// write runs work in a transaction, with the encoded checkpoint. If another audit has overtaken this one, nothing is
// stored, and the next one goes on from the other's. Nothing is stored either in another run of the server than that
// of the snapshots: a transaction is in one run.
func (c *checkpoint) write(ctx context.Context, db *pgxpool.Pool, work func(tx pgx.Tx, state string) error) error {
	state, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encoding the audit's checkpoint: %w", err)
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var origin string
		if err := tx.QueryRow(ctx, `SELECT `+originSQL).Scan(&origin); err != nil {
			return err
		}
		if origin != c.Marks["pedidos"].Origin {
			return errRestarted
		}
		return work(tx, string(state))
	})
	if err != nil && !errors.Is(err, errOvertaken) {
		return fmt.Errorf("storing the audit's checkpoint: %w", err)
	}
	return nil
}

// forget removes the checkpoint, so that the next audit reads everything.
func forget(ctx context.Context, db *pgxpool.Pool) error {
	if _, err := db.Exec(ctx, `DELETE FROM audit.checkpoint`); err != nil {
		return fmt.Errorf("removing the audit's checkpoint: %w", err)
	}
	return nil
}
