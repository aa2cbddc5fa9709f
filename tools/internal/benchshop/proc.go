package benchshop

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: 1/100 s on every Linux that Go supports.
const tick = 10 * time.Millisecond

// cpu returns the CPU time of a process and its running descendants. The time of a descendant
// that has ended counts if its parent has waited for it.
func cpu(pid int) (time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	type process struct {
		parent int
		ticks  int64
	}
	all := map[int]process{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // the process has ended
		}
		text := string(b)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // the name before it may contain blanks
		if len(fields) < 15 {
			continue
		}
		var p process
		p.parent, _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] { // utime, stime, and those of children that have ended
			n, _ := strconv.ParseInt(f, 10, 64)
			p.ticks += n
		}
		all[id] = p
	}
	if _, there := all[pid]; !there {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	var ticks int64
	for id, p := range all {
		for at, n := id, 0; at != 0 && n < 64; at, n = all[at].parent, n+1 {
			if at == pid {
				ticks += p.ticks
				break
			}
		}
	}
	return time.Duration(ticks) * tick, nil
}

// machine returns the name of the processor.
func machine() string {
	name := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				name = strings.TrimSpace(v)
				break
			}
		}
	}
	return name
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 1 {
		return "unknown"
	}
	return fields[0]
}
