package platform

import (
	"strings"
	"testing"
)

func TestAnnouncedRegistry(t *testing.T) {
	for name, c := range map[string]struct{ text, push, pull, refused string }{
		"none":            {},
		"the same name":   {text: "host: \"localhost:5001\"\nhelp: \"https://kind.sigs.k8s.io\"\n", push: "localhost:5001", pull: "localhost:5001"},
		"two names":       {text: "host: localhost:5001\nhostFromContainerRuntime: registry:5000\n", push: "localhost:5001", pull: "registry:5000"},
		"no host":         {text: "help: ask us\n", refused: "names no host"},
		"not YAML":        {text: "host: [", refused: "localRegistryHosting.v1"},
		"host is no text": {text: "host: {a: b}\n", refused: "localRegistryHosting.v1"},
	} {
		t.Run(name, func(t *testing.T) {
			push, pull, err := announced(c.text)
			if push != c.push || pull != c.pull {
				t.Errorf("the registry is %q and %q, want %q and %q", push, pull, c.push, c.pull)
			}
			if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("the error is %v, want %q", err, c.refused)
			}
		})
	}
}
