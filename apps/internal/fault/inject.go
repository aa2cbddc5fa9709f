//go:build drill

package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// text is set by the linker: a kind and its options, errors:method=POST:share=0.1.
var text string

// An injection is what this program does wrong.
type injection struct {
	kind   string
	method string        // of the requests; empty is any
	share  float64       // of the requests, 0 to 1
	delay  time.Duration // of latency
	after  time.Duration // since the start
	began  time.Time
	mu     sync.Mutex
	leaked [][]byte
}

// Handler returns what injects the fault that the program was built with, or nil without
// one. It ends the program if there is no such fault, and at once if the fault is a crash
// loop.
func Handler() gin.HandlerFunc {
	if text == "" {
		return nil
	}
	f, err := parse(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		os.Exit(2)
	}
	switch f.kind {
	case "crashloop":
		os.Exit(1)
	case "crash":
		time.AfterFunc(f.after, func() { os.Exit(1) })
	}
	return f.handle
}

// Migration fails if the program was built with the fault of a migration that fails.
func Migration() error {
	if text == "migration" {
		return errors.New("fault: this program was built for a drill with a migration that fails")
	}
	return nil
}

func parse(text string) (*injection, error) {
	kind, options, _ := strings.Cut(text, ":")
	f := &injection{kind: kind, share: 1, delay: 400 * time.Millisecond, began: time.Now()}
	switch kind {
	case "errors", "latency", "crash", "crashloop", "leak", "migration", "unready":
	default:
		return nil, fmt.Errorf("there is no fault %q", kind)
	}
	if options == "" {
		return f, nil
	}
	for option := range strings.SplitSeq(options, ":") {
		key, value, _ := strings.Cut(option, "=")
		var err error
		switch key {
		case "method":
			f.method = value
		case "share":
			f.share, err = strconv.ParseFloat(value, 64)
		case "delay":
			f.delay, err = time.ParseDuration(value)
		case "after":
			f.after, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("a fault has no option %q", key)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	}
	return f, nil
}

func (f *injection) handle(c *gin.Context) {
	path := c.Request.URL.Path
	if f.kind == "unready" && path == "/ready" {
		c.AbortWithStatus(http.StatusServiceUnavailable)
		return
	}
	switch {
	case path == "/ready", path == "/health", path == "/metrics",
		f.method != "" && f.method != c.Request.Method,
		time.Since(f.began) < f.after, rand.Float64() >= f.share:
		return
	}
	switch f.kind {
	case "errors":
		c.AbortWithStatus(http.StatusInternalServerError)
	case "latency":
		time.Sleep(f.delay)
	case "leak":
		f.leak()
	}
}

// leak keeps a megabyte of every request.
func (f *injection) leak() {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaked = append(f.leaked, block)
}
