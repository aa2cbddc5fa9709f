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
	// Others are states of the Rollout stock, one for each of Rollouts, the last one repeatedly; without
	// any it does not exist.
	Others   []json.RawMessage
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
	// Resumed and WantResumed are the same of Resume.
	Resumed, WantResumed int

	Lines []string // of progress
	Error string   // the final one, empty when the update succeeds
	// Takes is how long the wait lasts; zero is not checked.
	Takes time.Duration

	other json.RawMessage // of the last read
}

// Next returns the Rollout of the next read, and Other then the Rollout stock at the same time.
func (c *Case) Next() json.RawMessage {
	c.other = json.RawMessage("null")
	if len(c.Others) > 0 {
		c.other = next(&c.Others)
	}
	return next(&c.Rollouts)
}

// Other returns the Rollout stock.
func (c *Case) Other() json.RawMessage { return c.other }

func next(states *[]json.RawMessage) json.RawMessage {
	s := (*states)[0]
	if len(*states) > 1 {
		*states = (*states)[1:]
	}
	return s
}

// Abort is what a reader calls to abort the Rollout.
func (c *Case) Abort() error {
	c.Aborted++
	return nil
}

// Resume is what a reader calls to end the Rollout's pause.
func (c *Case) Resume() error {
	c.Resumed++
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
				if c.Resumed != c.WantResumed {
					t.Errorf("the Rollout was resumed %d times, want %d", c.Resumed, c.WantResumed)
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
