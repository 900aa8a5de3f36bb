// Package dev holds what only "postern dev" has: a folder with everything it
// remembers, the project it starts with, the page and the feed of caught mail,
// the command that runs beside the server, and the event lines.
//
// Folder is the place on disk. Seed makes the project, once. Child runs the
// command and ends it with itself. Lines turns audit events into what a
// developer reads.
//
// Nothing here is ever part of "postern serve", which refuses a folder that
// was made for development: its data was served over plain http.
package dev
