package slo

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// An Alarm is an alert about something that an operator must hear of although it need not fail a
// single request, so that no budget burns.
type Alarm struct {
	Name     string
	Severity string // page or ticket, as of an Alert
	// Means is what is wrong, and Do what the operator does about it, in Markdown.
	Means, Do string
	// Page is where the documents say more: a file of docs with an anchor.
	Page string
	Condition
}

// A Condition is when an Alarm fires, in the languages of all who read it.
type Condition struct {
	// When is the condition in words, in Markdown.
	When string
	// Metric is what it watches.
	Metric string
	// Pushed: a program that ends sends the metric by OTLP. Others are scraped.
	Pushed bool
	// For is how long the condition has to hold.
	For time.Duration

	prometheus string
	datadog    func(environment string) string
	critical   float64 // as in Datadog's query
	// noData is after how long Datadog alerts without data; 0: never.
	noData time.Duration
}

const (
	// alarmWindow is the time in which failures are counted, and for which the greatest number
	// that a pod has seen counts. It is long enough for two attempts of every task: a job of an
	// order waits up to 75 s, and up to 5 s more until River sees it, before an attempt that
	// takes up to 30 s (apps/pedidos/jobs). And it spans the start of new pods, which show 0 until
	// their resolver's first round, within 23 s.
	alarmWindow = 5 * time.Minute

	// failuresInWindow: one failure, after which the retry succeeds, is none of an operator's
	// business; a task that keeps failing has at least this many in each alarmWindow.
	failuresInWindow = 2
	// failingFor is longer than two minutes without the acquirer, or without a database that
	// fails over, and the alarmWindow after it, in which their failures still count.
	failingFor = 10 * time.Minute

	// violatedFor is three audits: an audit reads what it finds a second time itself, and this
	// keeps a machine that stands still for a few seconds from waking somebody.
	violatedFor = 3 * time.Minute

	// auditAge is longer than an audit may take (10 minutes) and the minute until the next one.
	auditAge = 15 * time.Minute
	// unauditedFor is longer than a new environment, or one that was stopped, needs for its
	// first audit. A new pod of Prometheus knows of none, until the next.
	unauditedFor = 10 * time.Minute

	// wholeAge is longer than AUDIT_WHOLE_EVERY can be, and the hour in which a whole audit can be repeated that fails.
	wholeAge = 25 * time.Hour

	// needingFor exceeds alarmWindow, so that a number that a single round has counted is
	// nothing yet. Refunds take days: ten minutes more do no harm.
	needingFor = 10 * time.Minute
	// overdueFor: the resolver tries 1, 2, 4 and 8 minutes after a payment's first failure. After
	// two minutes without the acquirer the last payment is finished in the fifth, and is
	// forgotten an alarmWindow later.
	overdueFor = 15 * time.Minute
)

// Alarms are all alarms; without pushed only those whose metrics are scraped. Only what may have
// lost money or goods wakes somebody: where shoppers wait, the objectives of latency and errors
// do so already.
func Alarms(pushed bool) []Alarm {
	const finished = "audit_last_success_timestamp_seconds"
	var alarms []Alarm
	for _, alarm := range []Alarm{
		{
			"AuditViolation", "page",
			"An order or a payment breaks a rule of the audit: money, stock or an order may be lost.",
			"`make audit` lists the orders, the amounts and the rule, and `make trace ORDER=...` shows what happened to one. " +
				"Find the cause before you correct data.",
			"checkout.md#the-audit", inLastRun("audit_violations", finished, "invariant", 1, violatedFor),
		},
		{
			"AuditStale", "ticket",
			"No audit has read all databases for a long time, or none ever has: a violation would stay unnoticed.",
			"`make audit` runs one and says why it fails. `kubectl -n shop get cronjob,job,pod` shows whether it is started.",
			"checkout.md#the-audit", notSince(finished, auditAge, unauditedFor),
		},
		{
			"AuditNotWhole", "ticket",
			"Audits read only what has changed, and none has read everything for more than a day: rows that were changed without a mark, " +
				"as by a restore, would stay unnoticed.",
			"`make audit` reads everything. `AUDIT_WHOLE_EVERY` says how often the CronJob does; its last logs say why it did not.",
			"checkout.md#the-audit", inLastRun("audit_whole_age_seconds", finished, "", wholeAge.Seconds(), violatedFor),
		},
		{
			"BackgroundWorkFails", "ticket",
			"Work that no request waits for keeps failing: orders or payments are not finished, stock is not released, or a rollback is not in git.",
			"The log lines `background task failed` of the service have the error: " +
				"`kubectl -n shop logs -l app.kubernetes.io/name=SERVICE --tail=-1`; `rollback` is in the namespace `argocd`. " +
				"The work is repeated until it succeeds.",
			"checkout.md#who-continues-after-a-failure", keepsFailing("background_failures_total", failuresInWindow, alarmWindow, failingFor),
		},
		{
			"PaymentsNeedPerson", "ticket",
			"Payments or refunds do not finish by themselves.",
			"`kubectl -n shop exec service/pagamentos-stable -- /ko-app/pagamentos needing-person` lists them with the acquirer's reason; " +
				"`retry` and `refunded` end them, and `give-up` ends a refund of a part that the acquirer refuses.",
			"payments.md#refusals-and-refunds-that-take-long", stays("payments_needing_person", alarmWindow, needingFor),
		},
		{
			"PaymentsOverdue", "ticket",
			"Payments stay unfinished although the service keeps asking the acquirer.",
			"The log lines `payment not resolved` of pagamentos have the error. The service goes on by itself as soon as the acquirer answers.",
			"payments.md#failures", stays("payments_overdue", alarmWindow, overdueFor),
		},
	} {
		if pushed || !alarm.Pushed {
			alarms = append(alarms, alarm)
		}
	}
	return alarms
}

// inLastRun holds if a gauge, which each run of a program pushes with the time at which it
// finished, is at least limit after the last run, for one value of the label unless that is empty. Each run is
// another pod and therefore another series, and the collector goes on showing those of runs that ended up to ten
// minutes ago.
func inLastRun(metric, finished, label string, limit float64, held time.Duration) Condition {
	when := fmt.Sprintf("`%s` of the last run is at least %v for %s", metric, limit, minutes(held))
	by, of := "", ""
	if label != "" {
		when += fmt.Sprintf(", for one `%s`", label)
		by, of = fmt.Sprintf(" by (%s) ", label), fmt.Sprintf(" by {%s}", label)
	}
	return Condition{
		When: when, Metric: metric, Pushed: true, For: held, critical: limit,
		prometheus: fmt.Sprintf("max%s(%s and on (job, instance) (%s == on () group_left () max(%s))) >= %v",
			by, metric, finished, finished, limit),
		datadog: func(environment string) string {
			return fmt.Sprintf("min(last_%s):max:%s{env:%s}%s >= %v", span(held), metric, environment, of, limit)
		},
	}
}

// notSince holds if a time that a program pushes is longer ago than limit, or missing. Datadog's
// queries have no clock, so its monitor waits for data: a run that does not succeed sends none.
func notSince(metric string, limit, held time.Duration) Condition {
	return Condition{
		When:   fmt.Sprintf("`%s` is more than %s ago, or missing, for %s", metric, minutes(limit), minutes(held)),
		Metric: metric, Pushed: true, For: held, critical: 1, noData: limit + held,
		prometheus: fmt.Sprintf("time() - %s > %v", orZero(fmt.Sprintf("max(max_over_time(%s[%s]))", metric, span(limit))), limit.Seconds()),
		datadog: func(environment string) string {
			return fmt.Sprintf("max(last_%s):max:%s{env:%s} < 1", span(held), metric, environment)
		},
	}
}

// keepsFailing holds if the pods of a service have together counted so many failures of a task in
// each window. increase() begins with the first sample of a series, so that what a new pod counted
// before its first scrape is added. A new Prometheus therefore counts everything once, for one
// window.
func keepsFailing(metric string, failures float64, window, held time.Duration) Condition {
	const task = "task"
	first := fmt.Sprintf("min_over_time(%s[%s])", metric, span(window))
	return Condition{
		When: fmt.Sprintf("`%s` of one `%s` and `%s` grows by at least %v within %s, for %s",
			metric, labelService, task, failures, minutes(window), minutes(held)),
		Metric: metric, For: held, critical: failures,
		prometheus: fmt.Sprintf("sum by (%s, %s) (increase(%s[%s]) + (%s unless %s offset %s or 0 * %s)) >= %v",
			labelService, task, metric, span(window), first, metric, span(window), first, failures),
		datadog: func(environment string) string {
			return fmt.Sprintf("min(last_%s):moving_rollup(sum:%s.%s.count{env:%s} by {%s,%s}.as_count(), %v, 'sum') >= %v",
				span(held), DatadogNamespace, datadogName(metric), environment, labelService, task, window.Seconds(), failures)
		},
	}
}

// stays holds if a number of things is not 0 for some time. Each pod shows what it last read from the
// database, so all show the same, and a new one 0.
func stays(metric string, window, held time.Duration) Condition {
	return Condition{
		When:   fmt.Sprintf("the greatest `%s` within %s is at least 1, for %s", metric, minutes(window), minutes(held)),
		Metric: metric, For: held, critical: 1,
		prometheus: fmt.Sprintf("max(max_over_time(%s[%s])) >= 1", metric, span(window)),
		datadog: func(environment string) string {
			return fmt.Sprintf("min(last_%s):moving_rollup(max:%s.%s{env:%s}, %v, 'max') >= 1",
				span(held), DatadogNamespace, datadogName(metric), environment, window.Seconds())
		},
	}
}

func minutes(d time.Duration) string { return fmt.Sprintf("%d minutes", d/time.Minute) }

// datadogName is how the agent's check names a metric that it reads: a counter's without _total.
func datadogName(metric string) string { return strings.TrimSuffix(metric, "_total") }

// DatadogMetrics are the metrics that the agent's check has to read, by the names that it gives
// them.
func DatadogMetrics() []string {
	metrics := []string{Metric}
	for _, alarm := range Alarms(false) {
		metrics = append(metrics, datadogName(alarm.Metric))
	}
	return metrics
}

func (a Alarm) what() string { return fmt.Sprintf("%s See docs/%s.", a.Do, a.Page) }

// Rule is the alarm as a rule of Prometheus.
func (a Alarm) Rule() Rule {
	return Rule{
		Alert: a.Name, Expr: a.prometheus, For: span(a.For), Labels: map[string]string{"severity": a.Severity},
		Annotations: map[string]string{"summary": a.Means, "description": a.what()},
	}
}

var camel = regexp.MustCompile(`([a-z])([A-Z])`)

// Datadog is the alarm as a monitor of Datadog.
func (a Alarm) Datadog(place DatadogPlace) DatadogObject {
	return DatadogObject{strings.ToLower(camel.ReplaceAllString(a.Name, "$1-$2")), "monitor", DatadogMonitor{
		Name:    fmt.Sprintf("%s (%s)", a.Name, place.Environment),
		Type:    "query alert",
		Query:   a.datadog(place.Environment),
		Message: a.Means + "\n\n" + a.what(),
		Tags:    []string{"env:" + place.Environment, "managed-by:loja-veloz", "severity:" + a.Severity},
		Options: DatadogMonitorOptions{
			Thresholds: DatadogCritical{a.critical}, NotifyNoData: a.noData > 0, NoDataTimeframe: int(a.noData / time.Minute), IncludeTags: true,
		},
	}}
}
