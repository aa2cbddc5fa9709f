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
	return operatorObjects(slo.Objectives(*program.Objectives).Datadog(program.Name, place(environment)))
}

// DatadogAlarms are the monitors of all alarms as objects of Datadog's operator.
func DatadogAlarms(environment string) ([]byte, error) {
	var monitors []slo.DatadogObject
	for _, alarm := range slo.Alarms(true) {
		monitors = append(monitors, alarm.Datadog(place(environment)))
	}
	return operatorObjects(monitors)
}

func operatorObjects(objects []slo.DatadogObject) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, o := range objects {
		body, err := o.JSON()
		if err != nil {
			return nil, err
		}
		if err := encoder.Encode(object{
			"apiVersion": slo.DatadogAPIVersion, "kind": slo.DatadogKind, "metadata": object{"name": o.Name, "namespace": datadogNamespace},
			"spec": object{"type": o.Type, "jsonSpec": body},
		}); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", o.Name, err)
		}
	}
	return out.Bytes(), encoder.Close()
}
