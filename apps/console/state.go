package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/infra/rollout"
)

// state is how a service's Rollout is, in words.
type state struct {
	// Word is one of stable, canary, starting, aborted, degraded and missing.
	Word string
	// Sentence says the rest: rollout's line, and what the update waits for or why it failed.
	Sentence string
	// Weight is the canary's share of the traffic, in percent.
	Weight int
	// Step counts from 1; 0 if there are no steps.
	Step, Steps    int
	Stable, Canary podCount
}

// podCount counts the pods of a version.
type podCount struct{ Ready, All int }

const (
	stable   = "stable"
	canary   = "canary"
	starting = "starting"
	aborted  = "aborted"
	degraded = "degraded"
	missing  = "missing"
)

// judged says whether a canary is being judged.
func (s state) judged() bool { return s.Word == canary }

func stateOf(s sources.Service) state {
	r := s.Rollout
	if r == nil {
		return state{Word: missing, Sentence: "there is no Rollout of this name: make deploy creates it"}
	}
	v := state{Word: word(r), Sentence: r.Line(), Weight: r.Weight()}
	v.Step, v.Steps = r.Step()
	for _, pod := range s.Pods {
		count := &v.Canary
		switch pod.Metadata.Hash() {
		case r.Status.StableRS:
			count = &v.Stable
		case r.Status.CurrentPodHash:
		default:
			continue // of an earlier version, which ends
		}
		count.All++
		if pod.Ready() {
			count.Ready++
		}
	}
	if reasons := reasons(s, v.Word); len(reasons) > 0 {
		v.Sentence += ": " + strings.Join(reasons, "; ")
	}
	return v
}

func word(r *rollout.Rollout) string {
	switch {
	case r.Status.Abort:
		return aborted
	case r.Status.Phase == "Degraded":
		return degraded
	case !r.UnderWay():
		return stable
	case r.Status.StableRS == "":
		return starting
	}
	return canary
}

// reasons are what the update waits for, or why it failed.
func reasons(s sources.Service, word string) []string {
	var all []string
	running := s.Rollout.Status.Canary
	for _, status := range []*rollout.AnalysisRunStatus{running.CurrentBackgroundAnalysisRunStatus, running.CurrentStepAnalysisRunStatus} {
		if status == nil {
			continue
		}
		for i := range s.Runs {
			switch run := &s.Runs[i]; {
			case run.Metadata.Name != status.Name:
			case word == canary:
				refused, waits := run.Waiting()
				if refused != "" {
					waits = []string{"the metrics backend refuses the query of " + refused}
				}
				all = append(all, waits...)
			default:
				all = append(all, run.Reasons()...)
			}
		}
	}
	if word != stable {
		var pods []rollout.Pod
		for _, pod := range s.Pods {
			if pod.Metadata.Hash() == s.Rollout.Status.CurrentPodHash {
				pods = append(pods, pod.Pod)
			}
		}
		all = append(all, rollout.FailingPods(pods)...)
	}
	return all
}

// A release is one version of a service that the cluster still knows.
type release struct {
	Revision       int
	Version, Image string
	Began          time.Time
	Word, Why      string
}

// releases returns the versions of a service, the newest first, and why each ended.
func releases(s sources.Service) []release {
	var all []release
	for _, set := range s.Sets {
		word, why := ending(s, set)
		all = append(all, release{
			set.Metadata.Revision(), version(set.Image()), set.Image(), began(s, set), word, why,
		})
	}
	return all
}

// began is when the newest revision of a version began. A version that is deployed again keeps
// its ReplicaSet; its AnalysisRuns are new.
func began(s sources.Service, set sources.ReplicaSet) time.Time {
	at := set.Metadata.CreationTimestamp
	if runs := runsOf(s, set); len(runs) > 0 {
		if first := runs[len(runs)-1].Metadata.CreationTimestamp; first.After(at) {
			return first
		}
	}
	return at
}

// runsOf returns the AnalysisRuns of a version's newest revision, the newest first.
func runsOf(s sources.Service, set sources.ReplicaSet) []sources.AnalysisRun {
	return slices.DeleteFunc(slices.Clone(s.Runs), func(run sources.AnalysisRun) bool {
		return run.Metadata.Hash() != set.Metadata.Hash() || run.Metadata.Revision() != set.Metadata.Revision()
	})
}

// ending says what became of a version. AnalysisRuns decide, because a ReplicaSet does not say
// why it was replaced.
func ending(s sources.Service, set sources.ReplicaSet) (word, why string) {
	var failed []string
	good := false
	for _, run := range runsOf(s, set) {
		switch {
		case run.Status.Phase == "Failed" || run.Status.Phase == "Error":
			failed = append(failed, run.Reasons()...)
		case run.PassedGate():
			good = true
		}
	}
	if s.Rollout != nil {
		switch status := s.Rollout.Status; set.Metadata.Hash() {
		case status.StableRS:
			if good {
				return stable, "Every criterion found it good. It serves now."
			}
			return stable, "It serves now. The cluster keeps no verdict on it."
		case status.CurrentPodHash:
			if !status.Abort {
				return canary, "It is under way."
			}
			if len(failed) == 0 {
				return aborted, or(status.Message, "A person ended it, or its pods did not become ready.")
			}
		}
	}
	switch {
	case len(failed) > 0:
		return aborted, strings.Join(failed, "; ")
	case good:
		return "replaced", "Every criterion found it good. A later version replaced it."
	}
	return "ended", "The cluster keeps no verdict on it: it was the first version, or a person promoted or ended it, " +
		"or a later one came before the verdict."
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// origins says for each version of the services whether it is the stable one or the canary.
func origins(cluster *sources.Cluster, services []string) map[string]string {
	all := map[string]string{}
	for _, name := range services {
		s := cluster.Service(name)
		for _, set := range s.Sets {
			if s.Rollout == nil {
				continue
			}
			word := "earlier version"
			switch status := s.Rollout.Status; set.Metadata.Hash() {
			case status.StableRS:
				word = stable
			case status.CurrentPodHash:
				word = canary
			}
			all[fmt.Sprintf("%s %s", name, version(set.Image()))] = word
		}
	}
	return all
}
