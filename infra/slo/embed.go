package slo

import _ "embed"

//go:generate env GOWORK=off go -C ../../tools/slo run . -rules ../../infra/slo/objectives.yaml -docs ../../docs/slo.md

// PrometheusRules is the file of recording and alerting rules for the objectives of all
// services, which Sloth's library renders: it would cost the Pulumi program a minute of
// compiling.
//
//go:embed objectives.yaml
var PrometheusRules string
