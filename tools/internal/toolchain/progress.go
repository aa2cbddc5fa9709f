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

// progress says how far a run of builds is, and how long it will take. Its unit is Tool.Work. It
// is the output of go build -v, which names each package that it has compiled.
type progress struct {
	out   *console.Console
	tools []Tool
	began time.Time

	mu       sync.Mutex
	current  int       // index of the tool that is being built
	started  time.Time // when its build began
	compiled int       // packages of the current tool so far
	stale    int       // packages of the current tool to compile; 0 until go list has counted them
	line     []byte    // the beginning of a line of go build's output
	messages []string  // the last other lines of that output
	took     []usage   // of the tools that are built
}

type usage struct{ elapsed, cpu time.Duration }

func newProgress(out *console.Console, tools []Tool) *progress {
	return &progress{out: out, tools: tools, began: time.Now()}
}

// begin says which tool is being built.
func (p *progress) begin(i int) {
	p.mu.Lock()
	p.current, p.compiled, p.stale, p.line, p.messages, p.started = i, 0, 0, nil, nil, time.Now()
	p.mu.Unlock()
	p.step(false)
}

// expect sets the number of packages that the tool with the index i will compile, if it is still
// the current one.
func (p *progress) expect(i, packages int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i == p.current {
		p.stale = packages
	}
}

// maxMessages is how many lines of go build an error shows.
const maxMessages = 20

// Write counts the packages that go build names, and keeps its messages, which have blanks.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = append(p.line, b...)
	for {
		i := bytes.IndexByte(p.line, '\n')
		if i < 0 {
			return len(b), nil
		}
		switch text := string(p.line[:i]); {
		case text == "", strings.HasPrefix(text, "go: downloading "):
		case strings.ContainsAny(text, " \t"):
			p.messages = append(p.messages, text)
			p.messages = p.messages[max(0, len(p.messages)-maxMessages):]
		default:
			p.compiled++
		}
		p.line = p.line[i+1:]
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
func (p *progress) explain(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed *command.Error
	if errors.As(err, &failed) && len(p.messages) > 0 {
		failed.Tail = "    " + strings.Join(p.messages, "\n    ")
	}
	return err
}

// end records what the current tool has taken.
func (p *progress) end(cpu time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = append(p.took, usage{time.Since(p.started), cpu})
}

// packages says how many packages are compiled. The caller holds p.mu.
func (p *progress) packages() string {
	if p.stale == 0 || p.compiled > p.stale {
		return fmt.Sprintf(": %d packages compiled", p.compiled)
	}
	return fmt.Sprintf(": %d of %d packages compiled", p.compiled, p.stale)
}

// step prints one line about the current tool, with its packages if counted is set.
func (p *progress) step(counted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, line := p.tools[p.current], ""
	if counted {
		line = p.packages()
	}
	if left := p.left(time.Since(p.began), runtime.GOMAXPROCS(0)); left > 0 {
		line += fmt.Sprintf("; about %s left for all tools", minutes(left))
	}
	p.out.Step("[%d/%d] %s %s%s", p.current+1, len(p.tools), t.Name, t.Version, line)
}

// left estimates the remaining time. Until a tenth of the work is done it assumes that each
// processor does a unit of Tool.Work per second. It never assumes more than twice that: a tool
// whose packages are in the build cache says nothing about the others.
func (p *progress) left(elapsed time.Duration, processors int) time.Duration {
	all, done := 0.0, 0.0
	for i, t := range p.tools {
		all += float64(t.Work)
		switch {
		case i < p.current:
			done += float64(t.Work)
		case i == p.current && p.stale > 0:
			done += float64(t.Work) * min(1, float64(p.compiled)/float64(p.stale))
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
	for i, t := range p.tools {
		p.out.Plain("%10s%-34s %8s, %6.0f CPU seconds", "", t.Name+" "+t.Version, console.Round(p.took[i].elapsed), p.took[i].cpu.Seconds())
	}
}
