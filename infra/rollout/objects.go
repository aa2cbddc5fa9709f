package rollout

import (
	"encoding/json"
	"time"
)

// A Rollout holds the fields of an Argo Rollout that decide how its update goes. The objects of
// this file decode from the API server's JSON: encoding/json matches Kubernetes' field names
// regardless of case.
type Rollout struct {
	Metadata struct {
		Namespace, Name string
		Generation      int64
		Annotations     map[string]string
	}
	Spec struct {
		Template Template
		// ProgressDeadlineSeconds is 600 if it is not set.
		ProgressDeadlineSeconds *int64
		Strategy                struct {
			Canary struct{ Steps []Step }
		}
	}
	Status struct {
		Abort bool
		// AbortedAt is when the controller saw the abort.
		AbortedAt *time.Time
		// Phase is Progressing, Paused, Healthy or Degraded. It describes the observed generation
		// only.
		Phase, Message     string
		ObservedGeneration string
		// StableRS is the hash of the stable pod template, empty until a first
		// version is healthy.
		CurrentPodHash, StableRS           string
		CurrentStepIndex                   *int
		UpdatedReplicas, AvailableReplicas int
		PauseConditions                    []struct{ Reason string }
		Conditions                         []Condition
		Canary                             struct {
			// Weights is nil until a traffic router has been set.
			Weights                            *Weights
			CurrentBackgroundAnalysisRunStatus *AnalysisRunStatus
			CurrentStepAnalysisRunStatus       *AnalysisRunStatus
		}
	}
}

// A Condition is one of a Rollout's.
type Condition struct {
	Type, Reason   string
	LastUpdateTime time.Time
}

// A Template is the template of a version's pods.
type Template struct {
	Spec struct {
		// Containers are the pod's; the first one is the service.
		Containers []struct {
			Image   string
			EnvFrom []struct{ ConfigMapRef struct{ Name string } }
		}
	}
}

// A ReplicaSet is one version of a service.
type ReplicaSet struct {
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Spec struct {
		Replicas int
		Template Template
	}
}

// A Step is one step of a canary.
type Step struct {
	SetWeight *int
	Analysis  *struct{}
	Pause     *struct {
		// Duration is a number of seconds or a text such as "30s". Without it the pause lasts until a
		// person ends it.
		Duration json.RawMessage
	}
}

// Weights are the shares of the traffic that the traffic router was given.
type Weights struct {
	Canary struct {
		Weight          int // in percent
		PodTemplateHash string
	}
}

// An AnalysisRunStatus is the status of an AnalysisRun in its Rollout.
type AnalysisRunStatus struct{ Name, Status string }

// An AnalysisRun holds the metrics that were measured.
type AnalysisRun struct {
	Spec struct {
		Args []struct{ Name, Value string }
	}
	Status struct {
		// Phase is Pending, Running, Successful, Failed, Error or Inconclusive. A run that was
		// ended before its verdict is Successful too, and its Message says so.
		Phase, Message string
		MetricResults  []Metric
	}
}

// A Metric is the result of one metric of an AnalysisRun.
type Metric struct {
	Name, Phase, Message string
	// DryRun marks a metric that decides nothing.
	DryRun       bool
	Measurements []struct{ Phase, Value, Message string }
}

// A Pod holds the fields that say why a pod does not serve.
type Pod struct {
	Status struct {
		ContainerStatuses []Container
		Conditions        []struct{ Type, Status, Message string }
	}
}

// A Container is the state of one container of a Pod.
type Container struct {
	Image     string
	Ready     bool
	State     ContainerState
	LastState ContainerState
}

// A ContainerState has at most one field set.
type ContainerState struct {
	Running    *struct{}
	Waiting    *struct{ Reason string }
	Terminated *Termination
}

// A Termination says how a container ended.
type Termination struct {
	ExitCode int
	Reason   string
}
