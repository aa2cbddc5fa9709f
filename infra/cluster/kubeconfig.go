package cluster

import (
	"encoding/json"
	"fmt"
)

// The parts of a kubeconfig (client-go's v1.Config) that are used here.
type (
	kubeconfig struct {
		APIVersion     string         `json:"apiVersion"`
		Kind           string         `json:"kind"`
		CurrentContext string         `json:"current-context"`
		Clusters       []namedCluster `json:"clusters"`
		Contexts       []namedContext `json:"contexts"`
		Users          []namedUser    `json:"users"`
	}
	namedCluster struct {
		Name    string        `json:"name"`
		Cluster clusterServer `json:"cluster"`
	}
	clusterServer struct {
		Server                   string `json:"server"`
		CertificateAuthorityData string `json:"certificate-authority-data"`
	}
	namedContext struct {
		Name    string      `json:"name"`
		Context contextUser `json:"context"`
	}
	contextUser struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	}
	namedUser struct {
		Name string   `json:"name"`
		User execUser `json:"user"`
	}
	execUser struct {
		Exec execCommand `json:"exec"`
	}
	execCommand struct {
		APIVersion      string   `json:"apiVersion"`
		Command         string   `json:"command"`
		Args            []string `json:"args"`
		InteractiveMode string   `json:"interactiveMode"`
	}
)

// Kubeconfig returns a kubeconfig in JSON. Its user gets a token from the aws command, with the
// credentials of the caller. It names the region, which would otherwise depend on the caller's
// environment.
func Kubeconfig(name, region, endpoint, certificateAuthority string) (string, error) {
	text, err := json.Marshal(kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters: []namedCluster{{Name: name, Cluster: clusterServer{Server: endpoint, CertificateAuthorityData: certificateAuthority}}},
		Contexts: []namedContext{{Name: name, Context: contextUser{Cluster: name, User: name}}},
		Users: []namedUser{{Name: name, User: execUser{Exec: execCommand{
			APIVersion: "client.authentication.k8s.io/v1beta1", Command: "aws", InteractiveMode: "Never",
			Args: []string{"--region", region, "eks", "get-token", "--cluster-name", name, "--output", "json"},
		}}}},
	})
	if err != nil {
		return "", fmt.Errorf("encoding the kubeconfig of %s: %w", name, err)
	}
	return string(text), nil
}
