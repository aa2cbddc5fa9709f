package toolchain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// reportEvery is how often a build says how far it is.
const reportEvery = 20 * time.Second

// progress says how far a run of builds is, and how long it will take. Its unit is Tool.Work.
type progress struct {
	out    *console.Console
	began  time.Time
	builds []*build

	mu      sync.Mutex
	current int // index of the tool that compiles; those before it are built, or the last of them is being linked
}

// A build is one tool of the run. It is the output of go build -v, which names each package as it
// begins to compile it, and the program's own package last.
type build struct {
	Tool
	linking chan struct{} // closed when all packages but the program's own are compiled
	main    string        // import path of the program's own package; empty until go list has told it

	mu           sync.Mutex
	started      time.Time
	compiled     map[string]bool // packages so far
	stale        int             // packages to compile; 0 until go list has counted them
	line         []byte          // the beginning of a line of go build's output
	messages     []string        // the last other lines of that output
	elapsed, cpu time.Duration   // what it took
}

func newProgress(out *console.Console, tools []Tool) *progress {
	p := &progress{out: out, began: time.Now()}
	for _, t := range tools {
		p.builds = append(p.builds, &build{Tool: t, linking: make(chan struct{}), compiled: map[string]bool{}})
	}
	return p
}

// begin says which tool is being built.
func (p *progress) begin(i int) *build {
	p.mu.Lock()
	p.current = i
	p.mu.Unlock()
	b := p.builds[i]
	b.mu.Lock()
	b.started = time.Now()
	b.mu.Unlock()
	p.step(false)
	return b
}

// expect takes what go list says of the packages of the build, in the order of their
// dependencies: a line each with the import path and whether the package is stale.
func (b *build) expect(listed string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	stale := false
	for line := range strings.Lines(listed) {
		b.main, stale = "", false
		if _, err := fmt.Sscan(line, &b.main, &stale); err == nil && stale {
			b.stale++
		}
	}
	if b.main != "" && (!stale || b.compiled[b.main]) {
		b.link()
	}
}

// link says once that the packages are compiled. The caller holds b.mu.
func (b *build) link() {
	select {
	case <-b.linking:
	default:
		close(b.linking)
	}
}

// maxMessages is how many lines of go build an error shows.
const maxMessages = 20

// Write counts the packages that go build names, and keeps its messages, which have blanks.
func (b *build) Write(output []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line = append(b.line, output...)
	for {
		i := bytes.IndexByte(b.line, '\n')
		if i < 0 {
			return len(output), nil
		}
		switch text := string(b.line[:i]); {
		case text == "", strings.HasPrefix(text, "go: downloading "):
		case strings.ContainsAny(text, " \t"):
			b.messages = append(b.messages, text)
			b.messages = b.messages[max(0, len(b.messages)-maxMessages):]
		default:
			b.compiled[text] = true
			if text == b.main {
				b.link()
			}
		}
		b.line = b.line[i+1:]
	}
}

// report prints the progress regularly until ctx is done.
func (p *progress) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.step(true)
		}
	}
}

// explain replaces the tail of a failed build's output, which names mostly packages that compiled
// while the failed one did, by its messages.
func (b *build) explain(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var failed *command.Error
	if errors.As(err, &failed) && len(b.messages) > 0 {
		failed.Tail = "    " + strings.Join(b.messages, "\n    ")
	}
	return err
}

// end records what the build has taken.
func (b *build) end(cpu time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.link()
	b.elapsed, b.cpu = time.Since(b.started), cpu
}

// packages says how many packages are compiled.
func (b *build) packages() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale == 0 || len(b.compiled) > b.stale {
		return fmt.Sprintf(": %d packages compiled", len(b.compiled))
	}
	return fmt.Sprintf(": %d of %d packages compiled", len(b.compiled), b.stale)
}

// share returns how much of the build is done, at most 1.
func (b *build) share() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale == 0 {
		return 0
	}
	return min(1, float64(len(b.compiled))/float64(b.stale))
}

// step prints one line about the current tool, with its packages if counted is set.
func (p *progress) step(counted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, line := p.builds[p.current], ""
	if counted {
		line = b.packages()
	}
	if left := p.left(time.Since(p.began), runtime.GOMAXPROCS(0)); left > 0 {
		line += fmt.Sprintf("; about %s left for all tools", minutes(left))
	}
	p.out.Step("[%d/%d] %s %s%s", p.current+1, len(p.builds), b.Name, b.Version, line)
}

// left estimates the remaining time. Until a tenth of the work is done it assumes that each
// processor does a unit of Tool.Work per second. It never assumes more than twice that: a tool
// whose packages are in the build cache says nothing about the others.
func (p *progress) left(elapsed time.Duration, processors int) time.Duration {
	all, done := 0.0, 0.0
	for i, b := range p.builds {
		all += float64(b.Work)
		switch {
		case i < p.current:
			done += float64(b.Work)
		case i == p.current:
			done += float64(b.Work) * b.share()
		}
	}
	expected := time.Duration((all - done) / float64(processors) * float64(time.Second))
	if done == 0 || done < all/10 {
		return expected
	}
	return max(expected/2, time.Duration(float64(elapsed)*(all-done)/done))
}

func minutes(d time.Duration) string {
	if d < time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d min", int((d+30*time.Second)/time.Minute))
}

// summary prints where the time went.
func (p *progress) summary() {
	p.out.Step("tools built in %s:", console.Round(time.Since(p.began)))
	for _, b := range p.builds {
		p.out.Plain("%10s%-34s %8s, %6.0f CPU seconds", "", b.Name+" "+b.Version, console.Round(b.elapsed), b.cpu.Seconds())
	}
}
