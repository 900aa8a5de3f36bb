//go:build !unix

package store

import "os"

// Systems without flock have no guard against a second server.
func flock(*os.File) error { return nil }

func funlock(*os.File) error { return nil }
