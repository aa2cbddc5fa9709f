package benchshop

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// A footprint is what a service takes without any work.
type footprint struct {
	rss, pss     int64
	ready        time.Duration
	binary, gzip int64
}

// release builds the services as their images have them: see .ko.yaml.
func release(ctx context.Context, root, dir string) error {
	args := []string{"build", "-buildvcs=false", "-trimpath", "-tags=nomsgpack,grpcnotrace", "-ldflags=-s -w", "-o", dir + "/"}
	for _, s := range services {
		args = append(args, "./"+s)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = filepath.Join(root, "apps"), append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the services as for images: %w\n%s", err, out)
	}
	return nil
}

// sizes are a file's and that of it compressed as a layer is.
func sizes(path string) (plain, compressed int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var n counter
	w, err := gzip.NewWriterLevel(&n, gzip.BestSpeed) // what go-containerregistry, and so ko, takes
	if err != nil {
		return 0, 0, err
	}
	plain, err = io.Copy(w, f)
	return plain, int64(n), errors.Join(err, w.Close())
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// starts is how often a service is started; the median counts.
const starts = 5

// measureFootprint starts the service's release beside the shop's own process,
// with its environment but for the port, several times.
func measureFootprint(ctx context.Context, stack *dev.Stack, service, binary string) (footprint, error) {
	var f footprint
	var err error
	if f.binary, f.gzip, err = sizes(binary); err != nil {
		return f, err
	}
	pid, err := stack.PID(service)
	if err != nil {
		return f, err
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return f, err
	}
	env := slices.DeleteFunc(strings.Split(strings.TrimRight(string(environ), "\x00"), "\x00"), func(v string) bool {
		return strings.HasPrefix(v, "PORT=")
	})
	var times []time.Duration
	for i := range starts {
		port, err := process.FreePort(ctx)
		if err != nil {
			return f, err
		}
		cmd := exec.Command(binary) //nolint:noctx // it is ended below
		cmd.Env = append(slices.Clone(env), "PORT="+strconv.Itoa(port))
		began := time.Now()
		if err := process.Start(cmd, syscall.SIGKILL); err != nil {
			return f, fmt.Errorf("starting %s: %w", service, err)
		}
		stop := func() error {
			err := process.End([]int{cmd.Process.Pid}, syscall.SIGTERM, 10*time.Second)
			_ = cmd.Wait()
			return err
		}
		url := fmt.Sprintf("http://127.0.0.1:%d/ready", port)
		if err := waitFor(ctx, url, 20*time.Second); err != nil {
			return f, errors.Join(fmt.Errorf("%s: %w", service, err), stop())
		}
		times = append(times, time.Since(began))
		if i == starts-1 {
			if err = sleep(ctx, 5*time.Second); err == nil {
				f.rss, f.pss, err = memory(cmd.Process.Pid)
			}
		}
		if err := errors.Join(err, stop()); err != nil {
			return f, err
		}
	}
	slices.Sort(times)
	f.ready = times[len(times)/2]
	return f, nil
}

// waitFor asks every 2 ms until the address answers 200.
func waitFor(ctx context.Context, url string, most time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("%s does not answer 200 within %s", url, most))
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}
