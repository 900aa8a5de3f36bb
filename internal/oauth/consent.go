package oauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// Person is who decides, in the protocol's words.
type Person struct {
	Subject      string
	Organization string // "" in a consumer project
	SessionID    string
	AuthTime     time.Time // when they last proved who they are
}

// Choice is one permission on the consent page.
type Choice struct {
	Scope     project.Scope
	Identity  bool // one of OpenID Connect's, about the person
	Described bool // false: nobody gave it a sentence
	Grantable bool // false: this person cannot grant it
	Declined  bool // they said no to it, or took it back
	Ticked    bool // how the box starts
}

// Silently reports whether the choice is allowed where nobody is asked.
func (c Choice) Silently() bool { return c.Grantable && !c.Declined }

// Consent is what to ask a person.
type Consent struct {
	Choices []Choice // what is asked, in the request's order
	Kept    []Choice // allowed earlier and staying, on a step-up; not asked again
	Skip    bool     // nothing to ask: remembered, or the project vouches for the client
	Reach   Reach    // what the tokens open besides, with all that is asked and kept

	remembered bool // Skip rests on what the person decided earlier
}

// Reach is what a token opens at its resource server that none of its scopes
// says. It is there whatever a person unticks, so a page has to tell.
type Reach string

const (
	ReachScopes Reach = ""       // nothing: it opens what its scopes say
	ReachOpen   Reach = "open"   // what the server opens without a scope of its own
	ReachServer Reach = "server" // all of it: nobody named a scope of the server
)

// ReachOf is the reach of tokens for a resource with these scopes. Of a resource
// that is not registered we know no more than the scopes that are asked.
func ReachOf(p *project.Project, resource string, scopes []string) Reach {
	r, registered := p.Resource(resource)
	own := slices.ContainsFunc(scopes, func(name string) bool { return !ofOpenID(name) })
	switch {
	case resource == "" || !useful(scopes):
		return ReachScopes
	case len(r.Scopes) == 0 && (registered || !own):
		return ReachServer
	case !own:
		return ReachOpen
	}
	return ReachScopes
}

// StepUp reports whether something was allowed earlier and more is asked now.
func (c Consent) StepUp() bool { return len(c.Kept) > 0 }

// Consent decides what a person has to be asked (decisions 13 and 29). A scope
// that was declined is asked again: the request may be the step-up of the tool
// that needs it. Nothing is added to what the client asks for now.
func (s *Server) Consent(ctx context.Context, p *project.Project, pending Pending, who Person) (Consent, error) {
	reach := ReachOf(p, pending.Resource, pending.Scopes)
	allowed, declined, err := s.decidedEarlier(ctx, p, pending, reach, who)
	if err != nil {
		return Consent{}, err
	}
	grantable, active, err := s.narrowed(ctx, p, who.Subject, who.Organization, pending.Client, pending.Scopes)
	if err != nil {
		return Consent{}, err
	}
	if !active {
		return Consent{}, s.refusePending(ctx, p, pending, who.Subject,
			&Error{Code: "access_denied", Description: "This person cannot use connected apps here."})
	}
	quiet := !pending.Request.Asks("consent")
	careful := p.Settings.PreselectReadOnly && pending.Client.Creation == Dynamic
	var all, fresh, kept []Choice
	for _, name := range pending.Scopes {
		if silent(name) {
			continue
		}
		choice := newChoice(p, name)
		choice.Grantable, choice.Declined = slices.Contains(grantable, name), slices.Contains(declined, name)
		choice.Ticked = choice.Grantable && (choice.Scope.ReadOnly || !careful)
		all = append(all, choice)
		switch {
		case !slices.Contains(allowed, name):
			fresh = append(fresh, choice)
		case choice.Grantable:
			kept = append(kept, choice)
		}
	}
	something := slices.ContainsFunc(all, Choice.Silently)
	switch {
	case quiet && something && bypasses(p, pending):
		return Consent{Choices: all, Reach: reach, Skip: true}, nil
	case quiet && something && len(fresh) == 0 && pending.Client.ProvesItself(pending.RedirectURI):
		return Consent{Choices: all, Reach: reach, Skip: true, remembered: true}, nil
	case quiet && len(fresh) > 0 && len(fresh) < len(all):
		return Consent{Choices: fresh, Kept: kept, Reach: reach}, nil
	default:
		return Consent{Choices: all, Reach: reach}, nil
	}
}

// narrowed is what a person may grant a client now.
func (s *Server) narrowed(ctx context.Context, p *project.Project, subject, organization string, c Client, scopes []string) ([]string, bool, error) {
	return s.subjects.Narrow(ctx, p, subject, organization, c.ID, c.Type.FirstParty(), scopes)
}

// bypasses reports whether the project lets its own program do without a
// consent page, with all but what the person declined. Not at an address that any program on a computer can take
// (decision 13), but for a server of development, which is one itself.
func bypasses(p *project.Project, pending Pending) bool {
	c, uri := pending.Client, pending.RedirectURI
	return c.Type.FirstParty() && c.BypassConsent && (c.ProvesItself(uri) || !p.Secure() && DestinationOf(uri).Loopback)
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// Describe puts a scope that was allowed into the form of a choice.
func (s *Server) Describe(p *project.Project, scope string) Choice {
	c := newChoice(p, scope)
	c.Grantable, c.Ticked = true, true
	return c
}

func newChoice(p *project.Project, name string) Choice {
	scope, known := describe(p, name)
	if !known {
		scope = project.Scope{Name: name}
	}
	return Choice{Scope: scope, Identity: ofOpenID(name), Described: scope.Description != ""}
}

// decidedEarlier are the scopes that a person allowed this client, as it is now,
// for this resource, as it is now, and those that they declined, whatever both
// were then.
func (s *Server) decidedEarlier(ctx context.Context, p *project.Project, pending Pending, reach Reach, who Person) (allowed, declined []string, err error) {
	_, rows, err := s.store.Grant(ctx, p.ID, who.Subject, who.Organization, pending.Client.ID, pending.Resource)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	hash := consentHash(pending, reach)
	for _, row := range rows {
		switch {
		case silent(row.Scope):
		case !row.Allowed:
			declined = append(declined, row.Scope)
		case bytes.Equal(row.ConsentHash, hash):
			allowed = append(allowed, row.Scope)
		}
	}
	return allowed, declined, err
}

// consentHash stands for what the person was shown: the client's metadata, where
// the answer goes, and whether all of the resource server opens. One of them
// changing asks again; another logo alone does not.
func consentHash(pending Pending, reach Reach) []byte {
	uri := pending.RedirectURI
	if portless, ok := withoutLoopbackPort(uri); ok {
		uri = "http://" + portless
	}
	metadata := pending.Client.Metadata
	metadata.LogoURI = ""
	h := sha256.New()
	h.Write(metadata.Hash())
	h.Write([]byte(uri))
	if reach == ReachServer {
		h.Write([]byte(" " + reach))
	}
	return h.Sum(nil)
}

// ErrNothingTicked says that Allow was pressed with no permission ticked.
var ErrNothingTicked = errors.New("oauth: no permission ticked")

// Allow keeps what a person allowed and returns the answer with a code.
// ticked are the scopes whose boxes were on; consent is what was asked, made
// anew from the same pending request. flowID marks the decision as made: of
// any number of calls with one flow, one succeeds and the others get ErrUsed.
func (s *Server) Allow(ctx context.Context, p *project.Project, flowID string, pending Pending, who Person, consent Consent, ticked []string) (Answer, error) {
	now, hash := s.now(), consentHash(pending, consent.Reach)
	var granted []string
	var rows []GrantScope
	decide := func(name string, allowed bool) {
		rows = append(rows, GrantScope{Resource: pending.Resource, Scope: name, Allowed: allowed, ConsentHash: hash, DecidedAt: now})
		if allowed {
			granted = append(granted, name)
		}
	}
	for _, choice := range consent.Choices {
		name := choice.Scope.Name
		switch {
		case !choice.Grantable: // nobody decided about it
		case !consent.Skip:
			decide(name, slices.Contains(ticked, name))
		case choice.Silently():
			decide(name, true)
		}
	}
	var rests []string
	for _, kept := range consent.Kept {
		rests = append(rests, kept.Scope.Name)
	}
	granted = append(granted, rests...)
	if len(granted) == 0 {
		return Answer{}, ErrNothingTicked
	}
	for _, name := range pending.Scopes {
		if silent(name) {
			decide(name, true)
		}
	}
	granted = slices.DeleteFunc(slices.Clone(pending.Scopes), func(name string) bool { return !slices.Contains(granted, name) })
	if consent.remembered { // nobody decided anything today
		rows, rests = nil, slices.DeleteFunc(slices.Clone(granted), silent)
	}
	code := secret.New(secret.AuthorizationCode, now)
	attempt := s.attemptOf(ctx, p, pending.Request, pending.Client)
	attempt.State, attempt.Stage, attempt.Subject, attempt.StepUp = audit.Allowed, audit.AtConsent, who.Subject, consent.StepUp()
	e := s.event(ctx, p, audit.GrantAllowed)
	e.Actor, e.Subject, e.ClientID, e.Attempt = who.Subject, who.Subject, pending.Client.ID, attempt.Code
	err := s.store.Decide(ctx, Decision{
		FlowID: flowID,
		Asked:  !consent.Skip,
		Grant: Grant{
			ID: s.newID(p, "grant"), ProjectID: p.ID, Subject: who.Subject, Organization: who.Organization,
			ClientID: pending.Client.ID, CreatedAt: now,
		},
		Scopes: rows,
		Rests:  rests,
		Code: Code{
			ID: code.ID, ProjectID: p.ID, Hash: code.Hash[:], ClientID: pending.Client.ID,
			Subject: who.Subject, Organization: who.Organization, SessionID: who.SessionID,
			RedirectURI: pending.RedirectURI,
			Challenge:   pending.Request.CodeChallenge, Resource: pending.Resource, Scopes: granted,
			Nonce: pending.Request.Nonce, AuthTime: who.AuthTime, Attempt: attempt.Code,
			CreatedAt: now, ExpiresAt: now.Add(time.Duration(p.Settings.Lifetimes.Code) * time.Second),
		},
		Attempt: attempt,
	}, e)
	if err != nil {
		return Answer{}, err
	}
	return successAnswer(p.Issuer, pending.RedirectURI, pending.Request.State, code.Text), nil
}

// Deny keeps that a person said no and returns the answer that tells the
// client. ErrUsed when the flow was decided before.
func (s *Server) Deny(ctx context.Context, p *project.Project, flowID string, pending Pending, who Person) (Answer, error) {
	attempt := s.attemptOf(ctx, p, pending.Request, pending.Client)
	attempt.State, attempt.Stage, attempt.Subject = audit.Denied, audit.AtConsent, who.Subject
	e := s.event(ctx, p, audit.GrantDenied)
	e.Actor, e.Subject, e.ClientID, e.Attempt = who.Subject, who.Subject, pending.Client.ID, attempt.Code
	if err := s.store.Deny(ctx, p.ID, flowID, s.now(), attempt, e); err != nil {
		return Answer{}, err
	}
	return errorAnswer(p.Issuer, pending.RedirectURI, pending.Request.State,
		&Error{Code: "access_denied", Description: "The person said no."}), nil
}
