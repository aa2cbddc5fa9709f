//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/load"
)

// reads is how many requests a second the drills send. With the orders beside it, it stays below
// what one replica of api-gateway allows one address, 100: one may have to serve them all.
const reads = 80

// traffic sends GET requests until it is stopped, or until max were sent.
func traffic(t *testing.T, perSecond, max int) (stop func() load.Report) {
	t.Helper()
	return begin(t, func(ctx context.Context) load.Report {
		return load.Run(ctx, load.Target{URL: url + "/api/estoque/SHOE-VENTO", PerSecond: perSecond, Max: max})
	})
}

// containers are the processes in the cluster's pods whose command line begins with a program.
func containers(t *testing.T, program string) (pids []int) {
	t.Helper()
	all, err := cluster.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range all["containers"] {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && strings.HasPrefix(string(line), program+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill ends a process as a crash would, and waits until its program is started again.
func kill(t *testing.T, program string, pid int) {
	t.Helper()
	before := containers(t, program)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, program+" is started again", func() error {
		for _, now := range containers(t, program) {
			if !slices.Contains(before, now) {
				return nil
			}
		}
		return errors.New("there is no new process")
	})
}

// TestGatewaysRestart replaces both gateways' pods under load, and no request fails.
func TestGatewaysRestart(t *testing.T) {
	needsCluster(t)
	stopOrders := begin(t, load.Shoppers{URL: url, PerSecond: 2, Max: 1000, Order: load.TestOrder}.Run)
	wanted := 2_000
	if full {
		wanted = 20_000
	}
	stop, restarts := traffic(t, reads, 60_000), 0
	for began := time.Now(); time.Since(began) < time.Duration(wanted)*time.Second/reads; {
		for _, namespace := range []string{"gateway", "gateway-internal"} {
			must(t, "-n", namespace, "rollout", "restart", "deployment/traefik")
			must(t, "-n", namespace, "rollout", "status", "deployment/traefik", "--timeout=2m")
			restarts++
		}
	}
	r := stop()
	shop := stopOrders()
	t.Logf("%d restarts: %s; %s", restarts, r, shop)
	if failed := r.Failed + shop.Failed; failed > 0 {
		t.Errorf("%d requests failed while the gateways were replaced %d times", failed, restarts)
	}
	if r.Requests < wanted || shop.Visits == 0 {
		t.Errorf("there were %d requests, want %d", r.Requests, wanted)
	}
}

// TestKilledPodsCostOpenRequests kills pods of a service one after another. A request to one
// that is gone goes to another pod, so that no more fail than were open.
func TestKilledPodsCostOpenRequests(t *testing.T) {
	needsCluster(t)
	const kills = 3
	must(t, "-n", "shop", "wait", "rollout/"+judged, "--for=condition=Healthy", "--timeout=2m")
	stop := traffic(t, reads, 30_000)
	for range kills {
		pids := containers(t, "/ko-app/"+judged)
		if len(pids) < 2 {
			t.Fatalf("%d pods of %s run, want 2", len(pids), judged)
		}
		kill(t, "/ko-app/"+judged, pids[0])
		must(t, "-n", "shop", "wait", "pod", "-l", "app.kubernetes.io/name="+judged+",loja-veloz.dev/role=stable", "--for=condition=Ready", "--timeout=1m")
	}
	// A request takes less than 10 ms, so that at 80 a second about one is open at a time.
	if r := stop(); r.Failed > 2*kills || r.Requests == 0 {
		t.Errorf("%d kills: %s", kills, r)
	} else {
		t.Logf("%d kills: %s", kills, r)
	}
}

const proxy = "/usr/local/bin/traefik"

// gateways are the processes of the gateway in a namespace.
func gateways(t *testing.T, namespace string) (pids []int) {
	t.Helper()
	for _, pid := range containers(t, proxy) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(line, []byte("namespaces="+namespace+",")) {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		t.Fatalf("no gateway runs in %s", namespace)
	}
	return pids
}

// TestOneOfTwoGatewaysKilled kills one of two pods of each gateway. The public gateway repeats
// what a killed internal one did not answer. Nobody repeats what a killed public one refuses
// until the node knows that its container ended, so this must be soon.
func TestOneOfTwoGatewaysKilled(t *testing.T) {
	needsCluster(t)
	const soon = 3 * time.Second
	for namespace, most := range map[string]int{
		"gateway-internal": 2, // those that were open
		"gateway":          reads / 2 * int(soon.Seconds()),
	} {
		scale := func(pods string) {
			must(t, "-n", namespace, "scale", "deployment/traefik", "--replicas="+pods)
			must(t, "-n", namespace, "rollout", "status", "deployment/traefik", "--timeout=2m")
		}
		t.Cleanup(func() { scale("1") })
		scale("2")
		// pods are the two pods' restarts, if both are ready and no older one is about to end.
		pods := func() (restarts int, err error) {
			out := must(t, "-n", namespace, "get", "pods", "-l", "app.kubernetes.io/name=traefik", "-o",
				`jsonpath={range .items[*]}{.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
			lines := strings.Fields(out)
			if len(lines) != 4 || lines[0] != "true" || lines[2] != "true" {
				return 0, fmt.Errorf("the pods are\n%s", out)
			}
			first, err1 := strconv.Atoi(lines[1])
			second, err2 := strconv.Atoi(lines[3])
			return first + second, errors.Join(err1, err2)
		}
		before := 0
		eventually(t, 2*time.Minute, "two pods are ready", func() (err error) {
			before, err = pods()
			return err
		})
		stop := traffic(t, reads, 30_000)
		kill(t, proxy, gateways(t, namespace)[0])
		eventually(t, time.Minute, "the killed pod is ready again", func() error {
			now, err := pods()
			if err == nil && now == before {
				err = errors.New("no pod has restarted")
			}
			return err
		})
		r := stop()
		t.Logf("%s: %s", namespace, r)
		if r.Failed > most || r.Requests < reads {
			t.Errorf("%d of %d requests failed after the kill of one of two pods in %s, want at most %d", r.Failed, r.Requests, namespace, most)
		}
		scale("1")
	}
}

// TestABusyMachineStillServes has four processes for each processor that compute for ever, as
// a compiler does. The pods have the higher weight, so no request fails.
func TestABusyMachineStillServes(t *testing.T) {
	needsCluster(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for range 4 * runtime.NumCPU() {
		// The limit holds when the test is killed.
		busy := exec.CommandContext(ctx, "timeout", "--foreground", "120", "sh", "-c", "while :; do :; done")
		busy.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		busy.Cancel = func() error { return syscall.Kill(-busy.Process.Pid, syscall.SIGKILL) }
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = busy.Wait() })
	}
	r := load.Run(ctx, load.Target{URL: url + "/", PerSecond: 100, Max: 3_000})
	t.Log(r)
	if r.Failed > 0 || r.Requests < 2_500 {
		t.Errorf("%d of %d requests failed while the machine was busy", r.Failed, r.Requests)
	}
}

// TestGatewayWithoutAPIServer restarts the gateway while the API server does not answer: it
// has no routes, and must not say that it is ready.
func TestGatewayWithoutAPIServer(t *testing.T) {
	needsCluster(t)
	var address string
	eventually(t, time.Minute, "the gateways that another test replaced have ended", func() error {
		address = must(t, "-n", "gateway", "get", "pods", "-l", "app.kubernetes.io/name=traefik", "-o", "jsonpath={.items[*].status.podIP}")
		if len(strings.Fields(address)) != 1 {
			return fmt.Errorf("there are the pods %q", address)
		}
		return nil
	})
	// ready asks what the readiness probe asks.
	ready := func() (int, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+":8000/ping", http.NoBody)
		if err != nil {
			return 0, err
		}
		request.Host = "ready.traefik"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	if status, err := ready(); status != http.StatusOK {
		t.Fatalf("before the drill: %d, %v", status, err)
	}
	processes, err := cluster.Processes()
	if err != nil {
		t.Fatal(err)
	}
	server := processes["kube-apiserver"]
	if len(server) != 1 {
		t.Fatalf("%d API servers run", len(server))
	}
	public := gateways(t, "gateway")[0]
	if err := syscall.Kill(server[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(server[0], syscall.SIGCONT) })
	kill(t, proxy, public)
	away := 15 * time.Second
	if full {
		away = time.Minute
	}
	answers := 0
	for began := time.Now(); time.Since(began) < away; time.Sleep(200 * time.Millisecond) {
		status, err := ready()
		if status == http.StatusOK {
			t.Fatalf("after %s without the API server the gateway says that it is ready", time.Since(began))
		}
		if err == nil {
			answers++
		}
	}
	if answers == 0 {
		t.Error("the restarted gateway answered nothing: the probe was not asked")
	}
	if err := syscall.Kill(server[0], syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the gateway has its routes", func() error {
		if status, err := ready(); status != http.StatusOK {
			return errors.Join(fmt.Errorf("its answer is %d", status), err)
		}
		return nil
	})
	// The node sends no connections to a gateway that is not ready, which the kubelet learns
	// by its next probe.
	eventually(t, time.Minute, "the gateway gets connections", func() error {
		response, err := http.Get(url + "/")
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			t.Errorf("the page's answer is %s, though the gateway is ready", response.Status)
		}
		return response.Body.Close()
	})
}

// TestRefusedPortsAreServedAgain connects while the gateway has no pod, and again from the
// same source ports when it has one. What the kernel tracked of a refused connection must not
// refuse the next one.
func TestRefusedPortsAreServedAgain(t *testing.T) {
	needsCluster(t)
	const first, ports = 20_000, 50
	visit := func(port int) error {
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
		connection, err := dialer.DialContext(t.Context(), "tcp4", strings.TrimPrefix(url, "http://"))
		if err != nil {
			return err
		}
		// Closed at once, so that the port is free again.
		return errors.Join(connection.(*net.TCPConn).SetLinger(0), connection.Close())
	}
	must(t, "-n", "gateway", "scale", "deployment/traefik", "--replicas=0")
	t.Cleanup(func() { must(t, "-n", "gateway", "scale", "deployment/traefik", "--replicas=1") })
	eventually(t, time.Minute, "connections are refused", func() error {
		if err := visit(first - 1); err == nil {
			return errors.New("a connection was accepted")
		}
		return nil
	})
	for port := first; port < first+ports; port++ {
		if err := visit(port); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("without a gateway a connection from port %d ends with %v", port, err)
		}
	}
	must(t, "-n", "gateway", "scale", "deployment/traefik", "--replicas=1")
	eventually(t, time.Minute, "connections are accepted", func() error { return visit(first + ports) })
	var refused []string
	for port := first; port < first+ports; port++ {
		if err := visit(port); err != nil {
			refused = append(refused, err.Error())
		}
	}
	if len(refused) > 0 {
		t.Errorf("%d of %d ports are refused after the gateway is back: %s", len(refused), ports, refused[0])
	}
}
