// Package alarms watches what AWS runs for an environment, by CloudWatch and AWS Budgets, and
// sends mail. It needs nothing in the cluster, so it also reports that the cluster is gone. The
// services' objectives are watched elsewhere.
package alarms

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/budgets"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/sns"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/validate"
)

// Spec says what is watched, and who is told.
type Spec struct {
	// Name is the prefix of the names, such as loja-veloz-dev.
	Name string
	// Environment is the value of the tag Environment, by which the budget counts costs.
	Environment string
	// Emails get every alarm. AWS asks each address for a confirmation first. At least one.
	Emails []string
	// MonthlyBudgetUSD is the cost of a month, in US dollars before tax, that is expected. At least
	// 1. Mail is sent when the month's forecast or its cost exceeds it.
	MonthlyBudgetUSD int32

	// Database is the identifier of the RDS instance, and InstanceClass its class.
	Database, InstanceClass string
	// AllocatedGiB is the database's storage at the start.
	AllocatedGiB int32
	// MaxConnections is the number of connections that the instance accepts; 0 is unknown, and no
	// alarm watches them.
	MaxConnections int32
}

// Inputs are what other resources produce.
type Inputs struct {
	// NATGateways are the ids of the NAT gateways.
	NATGateways []pulumi.StringOutput
	// LoadBalancer is the host name of the Network Load Balancer; nil if the environment's record
	// is created by hand, and the name not known. No alarm watches its targets then.
	LoadBalancer pulumi.StringInput
}

var (
	email = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)
	// balancerHost matches the host name of a Network Load Balancer, which consists of its name
	// and its id.
	balancerHost = regexp.MustCompile(`^(.+)-([0-9a-f]{16})\.elb\.`)
)

// Validate reports everything that is wrong with the arguments.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if !validate.AWSPrefix(s.Name) {
		errs.Add("Name", "is %q: use 2 to 40 lower-case letters, digits and dashes", s.Name)
	}
	errs.Required("Environment", s.Environment)
	errs.Required("Database", s.Database)
	if len(s.Emails) == 0 {
		errs.Add("Emails", "is empty: nobody would be told")
	}
	for i, address := range s.Emails {
		if !email.MatchString(address) {
			errs.Add(fmt.Sprintf("Emails[%d]", i), "is %q: use an address such as ops@example.com", address)
		}
	}
	if s.MonthlyBudgetUSD < 1 {
		errs.Add("MonthlyBudgetUSD", "is %d: use the dollars that a month may cost, at least 1", s.MonthlyBudgetUSD)
	}
	if s.AllocatedGiB < 1 {
		errs.Add("AllocatedGiB", "is %d: use the database's storage in GiB", s.AllocatedGiB)
	}
	return errs.Err()
}

// Alarms is the topic with everything that sends to it.
type Alarms struct {
	pulumi.ResourceState

	// TopicARN is the SNS topic of the alarms.
	TopicARN pulumi.StringOutput
}

// An alarm is a threshold on a metric of CloudWatch.
type alarm struct {
	name, description string
	namespace, metric string
	dimensions        pulumi.StringMap
	statistic         string
	// over: the alarm rings above the threshold, otherwise below it
	over      bool
	threshold float64
	// periods of 5 minutes, all of which have to be beyond the threshold
	periods int
	// query replaces metric, dimensions and statistic: CloudWatch Metrics Insights
	query pulumi.StringInput
}

// period is in seconds: that of the basic metrics of EC2 and NAT gateways.
const period = 300

// databaseAlarms are those of RDS.
func (s *Spec) databaseAlarms() []alarm {
	dimensions := pulumi.StringMap{"DBInstanceIdentifier": pulumi.String(s.Database)}
	const gib = 1 << 30
	all := []alarm{{
		// Storage autoscaling starts below 10 % of what is allocated, for 5 minutes, and at most
		// every 6 hours (RDS User Guide, "Managing capacity automatically with storage
		// autoscaling"). Below 5 % for half an hour it has not helped.
		name: "database-storage", description: "less than 5 % of the database's first storage is free: autoscaling is at its limit or too slow",
		namespace: "AWS/RDS", metric: "FreeStorageSpace", statistic: "Minimum", dimensions: dimensions,
		threshold: float64(s.AllocatedGiB) * gib / 20, periods: 6,
	}}
	if s.MaxConnections > 0 {
		all = append(all, alarm{
			name: "database-connections", description: "more than 80 % of the database's connections are used",
			namespace: "AWS/RDS", metric: "DatabaseConnections", statistic: "Maximum", dimensions: dimensions,
			over: true, threshold: float64(s.MaxConnections * 8 / 10), periods: 3,
		})
	}
	if strings.HasPrefix(s.InstanceClass, "db.t") {
		// Burstable classes start in unlimited mode, with a balance of few credits (RDS User Guide, "DB
		// instance classes"): a small balance says nothing. Credits are charged once those that are owed
		// exceed what the machine earns in 24 hours (EC2 User Guide, "Unlimited mode concepts").
		all = append(all, alarm{
			name: "database-credits", description: "the database uses more CPU than its class earns, and is billed for more; take a larger class",
			namespace: "AWS/RDS", metric: "CPUSurplusCreditsCharged", statistic: "Maximum", dimensions: dimensions,
			over: true, periods: 1,
		})
	}
	return all
}

// networkAlarms are those of NAT gateways, the load balancer and the nodes.
func networkAlarms(in Inputs) []alarm {
	all := []alarm{{
		// A query over all machines of the region: the nodes' ids are not known here.
		name: "nodes", description: "a machine of this region fails EC2's status checks",
		query: pulumi.String(`SELECT MAX(StatusCheckFailed) FROM SCHEMA("AWS/EC2", InstanceId)`), over: true, periods: 2,
	}}
	for i, id := range in.NATGateways {
		all = append(all, alarm{
			// A single lost connection counts (VPC User Guide, "NAT gateway metrics": a value greater
			// than zero means that too many connections are open to one destination).
			name: fmt.Sprintf("nat-%d-ports", i+1), description: "a NAT gateway had no port for a connection to one destination",
			namespace: "AWS/NATGateway", metric: "ErrorPortAllocation", statistic: "Sum",
			dimensions: pulumi.StringMap{"NatGatewayId": id}, over: true, periods: 1,
		})
	}
	if in.LoadBalancer != nil {
		query := in.LoadBalancer.ToStringOutput().ApplyT(func(host string) (string, error) {
			parts := balancerHost.FindStringSubmatch(host)
			if parts == nil {
				return "", fmt.Errorf("the load balancer's host name %q is not that of a Network Load Balancer", host)
			}
			return fmt.Sprintf(`SELECT MAX(UnHealthyHostCount) FROM SCHEMA("AWS/NetworkELB", LoadBalancer, TargetGroup) `+
				`WHERE LoadBalancer = 'net/%s/%s'`, parts[1], parts[2]), nil
		}).(pulumi.StringOutput)
		all = append(all, alarm{
			name: "load-balancer-targets", description: "a pod of the public gateway does not pass the load balancer's health checks",
			query: query, over: true, periods: 2,
		})
	}
	return all
}

// New creates the topic, its subscribers, the alarms and the budget.
func New(ctx *pulumi.Context, name string, spec *Spec, in Inputs, opts ...pulumi.ResourceOption) (*Alarms, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("alarms %s: %w", name, err)
	}
	a := &Alarms{}
	return a, component.Register(ctx, "alarms", "loja-veloz:alarms:Alarms", name, a, opts, func() (pulumi.Map, error) {
		child := pulumi.Parent(a)
		// Its messages name alarms and carry no data, so it needs no key: CloudWatch could not use
		// the environment's.
		topic, err := sns.NewTopic(ctx, name+"-topic", &sns.TopicArgs{
			Name: pulumi.String(spec.Name + "-alarms"), Tags: pulumi.StringMap{"Name": pulumi.String(spec.Name + "-alarms")},
		}, child)
		if err != nil {
			return nil, fmt.Errorf("creating the topic: %w", err)
		}
		a.TopicARN = topic.Arn
		for i, address := range spec.Emails {
			if _, err := sns.NewTopicSubscription(ctx, fmt.Sprintf("%s-mail-%d", name, i+1), &sns.TopicSubscriptionArgs{
				Topic: topic.Arn, Protocol: pulumi.String("email"), Endpoint: pulumi.String(address),
			}, child); err != nil {
				return nil, fmt.Errorf("subscribing %s: %w", address, err)
			}
		}
		for _, watched := range append(spec.databaseAlarms(), networkAlarms(in)...) {
			if _, err := cloudwatch.NewMetricAlarm(ctx, name+"-"+watched.name, watched.args(spec, topic.Arn), child); err != nil {
				return nil, fmt.Errorf("creating the alarm %s: %w", watched.name, err)
			}
		}
		if err := spec.newBudget(ctx, name+"-budget", child); err != nil {
			return nil, err
		}
		return pulumi.Map{"topicARN": a.TopicARN}, nil
	})
}

func (w alarm) args(spec *Spec, topic pulumi.StringOutput) *cloudwatch.MetricAlarmArgs {
	comparison := "LessThanThreshold"
	if w.over {
		comparison = "GreaterThanThreshold"
	}
	title := spec.Name + "-" + w.name
	args := &cloudwatch.MetricAlarmArgs{
		Name: pulumi.String(title), AlarmDescription: pulumi.String(spec.Environment + ": " + w.description),
		ComparisonOperator: pulumi.String(comparison), Threshold: pulumi.Float64(w.threshold), EvaluationPeriods: pulumi.Int(w.periods),
		// Not every metric has values at all times: a NAT gateway without errors need have none.
		TreatMissingData: pulumi.String("notBreaching"),
		AlarmActions:     pulumi.Array{topic}, OkActions: pulumi.Array{topic},
		Tags: pulumi.StringMap{"Name": pulumi.String(title)},
	}
	if w.query != nil {
		args.MetricQueries = cloudwatch.MetricAlarmMetricQueryArray{cloudwatch.MetricAlarmMetricQueryArgs{
			Id: pulumi.String("worst"), Expression: w.query.ToStringOutput().ToStringPtrOutput(), Period: pulumi.Int(period),
			ReturnData: pulumi.Bool(true),
		}}
		return args
	}
	args.Namespace, args.MetricName, args.Statistic = pulumi.String(w.namespace), pulumi.String(w.metric), pulumi.String(w.statistic)
	args.Dimensions, args.Period = w.dimensions, pulumi.Int(period)
	return args
}

// newBudget creates the budget. It counts by the tag Environment, which the account's payer has to
// activate as a cost allocation tag.
func (s *Spec) newBudget(ctx *pulumi.Context, name string, opts ...pulumi.ResourceOption) error {
	var notifications budgets.BudgetNotificationArray
	for _, kind := range []string{"FORECASTED", "ACTUAL"} {
		notifications = append(notifications, budgets.BudgetNotificationArgs{
			ComparisonOperator: pulumi.String("GREATER_THAN"), NotificationType: pulumi.String(kind),
			Threshold: pulumi.Float64(100), ThresholdType: pulumi.String("PERCENTAGE"),
			SubscriberEmailAddresses: pulumi.ToStringArray(s.Emails),
		})
	}
	if _, err := budgets.NewBudget(ctx, name, &budgets.BudgetArgs{
		Name: pulumi.String(s.Name + "-monthly"), BudgetType: pulumi.String("COST"), TimeUnit: pulumi.String("MONTHLY"),
		LimitAmount: pulumi.String(fmt.Sprint(s.MonthlyBudgetUSD)), LimitUnit: pulumi.String("USD"),
		CostFilters: budgets.BudgetCostFilterArray{budgets.BudgetCostFilterArgs{
			Name: pulumi.String("TagKeyValue"), Values: pulumi.ToStringArray([]string{"user:Environment$" + s.Environment}),
		}},
		Notifications: notifications, Tags: pulumi.StringMap{"Name": pulumi.String(s.Name + "-monthly")},
	}, opts...); err != nil {
		return fmt.Errorf("creating the budget: %w", err)
	}
	return nil
}
