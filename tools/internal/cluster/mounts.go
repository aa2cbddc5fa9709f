package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// unmount detaches every mount below the run folder and the data folder, innermost first.
func (c *Cluster) unmount(context.Context) error {
	mounts, err := mountsBelow(runDir, c.Data)
	if err != nil {
		return err
	}
	var failed error
	for _, m := range slices.Backward(mounts) {
		if err := detach(m); err != nil {
			failed = errors.Join(failed, fmt.Errorf("unmounting %s: %w", m, err))
		}
	}
	return failed
}

func (c *Cluster) mountsLeft(context.Context) ([]string, error) {
	mounts, err := mountsBelow(runDir, c.Data)
	for i, m := range mounts {
		mounts[i] = "mount " + m
	}
	return mounts, err
}

func mountsBelow(dirs ...string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var mounts []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		// proc(5): blanks in a path are written as octal escapes.
		path := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(path, d+"/") }) {
			mounts = append(mounts, path)
		}
	}
	return mounts, nil
}
