//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/load"
)

// A state is what the cluster says of a canary.
type state struct {
	rollout rollout.Rollout
	weight  int // of the canary at the gateway, in percent
}

// stateOf reads the Rollout and the gateway's weights in one request.
func stateOf(service string) (s state, err error) {
	out, err := kubectl("-n", "shop", "get", "rollout/"+service, "traefikservice/"+service, "-o", "json")
	if err != nil {
		return s, err
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(out, &list); err != nil || len(list.Items) != 2 {
		return s, fmt.Errorf("%d objects (%w)", len(list.Items), err)
	}
	var routes struct {
		Spec struct {
			Weighted struct {
				Services []struct {
					Name   string
					Weight int
				}
			}
		}
	}
	err = errors.Join(json.Unmarshal(list.Items[0], &s.rollout), json.Unmarshal(list.Items[1], &routes))
	for _, version := range routes.Spec.Weighted.Services {
		if version.Name == service+"-canary" {
			s.weight = version.Weight
		}
	}
	return s, err
}

// sent counts the requests of a load.
type sent struct {
	failed, total int
	errors        string      // how they failed
	at            []time.Time // when each was sent; not recorded by buy
	first, last   time.Time   // when the first and the last one were sent that failed; not recorded by buy
}

// look returns a load that reads an article, until its context ends and at least so many
// requests were sent.
func look(perSecond, least int) func(context.Context) sent {
	return func(ctx context.Context) (s sent) {
		enough, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		r := load.Run(enough, load.Target{
			URL: url + "/api/estoque/SHOE-VENTO", PerSecond: perSecond, Max: 15 * 60 * perSecond,
			Observe: func(at time.Time, version string) {
				if version == "" {
					s.fail(at)
				}
				if s.at = append(s.at, at); ctx.Err() != nil && len(s.at) >= least {
					stop()
				}
			},
		})
		s.failed, s.total, s.errors = r.Failed, r.Requests, strings.Join(r.Errors, "; ")
		return s
	}
}

// fail records when a request was sent that failed.
func (s *sent) fail(at time.Time) {
	if s.first.IsZero() || at.Before(s.first) {
		s.first = at
	}
	if at.After(s.last) {
		s.last = at
	}
}

// buy places five orders a second.
func buy(ctx context.Context) sent {
	r := load.Shoppers{URL: url, PerSecond: 5, Max: 15 * 60 * 5, Order: load.TestOrder}.Run(ctx)
	return sent{failed: r.Failed, total: r.Requests, errors: r.Error}
}

// none sends nothing.
func none(context.Context) sent { return sent{} }

// begin starts a load, which ends with stop or with the test. stop returns what it counted.
func begin[T any](t *testing.T, send func(context.Context) T) (stop func() T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan T, 1)
	go func() { done <- send(ctx) }()
	return func() T {
		cancel()
		return <-done
	}
}

// A drill follows one canary of the judged service under load.
type drill struct {
	t       *testing.T
	deploy  *run
	stop    func() sent // ends the load
	began   time.Time   // when the controller began the update
	weights []weight    // since the canary's first traffic, each change
	gaveUp  bool        // deploy has ended before the canary
}

// A weight is the canary's share of the traffic since a moment.
type weight struct {
	since   time.Time
	percent int
}

// shipNew is ship with an image that was never shipped: what the pods of a version answered
// counts for a day, also when it is shipped again.
func shipNew(t *testing.T, fault string, send func(context.Context) sent) *drill {
	t.Helper()
	change(t, judged)
	return ship(t, fault, send)
}

// ship starts a load, and make deploy of the working tree with a fault or, without one, as it is.
func ship(t *testing.T, fault string, send func(context.Context) sent) *drill {
	t.Helper()
	d := &drill{t: t, stop: begin(t, send)}
	forget(t)
	// make would end with 2 for every failure.
	d.deploy = start(t, "env", "SERVICE="+judged, "FAULT="+fault, "LOAD=off", ".local/loja", "deploy")
	return d
}

// observe reads the state of the canary and records each change of its weight. It fails
// until the update has begun: before, the state is that of the update before.
func (d *drill) observe() (state, error) {
	now, err := stateOf(judged)
	if err != nil {
		return now, err
	}
	if d.began.IsZero() {
		if out := d.deploy.out.String(); strings.Contains(out, "\nerror: ") {
			d.t.Fatalf("make deploy has failed before the update began:\n%s", out)
		}
		if !now.rollout.Observed() || !now.rollout.UnderWay() {
			return now, fmt.Errorf("the update has not begun: %s\n%s", now.rollout.Line(), d.deploy.out.String())
		}
		d.began = time.Now()
	}
	d.weigh(now.weight)
	return now, nil
}

// weigh records a change of the canary's weight. A weight of 100 is what a promotion leaves for
// a moment.
func (d *drill) weigh(percent int) {
	n := len(d.weights)
	if n == 0 && percent > 0 && percent < 100 || n > 0 && d.weights[n-1].percent != percent {
		d.weights = append(d.weights, weight{time.Now(), percent})
	}
}

// started returns when the canary had its first traffic or, if it never had any, when its
// update began.
func (d *drill) started() time.Time {
	if len(d.weights) > 0 {
		return d.weights[0].since
	}
	return d.began
}

// until observes the canary until wanted reports true.
func (d *drill) until(limit time.Duration, what string, wanted func(state) bool) {
	d.t.Helper()
	eventually(d.t, limit, what, func() error {
		now, err := d.observe()
		if err == nil && !wanted(now) {
			err = fmt.Errorf("%s\n%s", now.rollout.Line(), d.deploy.out.String())
		}
		return err
	})
}

// untilTraffic waits for the canary's first traffic.
func (d *drill) untilTraffic() {
	d.t.Helper()
	d.until(3*time.Minute, "the canary has traffic", func(state) bool { return len(d.weights) > 0 })
}

// aborted waits until the canary is aborted and stable has all traffic. Then it ends the load,
// and checks that make deploy reports the abort.
func (d *drill) aborted(limit time.Duration) score {
	d.t.Helper()
	var verdict time.Time
	d.until(limit, "the canary is taken back", func(now state) bool {
		if verdict.IsZero() && now.rollout.Status.Abort {
			verdict = time.Now()
		}
		return !verdict.IsZero() && now.weight == 0
	})
	s := score{outcome: "aborted", verdict: verdict.Sub(d.started()), back: time.Since(verdict)}
	s.reason = d.deploy.wait(d.t, time.Minute, false)
	s.sent = d.stop()
	if !strings.Contains(s.reason, "was aborted") {
		d.t.Errorf("make deploy does not say that the update was aborted:\n%s", s.reason)
	}
	s.share = d.share(s.sent)
	return s
}

// promoted waits until the canary is stable and make deploy says so, and ends the load.
func (d *drill) promoted(limit time.Duration) score {
	d.t.Helper()
	d.until(limit, "the canary is promoted", func(now state) bool {
		if now.rollout.Status.Abort {
			d.t.Fatalf("the good version was aborted: %s\n%s", now.rollout.Line(), d.deploy.out.String())
		}
		return now.rollout.Status.Phase == "Healthy" && now.rollout.Observed()
	})
	s := score{outcome: "promoted", verdict: time.Since(d.started())}
	if !d.gaveUp {
		d.deploy.wait(d.t, time.Minute, true)
	}
	s.sent = d.stop()
	s.share = d.share(s.sent)
	return s
}

// share returns how many of the requests were for the canary, by its weights.
func (d *drill) share(requests sent) (n float64) {
	for _, at := range requests.at {
		percent := 0
		for _, w := range d.weights {
			if !w.since.After(at) {
				percent = w.percent
			}
		}
		n += float64(percent) / 100
	}
	return n
}

// forget empties the quarantine: a drill ships again what an earlier one has shipped.
func forget(t *testing.T) {
	t.Helper()
	must(t, "-n", "shop", "patch", "configmap", "quarantine", "--type=merge", "-p", `{"data":null}`)
}
