//go:build e2e

package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// A relay passes connections on to a server that can be exchanged, as the address of a managed database does.
type relay struct {
	listener net.Listener
	mu       sync.Mutex
	to       func() string // host:port; "" breaks every connection
	open     map[net.Conn]bool
}

func listen(t *testing.T, to func() string) *relay {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, to: to, open: map[net.Conn]bool{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.pass(conn)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		r.direct(nowhere)
	})
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

func nowhere() string { return "" }

// direct passes connections on to another server, and breaks those to the one before.
func (r *relay) direct(to func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := to() == r.to()
	if r.to = to; same {
		return
	}
	for conn := range r.open {
		conn.Close()
	}
	clear(r.open)
}

func (r *relay) pass(from net.Conn) {
	defer from.Close()
	r.mu.Lock()
	address := r.to()
	r.mu.Unlock()
	if address == "" {
		return
	}
	to, err := new(net.Dialer).Dial("tcp4", address)
	if err != nil {
		return
	}
	defer to.Close()
	r.mu.Lock()
	current := r.to() == address
	if current {
		r.open[from], r.open[to] = true, true
	}
	r.mu.Unlock()
	if !current {
		return
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	<-ended
	r.mu.Lock()
	delete(r.open, from)
	delete(r.open, to)
	r.mu.Unlock()
}

// A database is the PostgreSQL of a history: a primary, which is the shop's server, and its standby. Each has
// its data on a disk of its own.
type database struct {
	shop     *dev.Shop
	programs postgres.Programs
	clients  *relay // of the services, the audit and the checks
	// replication is the standby's connection to the primary.
	replication *relay
	behind      bool   // the standby is asynchronous, and cut off before it takes over
	folder      string // of the disks
	fakeTime    string // a library
	number      int    // of the last disk
	disks       map[*postgres.Server]*disk
	first       *disk // until the shop has started
	standby     *postgres.Server
}

// behind is the planted bug of the database: nobody waits for the standby.
const behind = "standby-behind"

// settings of every server. A standby that was cut off finds the log that it missed.
var settings = []string{"max_connections=200", "wal_keep_size=512MB", "wal_retrieve_retry_interval=100ms"}

// connectDatabase puts a relay between the shop and its server, and the server's data on a disk of its own.
func connectDatabase(t *testing.T, o *dev.Options) *database {
	t.Helper()
	root, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	d := &database{disks: map[*postgres.Server]*disk{}}
	cache := &toolchain.Cache{Root: root, Pins: filepath.Join("..", "pins"), Out: console.New(io.Discard)}
	if d.programs, err = postgres.Ensure(t.Context(), cache); err != nil {
		t.Fatal(err)
	}
	if d.first, err = d.newDisk(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.clients, d.replication = listen(t, d.first.server), listen(t, nowhere)
	o.Postgres = postgres.Options{Dir: d.first.data(), Settings: settings, Address: d.clients.address(), Env: d.clockOf(d.first)}
	t.Cleanup(func() { // after the shop has stopped
		if err := d.close(); err != nil {
			t.Errorf("removing the databases: %v", err)
		}
	})
	return d
}

// start gives the shop's server its first standby.
func (d *database) start(ctx context.Context, s shop) error {
	d.shop, d.first.log = s.Shop, filepath.Join(s.dir, "logs", dev.PostgreSQL+".log")
	d.disks[s.Postgres()] = d.first
	d.clients.direct(s.Postgres().Own)
	return d.addStandby(ctx)
}

func (d *database) close() error {
	var failed error
	if d.standby != nil {
		failed = d.standby.StopNow()
	}
	removed := map[*disk]bool{d.first: true}
	failed = errors.Join(failed, d.first.remove())
	for _, one := range d.disks {
		if !removed[one] {
			failed = errors.Join(failed, one.remove())
		}
	}
	return errors.Join(failed, os.RemoveAll(d.folder))
}

// own returns the URL of a server that leads past the relay.
func own(server *postgres.Server) *url.URL {
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		panic(err)
	}
	u.Host = server.Own()
	return u
}

// ask runs a statement in a server, and returns the one text that it selects.
func ask(ctx context.Context, server *postgres.Server, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, own(server).String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var text string
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, err
}

// until waits for a condition. Only a hang takes so long.
func until(ctx context.Context, what string, holds func() (bool, error)) error {
	for end := time.Now().Add(3 * deadline); ; time.Sleep(20 * time.Millisecond) {
		ok, err := holds()
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("%s: not after %s", what, 3*deadline), err)
		}
	}
}

// addStandby takes a base backup of the primary, starts a standby with it, and lets the primary wait for it with
// every commit.
func (d *database) addStandby(ctx context.Context) error {
	primary := d.shop.Postgres()
	on, err := d.newDisk(ctx)
	if err != nil {
		return err
	}
	d.replication.direct(primary.Own)
	if err := backUp(ctx, primary, on.data()); err != nil {
		return fmt.Errorf("the base backup: %w", err)
	}
	host, port, err := net.SplitHostPort(d.replication.address())
	if err != nil {
		return err
	}
	password, _ := own(primary).User.Password()
	follow := fmt.Sprintf("primary_conninfo = 'host=%s port=%s user=postgres password=%s application_name=standby'\n", host, port, password)
	if err := appendTo(filepath.Join(on.data(), "postgresql.auto.conf"), follow); err != nil {
		return err
	}
	if err := appendTo(filepath.Join(on.data(), "standby.signal"), ""); err != nil {
		return err
	}
	d.standby, err = d.programs.Start(ctx, postgres.Options{
		Dir: on.data(), Password: password, Settings: settings, Address: d.clients.address(), Env: d.clockOf(on), Log: on.log,
	})
	if err != nil {
		return fmt.Errorf("the standby: %w", err)
	}
	d.disks[d.standby] = on
	return d.follows(ctx)
}

// follows waits until the standby has what the primary has, and makes it synchronous.
func (d *database) follows(ctx context.Context) error {
	sql, want := "SELECT state FROM pg_stat_replication", "streaming"
	if !d.behind {
		for _, set := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()::text"} {
			if _, err := ask(ctx, d.shop.Postgres(), set); err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return fmt.Errorf("%s: %w", set, err)
			}
		}
		sql, want = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'", "sync"
	}
	return until(ctx, "the standby follows", func() (bool, error) {
		state, err := ask(ctx, d.shop.Postgres(), sql)
		return state == want, err
	})
}

// backUp copies the data of a server that runs, by the low-level API of base backups:
// https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP. The standby
// fetches the log since the begin of the copy from the primary.
func backUp(ctx context.Context, from *postgres.Server, to string) error {
	conn, err := pgx.Connect(ctx, own(from).String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "SELECT pg_backup_start('standby', true)"); err != nil {
		return err
	}
	if err := copyData(from.Dir, to); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		return err
	}
	return appendTo(filepath.Join(to, "backup_label"), label)
}

// without are what a base backup leaves out: the files of the running server, and the contents of folders
// that a server creates again.
var without = []string{"postmaster.pid", "postmaster.opts"}

var emptied = []string{"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}

func copyData(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the server has removed it
		}
		if err != nil {
			return err
		}
		within, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		top, _, inside := strings.Cut(within, "/")
		if slices.Contains(without, within) || inside && slices.Contains(emptied, top) && within != "pg_wal/archive_status" {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := copyOne(path, filepath.Join(to, within)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// copyOne copies a folder or a file, with its owner and its mode.
func copyOne(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if info.IsDir() {
		return errors.Join(os.Mkdir(to, info.Mode().Perm()), os.Chown(to, int(owner.Uid), int(owner.Gid)))
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chown(int(owner.Uid), int(owner.Gid)), out.Close())
}

// appendTo appends a text to a file of a server, which belongs to the owner of its folder.
func appendTo(path, text string) error {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Chown(int(owner.Uid), int(owner.Gid)), file.Close())
}

// failOver kills the primary, makes the standby the primary, and gives it a new standby.
func (h *history) failOver(ctx context.Context) error {
	d, primary := h.database, h.Postgres()
	if err := d.follows(ctx); err != nil {
		return err
	}
	const timeline = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
	before, err := ask(ctx, primary, timeline)
	if err != nil {
		return err
	}
	if d.behind {
		d.replication.direct(nowhere)
		if err := h.goesOn(ctx); err != nil {
			return err
		}
	}
	if err := primary.Kill(); err != nil {
		return err
	}
	d.clients.direct(nowhere)
	d.replication.direct(nowhere)
	if promoted, err := ask(ctx, d.standby, "SELECT pg_promote(true, 120)::text"); err != nil || promoted != "true" {
		return fmt.Errorf("promoting the standby: %s, %w", promoted, err)
	}
	after, err := ask(ctx, d.standby, timeline)
	if err != nil || after <= before {
		return fmt.Errorf("the timeline is %s after %s: the standby was not promoted: %w", after, before, err)
	}
	if err := h.FailOver(d.standby); err != nil {
		return err
	}
	d.standby = nil
	d.clients.direct(h.Postgres().Own)
	if err := d.disks[primary].remove(); err != nil {
		return err
	}
	delete(d.disks, primary)
	if err := h.goesOn(ctx); err != nil {
		return err
	}
	return d.addStandby(ctx)
}

// goesOn waits until every client could have checked out.
func (h *history) goesOn(ctx context.Context) error {
	enough := h.placed.Load() + clients
	return until(ctx, "the clients check out", func() (bool, error) { return h.placed.Load() >= enough, nil })
}
