package cluster

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

// recorded returns parts that append each call to did. The parts in failing fail.
func recorded(did *[]string, names []string, failing ...string) []part {
	note := func(verb, name string) error {
		*did = append(*did, verb+" "+name)
		if slices.Contains(failing, name) {
			return errors.New("broken")
		}
		return nil
	}
	var parts []part
	for _, name := range names {
		parts = append(parts, part{
			name:  name,
			check: func(context.Context) error { return note("check", name) },
			up:    func(context.Context) error { return note("up", name) },
			down:  func(context.Context) error { return note("down", name) },
			left:  func(context.Context) ([]string, error) { return []string{"rest of " + name}, note("left", name) },
		})
	}
	return append(parts, part{name: "with nothing to do"})
}

func TestUpStopsAtTheFirstPartThatFails(t *testing.T) {
	var did []string
	err := bringUp(t.Context(), recorded(&did, []string{"a", "b", "c"}, "b"))
	if err == nil || err.Error() != "b: broken" || strings.Join(did, ", ") != "up a, up b" {
		t.Errorf("bringUp = %v after %v", err, did)
	}
}

func TestDownGoesOnAfterAPartThatFails(t *testing.T) {
	var did []string
	err := takeDown(t.Context(), recorded(&did, []string{"a", "b", "c"}, "b"))
	if err == nil || err.Error() != "b: broken" || strings.Join(did, ", ") != "down c, down b, down a" {
		t.Errorf("takeDown = %v after %v", err, did)
	}
}

func TestDownEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var did []string
	if err := takeDown(ctx, recorded(&did, []string{"a"})); !errors.Is(err, context.Canceled) || len(did) > 0 {
		t.Errorf("takeDown = %v after %v", err, did)
	}
}

func TestLeftoversAreThoseOfAllParts(t *testing.T) {
	var did []string
	left, err := leftovers(t.Context(), recorded(&did, []string{"a", "b"}))
	if err != nil || strings.Join(left, ", ") != "rest of a, rest of b" {
		t.Errorf("leftovers = %v, %v", left, err)
	}
}

func TestChecksReportEveryErrorAtOnce(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var did []string
	parts := recorded(&did, []string{"a", "b", "c"}, "a", "c")
	parts[1].ports = []int{l.Addr().(*net.TCPAddr).Port}
	err = checkAll(t.Context(), parts)
	if err == nil || strings.Count(err.Error(), "broken") != 2 || !strings.Contains(err.Error(), "is taken by") {
		t.Errorf("checkAll = %v, want the errors of a and c and the port of b", err)
	}
}

func TestPartsOfTheCluster(t *testing.T) {
	var names, processes []string
	ports := map[int]string{}
	for _, p := range testCluster(t).parts(nil) {
		if slices.Contains(names, p.name) {
			t.Errorf("two parts are called %s", p.name)
		}
		names = append(names, p.name)
		if p.pids != nil {
			processes = append(processes, p.name)
			if p.down == nil || p.left == nil {
				t.Errorf("%s has processes but no down or no left", p.name)
			}
		}
		if (p.down == nil) != (p.left == nil) {
			t.Errorf("%s has only one of down and left, want both or none", p.name)
		}
		for _, port := range p.ports {
			if other := ports[port]; other != "" {
				t.Errorf("%s and %s listen on port %d", other, p.name, port)
			}
			ports[port] = p.name
		}
	}
	// In the reverse order, containers go down before containerd, and etcd goes down last.
	want := "etcd docker-registry git-server containerd kube-apiserver containers kube-controller-manager kube-scheduler kube-proxy kubelet"
	if got := strings.Join(processes, " "); got != want {
		t.Errorf("the processes come up in the order\n%s, want\n%s", got, want)
	}
	if len(ports) != 12 {
		t.Errorf("the cluster listens on %v, want the 12 ports that docs/local-cluster.md lists", ports)
	}
}

// TestTheGitServerIsMissedOnlyWhereItIsWanted: without GitOps, no git server is no dead process.
func TestTheGitServerIsMissedOnlyWhereItIsWanted(t *testing.T) {
	if all, err := Processes(); err != nil || len(all[gitProcess]) > 0 {
		t.Skipf("a git server runs on this machine (%v)", err)
	}
	for _, wanted := range []bool{false, true} {
		c := testCluster(t)
		c.GitOps = wanted
		all, err := c.Status()
		if err != nil {
			t.Fatal(err)
		}
		listed := slices.ContainsFunc(all, func(s ProcessStatus) bool { return s.Name == gitProcess })
		if listed != wanted {
			t.Errorf("with GitOps %v, the git server is listed: %v", wanted, listed)
		}
	}
}
