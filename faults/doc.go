// Package faults runs built servers, does to them what machines, disks and
// networks do, and checks that what they said stays true.
//
// A world is a database with a project, one or more nodes (postern serve in
// processes of their own) and actors that sign in, redeem codes, refresh, revoke
// and register. Every answer goes into a journal on the actors' side; check
// replays it: a code is used once, one generation of refresh tokens lives,
// what was revoked stays so, what was acknowledged is there.
//
// All of it is tests. `make test` runs each campaign in its short form, and
// `make faults` in its long one, which also writes docs/faults.md.
package faults
