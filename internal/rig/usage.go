package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a server has used since it was started.
type Usage struct {
	Server   time.Duration // CPU time of the process, user and system
	Backends time.Duration // that of the PostgreSQL processes of its database
	Shared   time.Duration // that of PostgreSQL's own: writers and checkpointer
	Written  int64         // bytes that the process wrote: to its database, its log, and to clients
}

// Minus is what was used between two moments.
func (u Usage) Minus(o Usage) Usage {
	return Usage{u.Server - o.Server, u.Backends - o.Backends, u.Shared - o.Shared, u.Written - o.Written}
}

// Usage reads what the process has used so far. A backend that ended in between is
// missing from the difference of two of them.
func (s *Server) Usage() (Usage, error) {
	pid := s.PID()
	used := Usage{}
	var err error
	if used.Written, err = written(pid); err != nil {
		return used, err
	}
	if used.Server, err = CPUTime(pid); err != nil || s.postgres == "" {
		return used, err
	}
	used.Backends, used.Shared, err = postgresTime(s.database)
	return used, err
}

// Memory is the resident memory of the process now, and the most it ever was, in
// bytes.
func (s *Server) Memory() (now, most int64, err error) { return Memory(s.PID()) }

// Memory is the resident memory of a process now, and the most it ever was, in
// bytes.
func Memory(pid int) (now, most int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if (name != "VmRSS" && name != "VmHWM") || len(fields) == 0 {
			continue
		}
		kB, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if name == "VmRSS" {
			now = kB << 10
		} else {
			most = kB << 10
		}
	}
	return now, most, nil
}

// CPUTime is the time on a CPU of all threads of a process, user and system.
// /proc/PID/stat has the same in hundredths of a second, which is too coarse; a
// thread that ended would be missing here, and those of Go's runtime do not end.
func CPUTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no CPU time of process %d", pid)
	}
	var total time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n)
	}
	return total, nil
}

func written(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "wchar: "); ok {
			return strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("process %d does not tell what it wrote", pid)
}

// postgresTime is the CPU time of the backends of a database, by the titles that
// PostgreSQL gives its processes, and of the processes that serve all databases.
func postgresTime(database string) (backends, shared time.Duration, err error) {
	titles, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, 0, err
	}
	for _, file := range titles {
		title, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(title), "postgres: ") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err != nil {
			return 0, 0, err
		}
		used, err := CPUTime(pid)
		if err != nil {
			continue // the backend ended
		}
		text := strings.TrimRight(string(title), "\x00 ")
		switch {
		case strings.Contains(text, " "+database+" "):
			backends += used
		case strings.HasSuffix(text, "writer"), strings.HasSuffix(text, "walwriter"), strings.HasSuffix(text, "checkpointer"):
			shared += used
		}
	}
	return backends, shared, nil
}
