// Package cli stands in for the few commands of the AWS CLI and of kubectl that the
// EKS component and EKS's kubeconfig run.
package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// Environment variables with the credential that the stand-in returns to Kubernetes
// clients: a token, or the files of a client certificate and its key.
const (
	TokenVariable       = "LOJA_STANDIN_EKS_TOKEN"
	CertificateVariable = "LOJA_STANDIN_EKS_CERTIFICATE"
	KeyVariable         = "LOJA_STANDIN_EKS_KEY"
)

// Role is the ARN of the caller's role. An administrator has one that is nobody's in the account.
func Role(getenv func(string) string) string {
	return cmp.Or(getenv(world.CallerVariable), "arn:aws:iam::000000000000:role/stand-in")
}

// admitted returns EKS's answer to a caller who has no access entry in a cluster, or nil.
//
// Source: EKS User Guide, Grant IAM users access to Kubernetes with EKS access entries, read in
// 2026-08; the words are those of kubectl.
func admitted(cluster, role string) error {
	w, err := world.Open()
	if err != nil {
		return err
	}
	entries, err := w.All(aws.AccessEntry)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if value.Text(entry.Inputs, "clusterName") == cluster && value.Text(entry.Inputs, "principalArn") == role {
			return nil
		}
	}
	return fmt.Errorf("you must be logged in to the server (Unauthorized): the cluster %s has no access entry for %s", cluster, role)
}

type credential struct {
	Kind       string           `json:"kind"`
	APIVersion string           `json:"apiVersion"`
	Spec       struct{}         `json:"spec"`
	Status     credentialStatus `json:"status"`
}

type credentialStatus struct {
	Token       string `json:"token,omitempty"`
	Certificate string `json:"clientCertificateData,omitempty"`
	Key         string `json:"clientKeyData,omitempty"`
}

// AWS stands in for the commands of the AWS CLI that EKS needs, --version, which the EKS component
// runs even in a preview, and eks get-token, and for those of docs/aws/disaster-recovery.md that
// restore a database.
func AWS(args []string, getenv func(string) string, out io.Writer) error {
	if slices.Equal(args, []string{"--version"}) {
		_, err := fmt.Fprintln(out, "aws-cli/2.27.0 stand-in")
		return err
	}
	if known, err := restore(args, out); known {
		return err
	}
	if len(args) < 2 || !hasSequence(args, "eks", "get-token") {
		return fmt.Errorf("the stand-in for the AWS CLI has no command %q: it reaches no cloud", args)
	}
	if at := slices.Index(args, "--cluster-name"); at >= 0 && at+1 < len(args) {
		if err := admitted(args[at+1], Role(getenv)); err != nil {
			return err
		}
	}
	c := credential{Kind: "ExecCredential", APIVersion: "client.authentication.k8s.io/v1beta1"}
	if certificate := getenv(CertificateVariable); certificate != "" {
		for _, f := range []struct {
			name string
			to   *string
		}{{certificate, &c.Status.Certificate}, {getenv(KeyVariable), &c.Status.Key}} {
			b, err := os.ReadFile(f.name)
			if err != nil {
				return fmt.Errorf("eks get-token: %w", err)
			}
			*f.to = string(b)
		}
	} else if c.Status.Token = getenv(TokenVariable); c.Status.Token == "" {
		c.Status.Token = "k8s-aws-v1.stand-in"
	}
	return json.NewEncoder(out).Encode(c)
}

func hasSequence(args []string, want ...string) bool {
	for i := range args {
		if len(args[i:]) >= len(want) && slices.Equal(args[i:i+len(want)], want) {
			return true
		}
	}
	return false
}

// Kubectl stands in for kubectl where it is not installed: the EKS component asks for its
// version in every run, and for nothing else that this platform uses.
func Kubectl(args []string, out io.Writer) error {
	if !slices.Equal(args, []string{"version", "--client=true", "--output=json"}) {
		return fmt.Errorf("the stand-in for kubectl has no command %q: install kubectl", args)
	}
	_, err := fmt.Fprintln(out, `{"clientVersion": {"major": "1", "minor": "33", "gitVersion": "v1.33.4-stand-in"}}`)
	return err
}
