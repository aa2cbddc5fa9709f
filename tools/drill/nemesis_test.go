//go:build e2e

package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/dev"
)

// A nemesis harms the shop once, and has repaired it when strike returns.
type nemesis struct {
	name   string
	strike func(ctx context.Context) error
}

const (
	// harmsAtOnce is how many requests the network harms in one strike, for stormLimit at most.
	harmsAtOnce = 150
	stormLimit  = 8 * time.Second
	// maxRounds limits how often each nemesis strikes.
	maxRounds = 20
)

// nemeses returns all that can happen to the shop. Each is part of one round.
func (h *history) nemeses(dice *rand.Rand) []nemesis {
	var all []nemesis
	for _, name := range append(slices.Clone(h.services), dev.PostgreSQL) {
		all = append(all, nemesis{"kill " + name, func(ctx context.Context) error { return h.kill(ctx, name) }})
	}
	for _, name := range h.services {
		pause := time.Duration(1000+dice.IntN(1500)) * time.Millisecond
		if name == "pedidos" { // longer than the lease
			pause = 3500 * time.Millisecond
		}
		all = append(all, nemesis{"stop " + name, func(ctx context.Context) error { return h.stop(ctx, name, pause) }})
	}
	all = append(all,
		nemesis{"fail over", h.failOver},
		nemesis{"set the clock of " + dev.PostgreSQL, h.setDatabaseClock},
		nemesis{"fill the disk", h.fillDisk},
		nemesis{"slow disk", func(ctx context.Context) error { return h.slowDisk(ctx, h.Postgres()) }},
	)
	if !h.database.behind { // else nobody waits for it
		all = append(all, nemesis{"slow disk of the standby", func(ctx context.Context) error { return h.slowDisk(ctx, h.database.standby) }})
	}
	for _, name := range h.services {
		all = append(all, nemesis{"set the clock of " + name, func(ctx context.Context) error { return h.setServiceClock(ctx, name) }})
	}
	for i := range 3 {
		all = append(all, nemesis{fmt.Sprint("network ", i+1), h.storm})
	}
	return all
}

// harass lets every nemesis strike in each round, in a random order, evenly spread over the checkouts. The
// last tenth of the checkouts has none. After an error, a process may be down.
func (h *history) harass(ctx context.Context, rounds int) error {
	dice := rand.New(rand.NewPCG(h.seed, 2))
	var all []nemesis
	for range rounds {
		round := h.nemeses(dice)
		dice.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		all = append(all, round...)
	}
	for i, one := range all {
		begin := int64(h.checkouts) * int64(i+1) * 9 / int64(10*(len(all)+1))
		for h.placed.Load() < begin {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err := one.strike(ctx); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		h.strikes[one.name]++
	}
	return nil
}

func (h *history) kill(ctx context.Context, name string) error {
	dead, err := h.Ended(name)
	if err != nil {
		return err
	}
	if err := h.Kill(name); err != nil {
		return err
	}
	select {
	case <-dead:
	case <-time.After(deadline):
		return fmt.Errorf("%s still runs", name)
	}
	return h.Restart(ctx, name)
}

func (h *history) stop(ctx context.Context, name string, pause time.Duration) (err error) {
	pid, err := h.PID(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	defer func() {
		if failed := syscall.Kill(pid, syscall.SIGCONT); err == nil {
			err = failed
		}
	}()
	for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		if strings.Contains(string(stat), ") T ") {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not stopped: %s", name, stat)
		}
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	return nil
}

// storm harms requests between the services until enough are.
func (h *history) storm(ctx context.Context) error {
	h.network.left.Store(harmsAtOnce)
	defer h.network.left.Store(0)
	for end := time.Now().Add(stormLimit); h.network.left.Load() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// struckAll fails for each nemesis that did not strike, and prints the number of strikes.
func (h *history) struckAll(t *testing.T) {
	t.Helper()
	var counts []string
	for _, one := range h.nemeses(rand.New(rand.NewPCG(0, 0))) {
		if h.strikes[one.name] == 0 {
			t.Errorf("the nemesis %q never struck", one.name)
		}
		counts = append(counts, fmt.Sprintf("%s %d", one.name, h.strikes[one.name]))
	}
	for _, what := range harms {
		if h.network.count[what] == 0 {
			t.Errorf("the network never did the harm %q", what)
		}
		counts = append(counts, fmt.Sprintf("%s %d", what, h.network.count[what]))
	}
	t.Logf("strikes: %s", strings.Join(counts, ", "))
}
