package audit

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// AttemptKept is how long an attempt can be looked up.
const AttemptKept = 24 * time.Hour

// attemptOpen is how long a person has from the arrival of a request to the
// decision: a sign-in's flow lives no longer.
const attemptOpen = 15 * time.Minute

// State is what became of an attempt by now.
type State string

// The states. An attempt that waits longer than a sign-in may take was left.
const (
	Waiting State = "waiting"
	Refused State = "refused"
	Denied  State = "denied"
	Allowed State = "allowed"
)

// States are all of them.
func States() []State { return []State{Waiting, Refused, Denied, Allowed} }

// Stage is a step of the way from a client's first look at the server to its
// first call.
type Stage string

// The stages, in their order.
const (
	AtDiscovery    Stage = "discovery"
	AtRegistration Stage = "registration"
	AtAuthorize    Stage = "authorize"
	AtSignIn       Stage = "sign-in"
	AtConsent      Stage = "consent"
	AtToken        Stage = "token"
	AtCall         Stage = "first call"
)

// Title is the stage at the beginning of a line.
func (s Stage) Title() string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(string(s[:1])) + string(s[1:])
}

// Attempt is one authorization request from its arrival to the first call, kept
// for AttemptKept. What a stranger chose is in it only as far as it is short;
// see Bound.
type Attempt struct {
	ID           string // ascending with time
	ProjectID    string
	Code         string // trace code of the request that began it
	ClientID     string // what the request said, while nobody knows the client
	ClientName   string
	Creation     string // how the client came to be known: "preregistered", "dynamic", "document", or "" while nobody knows it
	RedirectURI  string // as asked, "" for none
	Resource     string // as asked
	Scopes       string // as asked, with blanks between
	Address      string // the browser's
	Subject      string // who decided, "" before
	State        State
	Stage        Stage // the furthest that it got to
	StepUp       bool  // more was allowed to a client that had something already
	Detail       string
	Asked        string    // what was compared at a refusal and was not right
	DiscoveredAt time.Time // zero when nobody was seen
	RegisteredAt time.Time // when the client was registered last, or its document read
	StartedAt    time.Time
	CalledAt     time.Time // first introspection or userinfo, zero before
}

// Call is the first use of a token of an attempt.
type Call struct {
	ProjectID string
	Code      string // of the attempt
	At        time.Time
}

// The lengths of what is kept of a request.
const (
	boundName   = 120
	boundClient = 200
	boundText   = 300
	boundScopes = 500
)

// Bound returns the attempt with everything that a stranger chose cut to a
// length that a page can show.
func (a Attempt) Bound() Attempt {
	a.ClientName, a.ClientID = cut(a.ClientName, boundName), cut(a.ClientID, boundClient)
	a.RedirectURI, a.Resource = cut(a.RedirectURI, boundText), cut(a.Resource, boundText)
	a.Detail, a.Asked, a.Scopes = cut(a.Detail, boundText), cut(a.Asked, boundText), cut(a.Scopes, boundScopes)
	return a
}

func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// Listed is an attempt in a list.
type Listed struct {
	Attempt
	Email    string // of who decided, "" before
	SignedIn bool   // a person proved who they are for it
	// HasTokens says that tokens were given; an attempt's Stage says only whether
	// it got to its first call.
	HasTokens bool
}

// AttemptFilter says which attempts a list has; empty fields take all.
type AttemptFilter struct {
	ClientID string
	State    State
	Query    string // a trace code or the first two groups of one, a person's e-mail address, or a network address
}

// Count is a number that was counted as far as a bound.
type Count struct {
	N    int
	More bool // there may be more than N
}

// TraceReader looks attempts up.
type TraceReader interface {
	// Attempts lists the attempts of a project, newest first, those before the one
	// with the id before, at most limit. before "" begins with the newest.
	Attempts(ctx context.Context, projectID string, f AttemptFilter, before string, limit int) ([]Listed, error)
	// CountAttempts counts the attempts of a project by their state, or those of one
	// client. It counts a bounded number of rows, and says where there are more.
	CountAttempts(ctx context.Context, projectID, clientID string) (map[State]Count, error)
	// FindAttempts finds what a trace code stands for, whole or its first two groups,
	// as CodeRange reads them: attempts, those in which a request with this code was
	// refused, and refusals that belong to no attempt.
	FindAttempts(ctx context.Context, projectID, code string) ([]Attempt, []Event, error)
	// AttemptEvents are the events of an attempt, oldest first.
	AttemptEvents(ctx context.Context, projectID, code string) ([]Event, error)
}

// CodeRange reads a trace code as people type it, with or without hyphens, in
// any case. All codes meant lie between first and last, both included: one, or
// those that begin with the two groups that tables show. ok is false when the
// text is no trace code.
func CodeRange(text string) (first, last string, ok bool) {
	var letters []byte
	for _, c := range []byte(strings.ToUpper(text)) {
		switch {
		case c == '-' || c == ' ':
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z':
			letters = append(letters, c)
		default:
			return "", "", false
		}
	}
	switch s := string(letters); len(s) {
	case 9:
		code := s[:3] + "-" + s[3:6] + "-" + s[6:]
		return code, code, true
	case 6:
		head := s[:3] + "-" + s[3:] + "-"
		return head, head + "~", true
	}
	return "", "", false
}

// Search tells what kind of text a filter's Query is: exactly one of the results
// is set, or none when it can be nothing of that.
func (f AttemptFilter) Search() (code, email, address string) {
	text := strings.TrimSpace(f.Query)
	if strings.Contains(text, "@") {
		return "", text, ""
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return "", "", a.Unmap().String()
	}
	if _, _, ok := CodeRange(text); ok {
		return text, "", ""
	}
	return "", "", ""
}

// Got says in a few words how far a listed attempt got.
func (l Listed) Got(now time.Time) string {
	switch l.State {
	case Refused:
		return "Refused at " + string(l.Stage)
	case Denied:
		return "Person chose Deny"
	case Allowed:
		switch {
		case l.Stage == AtConsent && l.HasTokens && l.StepUp:
			return "Step-up allowed"
		case l.Stage == AtConsent && l.HasTokens:
			return "Token, no call seen"
		case l.Stage == AtConsent && now.Before(l.StartedAt.Add(attemptOpen)):
			return "Allowed, no token yet"
		case l.Stage == AtConsent:
			return "Allowed, tokens never fetched"
		case l.StepUp:
			return "Step-up allowed"
		}
		return "First call"
	}
	stage := l.Stage
	if l.SignedIn {
		stage = AtConsent
	}
	if now.Before(l.StartedAt.Add(attemptOpen)) {
		return "Waiting at " + string(stage)
	}
	return "Left at " + string(stage)
}

// Mark is how a step went.
type Mark string

// The three marks.
const (
	Passed     Mark = "passed"
	Failed     Mark = "refused"
	NotReached Mark = "not reached"
)

// Turn is who has to do something about a refusal.
type Turn string

// Whose turn it can be.
const (
	AppsTurn           Turn = "The app’s"
	PersonsTurn        Turn = "The person’s"
	AdministratorsTurn Turn = "An administrator’s"
)

// Step is one stage of a trace.
type Step struct {
	Stage      Stage
	Mark       Mark
	At         time.Time // zero when it is not known
	Sentence   string
	Asked      string   // of a refusal: what came
	Registered []string // and what would have been right
	Turn       Turn     // of a refusal
	Next       string   // of a refusal: what that one does
}

// Trace is an attempt, told.
type Trace struct {
	Attempt Attempt
	Begun   time.Time     // the first moment that is known of it
	Took    time.Duration // until the last one
	Summary string        // "" when nothing went wrong
	Steps   []Step
}

// Refusal is the step that failed, if one did.
func (t Trace) Refusal() (Step, bool) {
	i := slices.IndexFunc(t.Steps, func(s Step) bool { return s.Mark == Failed })
	if i < 0 {
		return Step{}, false
	}
	return t.Steps[i], true
}

// Known is what is registered now, to compare with what was asked.
type Known struct {
	RedirectURIs []string // of the client
	Resources    []string // of the project
	Scopes       []string // of the resource that was asked for, or of the project
}

// Tell makes the steps of an attempt of what is kept about it. events are those
// of the attempt, oldest first.
func Tell(a Attempt, events []Event, k Known, now time.Time) Trace {
	t := teller{attempt: a, events: events, known: k, now: now}
	if _, issued := t.last(TokenIssued); issued && a.Stage == AtConsent && a.State == Allowed {
		a.Stage = AtToken
		t.attempt = a
	}
	steps := []Step{t.discovery(), t.registration(), t.authorize(), t.signIn(), t.consent(), t.token(), t.call()}
	trace := Trace{Attempt: a, Steps: steps, Begun: a.StartedAt}
	last := a.StartedAt
	for _, s := range steps {
		if !s.At.IsZero() && s.At.Before(trace.Begun) {
			trace.Begun = s.At
		}
		if s.At.After(last) {
			last = s.At
		}
	}
	trace.Took = last.Sub(trace.Begun)
	if s, failed := trace.Refusal(); failed {
		trace.Summary = s.Sentence
		if s.Turn != "" {
			trace.Summary = string(s.Turn) + " turn. " + s.Sentence
		}
	}
	return trace
}

// TellRefusal makes a trace of a refusal that belongs to no attempt, such as a
// code that nobody was given.
func TellRefusal(e Event) Trace {
	why := explain(e)
	a := Attempt{
		ProjectID: e.ProjectID, Code: e.TraceID, ClientID: e.ClientID, Address: e.Address,
		State: Refused, Stage: why.stage, StartedAt: e.At,
	}
	step := why.step(e)
	return Trace{Attempt: a, Begun: e.At, Steps: []Step{step}, Summary: strings.TrimSpace(turned(step.Turn) + step.Sentence)}
}

func turned(t Turn) string {
	if t == "" {
		return ""
	}
	return string(t) + " turn. "
}

// teller has what a trace is told from.
type teller struct {
	attempt Attempt
	events  []Event
	known   Known
	now     time.Time
}

// last is the newest event of some kinds.
func (t teller) last(kinds ...Kind) (Event, bool) {
	for _, e := range slices.Backward(t.events) {
		if slices.Contains(kinds, e.Kind) {
			return e, true
		}
	}
	return Event{}, false
}

// stages is the order that they come in.
func stages() []Stage {
	return []Stage{AtDiscovery, AtRegistration, AtAuthorize, AtSignIn, AtConsent, AtToken, AtCall}
}

// beyond reports whether the attempt got past a stage.
func (t teller) beyond(s Stage) bool {
	return slices.Index(stages(), t.attempt.Stage) > slices.Index(stages(), s)
}

// failed is the step at which the attempt was refused for good.
func (t teller) failed(s Stage) (Step, bool) {
	if t.attempt.State != Refused || t.attempt.Stage != s {
		return Step{}, false
	}
	e, found := t.last(AuthorizeRefused, TokenRefused, ClientRefused, CodeReused)
	if !found {
		e = Event{At: t.attempt.StartedAt}
	}
	why := explain(e)
	step := why.step(e)
	step.Stage, step.Asked = s, t.attempt.Asked
	if why.detailed && t.attempt.Detail != "" {
		step.Sentence = t.attempt.Detail
	}
	switch why.compare {
	case withRedirects:
		step.Registered = nearest(t.attempt.Asked, t.known.RedirectURIs)
	case withGranted:
		step.Registered = []string{t.attempt.RedirectURI}
	case withResources:
		step.Registered = nearest(t.attempt.Asked, t.known.Resources)
	case withResource:
		step.Registered = []string{t.attempt.Resource}
	case withScopes:
		step.Registered = t.known.Scopes
	}
	if step.Asked == "" {
		step.Registered = nil
	}
	return step, true
}

func (t teller) discovery() Step {
	a := t.attempt
	if a.DiscoveredAt.IsZero() {
		return Step{Stage: AtDiscovery, Mark: Passed, Sentence: "Not seen in the half hour before. The app knew our addresses already, or reads them from somewhere else."}
	}
	return Step{Stage: AtDiscovery, Mark: Passed, At: a.DiscoveredAt, Sentence: "Read our metadata."}
}

func (t teller) registration() Step {
	a := t.attempt
	if s, failed := t.failed(AtRegistration); failed {
		return s
	}
	recent := a.StartedAt.Sub(a.RegisteredAt) < AttemptKept
	s := Step{Stage: AtRegistration, Mark: Passed}
	if recent && a.Creation != "preregistered" {
		s.At = a.RegisteredAt
	}
	switch a.Creation {
	case "dynamic":
		s.Sentence = "Registered itself" + on(a.RegisteredAt, recent) + "."
	case "document":
		s.Sentence = "Known by its metadata document, read" + on(a.RegisteredAt, false) + "."
	case "preregistered":
		s.Sentence = "Registered by hand" + on(a.RegisteredAt, false) + "."
	default:
		s.Mark, s.Sentence = NotReached, "Not reached"
		if strings.Contains(a.ClientID, "://") && a.State == Waiting {
			s.Sentence = "Its metadata document is read once somebody has signed in."
		}
	}
	return s
}

// on is a moment in a sentence, or nothing where a column has it.
func on(at time.Time, beside bool) string {
	if at.IsZero() || beside {
		return ""
	}
	return " on " + at.UTC().Format("2 Jan 2006 at 15:04")
}

func (t teller) authorize() Step {
	a := t.attempt
	if s, failed := t.failed(AtAuthorize); failed {
		return s
	}
	if a.State == Refused && a.Stage == AtRegistration {
		return Step{Stage: AtAuthorize, Mark: NotReached, Sentence: "Not reached"}
	}
	s := Step{Stage: AtAuthorize, Mark: Passed, At: a.StartedAt, Sentence: "Asked for " + cmp.Or(strings.Join(strings.Fields(a.Scopes), ", "), "the usual permissions")}
	if a.Resource != "" {
		s.Sentence += " at " + a.Resource
	}
	s.Sentence += "."
	return s
}

func (t teller) signIn() Step {
	a := t.attempt
	if s, failed := t.failed(AtSignIn); failed {
		return s
	}
	in, signedIn := t.last(SignedIn)
	wrong, refused := t.last(SignInRefused)
	sent, mailed := t.last(CodeSent)
	switch {
	case signedIn && !refused:
		return Step{Stage: AtSignIn, Mark: Passed, At: in.At, Sentence: "Signed in."}
	case signedIn:
		return Step{Stage: AtSignIn, Mark: Passed, At: in.At, Sentence: "Signed in, after: " + explain(wrong).step(wrong).Sentence}
	case refused:
		return explain(wrong).step(wrong)
	case mailed:
		s := Step{Stage: AtSignIn, Mark: NotReached, At: sent.At, Sentence: "A code was mailed. Nobody typed it yet."}
		if t.left() {
			s.Sentence = "A code was mailed. Nobody typed it."
		}
		return s
	case t.beyond(AtSignIn), a.Stage == AtConsent:
		return Step{Stage: AtSignIn, Mark: Passed, Sentence: "Signed in before."}
	case a.State == Waiting && t.left():
		return Step{Stage: AtSignIn, Mark: NotReached, Sentence: "The person left without signing in."}
	case a.State == Waiting:
		return Step{Stage: AtSignIn, Mark: NotReached, Sentence: "Waiting for the person to sign in."}
	}
	return Step{Stage: AtSignIn, Mark: NotReached, Sentence: "Not reached"}
}

// left reports whether the person can no longer go on.
func (t teller) left() bool { return !t.now.Before(t.attempt.StartedAt.Add(attemptOpen)) }

func (t teller) consent() Step {
	a := t.attempt
	if s, failed := t.failed(AtConsent); failed {
		return s
	}
	_, signedIn := t.last(SignedIn)
	yes, allowed := t.last(GrantAllowed)
	no, denied := t.last(GrantDenied)
	switch {
	case allowed && a.StepUp:
		return Step{Stage: AtConsent, Mark: Passed, At: yes.At, Sentence: "Allowed one more permission, beside what was allowed before."}
	case allowed:
		return Step{Stage: AtConsent, Mark: Passed, At: yes.At, Sentence: "Allowed."}
	case denied:
		return Step{Stage: AtConsent, Mark: Failed, At: no.At, Sentence: "The person chose Deny."}
	case t.beyond(AtConsent):
		return Step{Stage: AtConsent, Mark: Passed, Sentence: "Allowed."}
	case a.State == Waiting && (signedIn || a.Stage == AtConsent) && t.left():
		return Step{Stage: AtConsent, Mark: NotReached, Sentence: "The person left without an answer."}
	case a.State == Waiting && (signedIn || a.Stage == AtConsent):
		return Step{Stage: AtConsent, Mark: NotReached, Sentence: "Waiting for the person’s answer."}
	}
	return Step{Stage: AtConsent, Mark: NotReached, Sentence: "Not reached"}
}

func (t teller) token() Step {
	a := t.attempt
	if s, failed := t.failed(AtToken); failed {
		return s
	}
	got, issued := t.last(TokenIssued)
	bad, refused := t.last(TokenRefused, ClientRefused)
	switch {
	case issued && refused && bad.At.Before(got.At):
		return Step{Stage: AtToken, Mark: Passed, At: got.At, Sentence: "Exchanged the code for tokens, after: " + explain(bad).step(bad).Sentence}
	case issued:
		return Step{Stage: AtToken, Mark: Passed, At: got.At, Sentence: "Exchanged the code for tokens."}
	case a.State == Allowed && t.left():
		return Step{Stage: AtToken, Mark: NotReached, Sentence: "The app never exchanged its code for tokens. Either the answer did not reach it, or it does not know what to do with it."}
	case a.State == Allowed:
		return Step{Stage: AtToken, Mark: NotReached, Sentence: "Waiting for the app to exchange its code."}
	}
	return Step{Stage: AtToken, Mark: NotReached, Sentence: "Not reached"}
}

func (t teller) call() Step {
	a := t.attempt
	switch {
	case !a.CalledAt.IsZero():
		return Step{Stage: AtCall, Mark: Passed, At: a.CalledAt, Sentence: "Used its token."}
	case a.State == Allowed && a.Stage == AtToken:
		return Step{Stage: AtCall, Mark: NotReached, Sentence: "None seen. A resource server that checks tokens by itself does not ask us, so calls to it do not show here."}
	}
	return Step{Stage: AtCall, Mark: NotReached, Sentence: "Not reached"}
}

// comparison is what a refusal is compared with.
type comparison int

const (
	withNothing   comparison = iota
	withRedirects            // the client's redirect URIs
	withGranted              // the redirect URI of the authorization request
	withResources            // the project's resource servers
	withResource             // the resource of the authorization request
	withScopes               // the scopes that the resource has
)

// reason is what a refusal means: where it happened, in a sentence, whose turn it
// is and what to do. detailed says that the sentence of the refusal itself, which
// stands in the attempt, says it more exactly.
type reason struct {
	stage    Stage
	sentence string
	turn     Turn
	next     string
	detailed bool
	compare  comparison
}

func (r reason) step(e Event) Step {
	return Step{Stage: r.stage, Mark: Failed, At: e.At, Sentence: r.sentence, Turn: r.turn, Next: r.next}
}

// RefusedAt is the stage at which an authorization request is refused for a
// reason.
func RefusedAt(why string) Stage { return explain(Event{Kind: AuthorizeRefused, Reason: why}).stage }

// explain finds the sentence for a refusal. A reason without one is told as it
// stands: it is a fixed phrase of ours, or the whole sentence.
func explain(e Event) reason {
	if e.Kind == CodeReused {
		return reasons()["code reused"]
	}
	if r, known := reasons()[e.Reason]; known {
		return r
	}
	r := reason{stage: AtAuthorize, sentence: "It was refused."}
	if e.Reason != "" {
		r.sentence = "Refused: " + e.Reason + "."
	}
	switch e.Kind {
	case TokenRefused, ClientRefused:
		r.stage = AtToken
	case SignInRefused:
		r.stage = AtSignIn
	}
	if strings.HasSuffix(e.Reason, ".") {
		r.sentence = e.Reason
	}
	if e.Kind == SignInRefused {
		r.turn, r.next = AdministratorsTurn, "Look at the connection to the organization’s sign-in service, and test it."
	}
	return r
}

// The answers that many refusals share.
const (
	tellTheMaker = "Give the trace code to the app’s maker."
	connectAgain = "Connect again."
)

// reasons are all that a refusal of an attempt can have, by the words that its
// event has. Those with the name of a protocol error have a sentence of their own
// with each refusal.
func reasons() map[string]reason {
	return map[string]reason{
		// The authorization request.
		"return address not registered": {stage: AtAuthorize, sentence: "The return address is not one of those registered.", turn: AppsTurn, next: "The port may differ on this computer; the path may not. Update the app, or add the address yourself.", compare: withRedirects},
		"no return address":             {stage: AtAuthorize, sentence: "It named no return address, and has more than one.", turn: AppsTurn, next: "The app must send redirect_uri.", compare: withRedirects},
		"invalid_request":               {stage: AtAuthorize, sentence: "The request breaks a rule of the protocol.", turn: AppsTurn, next: tellTheMaker, detailed: true},
		"invalid_client":                {stage: AtRegistration, sentence: "The client is not known here.", turn: AppsTurn, next: "Remove the connection in the app and connect again, so that it registers anew. A metadata document is mended by the app’s maker.", detailed: true},
		"unauthorized_client":           {stage: AtAuthorize, sentence: "The client did not register for this.", turn: AppsTurn, next: "The app must register with the grant type authorization_code.", detailed: true},
		"invalid_scope":                 {stage: AtAuthorize, sentence: "It asked for a permission that does not exist here.", turn: AppsTurn, next: "Correct the scope in the app, or add it to the policy and the resource server.", detailed: true, compare: withScopes},
		"invalid_target":                {stage: AtAuthorize, sentence: "It asked for a resource that is not registered here.", turn: AdministratorsTurn, next: "Register the resource server with: postern resource add. Or correct its address in the app.", detailed: true, compare: withResources},
		"unsupported_response_type":     {stage: AtAuthorize, sentence: "It asked for an answer other than a code.", turn: AppsTurn, next: tellTheMaker, detailed: true},
		"request_not_supported":         {stage: AtAuthorize, sentence: "It sent a request object, which is not supported.", turn: AppsTurn, next: tellTheMaker},
		"request_uri_not_supported":     {stage: AtAuthorize, sentence: "It sent a request object, which is not supported.", turn: AppsTurn, next: tellTheMaker},
		"too_many_requests":             {stage: AtRegistration, sentence: "Too many metadata documents were read in this minute.", turn: AppsTurn, next: "Try again in a minute.", detailed: true},
		"login_required":                {stage: AtSignIn, sentence: "It asked us not to show a page, and nobody was signed in who could answer.", turn: AppsTurn, next: "The app must ask again without prompt=none.", detailed: true},
		"consent_required":              {stage: AtConsent, sentence: "It asked us not to show a page, and the person has to be asked.", turn: AppsTurn, next: "The app must ask again without prompt=none.", detailed: true},
		"access_denied":                 {stage: AtConsent, sentence: "This person cannot use connected apps here.", turn: AdministratorsTurn, next: "See whether the person is active, and which roles they have."},
		"organization does not allow the app": {
			stage: AtConsent, sentence: "The person’s organization does not allow this app.", turn: AdministratorsTurn,
			next: "An administrator of the organization can allow it, on its page for connected apps.",
		},
		"invalid_token":           {stage: AtAuthorize, sentence: "Its id_token_hint is not one of ours.", turn: AppsTurn, next: tellTheMaker, detailed: true},
		"temporarily_unavailable": {stage: AtAuthorize, sentence: "We could not answer at that moment.", turn: AdministratorsTurn, next: "Look at the server’s log at that time."},
		"server_error":            {stage: AtAuthorize, sentence: "We could not answer at that moment.", turn: AdministratorsTurn, next: "Look at the server’s log at that time."},

		// Sign-in.
		"code no longer works":             {stage: AtSignIn, sentence: "The mailed code had run out, was used, or was replaced by a newer one.", turn: PersonsTurn, next: "Ask for a new code, and type it in the window that asked for it."},
		"wrong code":                       {stage: AtSignIn, sentence: "The mailed code was typed wrong.", turn: PersonsTurn, next: "Type the newest code again, or ask for another."},
		"too many wrong codes today":       {stage: AtSignIn, sentence: "Too many wrong codes were typed for this address today.", turn: PersonsTurn, next: "Try again tomorrow, or in a browser that has signed in before."},
		"too many mails for this address":  {stage: AtSignIn, sentence: "Too many codes were mailed to this address within an hour.", turn: PersonsTurn, next: "Use the newest code that came, or wait until the hour is over."},
		"too many mails from this network": {stage: AtSignIn, sentence: "Too many codes were asked for from one network within an hour.", turn: PersonsTurn, next: "Wait a few minutes. If many people share the network: sign in from another one."},
		"user is not active":               {stage: AtSignIn, sentence: "The person is locked.", turn: AdministratorsTurn, next: "Unlock the person, if they should get in."},
		"not a member":                     {stage: AtSignIn, sentence: "The organization’s sign-in service vouched for somebody who is no member.", turn: AdministratorsTurn, next: "Add the person to the organization, or let people of its domains join."},
		"not a member of it":               {stage: AtSignIn, sentence: "The person is not in the organization that they chose.", turn: AdministratorsTurn, next: "Invite the person."},
		"the address was never proved":     {stage: AtSignIn, sentence: "The organization’s sign-in service named an address that the person never proved to us.", turn: PersonsTurn, next: "Sign in with a code by mail once."},
		"bound to another person":          {stage: AtSignIn, sentence: "The organization’s sign-in service names another person for this address than before.", turn: AdministratorsTurn, next: "Remove the member and invite the person again, if the address has changed hands."},
		"single sign-on is not allowed": {
			stage: AtSignIn, sentence: "The organization does not take this way to sign in.", turn: PersonsTurn, next: "Sign in the way the organization asks for.",
		},
		"single sign-on is off": {stage: AtSignIn, sentence: "The organization has no sign-in service that works.", turn: AdministratorsTurn, next: "Set one up on the organization’s page for single sign-on."},
		"link is too old":       {stage: AtSignIn, sentence: "The page was used already, waited too long, or was opened in another browser.", turn: PersonsTurn, next: "Go back to the app and connect again."},

		// The token endpoint.
		"scope of a wrong form":     {stage: AtToken, sentence: "The scope of the token request has characters or a length that no scope has.", turn: AppsTurn, next: tellTheMaker},
		"no grant type":             {stage: AtToken, sentence: "The token request does not say what for: it has no grant_type.", turn: AppsTurn, next: tellTheMaker},
		"unknown grant type":        {stage: AtToken, sentence: "The token request names a grant type that is not supported.", turn: AppsTurn, next: "The app must use authorization_code or refresh_token."},
		"grant type not registered": {stage: AtToken, sentence: "The client did not register for the grant type that it used.", turn: AppsTurn, next: "The app must register again, with this grant type in grant_types."},
		"the person can no longer grant what was asked": {
			stage: AtToken, sentence: "The person can no longer grant the permissions that the app asked for.", turn: AdministratorsTurn,
			next: "See which roles the person has, or let the app ask for less.",
		},
		"client authentication cannot be read":       {stage: AtToken, sentence: "The client did not say who it is in a way that can be read.", turn: AppsTurn, next: "The app must send its client_id, and its secret in the header or in the body, or a client assertion: one of the three."},
		"request cannot be read":                     {stage: AtToken, sentence: "The parameters could not be read: one was sent twice, stood in the address, or is not encoded as it should be.", turn: AppsTurn, next: tellTheMaker},
		"request is too long":                        {stage: AtToken, sentence: "The request is too long.", turn: AppsTurn, next: tellTheMaker},
		"request has another content type":           {stage: AtToken, sentence: "The request is neither a form nor JSON.", turn: AppsTurn, next: "The app must send application/x-www-form-urlencoded."},
		"no token":                                   {stage: AtToken, sentence: "The request to revoke a token, or about one, names none.", turn: AppsTurn, next: tellTheMaker},
		"malformed code":                             {stage: AtToken, sentence: "What the app sent as its code is none of ours.", turn: AppsTurn, next: "Look at how the app takes the code out of the answer: whole, and decoded once."},
		"unknown code":                               {stage: AtToken, sentence: "Nobody was given the code that the app sent.", turn: AppsTurn, next: connectAgain},
		"code of another client":                     {stage: AtToken, sentence: "Another client was given the code.", turn: AppsTurn, next: "The app must exchange the code with the client_id that asked for it."},
		"code ran out":                               {stage: AtToken, sentence: "The code had run out when the app sent it.", turn: AppsTurn, next: connectAgain + " If it stays, the app is too slow: a code lives for a minute unless the project says otherwise."},
		"other redirect URI":                         {stage: AtToken, sentence: "The app sent another return address with the code than the one it was answered at.", turn: AppsTurn, next: "The app must send the same redirect_uri twice, or leave the second one out.", compare: withGranted},
		"wrong verifier":                             {stage: AtToken, sentence: "The code_verifier does not belong to the code_challenge of the request.", turn: AppsTurn, next: "The app must keep the verifier of each attempt until it has its tokens."},
		"code is dead":                               {stage: AtToken, sentence: "The code works no more: it ran out, had too many wrong tries, or the person took the grant back.", turn: AppsTurn, next: connectAgain},
		"code reused":                                {stage: AtToken, sentence: "The code was sent a second time. What was issued for it has been revoked, for one of the two was not the app.", turn: AppsTurn, next: connectAgain + " If it stays, the app sends its code twice."},
		"asked for another resource":                 {stage: AtToken, sentence: "The app asked for tokens for another resource than the person allowed.", turn: AppsTurn, next: "The app must send the resource of its authorization request, or none.", compare: withResource},
		"asked for more scopes":                      {stage: AtToken, sentence: "The app asked for a permission that the person did not allow.", turn: AppsTurn, next: "The app must ask the person first, by a new authorization request."},
		"resource is no longer registered":           {stage: AtToken, sentence: "The resource server was taken out of the project in between.", turn: AdministratorsTurn, next: "Register the resource server again, if it should be used."},
		"the person can no longer grant any of it":   {stage: AtToken, sentence: "The person may no longer grant anything that was allowed.", turn: AdministratorsTurn, next: "See whether the person is active, and which roles they have."},
		"malformed refresh token":                    {stage: AtToken, sentence: "What the app sent as its refresh token is none of ours.", turn: AppsTurn, next: connectAgain},
		"unknown refresh token":                      {stage: AtToken, sentence: "Nobody was given the refresh token that the app sent.", turn: AppsTurn, next: connectAgain},
		"refresh token of another client":            {stage: AtToken, sentence: "Another client was given the refresh token.", turn: AppsTurn, next: connectAgain},
		"other client authentication":                {stage: AtToken, sentence: "The app authenticates in another way than when it was given the refresh token.", turn: AppsTurn, next: connectAgain},
		"client no longer refreshes":                 {stage: AtToken, sentence: "The client is no longer registered for refresh tokens.", turn: AppsTurn, next: connectAgain},
		"refresh token is dead":                      {stage: AtToken, sentence: "The refresh token works no more: it ran out, or the person took the grant back.", turn: AppsTurn, next: connectAgain},
		"revocation of another client's token":       {stage: AtToken, sentence: "The app tried to revoke a token that another client was given.", turn: AppsTurn, next: tellTheMaker},
		"unknown client":                             {stage: AtToken, sentence: "The client is not known here.", turn: AppsTurn, next: "Remove the connection in the app and connect again, so that it registers anew."},
		"blocked client":                             {stage: AtToken, sentence: "The client is blocked.", turn: AdministratorsTurn, next: "Unblock it, if it should be used."},
		"secret from a public client":                {stage: AtToken, sentence: "The client sent a secret, and is registered without one.", turn: AppsTurn, next: "Register it again with the authentication method that it uses."},
		"wrong secret or method":                     {stage: AtToken, sentence: "The client’s secret is wrong, or it was sent in another way than the client registered.", turn: AppsTurn, next: "Type the secret into the app again, or give the client a new one."},
		"client assertion names another client":      {stage: AtToken, sentence: "The client signed an assertion of another client: iss, sub and client_id are not the same.", turn: AppsTurn, next: "The app must put its client_id into iss and sub of its assertion."},
		"client assertion is for another server":     {stage: AtToken, sentence: "The client’s assertion is not for this server: its aud is not our issuer alone.", turn: AppsTurn, next: "The app must put the issuer into aud, as its metadata says it, and no address of an endpoint."},
		"client assertion is out of time":            {stage: AtToken, sentence: "The client’s assertion has ended, lasts longer than five minutes, or begins later.", turn: AppsTurn, next: "Set the clock of the app’s computer; the app must sign a new assertion for every request."},
		"client assertion has no id":                 {stage: AtToken, sentence: "The client’s assertion has no jti, or a very long one.", turn: AppsTurn, next: tellTheMaker},
		"client assertion is not what it registered": {stage: AtToken, sentence: "The client sent an assertion but registered no keys, or another algorithm.", turn: AppsTurn, next: "The app must register its keys, or send its secret as it registered."},
		"client assertion is not signed by its keys": {stage: AtToken, sentence: "None of the client’s keys made the signature of its assertion.", turn: AppsTurn, next: "Compare the kid of the assertion with the keys that the client registered or publishes, and give it the new ones."},
		"client assertion was used before":           {stage: AtToken, sentence: "The client sent an assertion a second time.", turn: AppsTurn, next: "The app must sign a new assertion, with a new jti, for every request."},
		"client keys cannot be read":                 {stage: AtToken, sentence: "The address where the client publishes its keys did not give them.", turn: AppsTurn, next: "Open the jwks_uri: it must answer with a JWK set as JSON, over https and without a redirect."},
		"no client assertion":                        {stage: AtToken, sentence: "The client proves itself with a key of its own, and sent no assertion.", turn: AppsTurn, next: "The app must send client_assertion and client_assertion_type."},
		"wrong project secret":                       {stage: AtCall, sentence: "Somebody asked about a token with a wrong project secret.", turn: AdministratorsTurn, next: "Give whoever asks the project’s secret."},
		"wrong resource server secret":               {stage: AtCall, sentence: "The resource server asked about a token with a wrong secret.", turn: AdministratorsTurn, next: "Give the resource server its secret, or make a new one."},
		"access token is none of ours":               {stage: AtCall, sentence: "The access token was not issued here.", turn: AppsTurn, next: "The app must send an access token of this server: no id_token, no refresh token, and whole."},
		"access token ran out":                       {stage: AtCall, sentence: "The access token had run out.", turn: AppsTurn, next: "The app must refresh it. If it cannot: " + connectAgain},
		"access token works no more":                 {stage: AtCall, sentence: "The access token was taken back, or the person was locked.", turn: AppsTurn, next: connectAgain},
		"access token without openid":                {stage: AtCall, sentence: "The access token was not given to know who the person is.", turn: AppsTurn, next: "The app must ask for the scope openid."},
		ReasonOtherSite:                              {sentence: "A form was sent to us from a page of another site.", turn: AdministratorsTurn, next: "Nothing was done. If it was a page of ours, the proxy in front of the server must pass the Host header on and stand in behind_proxy."},
		ReasonFormToken:                              {sentence: "A form was sent that no page of ours made for this person in this browser.", turn: PersonsTurn, next: "Nothing was done. Open the page again, if the form was yours: it may be from before a sign-in."},
		"the code was not right, or no longer valid": {stage: AtSignIn, sentence: "The mailed code was typed wrong, or worked no more.", turn: PersonsTurn, next: "Ask for a new code."},
	}
}

// nearest puts what is most like asked first, and keeps three.
func nearest(asked string, all []string) []string {
	list := slices.Clone(all)
	slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(alike(asked, b), alike(asked, a)) })
	return list[:min(3, len(list))]
}

// alike counts the characters that two texts have in common at both ends.
func alike(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	m := 0
	for m < min(len(a), len(b))-n && a[len(a)-1-m] == b[len(b)-1-m] {
		m++
	}
	return n + m
}

// Since is a moment of a trace as its offset from the beginning.
func (t Trace) Since(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return fmt.Sprintf("+%.2f s", at.Sub(t.Begun).Seconds())
}
