package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/secret"
)

// How long an administrator stays signed in: without a request, and at most.
const (
	adminIdle     = 15 * time.Minute
	adminAbsolute = 8 * time.Hour
	adminTouch    = time.Minute // a session's row is not written on every request
	adminFresh    = 5 * time.Minute
	maxUserAgent  = 256
)

// CeremonyLifetime is how long a browser has between two steps of proving who
// sits there.
const CeremonyLifetime = 5 * time.Minute

// enrolLifetime is longer: an authenticator app may have to be found first.
const enrolLifetime = 15 * time.Minute

// The errors of a sign-in to the dashboard. Which part of it was wrong is in the
// event and nowhere else.
var (
	ErrRefused = errors.New("signin: refused")
	ErrBusy    = errors.New("signin: too many passwords are being checked")
)

// The exact limits of tries at a password (decision 32). A stranger can close no
// door but their own: what anybody may raise is counted by network, and the
// counter of codes needs the right password first. Passkeys have none.
const (
	networkTries = 5
	networkTime  = time.Minute
	personTries  = 10
	personTime   = 15 * time.Minute
	codeTriesDay = 10
	codeTime     = 24 * time.Hour
	refusedKept  = 20
	refusedTime  = time.Hour
)

// Administrators is how those who look after the deployment sign in to the
// dashboard: with a passkey, or with a password and the code of an
// authenticator app (decision 16). One-time links make the first one and every
// other.
type Administrators struct {
	AdministratorsConfig
	passkeys *webauthn.WebAuthn
	hasher   hasher
}

// AdministratorsConfig is what NewAdministrators needs; all of it is required.
type AdministratorsConfig struct {
	Store identity.AdministratorStore
	Now   func() time.Time
	URL   string // the deployment's own: passkeys work there and nowhere else
	// Seal encrypts what must be read again, for the row with this id; Open
	// decrypts it.
	Seal func(plain []byte, id string) []byte
	Open func(sealed []byte, id string) ([]byte, error)
}

// NewAdministrators returns the Administrators of a store.
func NewAdministrators(c AdministratorsConfig) (*Administrators, error) {
	if c.Store == nil || c.Now == nil || c.URL == "" || c.Seal == nil || c.Open == nil {
		return nil, errors.New("signin: Store, Now, URL, Seal and Open are required")
	}
	passkeys, err := newPasskeys(c.URL)
	if err != nil {
		return nil, err
	}
	return &Administrators{AdministratorsConfig: c, passkeys: passkeys, hasher: newHasher()}, nil
}

// From says where a request comes from.
type From struct {
	Address   string // as the server trusts it
	Network   string // what limits count by
	UserAgent string
	TraceID   string
}

func (f From) event(at time.Time, kind audit.Kind, who identity.Administrator) audit.Event {
	return audit.Event{At: at, Kind: kind, Actor: who.Email, Object: who.ID, Address: f.Address, TraceID: f.TraceID}
}

// ceremony is what is remembered between two steps of one browser.
type ceremony struct {
	Purpose string               `json:"purpose"`
	LinkID  string               `json:"link_id,omitempty"`
	ID      string               `json:"id,omitempty"` // of the administrator
	Email   string               `json:"email,omitempty"`
	New     bool                 `json:"new,omitempty"`
	TOTP    string               `json:"totp,omitempty"` // base32
	Passkey webauthn.SessionData `json:"passkey"`
}

// What a ceremony is for.
const (
	forLink    = "link"
	forAnother = "another way"
	forSignIn  = "sign-in"
)

// Enrolment is what a person needs to make themselves a way to sign in: the
// options of a passkey, and the secret of an authenticator app. Cookie binds it
// to their browser; it works once.
type Enrolment struct {
	Email   string // "" when they are to say
	New     bool   // they become an administrator by it
	Options string // JSON, for the browser's parseCreationOptionsFromJSON
	TOTP    TOTP
	Cookie  secret.Secret
}

// Answer is what a person makes of an Enrolment: a passkey, or a password and
// the code that their authenticator shows.
type Answer struct {
	Email    string // where the Enrolment has none
	Name     string // of the passkey
	Passkey  string // JSON of the browser's PublicKeyCredential, "" for a password
	Password string
	Code     string
}

// OpenLink begins the enrolment of whoever holds a one-time link; the link is
// not used up by it. A text that is none, or no more, is ErrRefused: the fifth
// wrong secret for a link ends it.
func (a *Administrators) OpenLink(ctx context.Context, text string, f From) (Enrolment, error) {
	now := a.Now()
	given, ok := secret.Parse(secret.Setup, strings.TrimSpace(text))
	link, err := identity.AdministratorLink{}, identity.ErrNotFound
	if ok {
		link, err = a.Store.AdministratorLink(ctx, given.ID, now)
	}
	switch {
	case err == nil && given.Matches(link.SecretHash):
	case err == nil || errors.Is(err, identity.ErrNotFound):
		e := f.event(now, audit.AdministratorRefused, identity.Administrator{ID: given.ID})
		e.Refused, e.Reason = true, "one-time link does not work"
		if err := a.Store.RefuseAdministratorLink(ctx, given.ID, refusedLimit(f), e); err != nil {
			return Enrolment{}, err
		}
		return Enrolment{}, ErrRefused
	default:
		return Enrolment{}, err
	}
	c := ceremony{Purpose: forLink, LinkID: link.ID, ID: link.AdministratorID, Email: link.Email, New: link.AdministratorID == ""}
	if c.New {
		c.ID = "administrator-" + secret.NewUUID(now)
	}
	return a.enrol(ctx, c, nil)
}

// Another begins the enrolment of a further way to sign in.
func (a *Administrators) Another(ctx context.Context, who identity.Administrator) (Enrolment, error) {
	own, err := a.Store.AdministratorPasskeys(ctx, who.ID)
	if err != nil {
		return Enrolment{}, err
	}
	return a.enrol(ctx, ceremony{Purpose: forAnother, ID: who.ID, Email: who.Email}, own)
}

// enrol keeps a ceremony with a new challenge. The secret of the authenticator
// stays as it was, for the person may have scanned it.
func (a *Administrators) enrol(ctx context.Context, c ceremony, own []identity.Passkey) (Enrolment, error) {
	if c.TOTP == "" {
		c.TOTP = newTOTPSecret()
	}
	options, session, err := a.newPasskey(c.ID, c.Email, own)
	if err != nil {
		return Enrolment{}, err
	}
	c.Passkey = session
	e := Enrolment{Email: c.Email, New: c.New, Options: options}
	if e.TOTP, err = newTOTP(c.TOTP, a.URL, c.Email); err != nil {
		return Enrolment{}, err
	}
	e.Cookie, err = a.keep(ctx, c, enrolLifetime)
	return e, err
}

// Accept uses a link up: the person has a way to sign in from now on, and is
// signed in. Problems come with an Enrolment in place of the one that was used
// up; ErrRefused says that the link works no more.
func (a *Administrators) Accept(ctx context.Context, cookie string, given Answer, f From) (secret.Secret, Enrolment, error) {
	c, err := a.take(ctx, cookie, forLink)
	if err != nil {
		return secret.Secret{}, Enrolment{}, err
	}
	who := identity.Administrator{ID: c.ID, Email: c.Email, CreatedAt: a.Now()}
	if who.Email == "" {
		who.Email = strings.TrimSpace(given.Email)
	}
	proof, err := a.prove(ctx, c, who.Email, given)
	if err == nil {
		key, session := a.session(who, f)
		kind := audit.AdministratorChanged
		if c.New {
			kind = audit.AdministratorCreated
		}
		err = a.Store.AcceptAdministratorLink(ctx, c.LinkID, who, proof, session, f.event(session.CreatedAt, kind, who))
		switch {
		case err == nil:
			return key, Enrolment{}, nil
		case errors.Is(err, identity.ErrNotFound):
			return secret.Secret{}, Enrolment{}, ErrRefused
		}
	}
	again, err := a.again(ctx, c, nil, err)
	return secret.Secret{}, again, err
}

// Add gives a signed-in administrator another way to sign in. Problems come with
// an Enrolment, as in Accept.
func (a *Administrators) Add(ctx context.Context, who identity.Administrator, sessionID, cookie string, given Answer, f From) (Enrolment, error) {
	c, err := a.take(ctx, cookie, forAnother)
	if err != nil {
		return Enrolment{}, err
	}
	if c.ID != who.ID {
		return Enrolment{}, ErrRefused
	}
	proof, err := a.prove(ctx, c, who.Email, given)
	if err == nil {
		err = a.Store.AddAdministratorProof(ctx, who.ID, sessionID, proof, f.event(a.Now(), audit.AdministratorChanged, who))
		switch {
		case err == nil:
			return Enrolment{}, nil
		case errors.Is(err, identity.ErrNotFound): // removed, or signed out meanwhile
			return Enrolment{}, ErrRefused
		}
	}
	own, listErr := a.Store.AdministratorPasskeys(ctx, who.ID)
	if listErr != nil {
		return Enrolment{}, listErr
	}
	return a.again(ctx, c, own, err)
}

// again turns an error into Problems and a new Enrolment, where the person can
// do something about it.
func (a *Administrators) again(ctx context.Context, c ceremony, own []identity.Passkey, err error) (Enrolment, error) {
	var problems identity.Problems
	switch {
	case errors.As(err, &problems):
	case errors.Is(err, identity.ErrConflict):
		problems = identity.Problems{"This address or passkey belongs to an administrator already. Sign in instead."}
	default:
		return Enrolment{}, err
	}
	e, err := a.enrol(ctx, c, own)
	if err != nil {
		return Enrolment{}, err
	}
	return e, problems
}

// prove checks the answer to an Enrolment. The error may be Problems.
func (a *Administrators) prove(ctx context.Context, c ceremony, email string, given Answer) (identity.Proof, error) {
	now := a.Now()
	if mail.CheckAddress(email) != nil {
		return identity.Proof{}, identity.Problems{"Enter an e-mail address, such as you@company.com."}
	}
	if given.Passkey != "" {
		key, err := a.madePasskey(c, given.Passkey)
		if err != nil {
			return identity.Proof{}, identity.Problems{"This passkey could not be checked. Make it again, and let the device ask for your fingerprint, face or PIN."}
		}
		key.AdministratorID, key.CreatedAt, key.Name = c.ID, now, passkeyName(given.Name)
		return identity.Proof{Passkey: &key}, nil
	}
	if problem := checkPassword(given.Password, email); problem != "" {
		return identity.Proof{}, identity.Problems{problem}
	}
	step, ok := checkCode(c.TOTP, given.Code, now, 0)
	if !ok {
		return identity.Proof{}, identity.Problems{"That code does not match. Take the one that the app shows now, and check that the clock of its device is right."}
	}
	hash, err := a.hasher.hash(ctx, given.Password)
	if err != nil {
		return identity.Proof{}, err
	}
	return identity.Proof{Password: &identity.Password{Hash: hash, TOTPSecret: a.Seal([]byte(c.TOTP), c.ID), TOTPStep: step}}, nil
}

// Challenge begins a sign-in by passkey: the options for the browser, in JSON,
// and the cookie that binds them to it.
func (a *Administrators) Challenge(ctx context.Context) (options string, cookie secret.Secret, err error) {
	c := ceremony{Purpose: forSignIn}
	if options, c.Passkey, err = a.anyPasskey(); err != nil {
		return "", secret.Secret{}, err
	}
	cookie, err = a.keep(ctx, c, CeremonyLifetime)
	return options, cookie, err
}

// SignInByPasskey takes the answer to a challenge and begins a session. Errors:
// ErrRefused.
func (a *Administrators) SignInByPasskey(ctx context.Context, cookie, credential string, f From) (secret.Secret, error) {
	c, err := a.take(ctx, cookie, forSignIn)
	if errors.Is(err, ErrRefused) {
		return secret.Secret{}, a.refuse(ctx, identity.Administrator{}, "challenge was used, or has run out", f)
	}
	if err != nil {
		return secret.Secret{}, err
	}
	used, who, before, err := a.usedPasskey(ctx, c, credential)
	if errors.Is(err, ErrRefused) {
		return secret.Secret{}, a.refuse(ctx, who, strings.TrimPrefix(err.Error(), ErrRefused.Error()+": "), f)
	}
	if err != nil {
		return secret.Secret{}, err
	}
	key, session := a.session(who, f)
	err = a.Store.SignInByPasskey(ctx, used, before, session, f.event(session.CreatedAt, audit.AdministratorSignedIn, who))
	if errors.Is(err, identity.ErrStale) || errors.Is(err, identity.ErrNotFound) {
		return secret.Secret{}, a.refuse(ctx, who, "passkey was used at the same moment", f)
	}
	return key, err
}

// SignInByPassword checks address, password and code at once and begins a
// session. Errors: ErrRefused for any wrong combination, identity.ErrLimited,
// ErrBusy.
func (a *Administrators) SignInByPassword(ctx context.Context, email, password, code string, f From) (secret.Secret, error) {
	now, folded := a.Now(), identity.Fold(email)
	counted := []identity.TryLimit{
		{Kind: "admin_network", Key: f.Network, Count: networkTries, Window: networkTime},
		{Kind: "admin_password", Key: folded + " " + f.Network, Count: personTries, Window: personTime},
	}
	if err := a.Store.CountAdministratorTry(ctx, counted, now); err != nil {
		return secret.Secret{}, err
	}
	who, kept, err := a.Store.AdministratorByAddress(ctx, folded)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return secret.Secret{}, err
	}
	// Nobody and somebody without a password cost as much as somebody with one.
	right, err := a.hasher.verify(ctx, password, kept.Hash)
	if err != nil {
		return secret.Secret{}, err
	}
	if !right {
		return secret.Secret{}, a.refuse(ctx, who, "no such administrator, or wrong password", f)
	}
	codes := identity.TryLimit{Kind: "admin_code", Key: who.ID, Count: codeTriesDay, Window: codeTime}
	switch err := a.Store.CountAdministratorTry(ctx, []identity.TryLimit{codes}, now); {
	case errors.Is(err, identity.ErrLimited):
		return secret.Secret{}, a.refuse(ctx, who, "too many wrong codes of the authenticator today", f)
	case err != nil:
		return secret.Secret{}, err
	}
	totp, err := a.Open(kept.TOTPSecret, who.ID)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("signin: open authenticator of %s: %w", who.ID, err)
	}
	step, ok := checkCode(string(totp), code, now, kept.TOTPStep)
	if !ok {
		return secret.Secret{}, a.refuse(ctx, who, "wrong or used code of the authenticator", f)
	}
	kept.TOTPStep = step
	key, session := a.session(who, f)
	err = a.Store.SignInByPassword(ctx, who.ID, kept, append(counted, codes), session, f.event(now, audit.AdministratorSignedIn, who))
	if errors.Is(err, identity.ErrStale) || errors.Is(err, identity.ErrNotFound) {
		return secret.Secret{}, a.refuse(ctx, who, "wrong or used code of the authenticator", f)
	}
	return key, err
}

// refuse keeps the event of a refused sign-in, unless this network caused many,
// and returns ErrRefused.
func (a *Administrators) refuse(ctx context.Context, who identity.Administrator, reason string, f From) error {
	e := f.event(a.Now(), audit.AdministratorRefused, identity.Administrator{ID: who.ID})
	e.Subject, e.Refused, e.Reason = who.Email, true, reason
	if err := a.Store.RefuseAdministrator(ctx, refusedLimit(f), e); err != nil {
		return err
	}
	return ErrRefused
}

func refusedLimit(f From) identity.TryLimit {
	return identity.TryLimit{Kind: "admin_refused", Key: f.Network, Count: refusedKept, Window: refusedTime}
}

// keep keeps a ceremony and returns its cookie.
func (a *Administrators) keep(ctx context.Context, c ceremony, life time.Duration) (secret.Secret, error) {
	now := a.Now()
	state, err := json.Marshal(c)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("signin: write ceremony: %w", err)
	}
	cookie := secret.New(secret.Ceremony, now)
	return cookie, a.Store.KeepCeremony(ctx, cookie.ID, cookie.Hash[:], a.Seal(state, cookie.ID), now.Add(life))
}

// take takes a ceremony out, for one purpose, or returns ErrRefused.
func (a *Administrators) take(ctx context.Context, cookie, purpose string) (ceremony, error) {
	given, ok := secret.Parse(secret.Ceremony, cookie)
	if !ok {
		return ceremony{}, ErrRefused
	}
	hash, sealed, err := a.Store.TakeCeremony(ctx, given.ID, a.Now())
	if errors.Is(err, identity.ErrNotFound) || err == nil && !given.Matches(hash) {
		return ceremony{}, ErrRefused
	}
	if err != nil {
		return ceremony{}, err
	}
	state, err := a.Open(sealed, given.ID)
	if err != nil {
		return ceremony{}, fmt.Errorf("signin: open ceremony: %w", err)
	}
	var c ceremony
	if err := json.Unmarshal(state, &c); err != nil {
		return ceremony{}, fmt.Errorf("signin: read ceremony: %w", err)
	}
	if c.Purpose != purpose {
		return ceremony{}, ErrRefused
	}
	return c, nil
}

// session makes a session of somebody who has just proved who they are, and its
// cookie.
func (a *Administrators) session(who identity.Administrator, f From) (secret.Secret, identity.AdministratorSession) {
	now := a.Now()
	cookie := secret.New(secret.AdminSession, now)
	return cookie, identity.AdministratorSession{
		ID: cookie.ID, AdministratorID: who.ID, SecretHash: cookie.Hash[:],
		Address: f.Address, UserAgent: f.UserAgent[:min(len(f.UserAgent), maxUserAgent)],
		CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(adminIdle), ExpiresAt: now.Add(adminAbsolute),
	}
}

// Session returns the live session behind a cookie and moves its idle expiry
// forward, or returns identity.ErrNotFound.
func (a *Administrators) Session(ctx context.Context, cookie string) (identity.AdministratorSession, identity.Administrator, error) {
	given, ok := secret.Parse(secret.AdminSession, cookie)
	if !ok {
		return identity.AdministratorSession{}, identity.Administrator{}, identity.ErrNotFound
	}
	now := a.Now()
	s, who, err := a.Store.AdministratorSession(ctx, given.ID, now)
	if err != nil {
		return s, who, err
	}
	if !given.Matches(s.SecretHash) {
		return identity.AdministratorSession{}, identity.Administrator{}, identity.ErrNotFound
	}
	if now.Sub(s.LastSeenAt) >= adminTouch {
		s.LastSeenAt, s.IdleExpiresAt = now, now.Add(adminIdle)
		err = a.Store.TouchAdministratorSession(ctx, s.ID, s.LastSeenAt, s.IdleExpiresAt)
	}
	return s, who, err
}

// Fresh reports whether the person behind a session proved who they are a moment
// ago: only then may they change how they sign in.
func (a *Administrators) Fresh(s identity.AdministratorSession) bool {
	return a.Now().Sub(s.CreatedAt) < adminFresh
}

// Ways is how an administrator can sign in, and where they are signed in.
type Ways struct {
	Passkeys []identity.Passkey
	Password bool
	Sessions []identity.AdministratorSession
}

// Ways returns how an administrator can sign in.
func (a *Administrators) Ways(ctx context.Context, who identity.Administrator) (Ways, error) {
	var w Ways
	_, kept, err := a.Store.AdministratorByAddress(ctx, identity.Fold(who.Email))
	if err != nil {
		return w, err
	}
	w.Password = kept.Hash != ""
	if w.Passkeys, err = a.Store.AdministratorPasskeys(ctx, who.ID); err != nil {
		return w, err
	}
	w.Sessions, err = a.Store.AdministratorSessions(ctx, who.ID, a.Now())
	return w, err
}

// RemoveWay takes a passkey from an administrator, or their password when
// passkeyID is "". Errors: identity.ErrNotFound, identity.ErrLastWay.
func (a *Administrators) RemoveWay(ctx context.Context, who identity.Administrator, sessionID, passkeyID string, f From) error {
	return a.Store.RemoveAdministratorProof(ctx, who.ID, sessionID, passkeyID, f.event(a.Now(), audit.AdministratorChanged, who))
}

// End signs one browser out.
func (a *Administrators) End(ctx context.Context, s identity.AdministratorSession, who identity.Administrator, f From) error {
	return a.Store.EndAdministratorSession(ctx, s.ID, f.event(a.Now(), audit.AdministratorSignedOut, who))
}

// EndOthers signs an administrator out everywhere but in the browser of s.
func (a *Administrators) EndOthers(ctx context.Context, s identity.AdministratorSession, who identity.Administrator, f From) error {
	return a.Store.EndOtherAdministratorSessions(ctx, who.ID, s.ID, f.event(a.Now(), audit.AdministratorSignedOut, who))
}
