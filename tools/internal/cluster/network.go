package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
)

var networkPrograms = []requirement{{"ip", "iproute2"}, {"iptables", "iptables"}}

// sysctls are the kernel settings that the kubelet and kube-proxy change. networkUp saves
// them and networkDown restores them.
var sysctls = []string{
	"net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet", "net.ipv4.vs.conntrack",
	"vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops",
	"kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes",
	"net.netfilter.nf_conntrack_max",
	"net.netfilter.nf_conntrack_tcp_timeout_established", "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
}

const (
	forwardChain = "KUBE-LOJA-FORWARD"
	inputChain   = "KUBE-LOJA-INPUT"
	refuseChain  = "KUBE-LOJA-REFUSE"
)

func sysctlPath(name string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
}

func ip(args ...string) command.Command {
	return command.Command{Args: append([]string{"ip"}, args...)}
}

// networkUp creates a bridge with the node's address, because the kubelet refuses a loopback
// address, and routes the ranges of Services and pods to the bridge. A running pod has a
// more specific route. A packet to a pod or Service that no longer exists goes to the bridge
// and never leaves this machine: after a restart, Services point to the pods' old addresses
// for some seconds, and when a router outside answered such a packet, the API server kept
// that connection forever.
func (c *Cluster) networkUp(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join("/sys/class/net", bridge)); err == nil {
		return nil
	}
	saved := map[string]string{}
	for _, name := range sysctls {
		if b, err := os.ReadFile(sysctlPath(name)); err == nil {
			saved[name] = strings.TrimSpace(string(b))
		}
	}
	b, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.conf("sysctl.json"), b, 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"addr", "add", nodeIP + "/24", "dev", bridge},
		{"link", "set", bridge, "up"},
		{"route", "add", serviceCIDR, "dev", bridge},
		{"route", "add", podCIDR, "dev", bridge},
	} {
		if err := ip(args...).Run(ctx); err != nil {
			return err
		}
	}
	// removeRules finds the chains by their names.
	for _, args := range [][]string{
		// Without this chain, pods cannot reach each other on a machine whose rules drop
		// forwarded packets, as Docker's do.
		{"-N", forwardChain},
		{"-A", forwardChain, "-s", podCIDR, "-j", "ACCEPT"},
		{"-A", forwardChain, "-d", podCIDR, "-j", "ACCEPT"},
		{"-I", "FORWARD", "-j", forwardChain},
		// Without this chain, pods cannot reach the API server, nor metrics-server the kubelet, nor do
		// their answers to probes arrive, on a machine whose rules drop what comes in, as ufw's do.
		{"-N", inputChain},
		{"-A", inputChain, "-s", podCIDR, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"},
		{"-A", inputChain, "-s", podCIDR, "-d", nodeIP, "-p", "tcp", "-m", "multiport", "--dports", "6443,10250", "-j", "ACCEPT"},
		{"-I", "INPUT", "-j", inputChain},
		// While a NodePort has no ready pod, kube-proxy rejects a connection from this machine in
		// INPUT, when connection tracking has already recorded it without a new destination. The
		// record lasts two minutes, and refuses every later connection from the same source port,
		// although pods are ready again. This chain rejects it in OUTPUT, before it is recorded.
		// A connection that kube-proxy sends to a pod has another destination here. Only the
		// gateway's port is protected: make dev uses the others while their Services do not exist.
		{"-N", refuseChain},
		{
			"-A", refuseChain, "-d", "127.0.0.0/8", "-p", "tcp", "--dport", strconv.Itoa(gatewayPort),
			"-m", "conntrack", "--ctstate", "NEW", "-j", "REJECT", "--reject-with", "tcp-reset",
		},
		{"-I", "OUTPUT", "-j", refuseChain},
	} {
		if err := (command.Command{Args: append([]string{"iptables", "-w"}, args...)}).Run(ctx); err != nil {
			return err
		}
	}
	return os.WriteFile(sysctlPath("net.ipv4.ip_forward"), []byte("1"), 0o644)
}

// noProxy are both spellings of the variable that excepts addresses from a proxy.
var noProxy = []string{"NO_PROXY", "no_proxy"}

// BypassProxy excepts this machine and the cluster from the proxy of HTTPS_PROXY and HTTP_PROXY,
// for this process and the programs that it starts. Without it, kubectl asks a company's proxy
// for the API server, and the API server asks it for webhooks, which it calls by the names of Services.
func BypassProxy() error {
	except := []string{"localhost", "127.0.0.0/8", "::1", ".svc", nodeCIDR, podCIDR, serviceCIDR}
	for _, name := range noProxy {
		except = append(except, strings.Split(os.Getenv(name), ",")...)
	}
	slices.Sort(except)
	value := strings.Trim(strings.Join(slices.Compact(except), ","), ",")
	for _, name := range noProxy {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// overlapping fails if a route of this machine overlaps the cluster's ranges.
func overlapping(ctx context.Context) error {
	out, err := ip("-4", "route", "show").Text(ctx)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		dst := strings.Fields(line)[0]
		if dst == "default" {
			continue
		}
		if !strings.Contains(dst, "/") {
			dst += "/32"
		}
		route, err := netip.ParsePrefix(dst)
		if err != nil {
			continue // a route of a type such as blackhole begins with the type
		}
		for _, ours := range []string{nodeCIDR, podCIDR, serviceCIDR} {
			if route.Overlaps(netip.MustParsePrefix(ours)) {
				return fmt.Errorf("the range %s of the local cluster overlaps the route %q of this machine: remove the route, or %s",
					ours, strings.TrimSpace(line), Elsewhere)
			}
		}
	}
	return nil
}

// checkNetwork refuses a machine that uses the cluster's ranges, or that has the iptables
// rules of another Kubernetes.
func checkNetwork(ctx context.Context) error {
	rules, err := kubeRules(ctx)
	if err == nil && rules {
		err = fmt.Errorf("this machine has iptables rules of another Kubernetes (chains KUBE-*), "+
			"which the local cluster would overwrite: %s", Elsewhere)
	}
	return errors.Join(overlapping(ctx), err)
}

func networkLeft(ctx context.Context) ([]string, error) {
	links, err := ourLinks(ctx)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, l := range links {
		left = append(left, "link "+l)
	}
	if err := overlapping(ctx); err != nil {
		left = append(left, err.Error())
	}
	rules, err := kubeRules(ctx)
	if rules {
		left = append(left, "iptables chains KUBE-*")
	}
	return left, err
}

// networkDown removes the cluster's links and rules and restores the kernel settings.
func networkDown(ctx context.Context) error {
	var failed error
	links, err := ourLinks(ctx)
	failed = errors.Join(failed, err)
	for _, link := range links {
		// A pod's link disappears with its network namespace, perhaps at this moment.
		if err := ip("link", "del", link).Run(ctx); err != nil {
			if _, gone := os.Stat(filepath.Join("/sys/class/net", link)); gone == nil {
				failed = errors.Join(failed, err)
			}
		}
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"filter", "nat", "mangle"} {
			failed = errors.Join(failed, removeRules(ctx, family, table))
		}
	}
	b, err := os.ReadFile(filepath.Join(runDir, "sysctl.json"))
	if errors.Is(err, os.ErrNotExist) {
		return failed
	}
	var saved map[string]string
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	failed = errors.Join(failed, err)
	for name, value := range saved {
		if err := os.WriteFile(sysctlPath(name), []byte(value), 0o644); err != nil {
			failed = errors.Join(failed, fmt.Errorf("restoring %s: %w", name, err))
		}
	}
	return failed
}

// ourLinks returns the bridge and the host's ends of the pods' links. All have an address in
// the cluster's ranges: the CNI plugin gives each host's end the pod range's gateway address.
func ourLinks(ctx context.Context) ([]string, error) {
	out, err := ip("-j", "-4", "addr", "show").Text(ctx)
	if err != nil {
		return nil, err
	}
	var links []struct {
		Name      string `json:"ifname"`
		Addresses []struct {
			Local string `json:"local"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		return nil, fmt.Errorf("reading the links: %w", err)
	}
	ranges := []netip.Prefix{netip.MustParsePrefix(nodeCIDR), netip.MustParsePrefix(podCIDR)}
	var ours []string
	for _, link := range links {
		for _, a := range link.Addresses {
			addr, err := netip.ParseAddr(a.Local)
			if err == nil && slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr) }) {
				ours = append(ours, link.Name)
				break
			}
		}
	}
	return ours, nil
}

// removeRules removes the chains of kube-proxy and the kubelet, and the rules that jump
// to them.
func removeRules(ctx context.Context, family, table string) error {
	out, err := command.Command{Args: []string{family + "-save", "-t", table}}.Text(ctx)
	if err != nil {
		return nil //nolint:nilerr // this kernel has no such table, so there is nothing to remove
	}
	restore := &strings.Builder{}
	fmt.Fprintf(restore, "*%s\n", table)
	var chains []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch fields := strings.Fields(line); {
		case strings.HasPrefix(line, ":KUBE-"):
			chains = append(chains, strings.TrimPrefix(fields[0], ":"))
		case strings.HasPrefix(line, "-A ") && !strings.HasPrefix(line, "-A KUBE-") && strings.Contains(line, "-j KUBE-"):
			fmt.Fprintln(restore, "-D"+strings.TrimPrefix(line, "-A"))
		}
	}
	if len(chains) == 0 {
		return nil
	}
	for _, chain := range chains {
		fmt.Fprintf(restore, "-F %s\n", chain)
	}
	for _, chain := range chains {
		fmt.Fprintf(restore, "-X %s\n", chain)
	}
	fmt.Fprintln(restore, "COMMIT")
	return command.Command{Args: []string{family + "-restore", "--noflush"}, Stdin: strings.NewReader(restore.String())}.Run(ctx)
}

// kubeRules reports whether this machine has rules of any Kubernetes.
func kubeRules(ctx context.Context) (bool, error) {
	out, err := command.Command{Args: []string{"iptables-save"}}.Text(ctx)
	return strings.Contains(out, "\n:KUBE-"), err
}
