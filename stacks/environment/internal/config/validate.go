package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// validate reports what only the configuration can know: services that are not
// there, and images that are missing. Ranges are the components' to judge, which
// know what they are for.
func (c *Config) validate(services map[string]Service) error {
	var faults []error
	known := strings.Join(slices.Sorted(maps.Keys(services)), ", ")
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		if _, there := services[name]; !there && name != DatabaseImage {
			faults = append(faults, fmt.Errorf("%s:images.%s is for no service of this environment; there are %s", Namespace, name, known))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		if _, there := services[name]; !there {
			faults = append(faults, fmt.Errorf("%s:services.%s is for no service of this environment; there are %s", Namespace, name, known))
		}
	}
	for _, name := range append(slices.Sorted(maps.Keys(services)), DatabaseImage) {
		if c.Images[name] == "" {
			faults = append(faults, fmt.Errorf("%s:images.%s is missing: run make deploy, or "+
				"pulumi config set --path '%s:images.%s' REGISTRY/%s@sha256:DIGEST", Namespace, name, Namespace, name, name))
		}
	}
	faults = append(faults, c.validateShop()...)
	faults = append(faults, c.validateCloud()...)
	if c.RolloutTimeoutSeconds < 0 {
		faults = append(faults, fmt.Errorf("%s:rolloutTimeoutSeconds is %d: it cannot be negative", Namespace, c.RolloutTimeoutSeconds))
	}
	return errors.Join(faults...)
}

// validateShop checks what secrets the shop needs, which only AWS brings.
func (c *Config) validateShop() []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(Namespace+":shop."+format, args...))
	}
	secret := func(key, value, name, secretName string) {
		switch {
		case c.Cloud.Provider == "none":
			fault("%s is %s, which needs cloud.provider aws", key, value)
		case secretName == "":
			fault("%s is missing: shop.%s is %s", name, key, value)
		}
	}
	switch c.Shop.Acquirer {
	case "simulator":
	case "stripe":
		secret("acquirer", "stripe", "stripeSecretName", c.Shop.StripeSecretName)
	default:
		fault("acquirer is %q: use simulator or stripe", c.Shop.Acquirer)
	}
	switch c.Shop.Auth {
	case "off", "jwt":
	case "api-key":
		secret("auth", "api-key", "apiKeysSecretName", c.Shop.APIKeysSecretName)
	default:
		fault("auth is %q: use off, api-key or jwt", c.Shop.Auth)
	}
	return faults
}

// addons are those of EKS that a version can be set for.
var addons = []string{"aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni"}

// validateCloud checks what depends on where the cluster comes from.
func (c *Config) validateCloud() []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(Namespace+":"+format, args...))
	}
	switch c.Gateway.Kind {
	case "traefik", "kong":
	default:
		fault("gateway.kind is %q: use traefik or kong", c.Gateway.Kind)
	}
	switch c.Cloud.Provider {
	case "none":
		// Kong's load balancer, Argo CD's and Datadog's secrets are AWS's.
		if c.Gateway.Kind == "kong" {
			fault("gateway.kind is kong, which needs cloud.provider aws")
		}
		if c.Delivery.ArgoCD {
			fault("delivery.argoCD needs cloud.provider aws")
		}
		if c.Datadog.Install {
			fault("datadog.install needs cloud.provider aws")
		}
		return faults
	case "aws":
	default:
		fault("cloud.provider is %q: use none or aws", c.Cloud.Provider)
		return faults
	}
	if c.Database.LocalPath != "" {
		fault("database.localPath is %q: with cloud.provider aws the data is in RDS", c.Database.LocalPath)
	}
	if c.Database.SSLMode != "require" && c.Database.SSLMode != "verify-full" {
		fault("database.sslMode is %q: use require or verify-full", c.Database.SSLMode)
	}
	if c.KubeContext != "" {
		fault("kubeContext is %q: with cloud.provider aws the stack deploys to the cluster that it makes", c.KubeContext)
	}
	if len(c.Cluster.PublicAccessCIDRs) == 0 {
		fault("cluster.publicAccessCIDRs is empty: nobody outside the VPC, CI included, could reach the API server")
	}
	if c.Cloud.Bootstrap == "" || strings.Count(c.Cloud.Bootstrap, "/") != 2 {
		fault("cloud.bootstrap is %q: organization/loja-veloz-bootstrap/STACK is expected", c.Cloud.Bootstrap)
	}
	if c.Gateway.Kind != "kong" {
		fault("gateway.kind is %q: in AWS the gateway is kong", c.Gateway.Kind)
	}
	if c.Gateway.Host == "" {
		fault("gateway.host is empty: the shop needs a public name")
	}
	if (c.Gateway.ZoneID == "") == (c.Gateway.CertificateARN == "") {
		fault("gateway.zoneID and gateway.certificateARN: exactly one of them is needed")
	}
	if arn := c.Gateway.CertificateARN; arn != "" && !strings.HasPrefix(arn, "arn:aws") {
		fault("gateway.certificateARN is %q, which is no ARN", arn)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Cluster.Addons)) {
		if !slices.Contains(addons, name) {
			fault("cluster.addons.%s is no add-on of this platform; there are %s", name, strings.Join(addons, ", "))
		}
	}
	local := Defaults(nil)
	if c.Gateway.NodePort != local.Gateway.NodePort {
		fault("gateway.nodePort is %d: kong has a load balancer and no node port", c.Gateway.NodePort)
	}
	if c.MetricsServer.KubeletInsecureTLS {
		fault("metricsServer.kubeletInsecureTLS is true: the kubelets of EKS have certificates of the cluster's authority")
	}
	if c.Delivery.ArgoCD && (c.Delivery.Git.URL == "" || c.Delivery.Git.SecretName == "") {
		fault("delivery.git: url and secretName are needed with argoCD")
	}
	if c.Datadog.Install && c.Datadog.SecretName == "" {
		fault("datadog.secretName is missing: it names the secret that holds api-key and app-key")
	}
	return faults
}
