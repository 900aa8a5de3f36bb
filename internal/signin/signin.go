// Package signin holds the ways to prove who you are, one file a method, and
// the Flow in which a browser does it. Methods sends and takes six-digit codes by
// mail; Upstream signs members of an organization in through the organization's
// own OpenID provider.
//
// Administrators is apart from both: it signs those who look after the
// deployment in to the dashboard, with a passkey or with password and
// authenticator app.
//
// A Flow belongs to the browser that started it: a cookie with its secret is
// needed at every step (RFC 9700 §4.7). It may carry an authorization request
// that waits for the person; the request's form is package oauth's, here it is
// bytes.
//
// A proof makes a session in the same transaction that uses the proof up. What
// the session may then do is not decided here.
package signin

import (
	"context"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
)

// ErrNotFound says that no such flow exists in the project, or that it has
// run out.
var ErrNotFound = errors.New("signin: not found")

// Flow is a sign-in in progress in one browser.
type Flow struct {
	ID            string // uuid
	ProjectID     string
	BrowserHash   []byte    // SHA-256 of the browser's flow cookie
	ReturnTo      string    // local path to go to after sign-in; "" when Request decides
	Request       []byte    // the waiting authorization request, or nil
	Email         string    // the address a code went to; "" before
	MethodID      string    // the live code's id; "" before
	CodeExpiresAt time.Time // when it runs out; zero before
	TraceID       string    // of the request that began it; with a waiting request the attempt's code
	CreatedAt     time.Time
	ExpiresAt     time.Time
	Decided       bool   // the authorization request was answered
	Mark          string // what the browser shows of an earlier sign-in, unchecked; not kept
}

// FlowLifetime is how long a person has from opening a page to the decision.
const FlowLifetime = 15 * time.Minute

// EmailCode is a code that was sent.
type EmailCode struct {
	ID          string // method id: email-<test|live>-<uuid>
	ProjectID   string
	FlowID      string
	Email       string // as written
	EmailFolded string // what identifies the person: lower case, trimmed
	MAC         []byte // HMAC-SHA-256 over project, id and code
	Browser     string // which browser that proved the address before asks, "" for any other
	CreatedAt   time.Time
	ExpiresAt   time.Time
}

// MailLimit bounds how many codes one address is sent at the request of one
// browser that proved it before, and of all other browsers together. Both are
// exact rows.
type MailLimit struct {
	Gap    time.Duration // between two mails
	Count  int           // within Window
	Window time.Duration
}

// TooSoon is the error of a code asked for too often.
type TooSoon struct {
	Wait    time.Duration
	Full    bool   // Count mails went out within the window; otherwise only the gap between two is missing
	Subject string // with Full: the user who has the address, "" for nobody yet
}

func (e *TooSoon) Error() string { return "signin: too many codes for this address" }

// Redemption is a try at a code. Session is what starts if the code is right;
// its Subject is set by the store. NewUserID is used when nobody has the
// address yet. In a B2B project nobody is signed in by an address alone: Visitor
// starts instead, and the person chooses an organization next.
type Redemption struct {
	ProjectID  string
	FlowID     string
	MethodID   string
	MAC        []byte // of the code that was typed
	Tries      int    // tries allowed per code
	DailyTries int    // wrong tries allowed per address and Browser in 24 hours
	Browser    string // as in EmailCode
	NewUserID  string
	Session    identity.Session
	Visitor    *identity.Browser // its addresses are set by the store; nil in a consumer project
	Ends       identity.Ending   // when the code is right
	Now        time.Time
}

// Outcome is what became of a try.
type Outcome struct {
	Right    bool
	Wrong    bool // it was compared, and is another
	Left     int  // tries that are left on this code, when Wrong
	Dead     bool // the code has run out, was used, replaced, or had too many tries
	Locked   bool // too many wrong tries for this address and Browser today
	Inactive bool // it was right, and the user who has the address is not active
	User     identity.User
	Session  identity.Session
	Created  bool             // the user is new
	Visitor  identity.Browser // of a B2B project, instead of User and Session
}

// Store is what the package needs of a database; one method, one transaction.
type Store interface {
	// CreateFlow keeps a new flow, and the authorization attempt that it is for, the
	// zero Attempt for none.
	CreateFlow(ctx context.Context, f Flow, a audit.Attempt) error
	// Flow returns a flow that has not run out, decided or not, or ErrNotFound.
	Flow(ctx context.Context, projectID, id string, now time.Time) (Flow, error)
	// SetFlowRequest replaces the waiting request of an undecided flow and keeps what
	// is known of its attempt by now, or returns ErrNotFound.
	SetFlowRequest(ctx context.Context, projectID, id string, request []byte, a audit.Attempt) error
	// ClearFlowEmail forgets the address and code of a flow ("use a different
	// address", "not you").
	ClearFlowEmail(ctx context.Context, projectID, id string) error
	// CreateEmailCode counts the mail against the limit of its address and Browser, ends earlier
	// codes of the address in the same flow, keeps the code and notes it in the flow.
	// Over the limit it changes nothing and returns *TooSoon.
	CreateEmailCode(ctx context.Context, c EmailCode, limit MailLimit, e audit.Event) error
	// RedeemEmailCode counts the try and compares in one conditional statement;
	// if the code is right and the flow is the code's, it is used up, the user is
	// found or made, the session is kept, r.Ends ends and the event is recorded as
	// done. If not,
	// the event is recorded with Refused and the outcome's reason.
	RedeemEmailCode(ctx context.Context, r Redemption, e audit.Event) (Outcome, error)
}
