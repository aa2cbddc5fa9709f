package rollouttest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// Cases returns a new copy of the table.
func Cases() []Case {
	return slices.Concat(progressCases(), failureCases(), quarantineCases(), reasonCases(), verdictCases(), patienceCases(), groupCases())
}

const (
	spec = `{"template":` + template1 + `,"progressDeadlineSeconds":120,
		"strategy":{"canary":{"steps":[{"setWeight":20},{"pause":{"duration":30}},{"setWeight":60},{"pause":{"duration":"30s"}}]}}}`
	atTwenty = `"currentPodHash":"new","stableRS":"old","currentStepIndex":1,"updatedReplicas":1,"availableReplicas":3,` + weight20
	weight20 = `"canary":{"weights":{"canary":{"weight":20,"podTemplateHash":"new"},"stable":{"weight":80}}}`
	weight0  = `"canary":{"weights":{"canary":{"weight":0,"podTemplateHash":"new"},"stable":{"weight":100}}}`
	given    = `"currentPodHash":"new","stableRS":"old",`
	message  = "RolloutAborted: Rollout aborted update to revision 2"
	aborted  = given + `"phase":"Degraded","abort":true,"message":"` + message + `"`
	atStep   = "web: step 2 of 4, 20 % of the traffic to the new version, 1 pods updated, 3 available, CanaryPauseStep"
	update   = "web: the update to " + Image
	wasTaken = update + " was aborted, the stable version has all traffic: " + message
	released = ". Not shipped again: image sha256:1. Deploy another version, or release it: make release SERVICE=web WHAT=1 REASON=..."

	template1 = `{"spec":{"containers":[{"name":"web","image":"` + Image + `","envFrom":[{"configMapRef":{"name":"web-1"}}]}]}}`
)

// blocked are the keys of the quarantine after an abort.
var blocked = []string{"web.1"}

// template is a ReplicaSet with an image and the name of its settings.
func template(image, settings string) json.RawMessage {
	return json.RawMessage(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"` + image +
		`","envFrom":[{"configMapRef":{"name":"` + settings + `"}}]}]}}}}`)
}

// seen is a Rollout whose controller has seen its last change.
func seen(status string) json.RawMessage {
	return json.RawMessage(`{"metadata":{"namespace":"shop","name":"web","generation":7},"spec":` + spec +
		`,"status":{"observedGeneration":"7",` + status + `}}`)
}

func paused() json.RawMessage {
	return seen(`"phase":"Paused","message":"CanaryPauseStep",` + atTwenty)
}

func container(state string) []json.RawMessage {
	pod := json.RawMessage(`{"status":{"containerStatuses":[{"name":"web","image":"` + Image + `",` + state + `}]}}`)
	return []json.RawMessage{pod, pod}
}

func progressCases() []Case {
	healthy := seen(`"phase":"Healthy","currentPodHash":"new","stableRS":"new"`)
	unseen := json.RawMessage(`{"metadata":{"name":"web","generation":7},"spec":` + spec +
		`,"status":{"observedGeneration":"6","phase":"Healthy"}}`)
	invalid := seen(`"phase":"Degraded","message":"InvalidSpec: Service web-canary not found",` + given + weight0)
	return []Case{{
		Name: "healthy", Rollouts: []json.RawMessage{unseen, paused(), paused(), healthy},
		Lines: []string{
			"web: the Rollouts controller has not seen the update yet", atStep, "web: healthy: the new version has all traffic",
		},
	}, {
		Name: "first version", Rollouts: []json.RawMessage{
			seen(`"phase":"Progressing","message":"more replicas need to be updated","currentPodHash":"new","currentStepIndex":4`), healthy,
		},
		Lines: []string{
			"web: 0 pods updated, 0 available, more replicas need to be updated", "web: healthy: the new version has all traffic",
		},
	}, {
		Name: "failure that passes", Rollouts: []json.RawMessage{invalid, invalid, paused(), invalid, invalid, healthy},
		Lines: []string{atStep, "web: healthy: the new version has all traffic"},
	}}
}

func failureCases() []Case {
	const resume = `kubectl -n shop patch rollout web --subresource=status --type=merge -p '{"status":{"pauseConditions":null}}'`
	stuck := `"phase":"Paused","abort":true,"message":"InconclusiveAnalysisRun",` +
		`"pauseConditions":[{"reason":"InconclusiveAnalysisRun","startTime":null}],` + atTwenty
	return []Case{{
		Name: "aborted", Rollouts: []json.RawMessage{paused(), seen(aborted + "," + weight0)}, Takes: 4 * time.Second,
		Lines: []string{atStep}, Error: wasTaken + released, Quarantined: blocked,
	}, {
		Name: "aborted, and the canary keeps its weight", Rollouts: []json.RawMessage{paused(), seen(aborted + "," + weight20)},
		Lines: []string{atStep},
		Error: update + " was aborted, the new version still has 20 % of the traffic: " + message + released, Quarantined: blocked,
	}, {
		Name: "aborted, and another version keeps its weight", Rollouts: []json.RawMessage{paused(), seen(aborted + "," +
			`"canary":{"weights":{"canary":{"weight":40,"podTemplateHash":"other"},"stable":{"weight":60}}}`)},
		Lines: []string{atStep},
		Error: update + " was aborted, an earlier new version still has 40 % of the traffic: " + message + released, Quarantined: blocked,
	}, {
		Name: "aborted without weights", Rollouts: []json.RawMessage{paused(), seen(aborted)},
		Lines: []string{atStep},
		Error: update + " was aborted, the Rollout does not say how the traffic is divided: " + message + released, Quarantined: blocked,
	}, {
		Name: "abort that a resized pause holds up", Rollouts: []json.RawMessage{paused(), seen(stuck)},
		Lines: []string{atStep},
		Error: update + " was aborted, the new version still has 20 % of the traffic: InconclusiveAnalysisRun. " +
			"The controller does not take the traffic back while the Rollout is paused and its size changes. End the pause: " + resume + released,
		Quarantined: blocked,
	}, {
		Name: "aborted before", Rollouts: []json.RawMessage{seen(aborted + "," + weight0)},
		Error: "web: image " + Image + " was already aborted here and is not retried automatically, the stable version has all traffic: " +
			message + released,
		Quarantined: blocked,
	}, {
		Name: "degraded", Rollouts: []json.RawMessage{
			paused(), seen(`"phase":"Degraded","message":"ProgressDeadlineExceeded: why.",` + atTwenty),
		},
		Lines: []string{atStep},
		Error: update + " is degraded, the new version still has 20 % of the traffic: ProgressDeadlineExceeded: why",
	}, {
		Name: "degraded first version without a reason", Rollouts: []json.RawMessage{seen(`"phase":"Degraded","currentPodHash":"new"`)},
		Error: update + " is degraded, there is no stable version yet: the Rollout is Degraded and gives no reason",
	}, {
		Name: "deleted", Rollouts: []json.RawMessage{paused(), json.RawMessage("null")},
		Lines: []string{atStep},
		Error: "web: Rollout web in namespace shop was deleted while it was waited for",
	}}
}

// quarantineCases are about what an abort keeps from being shipped again.
func quarantineCases() []Case {
	after := func(name, reason string, stable json.RawMessage, before map[string]string, quarantined ...string) Case {
		const at = `,"abortedAt":"2026-01-02T03:04:05Z",`
		return Case{
			Name: name, Rollouts: []json.RawMessage{paused(), seen(aborted + at + weight0)}, Lines: []string{atStep},
			Stable: stable, Quarantine: before, Quarantined: quarantined, Error: wasTaken + reason,
		}
	}
	const again = ". Deploy another version, or start the canary again: make release SERVICE=web REASON=..."
	entry := func(at, more string) string {
		return `{"what":"sha256:1","reason":"known","trace":"","at":"` + at + `","by":"somebody"` + more + `}`
	}
	lifted := entry("2026-01-02T03:04:05Z", `,"released":{"reason":"a test","by":"me","at":"2026-01-03T00:00:00Z"}`)
	return []Case{
		after("settings of the stable image", ". Not shipped again: settings web-1. Deploy another version, or release it: "+
			"make release SERVICE=web WHAT=web-1 REASON=...", template(Image, "web-0"), nil, "web.web-1"),
		after("neither image nor settings", again, template(Image, "web-1"), nil),
		after("recorded before", "; known"+released, nil, map[string]string{"web.1": entry("2026-01-02T00:00:00Z", "")}, "web.1"),
		after("released after this abort", again, nil, map[string]string{"web.1.released-x": lifted}, "web.1.released-x"),
		after("released after an earlier abort", released, nil, map[string]string{
			"web.1.released-x": strings.ReplaceAll(lifted, "03:04:05", "00:00:00"),
		}, "web.1", "web.1.released-x"),
		after("another service's", released, nil, map[string]string{"api.1": entry("2026-01-02T00:00:00Z", "")}, "api.1", "web.1"),
	}
}

func reasonCases() []Case {
	failing := func(name string, pods []json.RawMessage, reason string) Case {
		return Case{
			Name: name, Rollouts: []json.RawMessage{paused(), seen(aborted + "," + weight0)}, Pods: pods,
			Lines: []string{atStep}, Error: wasTaken + "; " + reason + released, Quarantined: blocked,
		}
	}
	analysed := func(name, kind, run, reason string) Case {
		c := failing(name, nil, reason)
		c.Rollouts[1] = seen(aborted + `,"canary":{"weights":{"canary":{"weight":0},"stable":{"weight":100}},"` +
			kind + `":{"name":"run-1","status":"Failed"}}`)
		c.Analyses = map[string]json.RawMessage{"run-1": json.RawMessage(run)}
		return c
	}
	return []Case{
		failing("image that cannot be pulled", container(`"ready":false,"state":{"waiting":{"reason":"ImagePullBackOff"}}`),
			"2 of 2 new pods ImagePullBackOff: "+Image),
		failing("crash loop", container(`"ready":false,"state":{"waiting":{"reason":"CrashLoopBackOff"}},`+
			`"lastState":{"terminated":{"exitCode":3,"reason":"Error"}}`), "2 of 2 new pods CrashLoopBackOff (exit code 3, Error): "+Image),
		failing("ended", container(`"ready":false,"state":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}`),
			"2 of 2 new pods ended with code 137 (OOMKilled): "+Image),
		failing("not ready", append(container(`"ready":false,"state":{"running":{}}`), container(`"ready":true,"state":{"running":{}}`)...),
			"2 of 4 new pods running but not ready: "+Image),
		failing("not scheduled", []json.RawMessage{json.RawMessage(
			`{"status":{"conditions":[{"type":"PodScheduled","status":"False",
			"message":"0/1 nodes are available: 1 Insufficient cpu."}]}}`)},
			"1 of 1 new pods not scheduled: 0/1 nodes are available: 1 Insufficient cpu."),
		analysed("failed metric of the background analysis", "currentBackgroundAnalysisRunStatus",
			`{"status":{"metricResults":[{"name":"latency","phase":"Successful"},
			{"name":"errors","phase":"Failed","message":"too many",
			"measurements":[{"phase":"Successful","value":"[0.01]"},{"phase":"Failed","value":"[0.31]"}]}]}}`,
			`metric "errors": Failed, too many (last value [0.31])`),
		analysed("criterion", "currentBackgroundAnalysisRunStatus",
			`{"spec":{"args":[{"name":"errors-tolerated","value":"0.1 % server errors"}]},"status":{"metricResults":[
			{"name":"errors-bad","phase":"Successful","dryRun":true,"measurements":[{"phase":"Successful","value":"[37.4]"}]},
			{"name":"errors-total","phase":"Successful","dryRun":true,"measurements":[{"phase":"Successful","value":"[120]"}]},
			{"name":"errors","phase":"Failed","measurements":[{"phase":"Failed","value":"[7.2]"}]}]}}`,
			`errors: 37 of 120 requests to the new version are bad (31.2 %), tolerated are 0.1 % server errors`),
		analysed("failed metric of a step's analysis", "currentStepAnalysisRunStatus",
			`{"status":{"metricResults":[{"name":"errors","phase":"Running"},
			{"name":"latency","phase":"Error","message":"no such host"}]}}`,
			`metric "latency": Error, no such host`),
	}
}

// gated is a canary that waits for a verdict after its last weight.
func gated(status string) json.RawMessage {
	withGate := strings.Replace(spec, `{"pause":{"duration":"30s"}}`, `{"analysis":{}}`, 1)
	return json.RawMessage(`{"metadata":{"namespace":"shop","name":"web","generation":7},"spec":` + withGate +
		`,"status":{"observedGeneration":"7",` + status + `}}`)
}

func verdictCases() []Case {
	const at = "web: step 4 of 4, 60 % of the traffic to the new version, 2 pods updated, 4 available"
	waiting := func() json.RawMessage {
		return gated(`"phase":"Progressing","currentPodHash":"new","stableRS":"old","currentStepIndex":3,` +
			`"updatedReplicas":2,"availableReplicas":4,"canary":{"weights":{"canary":{"weight":60,"podTemplateHash":"new"},` +
			`"stable":{"weight":40}},"currentStepAnalysisRunStatus":{"name":"run-1","status":"Running"}}`)
	}
	measured := func(metrics string) map[string]json.RawMessage {
		return map[string]json.RawMessage{"run-1": json.RawMessage(`{"status":{"metricResults":[` + metrics + `]}}`)}
	}
	inconclusive := `{"name":"errors","phase":"Running","measurements":[{"phase":"Inconclusive","value":"[641]"}]},
		{"name":"latency","phase":"Successful","measurements":[{"phase":"Successful","value":"[-3]"}]}`
	unreachable := `{"name":"errors","phase":"Running","measurements":[{"phase":"Error","message":"dial tcp: connection refused"}]}`
	refused := `{"name":"errors","phase":"Running","measurements":[{"phase":"Error","message":"bad_data: parse error"}]}`
	return []Case{{
		Name: "promoted after a verdict", Analyses: measured(inconclusive),
		Rollouts: []json.RawMessage{waiting(), seen(`"phase":"Healthy","currentPodHash":"new","stableRS":"new"`)},
		Lines:    []string{at + ": errors needs about 650 more requests", "web: healthy: the new version has all traffic"},
	}, {
		// One weight fewer than without a verdict is a pause of 30 s less, and a verdict has 2 minutes.
		Name: "no traffic", Analyses: measured(inconclusive), Rollouts: []json.RawMessage{waiting()}, Takes: 6 * time.Minute,
		Lines: []string{at + ": errors needs about 650 more requests"},
		Error: "web: no verdict after 6m0s, and the canary goes on waiting with 60 % of the traffic: errors needs about 650 more requests. " +
			"It is promoted or aborted as soon as it had enough requests",
	}, {
		Name: "no metrics backend", Analyses: measured(unreachable), Rollouts: []json.RawMessage{waiting()},
		Lines: []string{at + ": the metrics backend does not answer: dial tcp: connection refused"},
		Error: "web: no verdict after 6m0s, and the canary goes on waiting with 60 % of the traffic: " +
			"the metrics backend does not answer: dial tcp: connection refused. " +
			"It is promoted or aborted as soon as it had enough requests",
	}, {
		Name: "refused query", Analyses: measured(refused), WantAborted: 1,
		Rollouts: []json.RawMessage{waiting(), seen(aborted + "," + weight0)}, Lines: []string{at},
		Error:       wasTaken + "; the metrics backend refuses the query of errors: bad_data: parse error" + released,
		Quarantined: blocked,
	}}
}

func patienceCases() []Case {
	refused := errors.New("connection refused")
	return []Case{{
		Name: "silent API server", Silent: refused, Takes: 30 * time.Second,
		Lines: []string{"web: the cluster does not answer: connection refused"},
		Error: "web: the cluster has not answered for 30s: connection refused",
	}, {
		// Two weights of 15 s, two pauses of 30 s, the controller's deadline and a minute.
		Name: "no end", Rollouts: []json.RawMessage{paused()}, Takes: 4*time.Minute + 30*time.Second,
		Lines: []string{atStep},
		Error: "web: not healthy after 4m30s: CanaryPauseStep",
	}}
}
