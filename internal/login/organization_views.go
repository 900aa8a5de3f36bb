package login

import (
	"net/http"
	"strings"

	"github.com/postern-id/postern/internal/web"
)

// chooseView is the page where a person chooses, joins or makes an
// organization. Its form sends organization, or action create with name, or
// action switch.
type chooseView struct {
	web.Site
	form
	Client  *clientView // who waits for the sign-in, nil for nobody
	Email   string
	Choices []choiceRow
	Create  bool // a new organization can be made here

	NewName string // what stands in the field
	BadName bool
	TooMany bool // this address made too many organizations today
}

// choiceRow is one organization.
type choiceRow struct {
	ID         string
	Name       string
	Logo       string   // address on this host, "" without one
	Roles      []string // the person's, by name
	Invited    bool     // nobody came yet
	Joining    bool     // open to the address's domain
	OtherProof bool     // it wants another way to sign in
	NoEntry    bool     // it does not let the waiting connected app in
	SSO        string   // address where the person signs in through its own service, "" without one
}

// Open reports whether the organization can be chosen now.
func (c choiceRow) Open() bool { return !c.OtherProof && !c.NoEntry }

// RoleWords are the roles in a sentence: "You are Manager".
func (c choiceRow) RoleWords() string { return strings.Join(c.Roles, " and ") }

// organizationView is where a member acts.
type organizationView struct {
	ID     string
	Name   string
	Logo   string // address on this host, "" without one
	Roles  string // the member's, by name
	Change string // address of the page with the others
}

func (p *pages) choose(w http.ResponseWriter, v chooseView) error {
	return p.web.Render(w, formStatus(v.BadName || v.TooMany, 0), "choose", v)
}

// notInvited: the person is not of the organization that was asked for.
func notInvited() web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "You are not in this organization",
		What:     "Your address is neither a member of it nor invited. Nothing was shared.",
		Turn:     web.Yours,
		Next:     "Go back and choose another organization, or ask its administrator to invite you.",
	}
}

// otherProof: the organization does not take a code by mail.
func otherProof() web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "This organization asks for another way to sign in",
		What:     "A code by mail is not enough there. Nothing was shared.",
		Turn:     web.Administrators,
		Next:     "Ask the organization's administrator how its members sign in.",
	}
}

// notAdmitted: the organization does not let this connected app in.
func notAdmitted(client string) web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "Your organization does not allow {client}",
		What:     "Its administrators choose which apps its members may connect. Nothing was shared.",
		Turn:     web.Administrators,
		Next:     "Ask an administrator of your organization to allow {client}, or choose another organization.",
		Client:   client,
	}
}
