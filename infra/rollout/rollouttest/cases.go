// Package rollouttest is the table of cases for which every program that reads Rollouts prints
// the same sentences.
package rollouttest

import (
	"context"
	"encoding/json"
	"maps"
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
	// Stable is the ReplicaSet of the stable version, with the hash old; by default it has another
	// image.
	Stable json.RawMessage
	// Quarantine is the data of the ConfigMap, which the program changes, and Quarantined the
	// keys that it has in the end.
	Quarantine  map[string]string
	Quarantined []string
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

// ReplicaSets returns the answer to a list of the stable version's ReplicaSets.
func (c *Case) ReplicaSets() []json.RawMessage {
	if c.Stable == nil {
		return []json.RawMessage{template("localhost:5000/web@sha256:0", "web-0")}
	}
	return []json.RawMessage{c.Stable}
}

// Patch changes the quarantine as the API server does with a merge patch.
func (c *Case) Patch(data map[string]*string) error {
	if c.Quarantine == nil {
		c.Quarantine = map[string]string{}
	}
	for key, value := range data {
		delete(c.Quarantine, key)
		if value != nil {
			c.Quarantine[key] = *value
		}
	}
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
				if keys := slices.Sorted(maps.Keys(c.Quarantine)); !slices.Equal(keys, c.Quarantined) {
					t.Errorf("quarantined is %v, want %v", keys, c.Quarantined)
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
