package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// A Place is the account and region of an object, and what its outputs need of what exists
// there.
type Place struct {
	Region, Account string

	// ClusterEndpoint is the address of a real Kubernetes API behind every EKS cluster, and
	// ClusterAuthority its certificate authority, PEM in base64. Empty: fictitious ones.
	ClusterEndpoint, ClusterAuthority string

	// VPCOf returns the VPC of an existing subnet, otherwise "". It may be nil.
	VPCOf func(subnet string) string
}

// Partition of the place's region.
func (p Place) Partition() string {
	switch {
	case strings.HasPrefix(p.Region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(p.Region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// DNSSuffix is the domain of the place's partition.
func (p Place) DNSSuffix() string {
	if p.Partition() == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// An Object is what templates use of a resource.
type Object struct {
	Type, ID string
	Seed     string // what its generated values derive from
	Inputs   resource.PropertyMap
}

// A rendering collects the outputs of one object.
type rendering struct {
	place   Place
	object  Object
	preview bool                 // a creation in a preview: what AWS assigns is unknown
	update  bool                 // the object exists, with the outputs old
	old     resource.PropertyMap // outputs before an update
	out     resource.PropertyMap
}

// afterCreation returns a value that AWS assigns on creation, unknown in a preview of it.
func (r *rendering) afterCreation(v resource.PropertyValue) resource.PropertyValue {
	if r.preview {
		return value.Unknown()
	}
	return v
}

func (r *rendering) set(name string, v resource.PropertyValue) {
	r.out[resource.PropertyKey(name)] = r.afterCreation(v)
}

// text renders a template into a value.
func (r *rendering) text(template string) resource.PropertyValue {
	return resource.NewProperty(r.expand(template))
}

// expand fills a template. An input that is unknown or missing is left empty.
func (r *rendering) expand(template string) string {
	var b strings.Builder
	for template != "" {
		before, rest, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			break
		}
		end := closing(rest)
		if end < 0 {
			b.WriteString("{" + rest)
			break
		}
		b.WriteString(r.value(rest[:end]))
		template = rest[end+1:]
	}
	return b.String()
}

// closing is the index of the brace that closes one before the text, or -1.
func closing(text string) int {
	depth := 1
	for i, c := range text {
		switch c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// value is the text of what a template has in braces.
func (r *rendering) value(name string) string {
	name, otherwise, _ := strings.Cut(name, "|")
	switch name {
	case "region":
		return r.place.Region
	case "account":
		return r.place.Account
	case "partition":
		return r.place.Partition()
	case "dns":
		return r.place.DNSSuffix()
	case "id":
		return r.object.ID
	case "host":
		return strings.TrimPrefix(value.Text(r.object.Inputs, "url"), "https://")
	}
	if text, ok := derive(name, r.object.Seed); ok {
		return text
	}
	for _, from := range []resource.PropertyMap{r.object.Inputs, r.out} {
		switch v := value.Plain(from[resource.PropertyKey(name)]); {
		case v.IsString():
			return v.StringValue()
		case v.IsNumber():
			return strconv.FormatFloat(v.NumberValue(), 'f', -1, 64)
		}
	}
	return r.expand(otherwise)
}

var derivedName = regexp.MustCompile(`^(hex|upper|digits)([0-9]+)$`)

// derive is the value that a name stands for if it derives from the seed.
func derive(name, seed string) (text string, ok bool) {
	switch name {
	case "byte":
		n, _ := strconv.ParseUint(Digest("byte", seed)[:2], 16, 8)
		return strconv.FormatUint(n, 10), true
	case "uuid":
		d := Digest("uuid", seed)
		return d[:8] + "-" + d[8:12] + "-4" + d[13:16] + "-a" + d[17:20] + "-" + d[20:32], true
	}
	match := derivedName.FindStringSubmatch(name)
	if match == nil {
		return "", false
	}
	n, _ := strconv.Atoi(match[2])
	d := Digest(name, seed)
	d = (d + Digest(d))[:n]
	switch match[1] {
	case "upper":
		return strings.ToUpper(d), true
	case "digits":
		return strings.Map(func(c rune) rune {
			if c >= 'a' {
				return c - 'a' + '1'
			}
			return c
		}, d), true
	}
	return d, true
}

// Digest is the SHA-256 of some texts, in hexadecimal.
func Digest(parts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(h[:])
}
