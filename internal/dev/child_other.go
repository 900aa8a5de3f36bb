//go:build !unix

package dev

import "os/exec"

// Systems without process groups end the command alone.
func ownGroup(*exec.Cmd) {}

func killGroup(*exec.Cmd) {}
