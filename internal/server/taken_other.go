//go:build !unix

package server

import "strings"

func taken(err error) bool {
	return strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "Only one usage")
}
