//go:build unix

package server

import (
	"errors"
	"syscall"
)

func taken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
