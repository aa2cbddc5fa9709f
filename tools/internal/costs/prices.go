package costs

// Prices of AWS, list prices of us-east-1 in US dollars, before tax, savings plans and free tiers.
// This is a table by hand: check a price at its source before you decide something by it. That of
// alarms was entered from memory; the others were read in 2025.
const (
	// PricesAsOf is when the prices were last read, at the pages that each row names.
	PricesAsOf = "2025"
	// PricesRegion is the region for which they hold.
	PricesRegion = "us-east-1"
	// hours of a month, as AWS counts them.
	hours = 730
)

// A price is what a unit costs in a month.
type price struct {
	item string
	unit string // "h", "GiB", "GB" and so on
	each float64
	page string // on aws.amazon.com
}

var prices = map[string]price{
	"eks":          {"EKS control plane, version in standard support", "h", 0.10, "eks/pricing"},
	"eks-extended": {"EKS control plane, version in extended support", "h", 0.60, "eks/pricing"},
	"ebs-gp3":      {"node disks, gp3", "GiB", 0.08, "ebs/pricing"},
	"nat":          {"NAT gateways", "h", 0.045, "vpc/pricing"},
	"nat-gb":       {"traffic through NAT, assumed", "GB", 0.045, "vpc/pricing"},
	"ipv4":         {"public IPv4 addresses (NAT, load balancer in 3 zones)", "h", 0.005, "vpc/pricing"},
	"endpoint":     {"interface endpoints, for each zone", "h", 0.01, "privatelink/pricing"},
	"nlb":          {"network load balancer", "h", 0.0225, "elasticloadbalancing/pricing"},
	"nlb-lcu":      {"network load balancer: capacity units, one on average, assumed", "h", 0.006, "elasticloadbalancing/pricing"},
	"rds-gib":      {"RDS storage, gp3", "GiB", 0.115, "rds/postgresql/pricing"},
	"rds-gib-az":   {"RDS storage, gp3, multi-AZ", "GiB", 0.23, "rds/postgresql/pricing"},
	"logs-gb":      {"log ingestion, assumed", "GB", 0.50, "cloudwatch/pricing"},
	"alarm":        {"CloudWatch alarms", "alarm", 0.10, "cloudwatch/pricing"},
	"key":          {"the environment's KMS key, of bootstrap", "key", 1, "kms/pricing"},
	"secret":       {"secrets: RDS's, and those created by hand", "secret", 0.40, "secrets-manager/pricing"},
	"datadog":      {"Datadog: infrastructure Pro and APM, yearly plan", "host", 46, "datadoghq.com/pricing"},

	"codebuild/BUILD_GENERAL1_SMALL": {"runner of GitHub's jobs, assumed", "min", 0.005, "codebuild/pricing"},

	"ec2/t3.medium":        {"nodes, t3.medium", "h", 0.0416, "ec2/pricing/on-demand"},
	"ec2/t3.large":         {"nodes, t3.large", "h", 0.0832, "ec2/pricing/on-demand"},
	"ec2/t4g.medium":       {"nodes, t4g.medium", "h", 0.0336, "ec2/pricing/on-demand"},
	"ec2/t4g.large":        {"nodes, t4g.large", "h", 0.0672, "ec2/pricing/on-demand"},
	"ec2/m7i.large":        {"nodes, m7i.large", "h", 0.1008, "ec2/pricing/on-demand"},
	"ec2/m7g.large":        {"nodes, m7g.large", "h", 0.0816, "ec2/pricing/on-demand"},
	"rds/db.t4g.micro":     {"RDS, db.t4g.micro", "h", 0.016, "rds/postgresql/pricing"},
	"rds/db.t4g.medium-az": {"RDS, db.t4g.medium, multi-AZ", "h", 0.129, "rds/postgresql/pricing"},
}
