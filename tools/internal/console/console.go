// Package console prints the steps of a long run, with the time since it began.
package console

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A Console prints lines that begin with the elapsed time. It is safe for
// concurrent use.
type Console struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

// New returns a Console whose elapsed time begins now.
func New(out io.Writer) *Console { return &Console{out: out, start: time.Now()} }

// Step prints one line: [  1m05s] text.
func (c *Console) Step(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, "[%7s] %s\n", Round(time.Since(c.start)), fmt.Sprintf(format, args...))
}

// Plain prints text without the time, for results that a user may copy.
func (c *Console) Plain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, format+"\n", args...)
}

// Elapsed returns the time since New.
func (c *Console) Elapsed() time.Duration { return time.Since(c.start) }

// Round rounds a duration to whole seconds, or to tenths of a second below ten seconds.
func Round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// Indented returns a writer whose lines are indented below the last step.
func (c *Console) Indented() io.Writer { return &indented{c: c, fresh: true} }

type indented struct {
	c     *Console
	fresh bool // the next byte begins a line
}

func (w *indented) Write(p []byte) (int, error) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	var b []byte
	for _, ch := range p {
		if w.fresh && ch != '\n' {
			b = append(b, "          "...)
		}
		b = append(b, ch)
		w.fresh = ch == '\n'
	}
	if _, err := w.c.out.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}
