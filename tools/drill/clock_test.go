//go:build e2e

package drill

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/dev"
)

// jump is how far a clock is set forward, and then back. It is more than any lease or pause of the drill's
// shop, and less than a reservation lasts.
const jump = 5 * time.Minute

// shifted is added to the package time of the services: the wall clock of the process is that of the machine
// plus the seconds in the file that a variable names. The monotonic clock goes on, as when a real clock is set.
// So all code of the process has the clock, that of its libraries too.
const shifted = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var shift = func() *int64 {
	path, _ := syscall.Getenv("` + clockVariable + `")
	if path == "" {
		return nil
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	file, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*int64)(unsafe.Pointer(&file[0]))
}()

func shifted() int64 {
	if shift == nil {
		return 0
	}
	return atomic.LoadInt64(shift)
}
`

const clockVariable = "DRILL_CLOCK"

// clocks are the files with the seconds by which the clocks of the services are set forward, by service.
type clocks map[string]string

// connectClocks lets the services be built with clocks that can be set, all to the machine's time.
func connectClocks(t *testing.T, o *dev.Options) clocks {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatalf("the clocks need the source of Go: %v", err)
	}
	const begin = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), begin) != 1 {
		t.Fatalf("the function Now of this version of Go does not begin with %q: change what sets the clocks", begin)
	}
	replaced := map[string]string{}
	for name, content := range map[string]string{
		"time.go": strings.Replace(string(text), begin, begin+"\tsec += shifted()\n", 1), "shifted.go": shifted,
	} {
		replaced[filepath.Join(source, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	o.Overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(o.Overlay, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	c := clocks{}
	for _, name := range o.Programs {
		c[name] = filepath.Join(dir, name)
		o.Env[name] = append(o.Env[name], clockVariable+"="+c[name])
		if err := c.set(name, 0); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c clocks) set(name string, forward time.Duration) error {
	file, err := os.OpenFile(c[name], os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(binary.NativeEndian.AppendUint64(nil, uint64(forward/time.Second)))
	return errors.Join(err, file.Close())
}

// setServiceClock sets the clock of a service forward and back.
func (h *history) setServiceClock(ctx context.Context, name string) error {
	set := func(forward time.Duration) error { return h.clocks.set(name, forward) }
	return h.setClock(ctx, name, set, func() (time.Time, error) { return h.time(ctx, name) })
}

// setDatabaseClock sets the clock of the primary forward and back.
func (h *history) setDatabaseClock(ctx context.Context) error {
	primary := h.Postgres()
	return h.setClock(ctx, dev.PostgreSQL, h.database.disks[primary].setClock, func() (time.Time, error) {
		text, err := ask(ctx, primary, "SELECT extract(epoch FROM clock_timestamp())::bigint::text")
		if err != nil {
			return time.Time{}, err
		}
		seconds, err := strconv.ParseInt(text, 10, 64)
		return time.Unix(seconds, 0), err
	})
}

// setClock sets a clock forward, and back after the clients have gone on. It fails if the process does not have
// the time that was set.
func (h *history) setClock(ctx context.Context, name string, set func(time.Duration) error, read func() (time.Time, error)) (err error) {
	defer func() { err = errors.Join(err, set(0)) }()
	for _, forward := range []time.Duration{jump, 0} {
		if err := set(forward); err != nil {
			return err
		}
		err := until(ctx, fmt.Sprintf("%s has the time in %s", name, forward), func() (bool, error) {
			now, err := read()
			return near(now, forward), err
		})
		if err != nil {
			return err
		}
		if err := h.goesOn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// near tells whether a time is that of the machine plus what it was set forward, up to half a minute: a slow
// machine needs a while to read it.
func near(now time.Time, forward time.Duration) bool {
	return time.Until(now.Add(-forward)).Abs() < jump/10
}

// time returns the wall clock of a service, which HTTP has in each answer.
func (h *history) time(ctx context.Context, name string) (time.Time, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL(name)+"/health", nil)
	if err != nil {
		return time.Time{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return time.Time{}, err
	}
	defer response.Body.Close()
	return http.ParseTime(response.Header.Get("Date"))
}

// fakeTime returns the library that gives PostgreSQL a clock of its own. If it is not installed, fakeTime
// unpacks Debian's package into a folder.
func fakeTime(ctx context.Context, dir string) (string, error) {
	const library = "usr/lib/*/faketime/libfaketime.so.1"
	for _, root := range []string{"/", dir} {
		found, err := filepath.Glob(filepath.Join(root, library))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
		if root == dir {
			break
		}
		get := `apt-get download -q libfaketime || { apt-get update -q && apt-get download -q libfaketime; } && dpkg -x libfaketime_*.deb .`
		if err := (command.Command{Args: []string{"sh", "-c", get}, Dir: dir}).Run(ctx); err != nil {
			return "", fmt.Errorf("the drill sets the clock of PostgreSQL with libfaketime, which is neither installed "+
				"nor can Debian's package be unpacked: install it: %w", err)
		}
	}
	return "", errors.New("Debian's package libfaketime does not contain " + library)
}

// clockOf returns the environment with which a server has the clock of its disk.
func (d *database) clockOf(on *disk) []string {
	return []string{
		"LD_PRELOAD=" + d.fakeTime, "FAKETIME_TIMESTAMP_FILE=" + on.clock(), "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1",
	}
}

func (d *disk) clock() string { return d.dir + ".clock" }

// setClock sets the clock of the disk's server.
func (d *disk) setClock(forward time.Duration) error {
	if err := os.WriteFile(d.clock()+".new", fmt.Appendf(nil, "+%d\n", forward/time.Second), 0o644); err != nil {
		return err
	}
	return os.Rename(d.clock()+".new", d.clock())
}
