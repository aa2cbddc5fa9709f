package cluster

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupControllers are the version 1 hierarchies that the kubelet looks for.
var cgroupControllers = []string{
	"cpu", "cpuacct", "cpuset", "memory", "pids", "systemd", "hugetlb", "blkio", "devices", "freezer",
	"net_cls", "net_prio", "perf_event", "rdma",
}

func cgroupVersion2() bool {
	_, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers"))
	return err == nil
}

const subtreeControl = cgroupRoot + "/cgroup.subtree_control"

// addedControllers returns the path of the file that lists the controllers which cgroupUp
// switched on. cgroupDown switches them off again.
func addedControllers() string { return filepath.Join(runDir, "cgroup-controllers") }

// cgroupDirs returns the folders of this cluster's control groups, one per hierarchy.
func cgroupDirs() []string {
	if cgroupVersion2() {
		return []string{filepath.Join(cgroupRoot, cgroup)}
	}
	var dirs []string
	for _, controller := range cgroupControllers {
		dir := filepath.Join(cgroupRoot, controller)
		if info, err := os.Lstat(dir); err == nil && info.IsDir() { // a symbolic link is a second name of a hierarchy
			dirs = append(dirs, filepath.Join(dir, cgroup))
		}
	}
	return dirs
}

// The pods share one control group. Its siblings are the processes of the root group or, with
// systemd, whole slices. With the default weight, thirty pods would get together what one
// compiler gets: while pulumi compiled a program, the gateway missed its readiness probe and
// clients were refused. These weights are ten times the default for each processor, in the
// units of cpu.shares (version 1, whose default is 1,024) and cpu.weight (version 2, 100). While
// the processors are busy, the control plane's processes come after the pods too.
func podShares() int { return min(10*1024*runtime.NumCPU(), 262_144) }
func podWeight() int { return min(10*100*runtime.NumCPU(), 10_000) }

// cgroupUp creates the control group below which the kubelet puts all pods.
func cgroupUp(context.Context) error {
	if cgroupVersion2() {
		before, err := os.ReadFile(subtreeControl)
		if err != nil {
			return err
		}
		var added []string
		for _, controller := range []string{"cpu", "cpuset", "memory", "pids"} {
			if slices.Contains(strings.Fields(string(before)), controller) {
				continue
			}
			if err := os.WriteFile(subtreeControl, []byte("+"+controller), 0o644); err != nil {
				return err
			}
			added = append(added, controller)
		}
		if len(added) > 0 {
			if err := os.WriteFile(addedControllers(), []byte(strings.Join(added, " ")), 0o600); err != nil {
				return err
			}
		}
	}
	for _, dir := range cgroupDirs() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// In version 1 a new cpuset is empty and refuses processes.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
			if err != nil || cgroupVersion2() {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), parent, 0o644); err != nil {
				return err
			}
		}
		for file, weight := range map[string]int{"cpu.shares": podShares(), "cpu.weight": podWeight()} {
			path := filepath.Join(dir, file)
			if _, err := os.Stat(path); err != nil {
				continue // the file of the other version, or of another hierarchy
			}
			if err := os.WriteFile(path, []byte(strconv.Itoa(weight)), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// cgroupProcesses returns the ids of all processes in this cluster's containers.
func cgroupProcesses() ([]int, error) {
	seen := map[int]bool{}
	var pids []int
	for _, dir := range cgroupDirs() {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if errors.Is(err, os.ErrNotExist) {
					return nil
				}
				return err
			}
			if d.Name() != "cgroup.procs" {
				return nil
			}
			b, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
				return nil // the group was removed meanwhile
			}
			if err != nil {
				return err
			}
			for _, field := range strings.Fields(string(b)) {
				pid, err := strconv.Atoi(field)
				if err == nil && pid > 0 && !seen[pid] {
					seen[pid] = true
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

func cgroupLeft(context.Context) ([]string, error) {
	return slices.DeleteFunc(cgroupDirs(), func(dir string) bool {
		_, err := os.Stat(dir)
		return err != nil
	}), nil
}

// cgroupDown removes the control groups, children first, and switches off the controllers
// that cgroupUp switched on.
func cgroupDown(context.Context) error {
	var failed error
	for _, dir := range cgroupDirs() {
		var all []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for i := len(all) - 1; i >= 0; i-- {
			if err := syscall.Rmdir(all[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
				failed = errors.Join(failed, &fs.PathError{Op: "removing control group", Path: all[i], Err: err})
			}
		}
	}
	if b, err := os.ReadFile(addedControllers()); err == nil {
		for _, controller := range strings.Fields(string(b)) {
			failed = errors.Join(failed, os.WriteFile(subtreeControl, []byte("-"+controller), 0o644))
		}
	}
	return failed
}
