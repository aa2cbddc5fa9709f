package rollouttest

import (
	"encoding/json"
	"time"
)

// member is a Rollout of a group whose controller has seen its last change.
func member(name, group, status string) json.RawMessage {
	return json.RawMessage(`{"metadata":{"namespace":"shop","name":"` + name + `","generation":7,
		"annotations":{"loja-veloz.dev/group":"` + group + `"}},"spec":{"template":` + template1 + `,"progressDeadlineSeconds":120,
			"strategy":{"canary":{"steps":[{"setWeight":20},{"pause":{"duration":30}},{"pause":{}}]}}},
		"status":{"observedGeneration":"7",` + status + `}}`)
}

func groupCases() []Case {
	const (
		sale    = "sale stock@2 web@1"
		before  = "sale stock@1 web@1"
		weighed = `"phase":"Paused","message":"CanaryPauseStep","updatedReplicas":1,"availableReplicas":3,` + given + weight20 + `,`
		pausing = weighed + `"currentStepIndex":1,"pauseConditions":[{"reason":"CanaryPauseStep","startTime":null}]`
		holding = weighed + `"currentStepIndex":2,"pauseConditions":[{"reason":"CanaryPauseStep","startTime":null}]`
		healthy = `"phase":"Healthy","currentPodHash":"new","stableRS":"new"`
		second  = "web: step 2 of 3, 20 % of the traffic to the new version, 1 pods updated, 3 available, CanaryPauseStep"
		third   = "web: step 3 of 3, 20 % of the traffic to the new version, 1 pods updated, 3 available, CanaryPauseStep"
		waits   = third + ": waits for stock of the group sale"
		done    = "web: healthy: the new version has all traffic"
	)
	web := func(status string) json.RawMessage { return member("web", sale, status) }
	stock := func(status string) json.RawMessage { return member("stock", sale, status) }
	// With an earlier version in its annotation, what the controller says is of the last update.
	earlier := member("stock", before, aborted+","+weight0)
	unseen := json.RawMessage(`{"metadata":{"namespace":"shop","name":"stock","generation":8,"annotations":{"loja-veloz.dev/group":"` + sale +
		`"}},"status":{"observedGeneration":"7",` + aborted + `}}`)
	taken := seen(aborted + "," + weight0)
	return []Case{{
		Name:     "member that waits for another",
		Rollouts: []json.RawMessage{web(holding), web(holding), web(holding), web(healthy)},
		Others:   []json.RawMessage{unseen, stock(pausing), stock(holding)},
		Lines:    []string{waits, third, done}, WantResumed: 1,
	}, {
		Name:     "member that is behind the others",
		Rollouts: []json.RawMessage{web(pausing), web(holding), web(healthy)}, Others: []json.RawMessage{stock(healthy)},
		Lines: []string{second, third, done}, WantResumed: 1,
	}, {
		Name:     "member after an abort of the last version of another",
		Rollouts: []json.RawMessage{web(holding), web(holding), web(holding), web(holding), web(holding), web(healthy)},
		Others:   []json.RawMessage{earlier, earlier, earlier, earlier, stock(holding)},
		Lines:    []string{waits, third, done}, WantResumed: 1,
	}, {
		Name:     "member whose other is aborted",
		Rollouts: []json.RawMessage{web(pausing), web(pausing), web(pausing), web(pausing), taken},
		Others:   []json.RawMessage{stock(aborted + "," + weight0)},
		Lines:    []string{second}, WantAborted: 1, Takes: 7 * time.Second,
		Error:       wasTaken + "; stock, which ships with it in the group sale, was aborted" + released,
		Quarantined: blocked,
	}, {
		Name:     "member that somebody else has aborted with another",
		Rollouts: []json.RawMessage{web(pausing), taken}, Lines: []string{second},
		Quarantine: map[string]string{
			"web.1": `{"what":"sha256:1","reason":"` + message + `; stock, which ships with it in the group sale, was aborted"}`,
		},
		Error: wasTaken + "; stock, which ships with it in the group sale, was aborted" + released, Quarantined: blocked,
	}, {
		Name: "member whose other never comes", Rollouts: []json.RawMessage{web(holding)}, Lines: []string{waits},
		Takes: 5*time.Minute + 45*time.Second,
		Error: "web: not promoted after 5m45s: it waits for stock of the group sale, with 20 % of the traffic. " +
			"make deploy goes on, make abort ends the group's update",
	}}
}
