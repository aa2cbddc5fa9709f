// Package rollouttest is the table of cases for which every program that reads Rollouts prints
// the same sentences.
package rollouttest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Image is the image of the Rollouts in the cases.
const Image = "localhost:5000/web@sha256:1"

// A Case is a sequence of states of the Rollout web in the namespace shop, and the output of a
// program that waits for it.
type Case struct {
	Name string
	// Rollouts are read one after another, the last one repeatedly; null is a Rollout that does
	// not exist.
	Rollouts []json.RawMessage
	Pods     []json.RawMessage
	Analyses map[string]json.RawMessage // AnalysisRuns by name
	// Silent, if set, is the error of every read of the Rollout.
	Silent error

	// Aborted counts the calls of Abort, and WantAborted is how many there should be.
	Aborted, WantAborted int

	Lines []string // of progress
	Error string   // the final one, empty when the update succeeds
	// Takes is how long the wait lasts; zero is not checked.
	Takes time.Duration
}

// Next returns the Rollout of the next read.
func (c *Case) Next() json.RawMessage {
	r := c.Rollouts[0]
	if len(c.Rollouts) > 1 {
		c.Rollouts = c.Rollouts[1:]
	}
	return r
}

// Abort is what a reader calls to abort the Rollout.
func (c *Case) Abort() error {
	c.Aborted++
	return nil
}

// Run runs every case through a reader, which waits for the Rollout.
func Run(t *testing.T, wait func(ctx context.Context, c *Case, progress func(line string)) error) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var lines []string
				err := wait(t.Context(), &c, func(line string) { lines = append(lines, line) })
				if took := time.Since(began); c.Takes > 0 && took != c.Takes {
					t.Errorf("the wait took %s, want %s", took, c.Takes)
				}
				if !slices.Equal(lines, c.Lines) {
					t.Errorf("the progress is\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(c.Lines, "\n"))
				}
				if c.Aborted != c.WantAborted {
					t.Errorf("the Rollout was aborted %d times, want %d", c.Aborted, c.WantAborted)
				}
				switch {
				case c.Error == "" && err != nil:
					t.Errorf("the wait fails with: %v", err)
				case c.Error != "" && (err == nil || err.Error() != c.Error):
					t.Errorf("the wait ends with\n%v\nwant\n%s", err, c.Error)
				}
			})
		})
	}
}
