package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// privateBits gives each zone 8,192 addresses for nodes and pods. The VPC CNI assigns them in
	// contiguous blocks of 16 (prefix delegation).
	privateBits = 19
	// publicBits and databaseBits give 256 addresses: load balancers, NAT gateways and RDS need
	// few.
	publicBits   = 24
	databaseBits = 24
	// zoneCount is the number of zones of an environment. The smallest VPC has four blocks of
	// privateBits, the fourth of which holds the public and the database subnets.
	zoneCount    = 3
	smallestBits = privateBits - 2
	// largestBits is AWS's limit, the prefix length of the largest VPC.
	largestBits = 16
	// databaseOffset is where the database subnets begin in the fourth block, in /24s. It leaves
	// room for more public subnets.
	databaseOffset = 8
)

// private are the ranges that AWS suggests for a VPC: RFC 1918, and RFC 6598.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
}

// unusable are ranges that conflict with the cluster: the container bridge on the nodes,
// 172.17.0.0/16, and the two ranges of which EKS chooses one for Services.
var unusable = []netip.Prefix{
	netip.MustParsePrefix("172.17.0.0/16"),
	netip.MustParsePrefix("172.20.0.0/16"),
	netip.MustParsePrefix("10.100.0.0/16"),
}

// Zone is the subnets of one availability zone.
type Zone struct {
	// Name is AWS's name of the zone, such as us-east-1a.
	Name                      string
	Public, Private, Database netip.Prefix
}

// Plan divides a VPC's range among zones: a private /19, a public /24 and a database /24 for
// each. It refuses a range that is too small, larger than AWS allows or not private, and one
// that overlaps taken or a range that EKS needs. It reports every error at once.
func Plan(cidr string, zones []string, taken ...string) ([]Zone, error) {
	var errs validate.Errors
	if len(zones) != zoneCount {
		errs.Add("Zones", "has %d entries: use %d", len(zones), zoneCount)
	}
	vpc, err := parse(cidr)
	if err != nil {
		errs.Add("CIDR", "%s", err)
		return nil, errs.Err()
	}
	if vpc.Bits() > smallestBits {
		errs.Add("CIDR", "%s is too small: %d private /%d and the small subnets need a /%d", vpc, zoneCount, privateBits, smallestBits)
	}
	if vpc.Bits() < largestBits {
		errs.Add("CIDR", "%s is too large: AWS allows at most a /%d", vpc, largestBits)
	}
	if !slices.ContainsFunc(private, func(p netip.Prefix) bool { return p.Contains(vpc.Addr()) && p.Bits() <= vpc.Bits() }) {
		errs.Add("CIDR", "%s is not private: use a part of %v", vpc, private)
	}
	for _, other := range unusable {
		if vpc.Overlaps(other) {
			errs.Add("CIDR", "%s overlaps %s, which the cluster uses itself", vpc, other)
		}
	}
	for i, text := range taken {
		other, err := parse(text)
		if err != nil {
			errs.Join(fmt.Errorf("Taken[%d] %w", i, err))
			continue
		}
		if vpc.Overlaps(other) {
			errs.Add("CIDR", "%s overlaps %s (Taken[%d])", vpc, other, i)
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	small := block(vpc.Addr(), privateBits, zoneCount)
	planned := make([]Zone, len(zones))
	for i, name := range zones {
		planned[i] = Zone{
			Name:     name,
			Private:  block(vpc.Addr(), privateBits, i),
			Public:   block(small.Addr(), publicBits, i),
			Database: block(small.Addr(), databaseBits, databaseOffset+i),
		}
	}
	return planned, nil
}

// parse reads an IPv4 range and refuses one whose address is not its first.
func parse(cidr string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(cidr)
	switch {
	case err != nil || !prefix.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("is %q, which is not an IPv4 range", cidr)
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("is %q: the range begins at %s", cidr, prefix.Masked().Addr())
	}
	return prefix, nil
}

// block returns the n-th range of the given size, counted from start.
func block(start netip.Addr, bits, n int) netip.Prefix {
	octets := start.As4()
	address := binary.BigEndian.Uint32(octets[:]) + uint32(n)<<(32-bits)
	binary.BigEndian.PutUint32(octets[:], address)
	return netip.PrefixFrom(netip.AddrFrom4(octets), bits)
}
