package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var then = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// cluster is one Rollout, its stable version, and the quarantine.
type cluster struct {
	Cluster
	rollouts   []*Rollout // read one after another, the last one repeatedly
	stable     []ReplicaSet
	quarantine map[string]string
	jaeger     func(path string) string
}

func (c *cluster) Rollout(context.Context, string, string) (*Rollout, error) {
	r := c.rollouts[0]
	c.rollouts = c.rollouts[min(1, len(c.rollouts)-1):]
	return r, nil
}

func (c *cluster) Pods(context.Context, string, string) ([]Pod, error) { return nil, nil }

func (c *cluster) ReplicaSets(context.Context, string, string) ([]ReplicaSet, error) {
	return c.stable, nil
}

func (c *cluster) ConfigMap(context.Context, string, string) (map[string]string, error) {
	return c.quarantine, nil
}

func (c *cluster) PatchConfigMap(_ context.Context, _, _ string, data map[string]*string) error {
	c.quarantine = Quarantine(c.quarantine).patched(data)
	return nil
}

func (q Quarantine) patched(data map[string]*string) Quarantine {
	after := Quarantine{}
	for key, value := range q {
		after[key] = value
	}
	for key, value := range data {
		delete(after, key)
		if value != nil {
			after[key] = *value
		}
	}
	return after
}

func template(image, settings string) (t Template) {
	raw := fmt.Sprintf(`{"spec":{"containers":[{"image":%q,"envFrom":[{"configMapRef":{"name":%q}}]}]}}`, image, settings)
	if err := json.Unmarshal([]byte(raw), &t); err != nil {
		panic(err)
	}
	return t
}

// aborted is an aborted Rollout, and the stable version that it was to replace.
func aborted(generation int64) *Rollout {
	r := &Rollout{}
	r.Metadata.Generation, r.Status.ObservedGeneration = generation, fmt.Sprint(generation)
	r.Spec.Template = template("registry/web@sha256:new", "web-1")
	r.Status.Abort, r.Status.AbortedAt, r.Status.StableRS, r.Status.Message = true, &then, "old", "too bad"
	return r
}

func stableVersion() []ReplicaSet {
	set := ReplicaSet{}
	set.Spec.Template = template("registry/web@sha256:old", "web-1")
	return []ReplicaSet{set}
}

func keys(q map[string]string) string {
	var all []string
	for key := range q {
		all = append(all, key)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func value(t *testing.T, e Entry) string {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestWhatIsQuarantined(t *testing.T) {
	for name, test := range map[string]struct {
		image, settings string // of the aborted version
		stable          *Template
		want            string
	}{
		"another image":              {"r/web@sha256:b", "web-1", new(template("r/web@sha256:a", "web-1")), "sha256:b"},
		"another image and settings": {"r/web@sha256:b", "web-2", new(template("r/web@sha256:a", "web-1")), "sha256:b"},
		"settings of a good image":   {"r/web@sha256:a", "web-2", new(template("r/web@sha256:a", "web-1")), "web-2"},
		"another registry":           {"s/web@sha256:a", "web-2", new(template("r/web@sha256:a", "web-1")), "web-2"},
		"neither":                    {"r/web@sha256:a", "web-1", new(template("r/web@sha256:a", "web-1")), ""},
		"a first version":            {"r/web@sha256:a", "web-1", nil, "sha256:a"},
		"a tag":                      {"r/web:latest", "web-1", new(template("r/web@sha256:a", "web-1")), ""},
	} {
		r := &Rollout{}
		r.Spec.Template = template(test.image, test.settings)
		if got := r.suspect(test.stable); got != test.want {
			t.Errorf("%s: quarantined is %q, want %q", name, got, test.want)
		}
	}
}

func TestAnAbortThatNobodyWatchedIsRecorded(t *testing.T) {
	healthy := aborted(7)
	healthy.Status.Abort = false
	unseen := aborted(8)
	unseen.Status.ObservedGeneration = "7"
	for name, test := range map[string]struct {
		rollouts []*Rollout
		want     string
	}{
		"aborted":                        {[]*Rollout{aborted(7)}, "web.new"},
		"aborted for a moment":           {[]*Rollout{aborted(7), healthy}, ""},
		"aborted, and changed since":     {[]*Rollout{aborted(7), unseen}, ""},
		"not aborted":                    {[]*Rollout{healthy}, ""},
		"not seen by its controller yet": {[]*Rollout{unseen}, ""},
		"not there":                      {[]*Rollout{nil}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &cluster{rollouts: test.rollouts, stable: stableVersion()}
			w := Watch{Cluster: c, Namespace: "shop", Name: "web", By: "me"}
			if err := w.RecordAbort(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := keys(c.quarantine); got != test.want {
				t.Errorf("%s: quarantined is %q, want %q", name, got, test.want)
			}
			want := value(t, Entry{What: "sha256:new", Reason: "too bad", At: then, By: "me"})
			if test.want != "" && c.quarantine[test.want] != want {
				t.Errorf("%s: the entry is\n%s\nwant\n%s", name, c.quarantine[test.want], want)
			}
		})
	}
}

func TestAPersonsReasonReplacesTheWatchersOne(t *testing.T) {
	c := &cluster{rollouts: []*Rollout{aborted(7)}, stable: stableVersion(), quarantine: map[string]string{
		"web.new": value(t, Entry{What: "sha256:new", Reason: "too bad", At: then, By: "the watcher"}),
	}}
	w := Watch{Cluster: c, Namespace: "shop", Name: "web", By: "me", Why: "prices are wrong"}
	if _, err := w.record(t.Context(), aborted(7), "too bad"); err != nil {
		t.Fatal(err)
	}
	if e := entry("", c.quarantine["web.new"]); e.Reason != "prices are wrong (too bad)" || e.By != "me" {
		t.Errorf("the entry is %+v", e)
	}
}

func TestRefusal(t *testing.T) {
	q := Quarantine{
		"web.0123456789abcdef": value(t, Entry{What: "sha256:0123456789abcdef", Reason: "errors: 9 of 9", Trace: "4bf9", At: then, By: "me"}),
		"web.web-1":            "not JSON",
		"api.feed":             value(t, Entry{What: "sha256:feed", At: then}),
		"web.feed.released-x":  value(t, Entry{What: "sha256:feed", At: then, Released: &Release{}}),
	}
	blocked := q.Blocked("web", "r/web@sha256:0123456789abcdef", "web-1")
	if len(blocked) != 2 || blocked[1].What != "web-1" || blocked[1].Reason != "not JSON" {
		t.Fatalf("blocked are %+v", blocked)
	}
	want := "quarantined and not shipped again: image sha256:0123456789abcdef, since 2026-01-02T03:04:05Z, recorded by me: errors: 9 of 9 " +
		"(trace 4bf9). Deploy another version, or release it: make release SERVICE=web WHAT=0123456789ab REASON=..."
	if got := (&QuarantinedError{"web", blocked[0]}).Error(); got != want {
		t.Errorf("the refusal is\n%s\nwant\n%s", got, want)
	}
	for _, image := range []string{"r/web@sha256:feed", "r/web@sha256:0123456789", "r/web:latest", ""} {
		if blocked := q.Blocked("web", image, ""); len(blocked) > 0 {
			t.Errorf("image %q is blocked by %+v", image, blocked)
		}
	}
}

func TestLift(t *testing.T) {
	decision := Release{Reason: "the registry was down", By: "me", At: then.Add(time.Hour)}
	two := func() map[string]string {
		return map[string]string{
			"web.new":   value(t, Entry{What: "sha256:new", Reason: "one", At: then}),
			"web.other": value(t, Entry{What: "sha256:other", Reason: "two", At: then.Add(time.Minute)}),
			"api.x":     value(t, Entry{What: "sha256:x", At: then}),
		}
	}
	healthy := aborted(7)
	healthy.Status.Abort = false
	for name, test := range map[string]struct {
		rollout    *Rollout
		quarantine map[string]string
		service    string
		what       string
		want       string // the keys afterwards, or the error
	}{
		"the only one":             {healthy, two(), "api", "", "api.x.released-20260102T040405Z web.new web.other"},
		"what the Rollout has":     {aborted(7), two(), "web", "", "api.x web.new.released-20260102T040405Z web.other"},
		"one of two":               {healthy, two(), "web", "oth", "api.x web.new web.other.released-20260102T040405Z"},
		"by its digest":            {healthy, two(), "web", "sha256:oth", "api.x web.new web.other.released-20260102T040405Z"},
		"which of two":             {healthy, two(), "web", "", "2 versions of web are quarantined: name one with WHAT\n  WHAT=new: image sha256:new"},
		"a misspelt one":           {aborted(7), two(), "web", "zzz", `nothing of web that begins with "zzz" is quarantined`},
		"nothing":                  {healthy, nil, "web", "", "nothing of web is quarantined"},
		"an abort released before": {aborted(7), nil, "web", "", ""},
	} {
		c := &cluster{rollouts: []*Rollout{test.rollout}, quarantine: test.quarantine}
		e, err := Lift(t.Context(), c, "shop", test.service, test.what, decision)
		got := keys(c.quarantine)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, test.want) || (test.want == "" && got != "") {
			t.Errorf("%s: lifting ends with\n%s\nwant\n%s", name, got, test.want)
		}
		if e != nil && *e.Released != decision {
			t.Errorf("%s: the release is %+v", name, e.Released)
		}
	}
}

// TestAReleaseHoldsUntilTheNextAbort: the Rollout stays aborted until its canary starts again.
func TestAReleaseHoldsUntilTheNextAbort(t *testing.T) {
	c := &cluster{rollouts: []*Rollout{aborted(7)}, stable: stableVersion()}
	w := Watch{Cluster: c, Namespace: "shop", Name: "web", By: "me"}
	record := func(r *Rollout) {
		t.Helper()
		if _, err := w.record(t.Context(), r, "too bad"); err != nil {
			t.Fatal(err)
		}
	}
	record(aborted(7))
	if _, err := Lift(t.Context(), c, "shop", "web", "", Release{Reason: "a try", By: "me", At: then.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	record(aborted(7))
	if got := keys(c.quarantine); got != "web.new.released-20260102T040405Z" {
		t.Errorf("after the release the same abort leaves %s", got)
	}
	again := aborted(8)
	again.Status.AbortedAt = new(then.Add(2 * time.Hour))
	record(again)
	if got := keys(c.quarantine); got != "web.new web.new.released-20260102T040405Z" {
		t.Errorf("the next abort leaves %s", got)
	}
}

func TestTheQuarantineIsBounded(t *testing.T) {
	put := func(q Quarantine, service, what string, at int, released bool) Quarantine {
		t.Helper()
		e := Entry{What: "sha256:" + what, Reason: strings.Repeat("é", maxReason), At: then.Add(time.Duration(at) * time.Minute)}
		key := quarantineKey(service, e.What)
		if released {
			e.Released, key = &Release{}, key+".released-x"
		}
		c, err := q.put(service, key, e)
		if err != nil {
			t.Fatal(err)
		}
		return q.patched(c)
	}
	q := Quarantine{}
	q = put(q, "web", "oldest", 0, false)
	for i := 1; i <= maxEntries-2; i++ {
		q = put(q, "web", fmt.Sprint("blocked", i), i, false)
	}
	q = put(q, "api", "released", 0, true)
	q = put(q, "web", "released", maxEntries, true)
	q = put(q, "web", "new", maxEntries+1, false)
	if _, there := q["web.released.released-x"]; there || q["web.oldest"] == "" || q["web.new"] == "" || q["api.released.released-x"] == "" {
		t.Errorf("a released entry of the service goes first: %s", keys(q))
	}
	q = put(q, "web", "newer", maxEntries+2, false)
	if q["web.oldest"] != "" || q["web.newer"] == "" || len(q.Entries("web")) != maxEntries {
		t.Errorf("then its oldest entry goes: %s", keys(q))
	}
	for i := range 40 * maxEntries {
		e := Entry{What: "sha256:x", Reason: strings.Repeat("é", maxReason/2), At: then.Add(time.Duration(i) * time.Minute)}
		q[fmt.Sprintf("service%d.x", i)] = value(t, e)
	}
	q = put(q, "web", "newest", 40*maxEntries, false)
	size := 0
	for key, value := range q {
		size += len(key) + len(value)
	}
	if size > maxBytes || q["web.newest"] == "" || q["service1999.x"] == "" || q["service0.x"] != "" {
		t.Errorf("the quarantine has %d bytes, more than %d, or the wrong entries", size, maxBytes)
	}
}

func TestActor(t *testing.T) {
	env := map[string]string{"GITHUB_ACTOR": "ana", "GITHUB_RUN_ID": "7", "USER": "bia"}
	getenv := func(name string) string { return env[name] }
	if got := Actor(getenv); got != "ana (GitHub, run 7)" {
		t.Errorf("in a workflow the actor is %s", got)
	}
	delete(env, "GITHUB_ACTOR")
	if got := Actor(getenv); !strings.HasPrefix(got, "bia@") {
		t.Errorf("on a machine the actor is %s", got)
	}
}

func (c *cluster) Raw(_ context.Context, path string) ([]byte, error) {
	if c.jaeger == nil {
		return nil, errors.New("no Jaeger")
	}
	return []byte(c.jaeger(path)), nil
}

// TestTheTraceOfAFailedRequest: it is asked for by service and version, and its absence
// changes nothing.
func TestTheTraceOfAFailedRequest(t *testing.T) {
	const proxy = "/api/v1/namespaces/tracing/services/jaeger:16686/proxy"
	for name, test := range map[string]struct {
		answer, want string
	}{
		"one":      {`{"data":[{"traceID":"f00d","spans":[{"spanID":"1"}]}]}`, "f00d"},
		"none":     {`{"data":[]}`, ""},
		"nonsense": {`<html>`, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := ""
			c := &cluster{rollouts: []*Rollout{aborted(7)}, stable: stableVersion(), jaeger: func(path string) string {
				asked = path
				return test.answer
			}}
			w := Watch{Cluster: c, Namespace: "shop", Name: "web", Jaeger: ServiceProxy("tracing", "jaeger", 16686)}
			if err := w.RecordAbort(t.Context()); err != nil {
				t.Fatal(err)
			}
			entries := Quarantine(c.quarantine).Entries("web")
			if len(entries) != 1 || entries[0].Trace != test.want {
				t.Errorf("%s: the entries are %+v", name, entries)
			}
			address, err := url.Parse(asked)
			if err != nil || address.Path != proxy+"/api/traces" || address.Query().Get("service") != "web" ||
				address.Query().Get("tags") != `{"error":"true","service.version":"new"}` {
				t.Errorf("%s: Jaeger is asked %s (%v)", name, asked, err)
			}
		})
	}
}
