package main

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/slo"
)

type object = map[string]any

// OpenSLO is a service's objectives as documents of OpenSLO v1
// (https://github.com/OpenSLO/OpenSLO): the service, and an SLO with its indicator for
// each objective.
func OpenSLO(program catalogue.Program) ([]byte, error) {
	documents := []object{document("Service", program.Name, object{"description": "The service " + program.Name + " of the shop."})}
	for _, o := range slo.Objectives(*program.Objectives).List() {
		bad, total := o.Rates(program.Name, "5m")
		query := func(expression string) object {
			return object{"metricSource": object{"type": "Prometheus", "spec": object{"query": expression}}}
		}
		name := program.Name + "-" + o.Name
		documents = append(documents, document("SLO", name, object{
			"service": program.Name, "budgetingMethod": "Occurrences",
			"description": fmt.Sprintf("%v %% over %s: a budget of %s", o.Target(), slo.Period(o.Window), o.Budget()),
			"indicator": object{"metadata": object{"name": name}, "spec": object{
				"ratioMetric": object{"counter": false, "bad": query(bad), "total": query(total)},
			}},
			"timeWindow": []object{{"duration": slo.Period(o.Window), "isRolling": true}},
			"objectives": []object{{"displayName": o.Name, "targetPercent": o.Target()}},
		}))
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, d := range documents {
		if err := encoder.Encode(d); err != nil {
			return nil, fmt.Errorf("encoding the objectives of %s: %w", program.Name, err)
		}
	}
	return out.Bytes(), encoder.Close()
}

func document(kind, name string, spec object) object {
	return object{"apiVersion": "openslo/v1", "kind": kind, "metadata": object{"name": name}, "spec": spec}
}
