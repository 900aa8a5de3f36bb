package login

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// What the forms of these pages send. Every form is a POST to its view's Post
// (the page's own address when that is empty) and carries csrf. A button that
// names an action sends action=<name>; the field is absent for the others.
//
//	sign in         email
//	one-time code   code             Continue sends no action;
//	                                 resend, other_address
//	consent         page             as given: what the decision is about
//	                allow, repeated  one scope for each ticked box; read_only and
//	                                 everything want the page again with other
//	                                 ticks, deny and allow decide
//	                (own form)       switch: "Not you?", sign in as somebody else
//	connected apps  grant            take_back, read_only
//	                (own form)       sign_out_everywhere
//	sign out        as given         sign_out, stay; Hidden fields come back
//
// A view holds what its page shows and nothing else. Names, hosts and other
// words from outside go in as they came: the templates clean and isolate them.

//go:embed templates
var templates embed.FS

// form is where a page's form goes.
type form struct {
	Post string // same-site address; "" is the page's own
	CSRF string
}

// vouch says who stands behind a connected app's name.
type vouch string

const (
	byNobody   vouch = ""         // it registered itself
	byHost     vouch = "host"     // its metadata document was fetched from Host
	byOperator vouch = "operator" // the people who run the project added it
	byProject  vouch = "project"  // it is the project's own
)

// clientView is a connected app as pages show it.
type clientView struct {
	Name       string
	Vouched    vouch
	Host       string // with byHost
	Registered moment // with byNobody
	Shut       bool   // blocked or taken back
	Copied     moment // with byHost: day of the stored copy of its document, zero when that was read
	Logo       string // address of its logo, "" without one
}

// Known reports whether somebody vouches for the connected app.
func (c clientView) Known() bool { return c.Vouched != byNobody }

// moment is a time as a person reads it at another time.
type moment struct{ At, Now time.Time }

// IsZero reports whether there was no such moment.
func (m moment) IsZero() bool { return m.At.IsZero() }

// Exact is the moment for machines.
func (m moment) Exact() string { return m.At.UTC().Format(time.RFC3339) }

// Date is the day in full: "20 Nov 2026".
func (m moment) Date() string { return m.At.UTC().Format("2 Jan 2006") }

// Clock is the time of the day: "23:52 UTC".
func (m moment) Clock() string { return m.At.UTC().Format("15:04") + " UTC" }

// daysAgo counts midnights (UTC) since the moment.
func (m moment) daysAgo() int {
	const day = 24 * time.Hour
	return int(m.Now.UTC().Truncate(day).Sub(m.At.UTC().Truncate(day)) / day)
}

// Day says on which day it was: "today", "yesterday", "on 3 Nov", and with the
// year when that is not this one.
func (m moment) Day() string {
	switch n := m.daysAgo(); {
	case n == 0:
		return "today"
	case n == 1:
		return "yesterday"
	case m.At.UTC().Year() == m.Now.UTC().Year():
		return "on " + m.At.UTC().Format("2 Jan")
	}
	return "on " + m.Date()
}

// Use says when something was last used: "used 2 minutes ago", "not used for
// 11 days".
func (m moment) Use() string {
	switch ago := m.Now.Sub(m.At); {
	case m.IsZero():
		return "not used yet"
	case ago < time.Minute:
		return "used just now"
	case ago < time.Hour:
		return "used " + inWords(ago) + " ago"
	case m.daysAgo() < 7:
		return "used " + m.Day()
	}
	return "not used for " + counted(m.daysAgo(), "day")
}

// inWords is a duration in its largest whole unit, rounded down, at least one
// second: "14 days", "36 hours", "2 minutes".
func inWords(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day || d == day:
		return counted(int(d/day), "day")
	case d >= time.Hour:
		return counted(int(d/time.Hour), "hour")
	case d >= time.Minute:
		return counted(int(d/time.Minute), "minute")
	}
	return counted(max(1, int(d/time.Second)), "second")
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// answerView says where an authorization response goes.
type answerView struct {
	Place  string // host with port, or "cursor://"
	Kind   string // one of the kinds below
	Scheme string // of a private scheme
}

// The kinds of places an answer can go to.
const (
	toThisComputer = "this computer" // a loopback address: any program here could listen
	toSameHost     = "same host"     // the host that vouches for the client
	toOtherHost    = "other host"    // another host than the one that vouches
	toWebSite      = "web site"      // a host, and no host vouches
	toScheme       = "scheme"        // a private scheme: whichever program opens it
)

// answerTo tells a redirect URI's place apart. documentHost is the host that
// vouches for the client, "" without one.
func answerTo(redirectURI, documentHost string) answerView {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return answerView{Place: redirectURI, Kind: toWebSite}
	case u.Scheme != "https" && u.Scheme != "http":
		return answerView{Place: u.Scheme + "://", Kind: toScheme, Scheme: u.Scheme}
	case project.Loopback(u.Hostname()):
		return answerView{Place: u.Host, Kind: toThisComputer}
	case documentHost == "":
		return answerView{Place: u.Host, Kind: toWebSite}
	case strings.EqualFold(u.Host, documentHost):
		return answerView{Place: u.Host, Kind: toSameHost}
	}
	return answerView{Place: u.Host, Kind: toOtherHost}
}

// signInView is the page that asks for an e-mail address.
type signInView struct {
	web.Site
	form
	Client *clientView // who waits for the sign-in, nil for nobody
	Email  string      // what stands in the field
	SSO    string      // address of single sign-on, "" in a consumer project

	BadEmail bool // what was sent is no address
	pause
}

// pause is why and how long nobody sends another code; the zero pause is none.
type pause struct {
	Why  string // one of the sentences below
	Wait time.Duration
}

const (
	pauseGap     = "A code went out a moment ago."
	pauseAddress = "Too many codes went to this address."
	pauseNetwork = "Too many codes went out to your network."
)

// WaitWords is the pause for a person, never less than it is.
func (p pause) WaitWords() string { return p.Why + " Wait " + waitWords(p.Wait) + " and try again." }

func waitWords(d time.Duration) string {
	if d > 2*time.Minute {
		return inWords((d + time.Minute - 1).Truncate(time.Minute))
	}
	return counted(int((d+time.Second-1)/time.Second), "second")
}

// codeProblem is why a code was not taken.
type codeProblem string

const (
	codeWrong   codeProblem = "wrong"    // TriesLeft says how often it can be tried again
	codeRunOut  codeProblem = "run out"  // too old, used or replaced
	codeTooMany codeProblem = "too many" // no tries left on this code
	codeLocked  codeProblem = "locked"   // no tries left for this address today
	codeWait    codeProblem = "wait"     // another code cannot be sent yet: pause

	codeInactive codeProblem = "inactive" // it was right, and its person is locked
)

// codeView is the page that asks for the one-time code.
type codeView struct {
	web.Site
	form
	Email   string
	Until   moment // when the code runs out
	Resent  bool   // a new code is on its way
	Mailbox string // address of the mailbox of `postern dev`, "" elsewhere

	Problem   codeProblem // "" for none
	TriesLeft int
	Spent     bool // with codeWait: the code that was sent before works no more
	pause
}

// Dead reports that no code can be typed any more: the page offers a new one.
func (v codeView) Dead() bool {
	return v.Problem == codeRunOut || v.Problem == codeTooMany || v.Spent
}

// Tries is TriesLeft in words.
func (v codeView) Tries() string {
	if v.TriesLeft == 1 {
		return "1 try"
	}
	return strconv.Itoa(v.TriesLeft) + " tries"
}

// permission is one scope in the words of the project.
type permission struct {
	Scope    string
	Sentence string // "Read your to-dos"; "" when nobody described it
	Detail   string // "Titles and dates", for the consent page; mostly ""
	Writes   bool   // it changes or deletes something
	Ticked   bool
	Refused  string // the sentence why the person cannot allow it; "" when they can
}

// Words is the sentence without its full stop, or the bare scope.
func (p permission) Words() string {
	if p.Sentence == "" {
		return p.Scope
	}
	return strings.TrimRight(p.Sentence, ". ")
}

// Note is what stands smaller below the words: why the person cannot allow it,
// that nobody described it, or its detail without the full stop.
func (p permission) Note() string {
	switch {
	case p.Refused != "":
		return p.Refused
	case p.Sentence == "":
		return "Described by nobody"
	default:
		return strings.TrimRight(p.Detail, ". ")
	}
}

// Mid is Words for the middle of a sentence.
func (p permission) Mid() string {
	w := p.Words()
	first, n := utf8.DecodeRuneInString(w)
	if second, _ := utf8.DecodeRuneInString(w[n:]); unicode.IsUpper(second) || p.Sentence == "" {
		return w // an abbreviation, or not our words
	}
	return string(unicode.ToLower(first)) + w[n:]
}

// permissionGroup holds the permissions of one resource server.
type permissionGroup struct {
	Name        string     // of the resource server, or of the project
	Address     string     // of the resource server, "" without one
	Opens       permission // what comes with any of them and has no box; without Sentence nothing
	Permissions []permission
}

func (g permissionGroup) where(keep func(permission) bool) []permission {
	return slices.DeleteFunc(slices.Clone(g.Permissions), func(p permission) bool { return !keep(p) })
}

// Reads, Writes and Closed are the three parts of a group, in the page's order.
func (g permissionGroup) Reads() []permission {
	return g.where(func(p permission) bool { return p.Refused == "" && !p.Writes })
}

func (g permissionGroup) Writes() []permission {
	return g.where(func(p permission) bool { return p.Refused == "" && p.Writes })
}

func (g permissionGroup) Closed() []permission {
	return g.where(func(p permission) bool { return p.Refused != "" })
}

// Place is where the resource server is.
func (g permissionGroup) Place() string { return placeOf(g.Address) }

// placeOf is an address without its scheme, as people read it.
func placeOf(address string) string {
	_, after, found := strings.Cut(address, "://")
	if !found {
		return address
	}
	return after
}

// consentView is the page that asks for a decision.
type consentView struct {
	web.Site
	form
	Page         string // stands for everything that is asked here
	Client       clientView
	Answer       answerView
	Email        string
	Organization *organizationView // nil in a consumer project
	Groups       []permissionGroup
	Already      []permission // allowed before and not asked again: the page is a step-up

	Idle   time.Duration // ends after this long without use; 0 when there is no refresh token
	AtMost time.Duration // ends after this long in any case
	Apps   string        // address of My connected apps

	NothingTicked bool // Allow was chosen with nothing ticked
}

// tick sets the ticks of what the person can allow.
func (v *consentView) tick(wanted func(permission) bool) {
	for _, g := range v.Groups {
		for i, p := range g.Permissions {
			g.Permissions[i].Ticked = p.Refused == "" && wanted(p)
		}
	}
}

// tickReads, tickAll and tickOnly set the ticks for the actions read_only and
// everything, and for a page that is shown again with what was sent.
func (v *consentView) tickReads() { v.tick(func(p permission) bool { return !p.Writes }) }
func (v *consentView) tickAll()   { v.tick(func(permission) bool { return true }) }
func (v *consentView) tickOnly(scopes []string) {
	v.tick(func(p permission) bool { return slices.Contains(scopes, p.Scope) })
}

func (v consentView) count(keep func(permission) bool) int {
	n := 0
	for _, g := range v.Groups {
		n += len(g.where(keep))
	}
	return n
}

// Total counts what was asked, Ticked what would be allowed.
func (v consentView) Total() int  { return v.count(func(permission) bool { return true }) }
func (v consentView) Ticked() int { return v.count(func(p permission) bool { return p.Ticked }) }

// Grantable reports whether there is anything that the person can allow.
func (v consentView) Grantable() bool {
	return len(v.Already) > 0 || v.count(func(p permission) bool { return p.Refused == "" }) > 0
}

// Shortcuts reports whether "Read only" and "Everything" differ. Where a resource
// server opens all the same, nothing is read only.
func (v consentView) Shortcuts() bool {
	if slices.ContainsFunc(v.Groups, func(g permissionGroup) bool { return g.Opens.Writes }) {
		return false
	}
	reads := v.count(func(p permission) bool { return p.Refused == "" && !p.Writes })
	writes := v.count(func(p permission) bool { return p.Refused == "" && p.Writes })
	return reads > 0 && writes > 0
}

// ReadOnly and Everything report which shortcut the ticks match.
func (v consentView) ReadOnly() bool {
	return v.count(func(p permission) bool { return p.Refused == "" && p.Ticked == p.Writes }) == 0
}

func (v consentView) Everything() bool {
	return v.count(func(p permission) bool { return p.Refused == "" && !p.Ticked }) == 0
}

// More is how many permissions a step-up asks for, in words.
func (v consentView) More() string {
	switch n := v.Total(); n {
	case 1:
		return "one more permission"
	case 2, 3, 4, 5:
		return []string{"two", "three", "four", "five"}[n-2] + " more permissions"
	default:
		return strconv.Itoa(n) + " more permissions"
	}
}

// IdleWords and AtMostWords say how long it lasts.
func (v consentView) IdleWords() string   { return inWords(v.Idle) }
func (v consentView) AtMostWords() string { return inWords(v.AtMost) }

// handOverView is the page that hands the answer to the connected app. The
// handler sends the Refresh header (decision 12) unless Answer is a private
// scheme.
type handOverView struct {
	web.Site
	Client  clientView
	Answer  answerView
	Link    template.URL // made and checked where the answer is made
	Denied  bool
	Allowed []permission // what was allowed now
	Keeps   bool         // with Denied: what was allowed before stays
	Apps    string       // address of My connected apps
}

// appView is one row of My connected apps.
type appView struct {
	Grant       string
	Client      clientView
	Local       bool // a program on the person's computer
	Allowed     moment
	Used        moment
	IdleEnd     moment // when it ends if it is not used
	End         moment // when it ends in any case
	Permissions []permission
}

// Ends says when the connected app's access ends.
func (a appView) Ends() string {
	soon := a.IdleEnd.At.Before(a.End.At) && a.IdleEnd.At.Sub(a.End.Now) < 7*24*time.Hour
	switch {
	case a.End.IsZero() || !a.End.At.After(a.End.Now):
		return "Its access has run out until you connect it again"
	case !a.IdleEnd.At.After(a.End.Now) && a.End.At.Sub(a.End.Now) < 24*time.Hour:
		return "Ends in " + inWords(max(time.Minute, a.End.At.Sub(a.End.Now)))
	case a.IdleEnd.IsZero():
		return "Ends on " + a.End.Date()
	case soon:
		return "Ends in " + inWords(max(time.Minute, a.IdleEnd.At.Sub(a.End.Now))) + " without use"
	}
	return "Ends on " + a.End.Date()
}

// Changes reports whether one of its permissions changes something while
// another only reads, so that it can be made read only. What a resource server
// opens without one stays open, and no permission can be taken from it.
func (a appView) Changes() bool {
	if slices.ContainsFunc(a.Permissions, func(p permission) bool { return p.Scope == "" && p.Writes }) {
		return false
	}
	reads := slices.ContainsFunc(a.Permissions, func(p permission) bool { return !p.Writes })
	writes := slices.ContainsFunc(a.Permissions, func(p permission) bool { return p.Writes })
	return reads && writes
}

// takenBackView is a connected app that no longer has access.
type takenBackView struct {
	Client clientView
	When   moment
}

// appsDone is what the form before did.
type appsDone string

const (
	doneNothing   appsDone = ""
	doneTakenBack appsDone = "taken back"
	doneReadOnly  appsDone = "read only"
)

// appsView is the person's own page.
type appsView struct {
	web.Site
	form
	Email        string
	SignOut      string // address of the sign-out page
	Organization string // name of the organization that the page is about, "" in a consumer project
	Confined     string // the same name where the person's proof counts for it alone
	Switch       string // address where another one is chosen
	Manage       string // address of the pages about it
	Apps         []appView
	TakenBack    []takenBackView // of the last 30 days

	Done     appsDone
	DoneName string // the connected app it was done to
	LastCall moment // with doneTakenBack: its last use
}

// signOutView asks before it signs out.
type signOutView struct {
	web.Site
	form
	Client string // name of the connected app that asks for it, "" for nobody
	Email  string
	Hidden []hiddenField
}

// hiddenField is carried through a form.
type hiddenField struct{ Name, Value string }

// signedOutView says that it is done.
type signedOutView struct {
	web.Site
	Everywhere   bool         // in every browser
	Organization string       // name of the one that the other browsers are signed out of, "" for all
	SignIn       string       // address to sign in again
	Client       string       // name of the connected app to go back to, with Return
	Return       template.URL // its address after sign-out, made and checked like an answer; "" for none
}

// codeMailView is the mail that carries a one-time code.
type codeMailView struct {
	Project string
	Code    string // six digits
	Until   moment
	Client  *clientView // as in signInView
}

// Spaced is the code in two groups of three.
func (v codeMailView) Spaced() string {
	if len(v.Code) != 6 {
		return v.Code
	}
	return v.Code[:3] + " " + v.Code[3:]
}

// Sender is the name of the project, cleaned: it cannot begin a line of its own.
func (v codeMailView) Sender() string { return web.ClientText(v.Project) }

// Asker is the name of the connected app, cleaned as well. Mail programs make
// links of whatever looks like an address, and anybody can register a name and
// have a mail sent: a name that nobody vouches for loses what addresses are made
// of.
func (v codeMailView) Asker() string {
	if v.Client.Known() {
		return web.ClientText(v.Client.Name)
	}
	return web.ClientText(addressMarks.Replace(v.Client.Name))
}

var addressMarks = strings.NewReplacer(".", " ", "/", " ", ":", " ", "@", " ", "\\", " ") //nolint:gochecknoglobals // a constant

// pages draws the pages and mails of this package, each with its status.
type pages struct {
	web  *web.Pages
	mail *texttemplate.Template
}

func newPages() (*pages, error) {
	p, err := web.NewPages(templates)
	if err != nil {
		return nil, err
	}
	mail, err := texttemplate.ParseFS(templates, "templates/*.txt")
	if err != nil {
		return nil, fmt.Errorf("login: parse mails: %w", err)
	}
	return &pages{p, mail}, nil
}

// formStatus is the status of a form's page: what was sent was refused for wait
// (429), for something in it (422), or nothing was sent yet (200).
func formStatus(refused bool, wait time.Duration) int {
	switch {
	case wait > 0:
		return http.StatusTooManyRequests
	case refused:
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

func (p *pages) signIn(w http.ResponseWriter, v signInView) error {
	web.RetryAfter(w, v.Wait)
	return p.web.Render(w, formStatus(v.BadEmail, v.Wait), "signin", v)
}

func (p *pages) code(w http.ResponseWriter, v codeView) error {
	web.RetryAfter(w, v.Wait)
	return p.web.Render(w, formStatus(v.Problem != "", v.Wait), "code", v)
}

func (p *pages) consent(w http.ResponseWriter, v consentView) error {
	return p.web.Render(w, formStatus(v.NothingTicked, 0), "consent", v)
}

func (p *pages) handOver(w http.ResponseWriter, v handOverView) error {
	return p.web.Render(w, http.StatusOK, "handover", v)
}

func (p *pages) apps(w http.ResponseWriter, v appsView) error {
	return p.web.Render(w, http.StatusOK, "apps", v)
}

func (p *pages) signOut(w http.ResponseWriter, v signOutView) error {
	return p.web.Render(w, http.StatusOK, "signout", v)
}

func (p *pages) signedOut(w http.ResponseWriter, v signedOutView) error {
	return p.web.Render(w, http.StatusOK, "signedout", v)
}

func (p *pages) fail(w http.ResponseWriter, e web.ErrorPage) error {
	return p.web.Error(w, e)
}

// codeMail is the subject and the text of the mail with a code.
func (p *pages) codeMail(v codeMailView) (subject, text string, err error) {
	return p.mailOf("mail_code.txt", v)
}

func (p *pages) mailOf(name string, view any) (subject, text string, err error) {
	var b bytes.Buffer
	if err := p.mail.ExecuteTemplate(&b, name, view); err != nil {
		return "", "", fmt.Errorf("login: write mail: %w", err)
	}
	subject, text, _ = strings.Cut(b.String(), "\n\n")
	return strings.TrimPrefix(subject, "Subject: "), text, nil
}

// The stories of what can go wrong before a person decides. The handler adds
// Site, Trace, At and Step.

// returnAddressUnknown: the redirect URI is not one of those registered.
func returnAddressUnknown(client, asked string, registered []string) web.ErrorPage {
	e := web.ErrorPage{
		Status:   http.StatusBadRequest,
		Headline: "{client} gave a return address it never registered",
		What:     "It asked us to send the answer to {asked}. It registered {registered}, so we stopped here. Nothing was shared.",
		Turn:     web.TheApps,
		Next:     "Go back to {client} and connect again. If this page returns, give its maker the trace code.",
		Client:   client, Asked: asked,
	}
	switch len(registered) {
	case 0:
		e.What = "It asked us to send the answer to {asked} and has not registered any address, so we stopped here. Nothing was shared."
	case 1:
		e.Registered = registered[0]
	default:
		e.Registered = registered[0]
		e.What = fmt.Sprintf("It asked us to send the answer to {asked}. It registered {registered} and %d more, so we stopped here. Nothing was shared.", len(registered)-1)
	}
	return e
}

// clientUnknown: nobody registered under this client id, or not any more.
func clientUnknown(clientID string) web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusBadRequest,
		Headline: "We do not know the program that sent you here",
		What:     "It calls itself {asked}, and no connected app has that id. It may have been removed after a long time without use. Nothing was shared.",
		Turn:     web.TheApps,
		Next:     "Remove the connection in that program and connect again, so that it registers anew.",
		Asked:    clientID,
	}
}

// documentUnreadable: the client's metadata document could not be fetched.
func documentUnreadable(host string) web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusBadRequest,
		Headline: "We could not reach {host}",
		What:     "The program that sent you here must publish who it is at that address. Nothing was shared.",
		Turn:     web.TheApps,
		Next:     "Try again in a minute. If this page returns, give the program’s maker the trace code.",
		Host:     host,
	}
}

// documentUnusable: what was found there breaks a rule, which its maker knows by
// the protocol's words.
func documentUnusable(host, rule string) web.ErrorPage {
	e := documentUnreadable(host)
	e.Headline = "We cannot use what {host} says about itself"
	e.What = "The program that sent you here must publish who it is at that address. We found there: {asked} Nothing was shared."
	e.Asked = rule
	return e
}

// documentsOff: the project takes no client by its metadata document.
func documentsOff(host string) web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusBadRequest,
		Headline: "{project} does not let {host} connect this way",
		What:     "The program that sent you here says who it is at that address, and {project} takes nobody’s word for it. Nothing was shared.",
		Turn:     web.Administrators,
		Next:     "Ask the people who run {project}. They can turn it on: {asked}",
		Host:     host, Asked: "postern project set cimd on",
	}
}

// requestRefused: the authorization request breaks a rule, in a sentence of
// ours.
func requestRefused(client, what string) web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusBadRequest,
		Headline: "{client} asked in a way we cannot answer",
		What:     strings.TrimRight(what, ". ") + ". Nothing was shared.",
		Turn:     web.TheApps,
		Next:     "Go back to {client} and connect again. If this page returns, give its maker the trace code.",
		Client:   client,
	}
}

// linkTooOld: the flow has run out, was decided, or belongs to another browser.
// client may be "". Whoever comes back to it after Allow shared something before.
func linkTooOld(p *project.Project, client string) web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusBadRequest,
		Headline: "This link is too old",
		What:     "It was used already, it waited too long, or it was opened in another browser. This time nothing was shared.",
		Turn:     web.Yours,
		Next:     "If it is not connected yet, go back to {client} and connect again.",
		Way:      p.Path() + appsPath, WayTo: "My connected apps",
		Client: client,
	}
}

// pageTooOld: another of the person's decisions, or the client's document, changed
// what there is to ask, or another window decides at this moment.
func pageTooOld(client string) web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusBadRequest,
		Headline: "This page is too old",
		What:     "What {client} asks for, or what you allow it already, changed after the page was drawn. This time nothing was shared.",
		Turn:     web.Yours,
		Next:     "Go back and decide on the page as it is now.",
		Client:   client,
	}
}
