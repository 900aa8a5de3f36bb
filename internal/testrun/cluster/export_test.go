//go:build unix

package cluster

// Find is find, for its test.
var Find = find
