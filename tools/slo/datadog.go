package main

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/slo"
)

// datadogNamespace is the one that the operator watches: its own.
const datadogNamespace = "datadog"

// place is where Datadog finds the services of an environment in AWS.
func place(environment string) slo.DatadogPlace {
	return slo.DatadogPlace{Environment: environment, Cluster: "loja-veloz-" + environment, Namespace: "shop"}
}

// Datadog is a service's SLOs, monitors and dashboard as objects of Datadog's operator.
func Datadog(program catalogue.Program, environment string) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, o := range slo.Objectives(*program.Objectives).Datadog(program.Name, place(environment)) {
		body, err := o.JSON()
		if err != nil {
			return nil, err
		}
		if err := encoder.Encode(object{
			"apiVersion": slo.DatadogAPIVersion, "kind": slo.DatadogKind, "metadata": object{"name": o.Name, "namespace": datadogNamespace},
			"spec": object{"type": o.Type, "jsonSpec": body},
		}); err != nil {
			return nil, fmt.Errorf("encoding the objectives of %s: %w", program.Name, err)
		}
	}
	return out.Bytes(), encoder.Close()
}
