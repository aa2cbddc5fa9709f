package main

import (
	"fmt"
	"html"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/infra/slo"
)

var (
	tags   = regexp.MustCompile(`<[^>]*>`)
	spaces = regexp.MustCompile(`[\s\x{a0}]+`)
)

// words is a page as it is read: without tags, and with single spaces.
func words(page string) string {
	return strings.TrimSpace(spaces.ReplaceAllString(html.UnescapeString(tags.ReplaceAllString(page, " ")), " "))
}

func wantIn(t *testing.T, page string, parts ...string) {
	t.Helper()
	text := words(page)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %q:\n%s", part, text)
		}
	}
}

func allPages() []string {
	return []string{
		"/", "/services/api-gateway", "/services/estoque", "/services/pagamentos", "/services/pedidos", "/services/reviews",
		"/services/sample-web-app", "/payments", "/orders", "/orders?id=" + order, "/orders?id=x", "/nowhere",
	}
}

func TestEveryServiceIsShownInWords(t *testing.T) {
	page := newApp(t, shop(t).settings()).get("/").Body.String()
	wantIn(t, page,
		"api-gateway stable healthy: the new version has all traffic Smallest budget left: 80 % of error-rate",
		"estoque canary weight 40 % step 4 of 9, 40 % of the traffic to the new version, 2 pods updated, 2 available, CanaryPauseStep",
		"pagamentos aborted aborted, the stable version has all traffic", "errors: 37 of 120 requests to the new version are bad (30.8 %), tolerated are 0.1 % server errors",
		"pedidos canary weight 80 % step 9 of 9, 80 % of the traffic to the new version, 2 pods updated, 2 available: errors needs about 650 more requests",
		"Smallest budget left: overspent by 10 % of error-rate",
		"reviews missing there is no Rollout of this name",
		"sample-web-app starting", "1 of 1 new pods ImagePullBackOff: web",
	)
	for _, name := range []string{"api-gateway", "reviews"} {
		if !strings.Contains(page, `href="/services/`+name+`"`) {
			t.Errorf("there is no link to %s", name)
		}
	}
}

func TestACanaryIsShownWithItsEvidence(t *testing.T) {
	s := shop(t)
	a := newApp(t, s.settings())
	wantIn(t, a.get("/services/estoque").Body.String(),
		"Weight 40 % Step 4 of 9 Stable pods 2 of 2 ready Canary pods 1 of 1 ready",
		// A flawless canary needs 975 requests by errors, 17 by latency and 95 by p99 (docs/slo.md).
		"errors tolerated: 0.1 % server errors 320 0 655 more open",
		"latency tolerated: 5 % slower than 200ms 320 0 none good", "p99 tolerated: 1 % slower than 500ms 320 0 none good")

	s = shop(t)
	s.seen["estoque"], s.bad["estoque"] = 120, 60
	wantIn(t, newApp(t, s.settings()).get("/services/estoque").Body.String(), "errors tolerated: 0.1 % server errors 120 60 none bad")

	wantIn(t, a.get("/services/api-gateway").Body.String(), "No canary is being judged.", "Canary pods 0 of 0 ready")
}

func TestObjectivesShowWhatIsLeftAndHowFastItBurns(t *testing.T) {
	a := newApp(t, shop(t).settings())
	wantIn(t, a.get("/services/estoque").Body.String(),
		"availability 99.9 % without a server error, in 30 days 90 % 38 min 53 s of 43 min 12 s 0.4 0.1",
		"latency 95 % within 200ms, in 7 days 80 % 6 h 43 min of 8 h 24 min 0.8 0.2",
		"error-rate 99.9 % without a server error, in 24 hours 70 % 1 min of 1 min 26 s 1.2 too fast 0.3")
	wantIn(t, a.get("/services/reviews").Body.String(), "availability 99.9 % without a server error, in 30 days no value of 43 min 12 s no value no value")
}

func TestReleasesSayWhyTheyEnded(t *testing.T) {
	a := newApp(t, shop(t).settings())
	page := words(a.get("/services/api-gateway").Body.String())
	last := -1
	for _, want := range []string{
		"Revision 6 000000000006 stable", "Every criterion found it good. It serves now.",
		"Revision 5 000000000005 aborted", "errors: 37 of 120 requests to the new version are bad (30.8 %), tolerated are 0.1 % server errors",
		"Revision 4 000000000004 ended", "The cluster keeps no verdict on it",
		"Revision 3 000000000003 replaced", "Every criterion found it good. A later version replaced it.",
	} {
		at := strings.Index(page, want)
		if at <= last {
			t.Errorf("%q is at %d, want it after %d:\n%s", want, at, last, page)
		}
		last = at
	}
	wantIn(t, a.get("/services/pagamentos").Body.String(), "Revision 3 000000000003 aborted")
	wantIn(t, a.get("/services/estoque").Body.String(), "Revision 2 000000000002 canary", "Revision 1 000000000001 stable")
}

func TestPlotsHaveATextAlternative(t *testing.T) {
	page := newApp(t, shop(t).settings()).get("/services/estoque").Body.String()
	for _, id := range []string{"rate", "durations"} {
		picture := regexp.MustCompile(`(?s)<svg [^>]*role="img" aria-labelledby="` + id + `-title ` + id + `-desc">.*?</svg>`).FindString(page)
		if picture == "" {
			t.Fatalf("there is no picture %s:\n%s", id, page)
		}
		desc := regexp.MustCompile(`<desc[^>]*>([^<]*)</desc>`).FindStringSubmatch(picture)
		want := map[string]string{
			"rate":      `stable is [\d.]+/s, and was between [\d.]+/s and [\d.]+/s; canary is`,
			"durations": `p50 is [\d.]+ ms, and was .*; p95 is .*; p99 is .*, in the last 30 minutes\.`,
		}[id]
		if desc == nil || !regexp.MustCompile(want).MatchString(desc[1]) {
			t.Errorf("the description of %s is %q, want %s", id, desc, want)
		}
		if strings.Contains(picture, "NaN") || strings.Contains(picture, "Inf") {
			t.Errorf("the picture has a value that no browser draws:\n%s", picture)
		}
	}
	wantIn(t, newApp(t, newStandins(t).settings()).get("/services/estoque").Body.String(), "Releases The cluster keeps no release.")
}

func TestATraceIsATreeWithVersions(t *testing.T) {
	response := newApp(t, shop(t).settings()).get("/orders?id=" + order)
	if response.Code != http.StatusOK {
		t.Fatalf("status %d", response.Code)
	}
	wantIn(t, response.Body.String(), "4 spans of 4 services",
		"api-gateway POST /api-gateway 201 stable 40 ms at 0 ms, version 000000000006",
		"pedidos POST /pedidos 201 canary 31 ms at 1.5 ms, version 000000000002",
		"estoque POST /estoque 201 stable 22 ms at 3 ms, version 000000000001",
		"pagamentos POST /pagamentos timeout failed 13 ms at 4.5 ms, version 000000000009")
	_, tree, _ := strings.Cut(response.Body.String(), `<ul class="tree">`)
	above, _, found := strings.Cut(tree, "POST /pagamentos")
	if depth := strings.Count(above, "<ul"); !found || depth != 3 {
		t.Errorf("pagamentos is %d deep in the tree, want 3: each service called the next\n%s", depth, tree)
	}
	wantIn(t, newApp(t, shop(t).settings()).get("/orders?id="+strings.Replace(order, "0190", "0191", 1)).Body.String(), "Jaeger has no trace of this order.")
}

func TestABadOrderIsRefusedByField(t *testing.T) {
	s := shop(t)
	a := newApp(t, s.settings())
	for _, id := range []string{"x", "0190a7c5", order + "0", "urn:uuid:" + order, "%7B" + order + "%7D", "'%22%3E%3Cscript%3E"} {
		response := a.get("/orders?id=" + id)
		if response.Code != http.StatusBadRequest {
			t.Errorf("id %s: status %d, want 400", id, response.Code)
		}
		page := response.Body.String()
		wantIn(t, page, "id must be the id of an order")
		if !strings.Contains(page, `aria-invalid="true" aria-describedby="wrong"`) || strings.Contains(page, "<script>") {
			t.Errorf("id %s: the field is not marked, or not escaped:\n%s", id, page)
		}
	}
	if s.asked["traces"] > 0 {
		t.Error("Jaeger was asked for an id that no order has")
	}
	if response := a.get("/orders"); response.Code != http.StatusOK || strings.Contains(response.Body.String(), "must be") {
		t.Errorf("the empty form is refused: %d", response.Code)
	}
}

func TestAnUnknownServiceIsNotFound(t *testing.T) {
	a := newApp(t, shop(t).settings())
	for _, path := range []string{"/services/nothing", "/services/..%2f..%2fetc", "/static/nothing.css", "/services/"} {
		if response := a.get(path); response.Code != http.StatusNotFound || !strings.Contains(response.Body.String(), "<h1>Not Found</h1>") {
			t.Errorf("%s: status %d\n%s", path, response.Code, response.Body.String())
		}
	}
}

// TestPagesAreSmall also fills the trace with more spans, and the list with more payments, than are
// shown.
func TestPagesAreSmall(t *testing.T) {
	s := shop(t)
	var services []string
	for i := range 3000 {
		services = append(services, fmt.Sprintf("service-%d", i))
	}
	s.traces[order] = []object{traced(s, services...)}
	for i := range 60 { // reasons that fill the controller's history
		s.run("pagamentos", "Background", 2, failedRun)
		s.run("pagamentos", "Step", 1+i%2, failedRun)
	}
	s.payments = owed(150)
	for i := range s.payments {
		s.payments[i].Problem, s.payments[i].RefundReference = new(strings.Repeat("refused \"because\" ", 100)), nil
	}
	a := newApp(t, s.settings())
	for _, path := range allPages() {
		if size := a.get(path).Body.Len(); size > 100<<10 {
			t.Errorf("%s has %d bytes, more than 100 KiB", path, size)
		}
	}
	wantIn(t, a.get("/orders?id="+order).Body.String(), "3000 spans of 3000 services", "2800 more spans are not shown")
	for _, file := range []string{"console.css", "live.js", "favicon.svg"} {
		if size := a.get("/static/" + file).Body.Len(); size > 10<<10 || file == "live.js" && size > 2<<10 {
			t.Errorf("%s has %d bytes", file, size)
		}
	}
}

func TestASourceThatIsAwayLeavesTheRest(t *testing.T) {
	for away, c := range map[string]struct {
		stop          func(*standins)
		service, lost string
	}{
		"Kubernetes": {func(s *standins) { s.kubernetes.Close() }, "availability 99.9 % without a server error, in 30 days 90 %", "step 4 of 9"},
		"Prometheus": {func(s *standins) { s.prometheus.Close() }, "step 4 of 9, 40 % of the traffic", "655 more"},
	} {
		s := shop(t)
		c.stop(s)
		a := newApp(t, s.settings())
		before := time.Now().UTC()
		for _, path := range []string{"/", "/services/estoque"} {
			response := a.get(path)
			page := words(response.Body.String())
			if response.Code != http.StatusOK || strings.Count(page, away+" does not answer since "+before.Format("2 January 15:04")) != 1 {
				t.Errorf("%s: status %d, and the page does not say once that %s is away:\n%s", path, response.Code, away, page)
			}
			if strings.Contains(page, c.lost) || path != "/" && !strings.Contains(page, c.service) {
				t.Errorf("%s without %s has %q or lacks %q:\n%s", path, away, c.lost, c.service, page)
			}
			if strings.Contains(page, s.kubernetes.URL) || strings.Contains(page, s.prometheus.URL) {
				t.Errorf("%s shows the address of a source", path)
			}
		}
	}
	s := shop(t)
	s.jaeger.Close()
	wantIn(t, newApp(t, s.settings()).get("/orders?id="+order).Body.String(), "Jaeger does not answer since", "connection refused")
	none := shop(t).settings()
	none.jaeger, none.prometheus = "", ""
	a := newApp(t, none)
	wantIn(t, a.get("/orders?id="+order).Body.String(), "Traces are not kept here: JAEGER_URL is not set.")
	wantIn(t, a.get("/services/estoque").Body.String(), "Metrics are not collected here: PROMETHEUS_URL is not set.", "step 4 of 9")
}

func TestASourceThatStallsDelaysAPageByItsDeadline(t *testing.T) {
	s := shop(t)
	s.stalled = make(chan struct{})
	t.Cleanup(func() { close(s.stalled) }) // before the servers close, which wait for their answers
	wantIn(t, newApp(t, s.settings()).get("/").Body.String(), "Prometheus does not answer since", "no answer within 1s", "step 4 of 9")
}

func TestManyTabsCostOneRead(t *testing.T) {
	s := shop(t)
	a := newApp(t, s.settings())
	began := time.Now()
	var tabs sync.WaitGroup
	for range 50 {
		tabs.Go(func() { a.get("/services/estoque") })
	}
	tabs.Wait()
	rounds := 1 + int(time.Since(began)/(2*time.Second)) // answers are reused for 2 s
	for what, want := range map[string]int{
		"rollouts": 1, "analysisruns": 1, "replicasets": 1, "pods": 1, "/api/v1/query": 2, "/api/v1/query_range": 1,
	} {
		if got := s.asked[what]; got < want || got > want*rounds {
			t.Errorf("%d requests for %s, want %d for each of %d rounds", got, what, want, rounds)
		}
	}
}

func TestHostileTextIsEscaped(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	s := shop(t)
	s.objects["rollouts"][1]["status"].(object)["message"] = evil
	for _, list := range s.objects {
		for _, o := range list {
			if meta, ok := o["metadata"].(object); ok {
				meta["generateName"] = evil
			}
		}
	}
	for _, set := range s.objects["replicasets"] {
		set["spec"].(object)["template"].(object)["spec"] = pod(evil)
	}
	trace := s.traces[order][0]
	trace["traceID"] = evil
	trace["spans"].([]object)[0]["operationName"] = evil
	trace["processes"].(object)["pedidos"] = object{"serviceName": evil, "tags": []object{{"key": "service.version", "value": evil}}}
	s.payments[0].Problem, s.payments[1].AcquirerReference = new(evil), new(evil)
	a := newApp(t, s.settings())
	shown := 0
	for _, path := range allPages() {
		page := a.get(path).Body.String()
		if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img") {
			t.Errorf("%s has markup of a stranger:\n%s", path, page)
		}
		if strings.Contains(words(page), "alert(1)") {
			shown++
		}
	}
	if shown < 5 {
		t.Errorf("%d pages show the hostile text, want the one of all services, of a message, of images, of payments and of a trace", shown)
	}
}

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	a := newApp(t, shop(t).settings())
	external := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9]|\bdata:|<script>|<style|\bon[a-z]+=|\bstyle=`)
	for _, path := range allPages() {
		response := a.get(path)
		if found := external.FindString(response.Body.String()); found != "" {
			t.Errorf("%s contains %q, which the page's own policy forbids", path, found)
		}
		if got := response.Header().Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; ") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: Content-Security-Policy = %q", path, got)
		}
		for _, link := range regexp.MustCompile(`(?:href|src)="(/static/[^"]+)"`).FindAllStringSubmatch(response.Body.String(), -1) {
			if file := a.get(link[1]); file.Code != http.StatusOK {
				t.Errorf("%s loads %s: status %d", path, link[1], file.Code)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	read := func(env map[string]string) (settings, error) {
		r := config.NewReader(nil, func(name string) string { return env[name] })
		s := readSettings(r)
		return s, r.Err()
	}
	base := map[string]string{"KUBERNETES_URL": "http://127.0.0.1:8001"}
	for text, want := range map[string]string{
		"":                                "OBJECTIVES: names no service",
		"[]":                              "OBJECTIVES: is not a JSON object of the objectives of each service",
		`{"web":{"Uptime":99}}`:           `unknown field "Uptime"`,
		`{"web":{"Availability":100}}`:    "OBJECTIVES: web: availability.percent is 100",
		`{"web":{"BaselineRPS":"a lot"}}`: "OBJECTIVES: is not a JSON object",
	} {
		base["OBJECTIVES"] = text
		if _, err := read(base); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OBJECTIVES=%s: %v, want %q", text, err, want)
		}
	}
	if _, err := os.Stat(accountFolder); err != nil {
		if _, err := read(map[string]string{}); err == nil || !strings.Contains(err.Error(), "KUBERNETES_URL: is needed outside of a cluster") {
			t.Errorf("without a cluster: %v", err)
		}
	}
}

func TestDurationsAreReadable(t *testing.T) {
	for d, want := range map[time.Duration]string{
		86400 * time.Millisecond: "1 min 26 s", 43*time.Minute + 12*time.Second: "43 min 12 s", 8*time.Hour + 24*time.Minute: "8 h 24 min",
		0: "0 s", -90 * time.Second: "-1 min 30 s", 50 * time.Hour: "2 d 2 h", time.Hour: "1 h", 3500 * time.Millisecond: "3.5 s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0", 999.6: "1,000", 1234567: "1,234,567", -1200: "-1,200"} {
		if got := count(n); got != want {
			t.Errorf("count(%v) = %q, want %q", n, got, want)
		}
	}
	if got := days(slo.Windows[1]); got != "7 days" {
		t.Errorf("7 days are %q", got)
	}
}

// TestServe serves the console over the stand-ins at CONSOLE_STANDINS, such as 127.0.0.1:8099,
// for as long as CONSOLE_STANDINS_FOR, such as 10m, to look at the pages and to browse them with
// tools/e2e/console_test.go.
func TestServe(t *testing.T) {
	address := os.Getenv("CONSOLE_STANDINS")
	if address == "" {
		t.Skip("CONSOLE_STANDINS is not set: there is nobody to look")
	}
	duration, err := time.ParseDuration(os.Getenv("CONSOLE_STANDINS_FOR"))
	if err != nil {
		t.Fatalf("CONSOLE_STANDINS_FOR: %v", err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: newApp(t, shop(t).settings()), ReadHeaderTimeout: time.Minute}
	time.AfterFunc(duration, func() { _ = server.Close() })
	if err := server.Serve(listener); err != http.ErrServerClosed {
		t.Fatal(err)
	}
}

func TestAlarmsSayWhatTheyMeanAndWhatToDo(t *testing.T) {
	s := newStandins(t)
	calm := newApp(t, s.settings()).get("/").Body.String()
	if !strings.Contains(calm, "No alarm fires.") {
		t.Errorf("without an alarm:\n%s", calm)
	}
	s = newStandins(t)
	s.alerts = []object{
		{"alertname": "PaymentsNeedPerson", "alertstate": "firing", "severity": "ticket"},
		{"alertname": "AuditViolation", "alertstate": "firing", "severity": "page", "invariant": "<charged_once>"},
		{"alertname": "BackgroundWorkFails", "alertstate": "firing", "service": "pedidos", "task": "checkout"},
	}
	page := newApp(t, s.settings()).get("/").Body.String()
	at := -1
	for _, want := range []string{
		"AuditViolation", "<code>invariant &lt;charged_once&gt;</code>", "<code>make audit</code>", "BackgroundWorkFails",
		"<code>service pedidos</code>", "<code>task checkout</code>", "PaymentsNeedPerson", "/ko-app/pagamentos needing-person</code>",
	} {
		next := strings.Index(page, want)
		if next <= at {
			t.Errorf("the page lacks %s, or has it too early:\n%s", want, page)
		}
		at = next
	}
	if strings.Contains(page, "No alarm fires.") || strings.Contains(page, "AuditStale") {
		t.Error("the page shows an alarm that does not fire, or none")
	}
	s = newStandins(t)
	s.prometheus.Close()
	if page := newApp(t, s.settings()).get("/").Body.String(); strings.Contains(page, "No alarm fires.") || !strings.Contains(page, "It is not known whether an alarm fires") {
		t.Errorf("without Prometheus:\n%s", page)
	}
}
