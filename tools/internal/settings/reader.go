// Package settings reads the environment variables of the commands. It applies defaults,
// validates each value, and reports all errors at once, each with its variable's name.
package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A Reader reads variables and collects the errors in them.
type Reader struct {
	root string // of the repo
	errs []error

	publishes bool // to any registry, without a cluster
}

// NewReader returns a Reader for commands that work on the repo at root.
func NewReader(root string) *Reader { return &Reader{root: root} }

// Err joins all errors so far.
func (r *Reader) Err() error { return errors.Join(r.errs...) }

func (r *Reader) refuse(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// choice reads a variable that must be one of words. If it is empty, the first word counts.
func (r *Reader) choice(name string, words ...string) string {
	v := os.Getenv(name)
	if v == "" {
		return words[0]
	}
	if !slices.Contains(words, v) {
		last := len(words) - 1
		r.refuse("%s is %q: use %s or %s", name, v, strings.Join(words[:last], ", "), words[last])
	}
	return v
}

// flag reads a variable that must be 0 or 1. If it is empty, unset counts.
func (r *Reader) flag(name string, unset bool) bool {
	if unset {
		return r.choice(name, "1", "0") == "1"
	}
	return r.choice(name, "0", "1") == "1"
}

// count reads a whole number from 1 to max. If the variable is empty, unset counts.
func (r *Reader) count(name string, unset, max int) int {
	v := os.Getenv(name)
	if v == "" {
		return unset
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > max {
		r.refuse("%s is %q: use a whole number from 1 to %d", name, v, max)
	}
	return n
}
