package rollout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// QuarantineName is the name of the ConfigMap, in the services' namespace, with what was aborted
// there. Its keys are SERVICE.DIGEST for an image and SERVICE.NAME for settings; a released entry
// has a third part. The API server's policy (infra/workload) looks the first two up.
const QuarantineName = "quarantine"

const (
	// maxEntries is how many entries a service has at most, blocked and released.
	maxEntries = 50
	// maxBytes bounds all of them together. A ConfigMap has at most 1 MiB.
	maxBytes = 900 << 10
	// maxReason bounds each reason, in bytes.
	maxReason = 1000
)

// An Entry says why something is not shipped again.
type Entry struct {
	// What is the digest of an image, sha256:..., or the name of a ConfigMap with settings.
	What string `json:"what"`
	// Reason is the sentence of the judge: metric, value and limit, or the pods that failed.
	Reason string `json:"reason"`
	// Trace is the id of the trace of a failing request; empty if none is known.
	Trace string `json:"trace"`
	// At is when the controller aborted the update, and By who recorded it.
	At time.Time `json:"at"`
	By string    `json:"by"`
	// Released is nil as long as nothing ships it.
	Released *Release `json:"released,omitempty"`
}

// A Release is a person's decision to ship something again.
type Release struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// A Quarantine is the data of the ConfigMap.
type Quarantine map[string]string

// short is as much of What as a person needs to type.
func (e Entry) short() string {
	digest, isImage := strings.CutPrefix(e.What, digestPrefix)
	if isImage {
		return digest[:min(12, len(digest))]
	}
	return e.What
}

// noun names what is quarantined.
func (e Entry) noun() string {
	if strings.HasPrefix(e.What, digestPrefix) {
		return "image " + e.What
	}
	return "settings " + e.What
}

// String says what an entry is about, since when and why, in one line.
func (e Entry) String() string {
	s := fmt.Sprintf("%s, since %s, recorded by %s: %s", e.noun(), e.At.UTC().Format(time.RFC3339), e.By, e.Reason)
	if e.Trace != "" {
		s += " (trace " + e.Trace + ")"
	}
	return s
}

// releaseCommand is how a person lifts the block.
func (e Entry) releaseCommand(service string) string {
	return fmt.Sprintf("make release SERVICE=%s WHAT=%s REASON=...", service, e.short())
}

// A QuarantinedError refuses to ship what was aborted before.
type QuarantinedError struct {
	Service string
	Entry   Entry
}

func (e *QuarantinedError) Error() string {
	return fmt.Sprintf("quarantined and not shipped again: %s. Deploy another version, or release it: %s", e.Entry,
		e.Entry.releaseCommand(e.Service))
}

const digestPrefix = "sha256:"

// digestOf returns the digest of an image reference, or nothing for a reference without one.
func digestOf(image string) string {
	_, digest, _ := strings.Cut(image, "@")
	return digest
}

func quarantineKey(service, what string) string {
	return service + "." + strings.TrimPrefix(what, digestPrefix)
}

// Blocked returns the entries that forbid a service's image and settings.
func (q Quarantine) Blocked(service, image, settings string) []Entry {
	var blocked []Entry
	for _, what := range []string{digestOf(image), settings} {
		if text, there := q[quarantineKey(service, what)]; there && what != "" {
			blocked = append(blocked, entry(what, text))
		}
	}
	return blocked
}

// Entries returns everything that is blocked for a service, oldest first.
func (q Quarantine) Entries(service string) []Entry {
	var blocked []Entry
	for _, kept := range q.kept() {
		if kept.service == service && kept.Released == nil {
			blocked = append(blocked, kept.Entry)
		}
	}
	return blocked
}

// entry decodes a value. What a person has written by hand blocks as well, with its text as the
// reason.
func entry(what, text string) Entry {
	var e Entry
	if json.Unmarshal([]byte(text), &e) != nil || e.What == "" {
		e = Entry{What: what, Reason: text}
	}
	return e
}

// releasedAfter tells whether a person has released what was aborted at that time.
func (q Quarantine) releasedAfter(service, what string, at time.Time) bool {
	for key, text := range q {
		if strings.HasPrefix(key, quarantineKey(service, what)+".") && !at.After(entry(what, text).At) {
			return true
		}
	}
	return false
}

// A keptEntry is an entry with its place.
type keptEntry struct {
	Entry
	key, service string
}

// kept returns all entries: released ones before blocked ones, and older ones first.
func (q Quarantine) kept() []keptEntry {
	var all []keptEntry
	for _, key := range slices.Sorted(maps.Keys(q)) {
		parts := strings.Split(key, ".")
		if len(parts) < 2 {
			continue // written by somebody else
		}
		e := keptEntry{entry(parts[1], q[key]), key, parts[0]}
		if len(parts) == 2 {
			e.Released = nil
		} else if e.Released == nil {
			e.Released = &Release{}
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b keptEntry) int {
		if a, b := a.Released == nil, b.Released == nil; a != b {
			if b {
				return -1
			}
			return 1
		}
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.key, b.key))
	})
	return all
}

// A change is a merge patch of the data: nil removes a key.
type change map[string]*string

// put returns the change that writes an entry, and drops the oldest ones beyond the limits.
func (q Quarantine) put(service, key string, e Entry) (change, error) {
	e.Reason = shorten(e.Reason)
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding the entry of %s: %w", e.What, err)
	}
	text, after, c := string(raw), maps.Clone(q), change{}
	if after == nil {
		after = Quarantine{}
	}
	c[key], after[key] = &text, text
	if e.Released != nil {
		c[quarantineKey(service, e.What)] = nil
		delete(after, quarantineKey(service, e.What))
	}
	of, size := 0, 0
	for k, v := range after {
		size += len(k) + len(v)
		if strings.HasPrefix(k, service+".") {
			of++
		}
	}
	for _, old := range after.kept() {
		own := old.service == service
		if old.key == key || (size <= maxBytes && (of <= maxEntries || !own)) {
			continue
		}
		c[old.key] = nil
		size -= len(old.key) + len(after[old.key])
		if own {
			of--
		}
	}
	return c, nil
}

// cut ends a reason that was longer.
const cut = " ..."

func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "") + cut
}

// suspect returns what an aborted Rollout changed: its image, or, if the stable version has the
// same one, its settings. So settings that fail never block the image that is stable. It is empty
// if neither differs, and for an image without a digest.
func (r *Rollout) suspect(stable *Template) string {
	template := r.Spec.Template
	digest := digestOf(template.image())
	switch {
	case stable == nil || digest != digestOf(stable.image()):
		return digest
	case template.settings() != stable.settings():
		return template.settings()
	}
	return ""
}

// Has tells whether a Rollout has the image or the settings of an entry.
func (r *Rollout) Has(e Entry) bool {
	return e.What == digestOf(r.Image()) || e.What == r.Spec.Template.settings()
}

// stable reads the template of the stable version; it is nil if there is no stable version.
func stable(ctx context.Context, c Cluster, r *Rollout, namespace, name string) (*Template, error) {
	if r.Status.StableRS == "" {
		return nil, nil
	}
	sets, err := c.ReplicaSets(ctx, namespace, "app.kubernetes.io/name="+name+",rollouts-pod-template-hash="+r.Status.StableRS)
	if err != nil {
		return nil, err
	}
	if len(sets) != 1 {
		return nil, fmt.Errorf("the stable version has %d ReplicaSets with the hash %s", len(sets), r.Status.StableRS)
	}
	return &sets[0].Spec.Template, nil
}

// record puts what an aborted Rollout changed under quarantine. A person's reason replaces the
// one that is there. It returns nil if there is nothing to quarantine, or if a person has released
// it since the abort.
func (w *Watch) record(ctx context.Context, r *Rollout, reasons string) (*Entry, error) {
	before, err := stable(ctx, w.Cluster, r, w.Namespace, w.Name)
	if err != nil {
		return nil, err
	}
	what := r.suspect(before)
	if what == "" {
		return nil, nil
	}
	data, err := w.Cluster.ConfigMap(ctx, w.Namespace, QuarantineName)
	if err != nil {
		return nil, err
	}
	quarantine, key := Quarantine(data), quarantineKey(w.Name, what)
	if text, there := quarantine[key]; there && w.Why == "" {
		known := entry(what, text)
		return &known, nil
	}
	at := time.Now().UTC().Truncate(time.Second)
	if r.Status.AbortedAt != nil {
		at = *r.Status.AbortedAt
	}
	if quarantine.releasedAfter(w.Name, what, at) {
		return nil, nil
	}
	if w.Why != "" {
		reasons = w.Why + " (" + reasons + ")"
	}
	e := Entry{What: what, Reason: reasons, Trace: w.failedTrace(ctx, r), At: at, By: w.By}
	c, err := quarantine.put(w.Name, key, e)
	if err != nil {
		return nil, err
	}
	return &e, w.Cluster.PatchConfigMap(ctx, w.Namespace, QuarantineName, c)
}

// RecordAbort quarantines an abort that nobody watched. It does nothing for a Rollout that is not
// there, not aborted, or recorded already.
func (w *Watch) RecordAbort(ctx context.Context) error {
	for last := (*Rollout)(nil); ; {
		r, err := w.Cluster.Rollout(ctx, w.Namespace, w.Name)
		if err != nil || r == nil || !r.Observed() || !r.Status.Abort {
			return err
		}
		if last != nil && last.Metadata.Generation == r.Metadata.Generation {
			_, err := w.record(ctx, r, w.reasons(ctx, r))
			return err
		}
		last = r
		data, err := w.Cluster.ConfigMap(ctx, w.Namespace, QuarantineName)
		if err != nil || len(Quarantine(data).Blocked(w.Name, r.Image(), r.Spec.Template.settings())) > 0 {
			return err
		}
		select { // for a moment, the status has the abort of the last update
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settle):
		}
	}
}

// quarantine records an abort. It returns the reasons, with those that somebody else has recorded
// before and that are not among them, and what a person can do.
func (w *Watch) quarantine(ctx context.Context, r *Rollout, reasons string) (all, advice string) {
	e, err := w.record(ctx, r, reasons)
	switch {
	case err != nil:
		return reasons, fmt.Sprintf("It could not be quarantined: %v. Deploy another version", err)
	case e == nil:
		return reasons, fmt.Sprintf("Deploy another version, or start the canary again: make release SERVICE=%s REASON=...", w.Name)
	}
	switch recorded := strings.TrimSuffix(e.Reason, cut); {
	case strings.Contains(reasons, recorded):
		all = reasons
	case strings.Contains(recorded, reasons):
		all = e.Reason
	default:
		all = reasons + "; " + e.Reason
	}
	request := ""
	if e.Trace != "" {
		request = fmt.Sprintf("A request that failed has the trace %s. ", e.Trace)
	}
	return all, fmt.Sprintf("%sNot shipped again: %s. Deploy another version, or release it: %s", request, e.noun(), e.releaseCommand(w.Name))
}

// Lift lifts the block of what begins with what, which may be empty if there is only one,
// or if the service's Rollout has just been aborted with it. It returns nil if nothing is blocked
// and the Rollout is aborted: then only its canary has to start again.
func Lift(ctx context.Context, c Cluster, namespace, service, what string, release Release) (*Entry, error) {
	data, err := c.ConfigMap(ctx, namespace, QuarantineName)
	if err != nil {
		return nil, err
	}
	r, err := c.Rollout(ctx, namespace, service)
	if err != nil {
		return nil, err
	}
	quarantine, aborted := Quarantine(data), r != nil && r.Status.Abort
	var now []Entry // what the aborted Rollout has
	if aborted {
		now = quarantine.Blocked(service, r.Image(), r.Spec.Template.settings())
	}
	e, err := choose(quarantine.Entries(service), now, service, what, aborted)
	if err != nil || e == nil {
		return nil, err
	}
	e.Released = &release
	key := quarantineKey(service, e.What) + ".released-" + release.At.UTC().Format("20060102T150405Z")
	change, err := quarantine.put(service, key, *e)
	if err != nil {
		return nil, err
	}
	return e, c.PatchConfigMap(ctx, namespace, QuarantineName, change)
}

func choose(all, now []Entry, service, what string, aborted bool) (*Entry, error) {
	var found []Entry
	for _, e := range all {
		if strings.HasPrefix(e.What, what) || strings.HasPrefix(strings.TrimPrefix(e.What, digestPrefix), what) {
			found = append(found, e)
		}
	}
	if what == "" && len(now) == 1 {
		found = now
	}
	switch {
	case len(found) == 1:
		return &found[0], nil
	case len(found) > 1:
		lines := []error{fmt.Errorf("%d versions of %s are quarantined: name one with WHAT", len(found), service)}
		for _, e := range found {
			lines = append(lines, errors.New("  WHAT="+e.short()+": "+e.String()))
		}
		return nil, errors.Join(lines...)
	case what != "":
		return nil, fmt.Errorf("nothing of %s that begins with %q is quarantined", service, what)
	case !aborted:
		return nil, fmt.Errorf("nothing of %s is quarantined", service)
	}
	return nil, nil
}

// Actor says who runs this program: the actor of a GitHub workflow, or user@host.
func Actor(getenv func(string) string) string {
	if actor := getenv("GITHUB_ACTOR"); actor != "" {
		return fmt.Sprintf("%s (GitHub, run %s)", actor, getenv("GITHUB_RUN_ID"))
	}
	user := cmp.Or(getenv("SUDO_USER"), getenv("USER"), getenv("LOGNAME"), fmt.Sprintf("uid %d", os.Getuid()))
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	return user + "@" + host
}
