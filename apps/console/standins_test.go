package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/api"
	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/page"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/infra/slo"
)

// promised are the objectives of every service of the stand-ins: the catalogue's defaults.
var promised = slo.Objectives{
	Availability: 99.9, AvailabilityWindow: 30 * 24 * time.Hour,
	Latency: 95, LatencyThreshold: 200 * time.Millisecond, LatencyWindow: 7 * 24 * time.Hour,
	ErrorRate: 0.1, ErrorRateWindow: 24 * time.Hour,
	P50: 100 * time.Millisecond, P99: 500 * time.Millisecond, BaselineRPS: 10,
}

type object = map[string]any

// digest is an image's digest that begins with a service's version n.
func digest(n int) string { return fmt.Sprintf("%012d%052d", n, 0) }

func image(service string, n int) string {
	return fmt.Sprintf("localhost:5000/%s@sha256:%s", service, digest(n))
}

// standins are Kubernetes, Prometheus, Jaeger and pagamentos, each an HTTP server. They know only
// the requests that the real ones accept from the console, and count them.
type standins struct {
	alerts                         []object // the labels of the alerts that fire
	kubernetes, prometheus, jaeger *httptest.Server
	pagamentos                     *httptest.Server
	began                          time.Time

	mu      sync.Mutex
	asked   map[string]int
	objects map[string][]object // of Kubernetes, by kind
	// seen are the canary's requests by service; all are good unless bad has a number.
	seen, bad map[string]float64
	traces    map[string][]object // by order
	payments  []contract.Payment  // that need a person, of the newest order first
	stalled   chan struct{}       // if set, Prometheus answers nothing until it is closed
}

func newStandins(t testing.TB) *standins {
	s := &standins{
		began: time.Now().Add(-20 * time.Minute), asked: map[string]int{}, objects: map[string][]object{},
		seen: map[string]float64{}, bad: map[string]float64{}, traces: map[string][]object{},
	}
	for into, handler := range map[**httptest.Server]http.HandlerFunc{
		&s.kubernetes: s.serveKubernetes, &s.prometheus: s.servePrometheus, &s.jaeger: s.serveJaeger,
	} {
		*into = httptest.NewServer(handler)
		t.Cleanup((*into).Close)
	}
	s.pagamentos = httptest.NewServer(s.newPagamentos(t))
	t.Cleanup(s.pagamentos.Close)
	return s
}

func (s *standins) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[what]++
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *standins) serveKubernetes(w http.ResponseWriter, r *http.Request) {
	groups := map[string]string{
		"rollouts": "/apis/argoproj.io/v1alpha1", "analysisruns": "/apis/argoproj.io/v1alpha1", "replicasets": "/apis/apps/v1", "pods": "/api/v1",
	}
	for kind, group := range groups {
		if r.Method == http.MethodGet && r.URL.Path == group+"/namespaces/shop/"+kind {
			s.count(kind)
			write(w, http.StatusOK, object{"kind": "List", "items": s.objects[kind]})
			return
		}
	}
	write(w, http.StatusForbidden, object{"kind": "Status", "message": r.URL.Path + " is forbidden"})
}

var (
	question = regexp.MustCompile(`, "asked", "([^"]+)", "", ""\)`)
	service1 = regexp.MustCompile(`service="([^"]+)"`)
)

func (s *standins) servePrometheus(w http.ResponseWriter, r *http.Request) {
	if s.stalled != nil {
		<-s.stalled
	}
	query := r.PostFormValue("query")
	if r.Method != http.MethodPost || query == "" {
		write(w, http.StatusBadRequest, object{"status": "error", "errorType": "bad_data", "error": "no query"})
		return
	}
	s.count(r.URL.Path)
	var series []object
	switch {
	case r.URL.Path == "/api/v1/query" && strings.HasPrefix(query, "ALERTS{"):
		for _, labels := range s.alerts {
			series = append(series, value(labels, 1))
		}
	case r.URL.Path == "/api/v1/query" && strings.HasPrefix(query, "{__name__"):
		series = s.budgets()
	case r.URL.Path == "/api/v1/query":
		series = s.evidence(service1.FindStringSubmatch(query)[1], question.FindAllStringSubmatch(query, -1))
	case r.URL.Path == "/api/v1/query_range":
		series = plotted(r.PostForm)
	default:
		write(w, http.StatusNotFound, object{})
		return
	}
	write(w, http.StatusOK, object{"status": "success", "data": object{"result": series}})
}

func value(labels object, v float64) object {
	return object{"metric": labels, "value": []any{float64(time.Now().Unix()), strconv.FormatFloat(v, 'g', -1, 64)}}
}

// budgets gives every service but reviews, which had no requests, a value for each record.
func (s *standins) budgets() []object {
	var series []object
	for i, service := range []string{"api-gateway", "estoque", "pagamentos", "pedidos", "sample-web-app"} {
		for j, objective := range promised.List() {
			burn := float64(i*i+j) / 10
			labels := func(record string) object {
				return object{"__name__": record, "sloth_service": service, "sloth_slo": objective.Name, "sloth_id": service + "-" + objective.Name}
			}
			series = append(series, value(labels("slo:period_burn_rate:ratio"), burn),
				value(labels("slo:period_error_budget_remaining:ratio"), 1-burn),
				value(labels("slo:current_burn_rate:ratio"), 4*burn))
		}
	}
	return append(series, value(object{"__name__": "slo:current_burn_rate:ratio", "sloth_service": "reviews", "sloth_slo": "latency"}, math.NaN()))
}

// evidence weighs the canary's requests with the mathematics of the recording rules, in
// intervals of 20 requests; the stable version answers as many, all good.
func (s *standins) evidence(service string, questions [][]string) []object {
	answers := map[string]float64{}
	for _, c := range promised.Criteria() {
		var e slo.Evidence
		for left, bad := s.seen[service], s.bad[service]; left > 0; left -= 20 {
			sample := slo.Sample{Total: min(20, left), Bad: min(20, left, bad)}
			bad -= sample.Bad
			c.Add(&e, sample, slo.Sample{Total: sample.Total})
		}
		answers[c.Name], answers[c.Name+" total"], answers[c.Name+" bad"] = e.Against(), s.seen[service], s.bad[service]
	}
	var series []object
	for _, q := range questions {
		series = append(series, value(object{"asked": q[1]}, answers[q[1]]))
	}
	return series
}

// plotted draws waves, and a canary that began 15 minutes ago.
func plotted(form url.Values) []object {
	start, _ := strconv.ParseInt(form.Get("start"), 10, 64)
	end, _ := strconv.ParseInt(form.Get("end"), 10, 64)
	step, err := time.ParseDuration(form.Get("step"))
	if err != nil {
		return nil
	}
	wave := func(labels object, from int64, base, swing float64) object {
		var values [][]any
		for at := max(start, from); at <= end; at += int64(step.Seconds()) {
			v := base + swing*math.Sin(float64(at)/170) + swing/4*math.Sin(float64(at)/37)
			values = append(values, []any{at, strconv.FormatFloat(v, 'g', -1, 64)})
		}
		return object{"metric": labels, "values": values}
	}
	return []object{
		wave(object{"asked": "rate", "role": "canary"}, end-900, 8, 1),
		wave(object{"asked": "rate", "role": "stable"}, start, 18, 4),
		wave(object{"asked": "p50"}, start, 0.012, 0.002), wave(object{"asked": "p95"}, start, 0.06, 0.02), wave(object{"asked": "p99"}, start, 0.14, 0.05),
		{"metric": object{"asked": "p99"}, "values": [][]any{{start, "NaN"}}},
	}
}

func (s *standins) serveJaeger(w http.ResponseWriter, r *http.Request) {
	s.count("traces")
	var tags map[string]string
	if err := json.Unmarshal([]byte(r.FormValue("tags")), &tags); err != nil || r.URL.Path != "/api/traces" || r.FormValue("service") == "" {
		write(w, http.StatusBadRequest, object{"errors": []object{{"msg": "parameter 'service' is required"}}})
		return
	}
	data := s.traces[tags["order.id"]]
	if r.FormValue("service") != "pedidos" {
		data = nil
	}
	write(w, http.StatusOK, object{"data": data})
}

// pagamentosStandin has the contract, the server and the pages of pagamentos, and so its refusals.
type pagamentosStandin struct {
	contract.StrictServerInterface // the console calls no other operation
	s                              *standins
}

func (s *standins) newPagamentos(t testing.TB) http.Handler {
	t.Helper()
	srv, err := newFrame().NewServer(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	contract.RegisterHandlersWithOptions(srv.Router(), contract.NewHandler(pagamentosStandin{s: s}),
		contract.GinServerOptions{ErrorHandler: api.ParameterError})
	return apitest.Handler(t, contract.Document, srv.Handler())
}

// ListPayments also has a payment that needs nobody, unless the request leaves such payments out.
func (p pagamentosStandin) ListPayments(
	_ context.Context, request contract.ListPaymentsRequestObject,
) (contract.ListPaymentsResponseObject, error) {
	p.s.count("payments")
	list := page.List[uuid.UUID]{
		First:  uuid.Max,
		Format: func(order uuid.UUID) string { return string(order[:]) },
		Parse:  func(text string) (uuid.UUID, error) { return uuid.FromBytes([]byte(text)) },
	}
	asked, err := list.Request(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	all := p.s.payments
	if only := request.Params.NeedingPerson; only == nil || !*only {
		fine := contract.Payment{OrderID: uuid.Nil, State: contract.Captured, Amount: money.BRL(100), Refunded: money.BRL(0), Acquirer: contract.Simulator}
		all = append(slices.Clone(all), fine)
	}
	found := slices.DeleteFunc(slices.Clone(all), func(one contract.Payment) bool { return one.OrderID.String() >= asked.After.String() })
	found = found[:min(len(found), int(asked.Limit)+1)]
	shown, next := page.Cut(list, asked, found, func(one contract.Payment) uuid.UUID { return one.OrderID })
	return contract.ListPayments200JSONResponse{Items: append([]contract.Payment{}, shown...), NextCursor: next}, nil
}

// owed returns payments that need a person: of three, the acquirer refuses the refund of the first,
// carries out that of the second, and does not answer for the third.
func owed(n int) []contract.Payment {
	newest := uuid.MustParse(order)
	since := time.Date(2026, 11, 27, 8, 30, 0, 0, time.UTC)
	var all []contract.Payment
	for i := range n {
		one := contract.Payment{
			OrderID: newest, State: contract.Refunding, Amount: money.BRL(12990 + int64(i)), Refunded: money.BRL(0),
			Acquirer: contract.Simulator, CreatedAt: since.Add(-time.Hour), UpdatedAt: since, AcquirerReference: new(fmt.Sprintf("sim_charge_%d", i)),
		}
		binary.BigEndian.PutUint16(one.OrderID[14:], 0x7e10-uint16(i)) // the end of order
		switch i % 3 {
		case 0:
			one.Problem, one.Refusals = new("simulator refuses the step: charge_disputed"), new(int32(5))
		case 1:
			one.RefundReference = new("sim_refund_1")
		case 2:
			one.State = contract.Authorising
		}
		all = append(all, one)
	}
	return all
}

// A rolled service is a Rollout with its ReplicaSets and pods. Version n has the hash hash-n and
// the revision n.
type rolled struct {
	name            string
	stable, current int
	status          object // over the Rollout's status
	pods            map[int]int
}

func hash(service string, n int) string {
	return fmt.Sprintf("%s%d", strings.ReplaceAll(service, "-", ""), n)
}

func (s *standins) add(r rolled) {
	status := object{
		"phase": "Healthy", "observedGeneration": "1", "currentPodHash": hash(r.name, r.current), "stableRS": hash(r.name, r.stable),
		"currentStepIndex": 9, "updatedReplicas": 2, "availableReplicas": 2,
		"canary": object{"weights": object{"canary": object{"weight": 0, "podTemplateHash": hash(r.name, r.current)}}},
	}
	for key, v := range r.status {
		status[key] = v
	}
	var steps []object
	for _, weight := range []int{20, 40, 60, 80} {
		steps = append(steps, object{"setWeight": weight}, object{"pause": object{"duration": 30}})
	}
	steps = append(steps, object{"analysis": object{}})
	s.objects["rollouts"] = append(s.objects["rollouts"], object{
		"metadata": object{"namespace": "shop", "name": r.name, "generation": 1}, "status": status,
		"spec": object{"strategy": object{"canary": object{"steps": steps}}, "template": object{"spec": pod(image(r.name, r.current))}},
	})
	for n := max(1, r.current-3); n <= r.current; n++ {
		s.objects["replicasets"] = append(s.objects["replicasets"], object{
			"metadata": s.meta(r.name, r.name+"-"+hash(r.name, n), n),
			"spec":     object{"template": object{"spec": pod(image(r.name, n))}},
		})
	}
	for n, pods := range r.pods {
		for i := range pods {
			s.objects["pods"] = append(s.objects["pods"], object{
				"metadata": object{"name": fmt.Sprintf("%s-%d-%d", r.name, n, i), "labels": labels(r.name, n)},
				"status":   object{"conditions": []object{{"type": "Ready", "status": "True"}}},
			})
		}
	}
}

func pod(image string) object { return object{"containers": []object{{"image": image}}} }

func labels(service string, n int) object {
	return object{"app.kubernetes.io/name": service, "app.kubernetes.io/part-of": "loja-veloz", "rollouts-pod-template-hash": hash(service, n)}
}

func (s *standins) meta(service, name string, n int) object {
	return object{
		"name": name, "labels": labels(service, n), "annotations": object{"rollout.argoproj.io/revision": strconv.Itoa(n)},
		"creationTimestamp": s.began.Add(time.Duration(n) * time.Minute).UTC().Format(time.RFC3339),
		"ownerReferences":   []object{{"kind": "Rollout", "name": service}},
	}
}

// run adds an AnalysisRun of version n: the one in the background, or that of the last step.
func (s *standins) run(service, kind string, n int, status object) (name string) {
	name = fmt.Sprintf("%s-%s-%d-%s", service, hash(service, n), n, strings.ToLower(kind))
	meta := s.meta(service, name, n)
	meta["labels"].(object)["rollout-type"] = kind
	s.objects["analysisruns"] = append(s.objects["analysisruns"], object{
		"metadata": meta, "status": status,
		"spec": object{"args": []object{{"name": "errors-tolerated", "value": "0.1 % server errors"}}},
	})
	return name
}

func metric(name, phase, value string) object {
	return object{"name": name, "phase": phase, "measurements": []object{{"phase": phase, "value": value}}}
}

// failedRun is the status of a run that found 37 of 120 requests bad.
var failedRun = object{"phase": "Failed", "metricResults": []object{
	metric("errors", "Failed", "[7.1]"), metric("errors-bad", "Successful", "[37]"), metric("errors-total", "Successful", "[120]"),
}}

func weights(weight int) object { return object{"weights": object{"canary": object{"weight": weight}}} }

// with adds keys to an object.
func with(o, more object) object {
	for k, v := range more {
		o[k] = v
	}
	return o
}

// order has a trace in the stand-ins.
const order = "0190a7c5-6f5e-7c3a-9d55-2f1b8a4c7e10"

// shop fills the stand-ins: a service in each state that a Rollout can be in, and one that does
// not exist.
func shop(t testing.TB) *standins {
	s := newStandins(t)
	s.alerts = []object{{"alertname": "PaymentsNeedPerson", "alertstate": "firing"}}
	good := object{"phase": "Successful"}
	s.run("api-gateway", "Step", 3, good)
	s.run("api-gateway", "Step", 4, object{"phase": "Successful", "message": "Run Terminated"})
	s.run("api-gateway", "Background", 5, failedRun)
	s.run("api-gateway", "Step", 6, good)
	s.add(rolled{name: "api-gateway", stable: 6, current: 6, pods: map[int]int{6: 2}})

	s.seen["estoque"] = 320
	s.add(rolled{name: "estoque", stable: 1, current: 2, pods: map[int]int{1: 2, 2: 1}, status: object{
		"phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 3, "canary": weights(40),
	}})

	background := s.run("pagamentos", "Background", 3, failedRun)
	s.add(rolled{name: "pagamentos", stable: 2, current: 3, pods: map[int]int{2: 2}, status: object{
		"phase": "Degraded", "abort": true, "message": "RolloutAborted: metric \"errors\" assessed Failed", "currentStepIndex": 0,
		"canary": with(weights(0), object{"currentBackgroundAnalysisRunStatus": object{"name": background, "status": "Failed"}}),
	}})

	gate := s.run("pedidos", "Step", 2, object{"phase": "Running", "metricResults": []object{
		{"name": "errors", "phase": "Running", "measurements": []object{{"phase": "Inconclusive", "value": "[643]"}}}, metric("latency", "Successful", "[0]"),
	}})
	s.seen["pedidos"], s.bad["pedidos"] = 740, 1
	s.add(rolled{name: "pedidos", stable: 1, current: 2, pods: map[int]int{1: 2, 2: 2}, status: object{
		"phase": "Progressing", "currentStepIndex": 8,
		"canary": with(weights(80), object{"currentStepAnalysisRunStatus": object{"name": gate, "status": "Running"}}),
	}})

	s.add(rolled{name: "sample-web-app", current: 1, status: object{
		"phase": "Progressing", "stableRS": "", "message": "updated replicas are still becoming available", "canary": object{},
	}})
	s.objects["pods"] = append(s.objects["pods"], object{
		"metadata": object{"name": "sample-web-app-1", "labels": labels("sample-web-app", 1)},
		"status": object{"containerStatuses": []object{{
			"image": "web", "state": object{"waiting": object{"reason": "ImagePullBackOff"}},
		}}},
	})
	s.traces[order] = []object{traced(s, "api-gateway", "pedidos", "estoque", "pagamentos")}
	s.payments = owed(3)
	return s
}

// traced is a trace in which each service calls the next; pedidos, the second, is called as a
// canary, and pagamentos fails.
func traced(s *standins, services ...string) object {
	versions := map[string]int{"api-gateway": 6, "pedidos": 2, "estoque": 1, "pagamentos": 9}
	began := s.began.UnixMicro()
	var spans []object
	processes := object{}
	for i, service := range services {
		span := object{
			"spanID": fmt.Sprintf("s%d", i), "operationName": "POST /" + service, "processID": service,
			"startTime": began + int64(i)*1500, "duration": 40000 - i*9000,
			"tags": []object{{"key": "http.response.status_code", "value": 201}},
		}
		if i > 0 {
			span["references"] = []object{{"refType": "CHILD_OF", "traceID": "t1", "spanID": fmt.Sprintf("s%d", i-1)}}
		}
		if service == "pagamentos" {
			span["tags"] = []object{{"key": "error", "value": true}, {"key": "error.type", "value": "timeout"}}
		}
		spans = append(spans, span)
		processes[service] = object{"serviceName": service, "tags": []object{{"key": "service.version", "value": digest(versions[service])[:12]}}}
	}
	return object{"traceID": "t1", "spans": spans, "processes": processes}
}

// settings are those of a console over the stand-ins, with six services.
func (s *standins) settings() settings {
	all := map[string]slo.Objectives{}
	for _, name := range []string{"api-gateway", "estoque", "pagamentos", "pedidos", "reviews", "sample-web-app"} {
		all[name] = promised
	}
	return settings{
		kubernetes: s.kubernetes.URL, namespace: "shop", prometheus: s.prometheus.URL, jaeger: s.jaeger.URL, payments: s.pagamentos.URL,
		objectives: all,
	}
}

func newFrame() *service.Frame {
	return service.New(server.Settings{Identity: config.Identity{Service: name, Version: "0123456789ab", Pod: "console-1"}},
		slog.New(slog.DiscardHandler), noop.NewTracerProvider())
}

// app is the whole service.
type app struct{ http.Handler }

func newApp(t testing.TB, settings settings) app {
	t.Helper()
	srv, err := newServer(newFrame(), settings)
	if err != nil {
		t.Fatal(err)
	}
	return app{srv.Handler()}
}

func (a app) get(path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	a.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder
}
