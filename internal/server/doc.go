// Package server puts Postern together and runs it.
//
// Open makes a Server from opened Storage and a Config; Run listens, does the
// background work and shuts down in order. routes.go holds every address with
// who may call it. A request passes the same steps always: proxy headers, one
// log line, the project that its host belongs to, then the chain of its kind:
// pages for people (cookies, strict policy, same origin) or endpoints for
// programs (no cookies, CORS where it says so). The dashboard stands before that
// choice, on the deployment's own URL. Data opens what a deployment keeps, for the
// server and for the commands that work beside it.
//
// This is the only place with a clock of its own, goroutines and a log. It
// decides nothing about protocols or people.
package server
