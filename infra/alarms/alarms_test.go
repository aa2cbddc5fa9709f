package alarms_test

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/alarms"
	"github.com/loja-veloz/platform/infra/infratest"
)

func good() *alarms.Spec {
	return &alarms.Spec{
		Name: "loja-veloz-dev", Environment: "dev", Emails: []string{"ops@example.com"}, MonthlyBudgetUSD: 300,
		Database: "loja-veloz-dev", InstanceClass: "db.t4g.micro", AllocatedGiB: 20, MaxConnections: 100,
	}
}

func deployed(t *testing.T, host string) *infratest.Recorder {
	t.Helper()
	return infratest.Deploy(t, func(ctx *pulumi.Context) error {
		in := alarms.Inputs{NATGateways: []pulumi.StringOutput{pulumi.String("nat-1").ToStringOutput(), pulumi.String("nat-2").ToStringOutput()}}
		if host != "" {
			in.LoadBalancer = pulumi.String(host)
		}
		_, err := alarms.New(ctx, "alarms", good(), in)
		return err
	})
}

func TestWhatIsWatched(t *testing.T) {
	recorder := deployed(t, "k8s-kong-kongkong-0a1b2c3d4e-0123456789abcdef.elb.us-east-1.amazonaws.com")
	for name, want := range map[string]struct {
		metric    string
		threshold float64
		operator  string
	}{
		"alarms-database-storage":     {"FreeStorageSpace", 1 << 30, "LessThanThreshold"},
		"alarms-database-connections": {"DatabaseConnections", 80, "GreaterThanThreshold"},
		"alarms-database-credits":     {"CPUSurplusCreditsCharged", 0, "GreaterThanThreshold"},
		"alarms-nat-1-ports":          {"ErrorPortAllocation", 0, "GreaterThanThreshold"},
		"alarms-nat-2-ports":          {"ErrorPortAllocation", 0, "GreaterThanThreshold"},
	} {
		got := recorder.Named(t, name).Inputs
		if got["metricName"] != want.metric || got["comparisonOperator"] != want.operator {
			t.Errorf("%s: %v", name, got)
		}
		if threshold, _ := got["threshold"].(float64); threshold < want.threshold-0.01 || threshold > want.threshold+0.01 {
			t.Errorf("%s rings at %v, want %v", name, got["threshold"], want.threshold)
		}
	}
	query := func(name string) any {
		return recorder.Named(t, name).Inputs["metricQueries"].([]any)[0].(map[string]any)["expression"]
	}
	if got := query("alarms-load-balancer-targets"); got != `SELECT MAX(UnHealthyHostCount) FROM SCHEMA("AWS/NetworkELB", LoadBalancer, TargetGroup) `+
		`WHERE LoadBalancer = 'net/k8s-kong-kongkong-0a1b2c3d4e/0123456789abcdef'` {
		t.Errorf("the load balancer's targets are watched by %v", got)
	}
	if got := query("alarms-nodes"); got != `SELECT MAX(StatusCheckFailed) FROM SCHEMA("AWS/EC2", InstanceId)` {
		t.Errorf("the nodes are watched by %v", got)
	}
	if mail := recorder.Named(t, "alarms-mail-1").Inputs; mail["endpoint"] != "ops@example.com" || mail["protocol"] != "email" {
		t.Errorf("the subscriber is %v", mail)
	}
	budget := recorder.Named(t, "alarms-budget").Inputs
	filter := budget["costFilters"].([]any)[0].(map[string]any)
	if budget["limitAmount"] != "300" || filter["values"].([]any)[0] != "user:Environment$dev" || len(budget["notifications"].([]any)) != 2 {
		t.Errorf("the budget is %v", budget)
	}
}

func TestAnUnknownLoadBalancerIsNotWatched(t *testing.T) {
	for _, r := range deployed(t, "").Resources() {
		if r.Name == "alarms-load-balancer-targets" {
			t.Error("an alarm watches a load balancer that is not known")
		}
	}
}

func TestRefusals(t *testing.T) {
	infratest.Refused(t, (&alarms.Spec{Name: "X", Emails: []string{"ops"}}).Validate(), `Name is "X"`, "Environment", "Database",
		`Emails[0] is "ops"`, "MonthlyBudgetUSD is 0", "AllocatedGiB is 0")
	infratest.Refused(t, (&alarms.Spec{}).Validate(), "Emails is empty: nobody would be told")
}
