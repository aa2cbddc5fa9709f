//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/cluster"
)

// A row is a version, or something that happens while a good version is shipped, and the drill
// that shows what becomes of it.
type row struct {
	name string
	// brief rows ship with two short weights: they are not about the way through the weights.
	brief bool
	drill func(t *testing.T) score
}

var rows = []row{
	{"good version", false, goodVersion},
	{"every request fails", false, everyRequestFails},
	{"the same under Flagger", false, flaggerShips},
	{"400 ms slower", false, bad("latency", 5*time.Minute)},
	{"4 % take 2 s", false, bad("latency:delay=2000ms:share=0.04", 10*time.Minute)},
	{"only POST fails", false, onlyPostFails},
	{"fails after 60 s", false, bad("errors:after=60s", 10*time.Minute)},
	{"memory leak", false, memoryLeak},
	{"little traffic", false, littleTraffic},
	{"crash loop", false, bad("crashloop", 10*time.Minute)},
	{"never ready", false, bad("unready", 10*time.Minute)},
	{"controller killed", false, controllerKilled},
	{"bad migration", false, badMigration},
	{"bad setting", false, badSetting},
	{"resized while it waits", false, resizedCanary},
	{"no traffic", true, noTraffic},
	{"metrics backend down", true, backendDown},
	{"gateways killed", true, gatewaysKilled},
	{"kubelet restarted", true, kubeletRestarted},
}

// TestScoreboard drills every row and writes it to docs/reliability.md. A row alone is
// -run 'TestScoreboard/little_traffic'. A goal that counts requests fails the test if it is
// missed; a goal in seconds is only reported, because it depends on the machine.
func TestScoreboard(t *testing.T) {
	if os.Getenv("E2E_SCOREBOARD") == "" {
		t.Skip("only in make drill")
	}
	needsCluster(t)
	page := scoreboard{at: time.Now().UTC().Format(time.DateOnly) + " " + commit(t)}
	t.Cleanup(func() { pace(t, false) })
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			s := score{outcome: "**the drill failed**"}
			defer func() { page.write(t, r.name, s) }()
			pace(t, r.brief)
			s = r.drill(t)
			for _, g := range s.goals {
				if g.counted && !g.met {
					t.Errorf("missed: %s", g.text)
				}
			}
		})
	}
}

// commit names the version that is drilled. A + says that the working tree differs from it.
func commit(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(start(t, "bash", "-ec", `echo "$(git rev-parse --short HEAD)$(git diff --quiet HEAD -- . ':!docs' || echo +)"`).
		wait(t, time.Minute, true))
}

// pace sets the weights of the canaries to come: the defaults, or two of 10 s each.
func pace(t *testing.T, brief bool) {
	t.Helper()
	line := `pulumi config rm -s local --path loja-veloz:canary`
	if brief {
		line += `; pulumi config set-all -s local --path --plaintext 'loja-veloz:canary.weights[0]=20' \
			--plaintext 'loja-veloz:canary.weights[1]=80' --plaintext loja-veloz:canary.pauseSeconds=10 \
			--plaintext loja-veloz:canary.progressDeadlineSeconds=60`
	}
	shell(t, line)
}

// A score is how a drill went.
type score struct {
	outcome string
	verdict time.Duration // from the canary's first traffic, or the update's begin if it has none
	back    time.Duration // from the abort until stable has all traffic; 0 if there was no abort
	sent    sent
	share   float64 // of the requests that the canary had, by its weights
	reason  string  // what make deploy has printed
	seen    []string
	goals   []goal
}

// A goal is what was asked of a row.
type goal struct {
	text         string
	met, counted bool // counted goals do not depend on the machine's speed
}

func (s score) String() string {
	seconds := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	notes := s.seen
	for _, g := range s.goals {
		verdict := "met"
		if !g.met {
			verdict = "**missed**"
		}
		notes = append(notes, g.text+": "+verdict)
	}
	percent := ""
	if s.sent.total > 0 {
		percent = fmt.Sprintf("%.2f %%", 100*float64(s.sent.failed)/float64(s.sent.total))
	}
	return fmt.Sprintf("%s | %s | %s | %d | %d | %s | %s", s.outcome, seconds(s.verdict), seconds(s.back), s.sent.total, s.sent.failed,
		percent, strings.Join(notes, "; "))
}

// noFailure is the goal that of at least so many requests none fails.
func noFailure(s sent, least int) goal {
	text := "0 failed"
	if least > 0 {
		text = fmt.Sprintf("0 failed of at least %d", least)
	}
	return goal{text, s.failed == 0 && s.total >= least, true}
}

// A scoreboard is the table in docs/reliability.md.
type scoreboard struct{ at string }

const (
	boardHead = "| version, or what happens | outcome | verdict | stable has all | requests | failed | share | seen | run |\n" +
		"|---|---|---|---|---|---|---|---|---|\n"
	boardStart = "<!-- scoreboard: written by make drill -->\n"
	boardEnd   = "<!-- end of scoreboard -->\n"
)

// write puts a row into the table. The others stay, each with the run that it is from.
func (b scoreboard) write(t *testing.T, name string, s score) {
	t.Helper()
	path := filepath.Join(root, "docs", "reliability.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, opened := strings.Cut(string(text), boardStart)
	table, after, closed := strings.Cut(rest, boardEnd)
	if !opened || !closed {
		t.Fatalf("%s has no lines %q and %q", path, boardStart, boardEnd)
	}
	lines := map[string]string{}
	for line := range strings.Lines(table) {
		if cells := strings.SplitN(line, " | ", 2); len(cells) == 2 {
			lines[strings.TrimPrefix(cells[0], "| ")] = line
		}
	}
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	lines[name] = fmt.Sprintf("| %s | %s | %s, load %s |\n", name, s, b.at, strings.Fields(string(average))[0])
	t.Logf("%sthe requests failed by: %s", lines[name], s.sent.errors)
	table = boardHead
	for _, r := range rows {
		table += lines[r.name]
	}
	if err := os.WriteFile(path, []byte(before+boardStart+table+boardEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func goodVersion(t *testing.T) score {
	const least = 20_000
	s := shipNew(t, "", look(100, least)).promoted(10 * time.Minute)
	s.goals = []goal{noFailure(s.sent, least)}
	return s
}

// bad is the drill of a version with a fault, under 50 requests/s.
func bad(fault string, limit time.Duration) func(*testing.T) score {
	return func(t *testing.T) score { return shipNew(t, fault, look(50, 0)).aborted(limit) }
}

func everyRequestFails(t *testing.T) score {
	s := bad("errors", 5*time.Minute)(t)
	rollback = s.verdict + s.back
	if s.sent.failed == 0 {
		t.Error("no request failed: the version was never asked")
	}
	s.goals = []goal{
		{"verdict within 45 s", s.verdict <= 45*time.Second, false},
		{"stable within 5 s", s.back <= 5*time.Second, false},
		onlyTheCanary(s),
	}
	return s
}

// onlyTheCanary is the goal that no more requests fail than the canary had.
func onlyTheCanary(s score) goal {
	ratio := float64(s.sent.failed) / max(1, s.share)
	return goal{fmt.Sprintf("%.2f x the canary's share fail, at most 1.05", ratio), ratio <= 1.05, false}
}

var restarted = regexp.MustCompile(`had \d+ more restarts`)

// memoryLeak ends a version whose processes the kernel kills. Most of the time none of its pods is ready.
func memoryLeak(t *testing.T) score {
	s := bad("leak", 10*time.Minute)(t)
	if found := restarted.FindString(s.reason); found != "" {
		s.seen = append(s.seen, "aborted because its containers "+found)
	} else {
		t.Errorf("make deploy does not say that containers restarted:\n%s", s.reason)
	}
	share := onlyTheCanary(s)
	share.counted = true
	s.goals = []goal{share}
	return s
}

func onlyPostFails(t *testing.T) score {
	return shipNew(t, "errors:method=POST", buy).aborted(10 * time.Minute)
}

var counted = regexp.MustCompile(`errors: (\d+ of \d+) requests to the new version are bad`)

// littleTraffic ends a version after the few requests that its pods had.
func littleTraffic(t *testing.T) score {
	s := shipNew(t, "errors", look(2, 0)).aborted(10 * time.Minute)
	if found := counted.FindStringSubmatch(s.reason); found != nil {
		s.seen = append(s.seen, "aborted after "+found[1]+" requests were bad")
	} else {
		t.Errorf("make deploy does not say how many requests were bad:\n%s", s.reason)
	}
	return s
}

// controllerKilled kills the Rollouts controller as soon as a bad version has traffic.
func controllerKilled(t *testing.T) score {
	d := shipNew(t, "errors", look(50, 0))
	d.untilTraffic()
	const program = "/bin/rollouts-controller"
	for _, pid := range containers(t, program) {
		kill(t, program, pid)
	}
	return d.aborted(5 * time.Minute)
}

// badMigration ships a version that cannot change its schema: the Rollout is never changed.
func badMigration(t *testing.T) score {
	before, err := stateOf(judged)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d := shipNew(t, "migration", look(50, 0))
	s := score{outcome: "not shipped", reason: d.deploy.wait(t, 15*time.Minute, false), verdict: time.Since(began)}
	s.sent = d.stop()
	if !strings.Contains(s.reason, judged+"-migrate") {
		t.Errorf("make deploy does not name the Job that failed:\n%s", s.reason)
	}
	after, err := stateOf(judged)
	if err != nil {
		t.Fatal(err)
	}
	s.seen = []string{"the verdict includes the build and three repetitions of the Job"}
	s.goals = []goal{
		{"the Rollout is unchanged", after.rollout.Metadata.Generation == before.rollout.Metadata.Generation, true},
		noFailure(s.sent, 0),
	}
	return s
}

func badSetting(t *testing.T) score {
	const least = 20_000
	s := score{outcome: "aborted by hand", sent: undoSetting(t, least)}
	s.goals = []goal{noFailure(s.sent, least)}
	return s
}

// resizedCanary pauses a canary as a person does, lets the autoscaler add a pod, and aborts it.
// The controller does nothing about a Rollout that is paused and resized, until the pause ends.
func resizedCanary(t *testing.T) score {
	d := shipNew(t, "", look(50, 0))
	d.untilTraffic()
	get := func(path string) string {
		return must(t, "-n", "shop", "get", "rollout", judged, "-o", "jsonpath={"+path+"}")
	}
	must(t, "-n", "shop", "patch", "rollout", judged, "--type=merge", "-p", `{"spec":{"paused":true}}`)
	d.until(time.Minute, "the canary is paused", func(now state) bool { return now.rollout.Status.Phase == "Paused" })
	size, err := strconv.Atoi(get(".spec.replicas"))
	if err != nil {
		t.Fatal(err)
	}
	resize(t, size+1)
	d.until(2*time.Minute, "the canary is resized", func(state) bool { return get(".spec.replicas") == strconv.Itoa(size+1) })
	if get(".spec.paused") != "true" {
		t.Error("the canary is not paused any more")
	}
	abort := start(t, "make", "--no-print-directory", "abort", "SERVICE="+judged)
	s := d.aborted(5 * time.Minute)
	abort.wait(t, 2*time.Minute, true)
	s.outcome = "aborted by hand"
	s.goals = []goal{noFailure(s.sent, 0)}
	return s
}

var wanting = regexp.MustCompile(`errors needs about (\d+) more requests`)

// noTraffic ships a good version that nobody uses: it waits, and requests promote it.
func noTraffic(t *testing.T) score {
	d := shipNew(t, "", none)
	d.untilTraffic()
	const waits = 3
	out := d.deploy.wait(t, 10*time.Minute, false)
	d.gaveUp = true
	waited := time.Since(d.started())
	if code := d.deploy.cmd.ProcessState.ExitCode(); code != waits {
		t.Errorf("loja deploy ends with %d, want %d:\n%s", code, waits, out)
	}
	found := wanting.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("make deploy does not say how many requests are needed:\n%s", out)
	}
	now, err := d.observe()
	if err != nil || !now.rollout.UnderWay() || now.weight != 80 {
		t.Fatalf("the canary does not wait: %+v, %v", now.rollout.Line(), err)
	}
	d.stop = begin(t, look(50, 0))
	s := d.promoted(5 * time.Minute)
	s.seen = []string{fmt.Sprintf("exit code 3 after %.0f s, `%s`; then the requests promote it", waited.Seconds(), found[0])}
	s.goals = []goal{noFailure(s.sent, 0)}
	return s
}

// backendDown takes Prometheus away from a canary until that keeps its last weight.
func backendDown(t *testing.T) score {
	d := shipNew(t, "", look(50, 0))
	d.untilTraffic()
	scale := func(pods string) {
		must(t, "-n", "observability", "scale", "deployment/prometheus", "--replicas="+pods)
	}
	t.Cleanup(func() { scale("1") })
	scale("0")
	const waiting = "step 5 of 5, 80 % of the traffic to the new version"
	d.until(3*time.Minute, "the canary waits", func(now state) bool {
		_, last, _ := strings.Cut(d.deploy.out.String(), waiting)
		return strings.Contains(last, "the metrics backend does not answer")
	})
	scale("1")
	s := d.promoted(5 * time.Minute)
	s.seen = []string{"waits at 80 % and says `the metrics backend does not answer`"}
	s.goals = []goal{noFailure(s.sent, 0)}
	return s
}

// gatewaysKilled kills a pod of each gateway while a good version is shipped.
func gatewaysKilled(t *testing.T) score {
	d := shipNew(t, "", look(50, 0))
	d.untilTraffic()
	for _, pid := range containers(t, proxy) {
		kill(t, proxy, pid)
	}
	s := d.promoted(5 * time.Minute)
	s.seen = []string{fmt.Sprintf("%.1f s from the first failed request to the last", s.sent.last.Sub(s.sent.first).Seconds())}
	return s
}

// kubeletRestarted kills the node's kubelet while a good version is shipped, and starts it again.
func kubeletRestarted(t *testing.T) score {
	d := shipNew(t, "", look(50, 0))
	d.untilTraffic()
	processes, err := cluster.Processes()
	if err != nil || len(processes["kubelet"]) == 0 {
		t.Fatalf("no kubelet runs (%v)", err)
	}
	for _, pid := range processes["kubelet"] {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	mk(t, "cluster-up")
	s := d.promoted(5 * time.Minute)
	s.goals = []goal{noFailure(s.sent, 0)}
	return s
}
