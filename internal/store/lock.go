package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Locked is the error of LockServer when another process serves the file.
type Locked struct {
	PID  int    // of the other process, 0 when unknown
	Path string // of the lock file
}

func (l *Locked) Error() string {
	if l.PID == 0 {
		return fmt.Sprintf("another postern serves this database (lock file %s)", l.Path)
	}
	return fmt.Sprintf("another postern serves this database: process %d (lock file %s)", l.PID, l.Path)
}

// lockFile takes an advisory lock that lasts until unlockFile or the end of the
// process, and writes our pid into the file for whoever comes second. The file
// stays: removing it would let two processes lock two files of one name.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := flock(f); err != nil {
		defer f.Close()
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, &Locked{PID: pid, Path: path}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", errors.Join(err, unlockFile(f)))
	}
	return f, nil
}

// unlockFile gives a lock back before it closes the file: a process that is just
// being started has the file too, until its own program runs.
func unlockFile(f *os.File) error { return errors.Join(funlock(f), f.Close()) }
