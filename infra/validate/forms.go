package validate

import "regexp"

var (
	dnsLabel = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$`)
	digest   = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)

	awsPrefix   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,38}[a-z0-9]$`)
	account     = regexp.MustCompile(`^[0-9]{12}$`)
	region      = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	boundary    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:policy/.+$`)
	cachePrefix = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*$`)
)

// DNSLabel tells whether a Kubernetes object of any kind can have the name. It does not check
// the length.
func DNSLabel(name string) bool { return dnsLabel.MatchString(name) }

// HostName tells whether name is a full DNS name, such as shop.example.com.
func HostName(name string) bool { return len(name) <= 253 && hostName.MatchString(name) }

// ByDigest tells whether an image is named by its digest.
func ByDigest(image string) bool { return digest.MatchString(image) }

// AWSPrefix tells whether name can be the prefix of the names of an environment's resources in
// AWS: it has 2 to 40 characters, which leaves room for suffixes.
func AWSPrefix(name string) bool { return awsPrefix.MatchString(name) }

// Account tells whether id has the form of an AWS account id.
func Account(id string) bool { return account.MatchString(id) }

// Region tells whether name has the form of an AWS region's name.
func Region(name string) bool { return region.MatchString(name) }

// Boundary tells whether arn has the form of the ARN of a policy of an account.
func Boundary(arn string) bool { return boundary.MatchString(arn) }

// CachePrefix tells whether prefix can be a prefix of ECR's pull-through cache.
func CachePrefix(prefix string) bool { return cachePrefix.MatchString(prefix) }
