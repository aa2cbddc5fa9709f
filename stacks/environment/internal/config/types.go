// Package config is the environment's configuration: what the keys are, what
// they default to, and how values are read and refused.
package config

// Config is everything that can be set for an environment, in Pulumi's
// configuration namespace loja-veloz. The defaults are those of the local
// environment. The doc tags are docs/parameters.md.
type Config struct {
	KubeContext           string             `json:"kubeContext" doc:"Context of the kubeconfig to deploy to; empty is its current context."`
	Images                map[string]string  `json:"images" doc:"Image of each service, by digest (registry/name@sha256:...). make deploy sets it."`
	Services              map[string]Service `json:"services" doc:"Sizes and settings of each service."`
	Canary                Canary             `json:"canary" doc:"How a new version of a service is let in."`
	WaitForRollout        bool               `json:"waitForRollout" doc:"Whether an update ends only when every Rollout is healthy, and fails when one is aborted."`
	RolloutTimeoutSeconds int32              `json:"rolloutTimeoutSeconds" doc:"Longest wait for a Rollout, in seconds; 0 takes it from the canary's steps."`
	Gateway               Gateway            `json:"gateway" doc:"The gateway that shows the public paths."`
	MetricsServer         MetricsServer      `json:"metricsServer" doc:"The metrics that autoscaling needs."`
	Delivery              Delivery           `json:"delivery" doc:"What ships new versions."`
	Telemetry             Telemetry          `json:"telemetry" doc:"Where services send traces."`
}

// Service is the part of a service that differs between environments.
type Service struct {
	MinReplicas    int32             `json:"minReplicas" doc:"Fewest pods, at least 1."`
	MaxReplicas    int32             `json:"maxReplicas" doc:"Most pods that the autoscaler may start."`
	MilliCPU       int32             `json:"milliCPU" doc:"CPU request of a pod, in thousandths of a core."`
	MemoryMiB      int32             `json:"memoryMiB" doc:"Memory request of a pod, in MiB."`
	MemoryLimitMiB int32             `json:"memoryLimitMiB" doc:"Memory limit of a pod, in MiB."`
	LogFormat      string            `json:"logFormat" doc:"json or text."`
	Env            map[string]string `json:"env" doc:"Further environment variables; no secrets."`
}

// Canary is how a new version of any service is let in.
type Canary struct {
	Weights                 []int32 `json:"weights" doc:"Shares of the traffic, in percent, one after another; they rise, within 1 to 100."`
	PauseSeconds            int32   `json:"pauseSeconds" doc:"Time at each weight, in seconds."`
	ProgressDeadlineSeconds int32   `json:"progressDeadlineSeconds" doc:"Time, in seconds, within which new pods have to become ready, or the update is aborted."`
}

// Gateway is the gateway at the edge.
type Gateway struct {
	Class              string `json:"class" doc:"Name of the GatewayClass."`
	NodePort           int32  `json:"nodePort" doc:"Port of every node on which the gateway listens, 30000 to 32767."`
	Replicas           int32  `json:"replicas" doc:"Pods of the gateway."`
	InstallDefinitions bool   `json:"installDefinitions" doc:"Whether to install the CustomResourceDefinitions of the Gateway API and of the gateway; false where the cluster has them, which destroy then leaves alone."`
}

// MetricsServer is whether and how metrics-server is installed.
type MetricsServer struct {
	Install            bool `json:"install" doc:"Whether to install metrics-server; false where the cluster has one."`
	KubeletInsecureTLS bool `json:"kubeletInsecureTLS" doc:"Whether to take kubelets' certificates unverified, for clusters whose kubelets sign their own."`
}

// Delivery is what ships new versions.
type Delivery struct {
	InstallRollouts bool `json:"installRollouts" doc:"Whether to install the Argo Rollouts controller; false where the cluster has one."`
}

// Telemetry is where traces go.
type Telemetry struct {
	OTLPEndpoint string `json:"otlpEndpoint" doc:"OTLP address of the collector, http://host:4317 or http://host:4318; empty sends none."`
}

// Defaults are the local environment's values, with the given defaults for each
// service that exists.
func Defaults(services map[string]Service) *Config {
	return &Config{
		Images:         map[string]string{},
		Services:       services,
		Canary:         Canary{Weights: []int32{20, 40, 60, 80}, PauseSeconds: 30, ProgressDeadlineSeconds: 120},
		WaitForRollout: true,
		Gateway:        Gateway{Class: "traefik", NodePort: 30080, Replicas: 1, InstallDefinitions: true},
		MetricsServer:  MetricsServer{Install: true},
		Delivery:       Delivery{InstallRollouts: true},
	}
}

// DefaultService is the size that a service has unless it declares another.
func DefaultService() Service {
	return Service{MinReplicas: 2, MaxReplicas: 6, MilliCPU: 50, MemoryMiB: 48, MemoryLimitMiB: 128, LogFormat: "json"}
}
