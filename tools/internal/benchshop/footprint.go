package benchshop

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// A footprint is the memory, the start time and the size of an idle service.
type footprint struct {
	rss, pss     int64         // bytes of memory
	ready        time.Duration // from the start until /ready answers 200
	binary, gzip int64         // bytes of the program, plain and compressed
}

// release builds the services with the flags of their images, which are in .ko.yaml.
func (b *bench) release(ctx context.Context) error {
	args := []string{"go", "build", "-buildvcs=false", "-trimpath", "-tags=nomsgpack,grpcnotrace", "-ldflags=-s -w",
		"-o", filepath.Join(b.dir, "release") + "/"}
	for _, s := range b.services() {
		args = append(args, "./"+s)
	}
	return command.Command{Args: args, Dir: filepath.Join(b.Root, "apps"), Env: toolchain.BuildEnv}.Run(ctx)
}

// sizes returns the size of a file, and of the file compressed as an image's layer.
func sizes(path string) (plain, compressed int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var n counter
	w, err := gzip.NewWriterLevel(&n, gzip.BestSpeed) // the level of go-containerregistry, which ko uses
	if err != nil {
		return 0, 0, err
	}
	plain, err = io.Copy(w, f)
	return plain, int64(n), errors.Join(err, w.Close())
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// starts is how many times a service is started. The table has the median.
const starts = 5

// measureFootprint starts the service's release build several times. The process of the shop
// goes on, and the new one has the same environment except PORT.
func measureFootprint(ctx context.Context, shop *dev.Shop, service, binary string) (footprint, error) {
	var f footprint
	var err error
	if f.binary, f.gzip, err = sizes(binary); err != nil {
		return f, err
	}
	pid, err := shop.PID(service)
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
		ready, err := f.start(ctx, service, binary, env, i == starts-1)
		if err != nil {
			return f, err
		}
		times = append(times, ready)
	}
	f.ready = median(times)
	return f, nil
}

// start starts the service, measures the time until it is ready and, if measure is set, its
// memory after 5 s, and stops it.
func (f *footprint) start(ctx context.Context, service, binary string, env []string, measure bool) (ready time.Duration, err error) {
	port, err := process.FreePort(ctx)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(binary) //nolint:noctx // its supervisor ends it
	cmd.Env = append(slices.Clone(env), "PORT="+strconv.Itoa(port))
	run, err := process.Run(process.Spec{Name: service, Cmd: cmd})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, run.End(syscall.SIGTERM, 10*time.Second)) }()
	if err := answers(ctx, run, fmt.Sprintf("http://127.0.0.1:%d/ready", port)); err != nil {
		return 0, err
	}
	ready = time.Since(run.Began)
	if !measure {
		return ready, nil
	}
	if err := sleep(ctx, 5*time.Second); err != nil {
		return 0, err
	}
	if f.rss, err = process.RSS(run.PID()); err != nil {
		return 0, err
	}
	f.pss, err = process.PSS(run.PID())
	return ready, err
}

// answers waits until the URL of a process answers 200. It polls every 2 ms.
func answers(ctx context.Context, run *process.Process, url string) error {
	return run.Ready(ctx, time.Minute, 2*time.Millisecond, func(ctx context.Context) error { return process.Answers(ctx, url) })
}
