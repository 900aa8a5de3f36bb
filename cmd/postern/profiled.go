//go:build profile

package main

import (
	"expvar"
	"net"
	"net/http"
	_ "net/http/pprof" // adds /debug/pprof to http.DefaultServeMux, as expvar adds /debug/vars
	"os"
	"runtime/metrics"
)

// With -tags profile, as bench builds it, a server answers at the Unix socket
// that PROFILE_SOCKET names, to whoever may open it: CPU and heap profiles, Go's
// memory, and how long goroutines waited for a core. A release has none of this.
func init() {
	path := os.Getenv("PROFILE_SOCKET")
	if path == "" || len(os.Args) < 2 || os.Args[1] != "serve" {
		return
	}
	expvar.Publish("waits", expvar.Func(waits))
	_ = os.Remove(path) // of the server before
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	go func() { panic(http.Serve(l, nil)) }()
}

// waits counts goroutines by how long they waited for a core since the start:
// bounds in seconds, and how many waited for less than each and not for less than
// the one before.
func waits() any {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	all := sample[0].Value.Float64Histogram()
	last := len(all.Counts) - 1 // it has no end
	return map[string]any{"bounds": all.Buckets[1 : last+1], "counts": all.Counts[:last]}
}
