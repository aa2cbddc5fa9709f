package costs

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const root = "../../.."

var update = flag.Bool("update", false, "write the computed table into docs/aws/costs.md")

// at is the day of the table in docs/aws/costs.md.
var at = time.Date(2026, time.November, 29, 0, 0, 0, 0, time.UTC)

// usage is what docs/aws/costs.md assumes of an environment.
var usage = map[string]Usage{
	"dev":  {NATGB: 50, LogGB: 10, HandSecrets: 3, At: at},
	"prod": {NATGB: 300, LogGB: 60, HandSecrets: 3, At: at},
}

func golden(t *testing.T, environment string) []Resource {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "stacks", "environment", "testdata", "plan-"+environment+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return FromGolden(string(text))
}

func monthly(t *testing.T, environment string) *Estimate {
	t.Helper()
	estimate, err := Monthly(golden(t, environment), usage[environment])
	if err != nil {
		t.Fatalf("%s: %v", environment, err)
	}
	return estimate
}

// table renders the estimates side by side.
func table(dev, prod *Estimate) string {
	var out strings.Builder
	out.WriteString("| item | price | dev | | prod | |\n|---|---|---|---|---|---|\n")
	in := func(e *Estimate, item string) Line {
		for _, line := range e.Lines {
			if line.Item == item {
				return line
			}
		}
		return Line{}
	}
	quantity := func(line Line) string {
		if line.Unit == "h" {
			return fmt.Sprintf("%g × 730 h", line.Quantity/hours)
		}
		return fmt.Sprintf("%g", line.Quantity)
	}
	// Both estimates are in the same order.
	merged, _ := Delta(&Estimate{}, prod)
	for _, line := range dev.Lines {
		if in(prod, line.Item).Item == "" {
			merged = append(merged, line)
		}
	}
	merged = (&Estimate{merged}).sorted()
	datadog := prices["datadog"].item
	row := func(line Line) {
		d, p := in(dev, line.Item), in(prod, line.Item)
		fmt.Fprintf(&out, "| %s | %g / %s | %s | %.2f | %s | %.2f |\n", line.Item, line.Each, line.Unit, quantity(d), d.USD, quantity(p), p.USD)
	}
	for _, line := range merged {
		if line.Item != datadog {
			row(line)
		}
	}
	fmt.Fprintf(&out, "| **AWS** | | | **%.2f** | | **%.2f** |\n", dev.USD(), prod.USD())
	for _, line := range merged {
		if line.Item == datadog {
			row(line)
		}
	}
	return out.String()
}

// machines renders what dev and prod cost with other nodes, by EC2 type.
func machines(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("| nodes | dev | difference | prod | difference |\n|---|---|---|---|---|\n")
	for _, instance := range []string{"t3.medium", "t4g.medium", "m7g.large", "m7i.large"} {
		fmt.Fprintf(&out, "| %s |", instance)
		for _, environment := range []string{"dev", "prod"} {
			plan := golden(t, environment)
			for _, r := range plan {
				if r.Type == "aws:eks/nodeGroup:NodeGroup" {
					r.Inputs["instanceTypes[0]"] = instance
				}
			}
			estimate, err := Monthly(plan, usage[environment])
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, " %.2f | %+.2f |", estimate.USD(), estimate.USD()-monthly(t, environment).USD())
		}
		out.WriteString("\n")
	}
	return out.String()
}

func TestTheDocumentedTablesAreComputed(t *testing.T) {
	computed(t, "the estimate", table(monthly(t, "dev"), monthly(t, "prod")))
	computed(t, "other nodes", machines(t))
}

// computed compares a table of docs/aws/costs.md, or writes it.
func computed(t *testing.T, name, want string) {
	t.Helper()
	begin, end := "<!-- "+name+", computed by tools/internal/costs: go test -update -->\n", "<!-- end -->"
	file := filepath.Join(root, "docs", "aws", "costs.md")
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	shown, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no table of %s", file, name)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want {
		t.Errorf("%s shows\n%s\nthe plans cost\n%s", file, shown, want)
	}
	if !strings.Contains(string(page), PricesAsOf) || !strings.Contains(string(page), at.Format(time.DateOnly)) {
		t.Errorf("%s does not say that prices are of %s, and the table of %s", file, PricesAsOf, at.Format(time.DateOnly))
	}
}

func TestATypeWithoutAPriceIsRefused(t *testing.T) {
	for _, tc := range []struct {
		add  Resource
		want string
	}{
		{Resource{Type: "aws:elasticache/cluster:Cluster", Name: "cache"}, "aws:elasticache/cluster:Cluster cache: no price"},
		{Resource{Type: "aws:rds/instance:Instance", Name: "big", Inputs: map[string]string{"instanceClass": "db.r6g.large", "allocatedStorage": "1"}},
			"no price for rds/db.r6g.large"},
		{Resource{Type: "aws:eks/cluster:Cluster", Name: "old", Inputs: map[string]string{"version": "1.20"}},
			`the end of the support of Kubernetes "1.20" is not known`},
	} {
		if _, err := Monthly(append(golden(t, "dev"), tc.add), usage["dev"]); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.add.Type, err)
		}
	}
}

// The runner is off in both environments; docs/aws/ci.md says how many minutes it assumes.
func TestTheRunnerCostsWhatIsDocumented(t *testing.T) {
	plan, err := os.ReadFile(filepath.Join(root, "infra", "runner", "testdata", "runner.txt"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "aws", "ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	cost := func(minutes float64) float64 {
		estimate, err := Monthly(FromGolden(string(plan)), Usage{At: at, RunnerMin: minutes})
		if err != nil {
			t.Fatal(err)
		}
		return estimate.USD()
	}
	const updates, previews = 60 * 15, 200 * 2
	documented := fmt.Sprintf("%.2f", cost(updates+previews)-cost(0))
	if !strings.Contains(string(page), "60 updates of 15 minutes and 200 previews of 2 minutes") || !strings.Contains(string(page), documented) {
		t.Errorf("docs/aws/ci.md does not say that 60 updates of 15 minutes and 200 previews of 2 minutes cost %s a month", documented)
	}
}

func TestExtendedSupportIsBilledFromItsDay(t *testing.T) {
	cluster := []Resource{{Type: "aws:eks/cluster:Cluster", Inputs: map[string]string{"version": "1.34"}}}
	on := func(day int) float64 {
		estimate, err := Monthly(cluster, Usage{At: time.Date(2026, time.December, day, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
		return estimate.USD()
	}
	if rise := on(3) - on(2); math.Abs(rise-365) > 0.01 {
		t.Errorf("extended support adds %.2f a month", rise)
	}
}

func TestDelta(t *testing.T) {
	before := golden(t, "dev")
	after := append(golden(t, "dev"), Resource{Type: "aws:ec2/natGateway:NatGateway", Name: "second"})
	cost := func(plan []Resource) *Estimate {
		estimate, err := Monthly(plan, usage["dev"])
		if err != nil {
			t.Fatal(err)
		}
		return estimate
	}
	changed, usd := Delta(cost(before), cost(after))
	if len(changed) != 1 || changed[0].Item != "NAT gateways" || math.Abs(usd-32.85) > 0.001 {
		t.Errorf("a NAT gateway adds %+v, %.2f", changed, usd)
	}
	if changed, usd := Delta(cost(after), cost(before)); len(changed) != 1 || math.Abs(usd+32.85) > 0.001 {
		t.Errorf("one less adds %+v, %.2f", changed, usd)
	}
	if changed, usd := Delta(cost(before), cost(before)); len(changed) != 0 || usd != 0 {
		t.Errorf("no change adds %+v, %.2f", changed, usd)
	}
	if _, usd := Delta(cost(before), &Estimate{}); math.Abs(usd+cost(before).USD()+138) > 0.01 { // with Datadog
		t.Errorf("a destroyed environment adds %.2f", usd)
	}
}

func TestAPreviewIsReadAsAPlan(t *testing.T) {
	before, plan, err := FromPreview([]byte(`{"steps":[
		{"op":"create","urn":"urn:pulumi:dev::p::aws:eks/nodeGroup:NodeGroup::nodes","newState":{"type":"aws:eks/nodeGroup:NodeGroup",
			"inputs":{"instanceTypes":["t3.medium"],"scalingConfig":{"desiredSize":3}}}},
		{"op":"same","urn":"urn:pulumi:dev::p::kubernetes:helm.sh/v3:Release::kong","newState":{"type":"kubernetes:helm.sh/v3:Release",
			"inputs":{"values":{"proxy":{"annotations":{"service.beta.kubernetes.io/aws-load-balancer-scheme":"internet-facing"}}}}},
			"oldState":{"type":"kubernetes:helm.sh/v3:Release"}},
		{"op":"create-replacement","urn":"urn:pulumi:dev::p::aws:ec2/natGateway:NatGateway::nat","oldState":{"type":"aws:ec2/natGateway:NatGateway"},
			"newState":{"type":"aws:ec2/natGateway:NatGateway"}},
		{"op":"replace","urn":"urn:pulumi:dev::p::aws:ec2/natGateway:NatGateway::nat","oldState":{"type":"aws:ec2/natGateway:NatGateway"},
			"newState":{"type":"aws:ec2/natGateway:NatGateway"}},
		{"op":"delete-replaced","urn":"urn:pulumi:dev::p::aws:ec2/natGateway:NatGateway::nat","oldState":{"type":"aws:ec2/natGateway:NatGateway"}},
		{"op":"delete","urn":"urn:pulumi:dev::p::aws:ec2/eip:Eip::old","oldState":{"type":"aws:ec2/eip:Eip"}}]}`))
	names := func(plan []Resource) (all string) {
		for _, r := range plan {
			all += r.Name + " "
		}
		return all
	}
	if err != nil || names(before) != "kong nat old " || names(plan) != "nodes kong nat " {
		t.Fatalf("%v, %v, %v", before, plan, err)
	}
	estimate, err := Monthly(plan, Usage{At: at})
	if err != nil {
		t.Fatal(err)
	}
	// 3 nodes, a load balancer with its capacity units and 3 addresses, a NAT gateway, and a key.
	if want := hours*(3*0.0416+0.0225+0.006+3*0.005+0.045) + 1; math.Abs(estimate.USD()-want) > 0.01 {
		t.Errorf("the plan costs %.2f, want %.2f", estimate.USD(), want)
	}
	if _, _, err := FromPreview([]byte(`{}`)); err == nil {
		t.Error("a preview without resources costs nothing")
	}
}
