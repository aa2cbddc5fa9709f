package telemetry

import "github.com/prometheus/client_golang/prometheus"

// For the tests in telemetry_test.
var NewQueue = newQueue

const MaxQueued = maxQueued

func (q *queue) Outcomes() *prometheus.CounterVec { return q.outcomes }
