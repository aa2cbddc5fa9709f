package awscheck

import (
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// project is the prefix of the names of what an environment has.
const project = "loja-veloz"

// Stack is what the checks read of an environment's stack file and of bootstrap's.
type Stack struct {
	Environment string
	Cloud       Cloud
	Cluster     Cluster
	Gateway     Gateway
	Images      map[string]string
	Bootstrap   Bootstrap
}

// Cloud is the part of loja-veloz:cloud that is checked.
type Cloud struct {
	AccountID  string            `yaml:"accountID"`
	Region     string            `yaml:"region"`
	NATPerZone bool              `yaml:"natPerZone"`
	Zones      []string          `yaml:"zones"`
	Adopt      map[string]string `yaml:"adopt"`
}

// Cluster is the part of loja-veloz:cluster that is checked.
type Cluster struct {
	Admins            []string `yaml:"admins"`
	PublicAccessCIDRs []string `yaml:"publicAccessCIDRs"`
	InstanceType      string   `yaml:"instanceType"`
	MinNodes          int      `yaml:"minNodes"`
}

// Gateway is the part of loja-veloz:gateway that is checked.
type Gateway struct {
	Host   string `yaml:"host"`
	ZoneID string `yaml:"zoneID"`
}

// Bootstrap is the part of the account's stack that is checked.
type Bootstrap struct {
	ExistingProvider bool
	PullThrough      []Upstream
	Adopt            map[string]string
}

// Upstream is a registry that ECR caches.
type Upstream struct {
	Prefix string `yaml:"prefix"`
	Host   string `yaml:"host"`
}

// The defaults of the two programs, which a test compares with theirs.
func defaults() Stack {
	return Stack{
		Cluster: Cluster{InstanceType: "t3.medium", MinNodes: 3},
	}
}

// ReadStack reads Pulumi.ENVIRONMENT.yaml and stacks/bootstrap/Pulumi.account.yaml of the working
// tree.
func ReadStack(root, environment string) (Stack, error) {
	s := defaults()
	s.Environment = environment
	var own struct {
		Config struct {
			Cloud   *Cloud   `yaml:"loja-veloz:cloud"`
			Cluster *Cluster `yaml:"loja-veloz:cluster"`
			Gateway *Gateway `yaml:"loja-veloz:gateway"`

			Images map[string]string `yaml:"loja-veloz:images"`
		}
	}
	own.Config.Cloud, own.Config.Cluster, own.Config.Gateway = &s.Cloud, &s.Cluster, &s.Gateway
	if err := readYAML(filepath.Join(root, "Pulumi."+environment+".yaml"), &own); err != nil {
		return s, err
	}
	s.Images = own.Config.Images
	var account struct {
		Config struct {
			GitHub struct {
				ExistingProvider bool `yaml:"existingProvider"`
			} `yaml:"loja-veloz-bootstrap:github"`
			PullThrough *[]Upstream       `yaml:"loja-veloz-bootstrap:pullThrough"`
			Adopt       map[string]string `yaml:"loja-veloz-bootstrap:adopt"`
		}
	}
	account.Config.PullThrough = &s.Bootstrap.PullThrough
	err := readYAML(filepath.Join(root, "stacks", "bootstrap", "Pulumi.account.yaml"), &account)
	s.Bootstrap.ExistingProvider, s.Bootstrap.Adopt = account.Config.GitHub.ExistingProvider, account.Config.Adopt
	return s, err
}

func readYAML(file string, into any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}
