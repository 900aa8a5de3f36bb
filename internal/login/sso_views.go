package login

import (
	"net/http"

	"github.com/postern-id/postern/internal/web"
)

// ssoView is the page about sign-in through the organization's own service. Its
// forms send action create with issuer, client_id and client_secret, or activate
// or delete with connection.
type ssoView struct {
	orgView
	Done       string // what the form before did: create, activate, delete
	See        control
	Make       control
	Change     control
	Delete     control
	Callback   string // redirect URI to register there
	TestPath   string
	Issuer     string // what stands in the form
	ClientID   string
	Connection *ssoConnectionView // nil without one
	Tested     *ssoTestView       // nil without one
}

// ssoConnectionView is a connection.
type ssoConnectionView struct {
	ID       string
	Issuer   string
	ClientID string
	Active   bool
	Made     moment
}

// ssoTestView is what a test brought.
type ssoTestView struct {
	Subject, Email, Name string
	Outcome              string // what it would have come to, a sentence
}

func (p *pages) sso(w http.ResponseWriter, v ssoView) error {
	return p.web.Render(w, formStatus(v.Problems != nil, 0), "org_sso", v)
}

// findSSOView asks for an organization that has a sign-in service of its own. Its
// form sends slug.
type findSSOView struct {
	web.Site
	form
	Client  *clientView // who waits for the sign-in, nil for nobody
	Slug    string      // what stands in the field
	Unknown bool        // no organization has it, or it has no single sign-on
	Back    string      // address of the page with the other way
	Name    string      // of the organization that was found
	Onward  string      // address to go on to, "" before one was found
}

func (p *pages) findSSO(w http.ResponseWriter, v findSSOView) error {
	return p.web.Render(w, formStatus(v.Unknown, 0), "find_sso", v)
}

// noConnection: the organization has no sign-in service of its own.
func noConnection() web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusNotFound,
		Headline: "No single sign-on here",
		What:     "This organization has no sign-in service of its own, or not any more. Nothing was shared.",
		Turn:     web.Yours,
		Next:     "Go back and sign in with a code by e-mail.",
	}
}

// ssoFailed: the organization's service did not answer, or what it said cannot
// be taken.
func ssoFailed(down bool) web.ErrorPage {
	page := web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "Single sign-on did not work",
		What:     "Your organization’s sign-in service did not confirm who you are. Nothing was shared.",
		Turn:     web.Administrators,
		Next:     "Go back and try again. If it happens again, tell an administrator of your organization: they can test the connection in its settings.",
	}
	if down {
		page.Status = http.StatusBadGateway
		page.Headline = "Your organization’s sign-in service does not answer"
		page.What = "It could not be reached just now. Nothing was shared, and whoever is signed in stays signed in."
	}
	return page
}

// ssoStranger: the service named somebody who is not of the organization.
func ssoStranger() web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "You are not in this organization",
		What:     "Its sign-in service named an address that is neither a member nor invited. Nothing was shared.",
		Turn:     web.Administrators,
		Next:     "Ask an administrator of the organization to invite you.",
	}
}

// ssoUnproved: the member's address is of another domain and was never proved.
func ssoUnproved() web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "Prove your address once",
		What:     "You are invited, but your address is not of the organization’s own domains. Nothing was shared.",
		Turn:     web.Yours,
		Next:     "Go back and sign in with a code by e-mail this once. After that single sign-on works.",
	}
}

// ssoOtherPerson: the service knows another person by the address than the one
// who signed in before, or the person by another address.
func ssoOtherPerson() web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "This is not the person we know",
		What:     "Another person of your organization’s sign-in service has signed in with this address before, or you with another one. Nothing was shared.",
		Turn:     web.Administrators,
		Next:     "Ask an administrator of the organization. If the address has a new owner, they remove the member and invite the address again.",
	}
}
