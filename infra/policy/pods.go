package policy

import (
	"fmt"
	"strings"

	"github.com/loja-veloz/platform/infra/validate"
)

// pods returns every pod specification in a Kubernetes object: a Pod's, and those of templates,
// in whatever field. A Helm release has none: its values differ by chart, and what Helm renders
// from them is not registered. Its images are named by the tags that infra/charts pins, not by
// digest; Rules documents that.
func pods(r Resource) []field {
	if !isKubernetes(r) || kind(r.Type) == "CustomResourceDefinition" || kind(r.Type) == "Release" {
		return nil
	}
	var found []field
	in(r).walk(func(f field) {
		if f.value.IsObject() && len(f.at("containers").items()) > 0 && f.at("containers").value.IsArray() {
			found = append(found, f)
		}
	})
	return found
}

func containers(pod field) []field {
	var all []field
	for _, key := range []string{"initContainers", "containers", "ephemeralContainers"} {
		all = append(all, pod.at(key).items()...)
	}
	return all
}

func imageDigest(_ *Options, r Resource) []finding {
	var found []finding
	for _, pod := range pods(r) {
		for _, container := range containers(pod) {
			image := container.at("image")
			if text, ok := image.text(); !image.unknown() && (!ok || !validate.ByDigest(text)) {
				found = append(found, finding{image.path, fmt.Sprintf("is %q: name the image by digest, registry/name@sha256:...", text)})
			}
		}
	}
	return found
}

func restrictedPod(_ *Options, r Resource) []finding {
	var found []finding
	for _, pod := range pods(r) {
		for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
			if pod.at(key).there && !pod.at(key).is(false) {
				found = append(found, finding{pod.at(key).path, "is true: pods may share nothing with their node"})
			}
		}
		for _, volume := range pod.at("volumes").items() {
			if volume.at("hostPath").there {
				found = append(found, finding{volume.at("hostPath").path, "is set: pods may share nothing with their node"})
			}
		}
		for _, container := range containers(pod) {
			found = append(found, restrictedContainer(pod.at("securityContext"), container.at("securityContext"))...)
		}
	}
	return found
}

// restrictedContainer checks a container's own settings and, where it has none, those of its
// pod.
func restrictedContainer(pod, own field) []finding {
	var found []finding
	demand := func(f field, ok bool, message string) {
		if !ok {
			found = append(found, finding{f.path, message})
		}
	}
	nonRoot := own.at("runAsNonRoot")
	demand(nonRoot, nonRoot.is(true) || !nonRoot.there && pod.at("runAsNonRoot").is(true),
		"is not true, neither for the container nor for the pod")
	for _, f := range []field{own.at("runAsUser"), pod.at("runAsUser")} {
		demand(f, !f.there || !f.value.IsNumber() || f.value.NumberValue() != 0, "is 0, which is root")
	}
	demand(own.at("allowPrivilegeEscalation"), own.at("allowPrivilegeEscalation").is(false) && own.at("allowPrivilegeEscalation").there,
		"is not false")
	demand(own.at("privileged"), !own.at("privileged").there || own.at("privileged").is(false), "is true")
	demand(own.at("readOnlyRootFilesystem"), own.at("readOnlyRootFilesystem").is(true),
		"is not true: mount an emptyDir where files are written")
	dropped := false
	for _, capability := range own.at("capabilities").at("drop").items() {
		text, _ := capability.text()
		dropped = dropped || strings.EqualFold(text, "ALL")
	}
	demand(own.at("capabilities").at("drop"), dropped || own.unknown(), "does not name ALL")
	for _, capability := range own.at("capabilities").at("add").items() {
		text, _ := capability.text()
		demand(capability, text == "NET_BIND_SERVICE", fmt.Sprintf("is %s: only NET_BIND_SERVICE may be added", text))
	}
	profile := own.at("seccompProfile").at("type")
	if !profile.there {
		profile = pod.at("seccompProfile").at("type")
	}
	text, _ := profile.text()
	demand(profile, text == "RuntimeDefault" || text == "Localhost" || profile.unknown(), fmt.Sprintf("is %q: use RuntimeDefault", text))
	return found
}
