package rollout

import "fmt"

// ended tells whether the phase of an AnalysisRun or of a metric is final.
func ended(phase string) bool {
	switch phase {
	case successful, "Failed", "Error", "Inconclusive":
		return true
	}
	return false
}

// FailingPods says why pods do not serve. It returns each reason once, with the number of pods that have it.
func FailingPods(pods []Pod) []string {
	count := map[string]int{}
	var reasons []string
	for _, pod := range pods {
		reason := pod.failing()
		if reason == "" {
			continue
		}
		if count[reason]++; count[reason] == 1 {
			reasons = append(reasons, reason)
		}
	}
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("%d of %d new pods %s", count[reason], len(pods), reason)
	}
	return reasons
}

// failing returns why a pod does not serve; it is empty for a pod that does.
func (p Pod) failing() string {
	for _, c := range p.Status.ContainerStatuses {
		waiting, before := c.State.Waiting, c.LastState.Terminated
		switch {
		case waiting != nil && waiting.Reason == "CrashLoopBackOff" && before != nil:
			return fmt.Sprintf("CrashLoopBackOff (exit code %d, %s): %s", before.ExitCode, before.Reason, c.Image)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing":
			return fmt.Sprintf("%s: %s", waiting.Reason, c.Image)
		case c.State.Terminated != nil:
			return fmt.Sprintf("ended with code %d (%s): %s", c.State.Terminated.ExitCode, c.State.Terminated.Reason, c.Image)
		case c.State.Running != nil && !c.Ready:
			return "running but not ready: " + c.Image
		}
	}
	for _, condition := range p.Status.Conditions {
		if condition.Type == "PodScheduled" && condition.Status == "False" {
			return "not scheduled: " + condition.Message
		}
	}
	return ""
}
