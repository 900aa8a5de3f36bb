// Package web holds the HTTP manners of Postern: everything about a request
// that has nothing to do with what is asked.
//
// A [Handler] returns an error; [Handle] turns it into an answer through the
// one [ErrorWriter] of the surface, and [Mux] does the same where no route
// matches. [RequestLine] gives each request a trace code and writes one log
// line for it, which handlers add to with [Note]. [Proxy] finds out who really
// asks, [PageHeaders] and [MachineHeaders] set what every answer must carry,
// [Bounds] and [Limiter] keep requests small and few, [CSRF], [SameOrigin] and
// [CORS] say which other sites may do what. [NewFetcher] makes the only HTTP
// client that goes out to addresses which strangers name.
//
// The package also holds the page shell with its style sheet and components,
// shared by the hosted pages and the dashboard.
//
// It knows no project, person or client, and keeps nothing but counters of its
// limiters.
package web
