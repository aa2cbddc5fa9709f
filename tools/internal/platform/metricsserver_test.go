package platform

import "testing"

func TestMetricsServerOfAnotherCluster(t *testing.T) {
	for name, c := range map[string]struct {
		found string
		want  bool
	}{
		"none":                             {"", false},
		"the cluster's own":                {metricsAPI + "\n", true},
		"the stack's":                      {metricsAPI + "\n" + metricsRole + "\n", false},
		"the stack's, before its API came": {metricsRole + "\n", false},
	} {
		if got := hasMetricsServer(c.found); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestKubeletThatSignsItself(t *testing.T) {
	for name, c := range map[string]struct {
		configuration string
		want          bool
	}{
		"kind 0.33":           {`{"kubeletconfig":{"serverTLSBootstrap":null,"tlsCertFile":"/var/lib/kubelet/pki/kubelet.crt"}}`, true},
		"no file":             {`{"kubeletconfig":{}}`, true},
		"requests one":        {`{"kubeletconfig":{"serverTLSBootstrap":true}}`, false},
		"is given one":        {`{"kubeletconfig":{"tlsCertFile":"/var/lib/rancher/k3s/agent/serving-kubelet.crt"}}`, false},
		"the bundled cluster": {`{"kubeletconfig":{"tlsCertFile":"/home/me/loja/.local/cluster/pki/kubelet.crt"}}`, false},
	} {
		got, err := signsItself(c.configuration)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
	if _, err := signsItself("Forbidden"); err == nil {
		t.Error("what is not JSON is taken for a configuration")
	}
}
