// Package audit names what happened: every change and every decision about
// trust leaves one Event, written in the same transaction as the change it
// tells of. The store's methods take an Event beside the change; Recorder is
// for decisions that change nothing else, such as a refused sign-in.
//
// Reader reads the trail page by page, Tallies counts it by the hour, Follow
// tells of what comes. An Attempt is one authorization request on its way to the
// first call; Tell makes a Trace of it and its events, with a plain sentence for
// each step and each reason of a refusal.
//
// Events hold no secret and no text that a stranger chose without a bound;
// they are facts for operators, not log lines.
package audit

import (
	"context"
	"time"
)

// Kind is a noun and a verb, such as "grant.allowed".
type Kind string

// The kinds of this release.
const (
	ProjectCreated   Kind = "project.created"
	ProjectChanged   Kind = "project.changed"
	IssuerChanged    Kind = "project.issuer_changed"
	ProjectRotated   Kind = "project.secret_rotated"
	ResourceAdded    Kind = "resource.added"
	ResourceChanged  Kind = "resource.changed"
	ResourceMoved    Kind = "resource.moved"
	ResourceRemoved  Kind = "resource.removed"
	KeyCreated       Kind = "key.created"
	KeyRotated       Kind = "key.rotated"
	KeyCompromised   Kind = "key.compromised" // taken out of the key set at once
	ClientCreated    Kind = "client.created"
	ClientRegistered Kind = "client.registered"
	ClientCopied     Kind = "client.copied" // its metadata document could not be read; a stored copy stands for it
	ClientDeleted    Kind = "client.deleted"
	ClientExpired    Kind = "client.expired"
	ClientChanged    Kind = "client.changed"
	ClientBlocked    Kind = "client.blocked"
	ClientUnblocked  Kind = "client.unblocked"
	ClientRotated    Kind = "client.secret_rotated"
	ClientRefused    Kind = "client.refused"
	RegisterRefused  Kind = "client.registration_refused"
	CodeSent         Kind = "signin.code_sent"
	SignedIn         Kind = "signin.succeeded"
	SignInRefused    Kind = "signin.refused"
	SignedOut        Kind = "session.ended"
	UserCreated      Kind = "user.created"
	UserRevoked      Kind = "user.revoked"
	UserDeactivated  Kind = "user.deactivated" // may not sign in; what they allowed was taken back
	UserActivated    Kind = "user.activated"
	UserDeleted      Kind = "user.deleted"

	OrganizationCreated Kind = "organization.created"
	OrganizationChanged Kind = "organization.changed"
	OrganizationDeleted Kind = "organization.deleted"
	MemberAdded         Kind = "member.added"   // by an administrator, with or without an invitation
	MemberInvited       Kind = "member.invited" // a mail was sent
	MemberJoined        Kind = "member.joined"  // by invitation or by e-mail domain
	MemberChanged       Kind = "member.changed"
	MemberRemoved       Kind = "member.removed"
	MemberRestored      Kind = "member.restored"
	MemberRevoked       Kind = "member.revoked" // signed out, and what they allowed taken back
	MemberEntered       Kind = "member.entered" // began or went on with a session in an organization
	PolicyApplied       Kind = "policy.applied"
	SSOCreated          Kind = "sso.created" // an organization's connection to its own sign-in service
	SSOChanged          Kind = "sso.changed"
	SSODeleted          Kind = "sso.deleted"

	// Of the deployment: the events have no project, but for a refusal, which has
	// the project that was asked.
	WorkspaceKeyCreated Kind = "workspace.key_created"
	WorkspaceKeyRevoked Kind = "workspace.key_revoked"
	WorkspaceKeyRefused Kind = "workspace.key_refused"

	AdministratorInvited   Kind = "administrator.invited" // a one-time link was made
	AdministratorCreated   Kind = "administrator.created"
	AdministratorChanged   Kind = "administrator.changed" // has another way to sign in
	AdministratorRemoved   Kind = "administrator.removed"
	AdministratorSignedIn  Kind = "administrator.signed_in"
	AdministratorSignedOut Kind = "administrator.signed_out"
	AdministratorRefused   Kind = "administrator.refused" // a one-time link or a sign-in

	DeploymentRestored Kind = "deployment.restored" // the database is a copy that was put in its place
	MasterKeyReplaced  Kind = "deployment.master_key_replaced"

	AuthorizeRefused Kind = "authorize.refused"
	GrantAllowed     Kind = "grant.allowed"
	GrantDenied      Kind = "grant.denied"
	GrantNarrowed    Kind = "grant.narrowed"
	GrantRevoked     Kind = "grant.revoked"
	TokenIssued      Kind = "token.issued"
	TokenRefreshed   Kind = "token.refreshed"
	TokenRefused     Kind = "token.refused"
	RequestRefused   Kind = "request.refused"  // before it was known, or told, what it is about
	UserinfoRefused  Kind = "userinfo.refused" // a wrong, old or foreign access token
	FormRefused      Kind = "form.refused"     // none of our own pages sent it; of the dashboard without a project
	TokenRevoked     Kind = "token.revoked"
	TokenDisplaced   Kind = "token.displaced" // the oldest of too many authorizations of one client
	CodeReused       Kind = "token.code_reused"
	RefreshReused    Kind = "token.refresh_reused"
)

// Why a form is refused.
const (
	ReasonOtherSite = "form from another site"
	ReasonFormToken = "form token is wrong"
)

// Event is one row of the audit trail. Its JSON is what exports and commands
// write; the names are kept.
type Event struct {
	ID        string    `json:"id"` // when it was read; ascending with time
	At        time.Time `json:"at"` // UTC when it was read
	Kind      Kind      `json:"kind"`
	ProjectID string    `json:"project_id"` // "" for what happened to the deployment
	Actor     string    `json:"actor"`      // a subject, a client id, a workspace key, an administrator's address, or Operator; "" when unknown
	Subject   string    `json:"subject"`    // whom it concerns
	ClientID  string    `json:"client_id"`
	Object    string    `json:"object"`  // id of what changed: grant, key, resource server
	Address   string    `json:"address"` // the peer's address as the server trusts it
	Refused   bool      `json:"refused"`
	Reason    string    `json:"reason"`   // for a refusal: a short fixed phrase, never input
	TraceID   string    `json:"trace_id"` // of the request
	Attempt   string    `json:"attempt"`  // code of the authorization attempt that it belongs to, "" for none
}

// Operator is the actor of what is done with the command line, whoever sits
// there: it proves no more than that somebody can read the data folder.
const Operator = "operator"

// Origin says who makes a change, from where, and in which request.
type Origin struct {
	Actor   string // as Event.Actor
	Address string // as Event.Address; "" for the command line
	TraceID string // as Event.TraceID; "" for the command line
}

// Event begins the event of a change that o makes.
func (o Origin) Event(projectID string, at time.Time, kind Kind, object string) Event {
	return Event{ProjectID: projectID, At: at, Kind: kind, Actor: o.Actor, Object: object, Address: o.Address, TraceID: o.TraceID}
}

// Recorder keeps an event that stands alone.
type Recorder interface {
	Record(ctx context.Context, e Event) error
}
