package admin

import (
	"net/url"

	"github.com/postern-id/postern/internal/web"
)

// danger is something to do that takes access away from people: the page says
// what stops and for how many, and asks for a name to be typed. The template
// "danger" draws it, confirmed reads it.
type danger struct {
	Here, CSRF string // of the page, from guard
	Action     string // of the form
	About      string // sent with it, where a page has several with this action
	Button     string // what opens it, such as "Delete ada@example.test"
	Stops      string // what stops, and for how many
	Type       string // what has to be typed
	Sure       string // what does it, such as "Delete it"
	CLI        string // the command that does the same
	Open       bool   // it was sent with something else typed
}

// guard makes a danger one of this page.
func (f frame) guard(d danger) danger {
	d.Here, d.CSRF = f.Here, f.CSRF
	return d
}

// confirmed reports whether the name that a danger asks for was typed.
func confirmed(values url.Values, name string) bool { return values.Get("confirm") == name }

// confirmationOf is a name as a danger shows it: on one line and not too long.
func confirmationOf(name string) string { return web.ClientText(name) }

// unconfirmed is the sentence for a danger where something else was typed.
func unconfirmed(name string) []string {
	return []string{"Type " + name + " as it stands here to confirm."}
}
