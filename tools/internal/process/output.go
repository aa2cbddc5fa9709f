package process

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// rotateLog creates an empty log file. It keeps the previous run's file, which may say why
// that run ended, as path.previous.
func rotateLog(path string) (*os.File, error) {
	if err := os.Rename(path, path+".previous"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}

// output receives a supervised program's output. It passes the output on to the log file,
// to the tail, and, in whole lines, to a function.
type output struct {
	mu   sync.Mutex
	file *os.File
	line func(string)
	part []byte // the beginning of a line whose end is not written yet
	tail Tail
}

// maxLine is the longest line, in bytes, that output passes on in one piece.
const maxLine = 64 << 10

// Write never fails: a full disk must not end the program.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.tail.Write(p)
	if o.file != nil {
		_, _ = o.file.Write(p)
	}
	if o.line == nil {
		return len(p), nil
	}
	o.part = append(o.part, p...)
	for {
		line, rest, ok := bytes.Cut(o.part, []byte("\n"))
		if !ok {
			break
		}
		o.line(string(line))
		o.part = append(o.part[:0], rest...)
	}
	if len(o.part) > maxLine {
		o.line(string(o.part))
		o.part = o.part[:0]
	}
	return len(p), nil
}

// close passes on a last line that has no line end, and closes the log file.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.part) > 0 {
		o.line(string(o.part))
		o.part = nil
	}
	if o.file != nil {
		o.file.Close()
	}
}

// A Tail keeps the last lines that are written to it, for the message of a failure. The
// zero value is ready to use. It is safe for concurrent use.
type Tail struct {
	mu sync.Mutex
	b  []byte
}

const (
	tailLines = 20
	tailBytes = 8 << 10 // a Tail holds twice as much at most
)

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
	return len(p), nil
}

// String returns the last 20 lines, indented, or "" if nothing was written.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.b))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-tailLines):], "\n    ")
}

// TailOf returns the last lines of a file in the form of Tail.String, or the error if it
// cannot read the file.
func TailOf(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "    " + err.Error()
	}
	var t Tail
	_, _ = t.Write(b)
	return t.String()
}
