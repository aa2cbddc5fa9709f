package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/kube"
)

// settingsLabel marks the ConfigMaps with a service's settings, by the service's name.
const settingsLabel = "loja-veloz.dev/settings"

// configMap holds what may differ between environments. It is named by its content and
// never changes: other settings are another ConfigMap, and an aborted update leaves the
// stable version's pods, and those that replace them, the settings that they had. The versions
// of secrets count as content, so that the quarantine of settings knows them too.
func (s *Spec) configMap() *corev1.ConfigMap {
	data := map[string]string{
		"LOG_FORMAT":        s.LogFormat,
		"OTEL_SERVICE_NAME": s.Service,
	}
	if s.Telemetry != nil {
		data["OTEL_EXPORTER_OTLP_ENDPOINT"] = s.Telemetry.Endpoint
		data["OTEL_EXPORTER_OTLP_PROTOCOL"] = s.Telemetry.protocol()
	}
	maps.Copy(data, s.Env)
	content := maps.Clone(data)
	for name, key := range s.SecretEnv {
		if key.Version != "" {
			content[name] = key.object()
		}
	}
	meta := s.meta(s.Service + "-" + hash(content))
	meta.Labels[settingsLabel] = s.Service
	return &corev1.ConfigMap{ObjectMeta: meta, Data: data, Immutable: new(true)}
}

// hash is stable over the order of a map.
func hash(data map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(h, "%q=%q\n", key, data[key])
	}
	return hex.EncodeToString(h.Sum(nil))[:10]
}

// collectSettings deletes the ConfigMaps and Secrets of earlier settings once no ReplicaSet refers
// to them, when the Rollout has been applied and waited for. What cannot be deleted now is
// deleted by a later update.
func (s *Spec) collectSettings(ctx *pulumi.Context, w *Workload, rollout *kube.Resource) {
	if s.Cluster == nil || ctx.DryRun() {
		return
	}
	pulumi.All(rollout.ID(), w.Phase).ApplyT(func([]any) error {
		err := s.Cluster.CollectConfigMaps(ctx.Context(), s.Namespace, settingsLabel+"="+s.Service, nameLabel+"="+s.Service, s.configMap().Name)
		for _, key := range s.versionedSecrets() {
			// Another service may read the secret too.
			err = errors.Join(err, s.Cluster.CollectSecrets(ctx.Context(), s.Namespace, key.Secret, partOf, key.object()))
		}
		if err != nil {
			_ = ctx.Log.Warn(fmt.Sprintf("%s: earlier settings stay: %v", s.Service, err), &pulumi.LogArgs{Resource: w})
		}
		return nil
	})
}

// partOf selects the ReplicaSets of all services.
const partOf = "app.kubernetes.io/part-of=loja-veloz"

// versionedSecrets returns one key of each secret with a version.
func (s *Spec) versionedSecrets() []SecretKey {
	var keys []SecretKey
	for _, name := range slices.Sorted(maps.Keys(s.SecretEnv)) {
		key := s.SecretEnv[name]
		if key.Version != "" && !slices.ContainsFunc(keys, func(k SecretKey) bool { return k.object() == key.object() }) {
			keys = append(keys, key)
		}
	}
	return keys
}
