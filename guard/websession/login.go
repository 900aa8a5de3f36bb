package websession

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/guard"
)

// The paths that [Sessions.Login], [Sessions.Callback] and [Sessions.Logout]
// are registered at. CallbackPath, behind Config.URL, is the redirect URI that
// the client is registered with.
const (
	LoginPath    = "/login"
	CallbackPath = "/callback"
	LogoutPath   = "/logout"
)

const (
	flowAge  = 10 * time.Minute // from the start of a sign-in to its answer
	maxFlows = 8                // sign-ins under way in one browser
	maxForm  = 16 << 10         // bytes of a sign-out form
)

// Login sends the browser to the issuer. The query parameter return_to is the
// path to come back to; anything but a path on this host means "/".
//
// Each sign-in is bound to the browser that started it by a cookie of its own
// that holds state (RFC 9700 §4.7.1), so sign-ins in several tabs do not
// disturb each other. The PKCE verifier and the nonce are derived from state
// under a key that never leaves the process: nothing is stored until somebody
// has signed in.
func (s *Sessions) Login(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	meta, err := s.issuer.metadata(r.Context())
	if err != nil {
		s.fail(w, r, http.StatusServiceUnavailable, "The sign-in service does not answer. Try again in a minute.", err)
		return
	}
	state := secret()
	s.dropOldFlows(w, r)
	back := returnPath(r.URL.Query().Get("return_to"))
	s.setCookie(w, s.flowCookie(state), state+"."+base64.RawURLEncoding.EncodeToString([]byte(back)), flowAge)

	challenge := sha256.Sum256([]byte(s.derive("verifier", state)))
	target, err := url.Parse(meta.AuthorizationEndpoint)
	if err != nil {
		s.fail(w, r, http.StatusServiceUnavailable, "The sign-in service does not answer. Try again in a minute.", err)
		return
	}
	q := target.Query()
	q.Set("response_type", "code")
	q.Set("client_id", s.issuer.clientID)
	q.Set("redirect_uri", s.issuer.redirectURI)
	q.Set("state", state)
	q.Set("code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:]))
	q.Set("code_challenge_method", "S256")
	q.Set("resource", s.issuer.resource)
	if len(s.config.Scopes) > 0 {
		q.Set("scope", strings.Join(s.config.Scopes, " "))
	}
	if s.openID() {
		q.Set("nonce", s.derive("nonce", state))
	}
	target.RawQuery = q.Encode()
	http.Redirect(w, r, target.String(), http.StatusSeeOther)
}

// Callback takes the issuer's answer, redeems the code and signs the browser
// in. What does not belong to a sign-in of this browser, or does not come from
// this issuer (RFC 9207 §2.4), is refused before anything is redeemed.
func (s *Sessions) Callback(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	q := r.URL.Query()
	for _, name := range []string{"state", "iss", "code", "error"} {
		if len(q[name]) > 1 {
			s.fail(w, r, http.StatusBadRequest, "The answer of the sign-in service makes no sense. Sign in again.", errors.New(name+" is there twice"))
			return
		}
	}
	state := q.Get("state")
	back, ok := s.flow(r, state)
	if !ok {
		s.fail(w, r, http.StatusBadRequest, "This sign-in was not started in this browser, or more than ten minutes ago. Sign in again.", errors.New("no flow with this state"))
		return
	}
	s.dropCookie(w, s.flowCookie(state))
	meta, err := s.issuer.metadata(r.Context())
	if err != nil {
		s.fail(w, r, http.StatusServiceUnavailable, "The sign-in service does not answer. Try again in a minute.", err)
		return
	}
	if (meta.IssParameter || q.Has("iss")) && q.Get("iss") != meta.Issuer {
		s.fail(w, r, http.StatusBadRequest, "This answer is not from our sign-in service. Sign in again.", errors.New("iss is "+q.Get("iss")))
		return
	}
	switch code := q.Get("error"); {
	case code == "access_denied":
		s.fail(w, r, http.StatusForbidden, "You said no, so you are not signed in.", errors.New(code))
		return
	case code != "" || q.Get("code") == "":
		s.fail(w, r, http.StatusBadGateway, "The sign-in service could not sign you in. Try again.", errors.New("error "+code))
		return
	}
	// Once sent, the exchange is finished even if the browser goes away: what
	// it redeems is ours to keep or to end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), exchangeWait)
	defer cancel()
	value, err := s.signIn(ctx, meta, q.Get("code"), state)
	if err != nil {
		s.fail(w, r, http.StatusBadGateway, "The sign-in service could not sign you in. Try again.", err)
		return
	}
	if old := s.store.delete(s.cookie(r)); old != nil {
		s.end(r.Context(), old) // a new sign-in never continues an old session
	}
	s.setCookie(w, s.config.CookieName, value, s.config.Lifetime)
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// signIn redeems the code, checks what came back and returns the value of the
// new session's cookie.
func (s *Sessions) signIn(ctx context.Context, meta *guard.IssuerMetadata, code, state string) (value string, err error) {
	answer, err := s.issuer.redeem(ctx, code, s.derive("verifier", state))
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			s.revoke(ctx, answer)
		}
	}()
	principal, err := s.config.Guard.Verify(ctx, answer.AccessToken)
	if err != nil {
		return "", err
	}
	sess := &session{
		person:  Person{Subject: principal.Subject},
		created: s.config.Now(),
		tokens:  answer,
	}
	sess.lives(s.config.Now(), principal.Expires)
	if s.openID() {
		id, err := s.issuer.identify(meta, answer.IDToken, s.derive("nonce", state))
		if err != nil {
			return "", err
		}
		if id.Subject != principal.Subject {
			return "", errors.New("the id_token is another person's")
		}
		sess.person.Name, sess.person.Email = id.Name, id.Email
	}
	value = secret()
	s.store.put(value, sess, s.config.Now())
	return value, nil
}

// Logout ends the session: the cookie goes, the refresh token is revoked at
// the issuer (RFC 7009), and the browser is sent to "/". With the form field
// everywhere=true it is sent to the issuer's own sign-out instead, where the
// issuer has one (OpenID Connect RP-Initiated Logout 1.0 §2), which comes back
// to "/". Register it for POST only: a link must not be able to sign out.
//
// A page with a Content-Security-Policy lists the issuer's origin in
// form-action beside 'self': browsers hold a form's redirects to it too. That
// goes for every form behind [Sessions.Page].
func (s *Sessions) Logout(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := s.crossOrigin.Check(r); err != nil {
		s.fail(w, r, http.StatusForbidden, "This came from another site, so nothing was done.", err)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm) // anybody may send one
	everywhere := r.PostFormValue("everywhere") == "true"
	sess := s.store.delete(s.cookie(r))
	s.dropCookie(w, s.config.CookieName)
	if sess == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	ended := s.end(r.Context(), sess)
	target := "/"
	if everywhere {
		target = s.endSession(r.Context(), ended.IDToken)
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// end ends a session that has left the store and returns the tokens that it
// had. A refresh under way finishes first: its token is the one to revoke.
func (s *Sessions) end(ctx context.Context, sess *session) tokens {
	sess.mu.Lock()
	held := sess.tokens
	sess.ended = true
	sess.mu.Unlock()
	s.revoke(ctx, held)
	return held
}

// revoke ends at the issuer what nobody here will use again (RFC 7009). Where
// that fails there is nothing more to do: the tokens run out by themselves.
func (s *Sessions) revoke(ctx context.Context, held tokens) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeWait)
	defer cancel()
	token, hint := held.RefreshToken, "refresh_token"
	if token == "" {
		token, hint = held.AccessToken, "access_token"
	}
	if err := s.issuer.revoke(ctx, token, hint); err != nil {
		s.config.Logger.WarnContext(ctx, "websession: could not revoke", "error", err)
	}
}

// endSession returns the address of the issuer's own sign-out, or "/".
func (s *Sessions) endSession(ctx context.Context, idToken string) string {
	meta, err := s.issuer.metadata(ctx)
	if err != nil || meta.EndSessionEndpoint == "" {
		return "/"
	}
	target, err := url.Parse(meta.EndSessionEndpoint)
	if err != nil {
		return "/"
	}
	q := target.Query()
	q.Set("client_id", s.issuer.clientID)
	q.Set("post_logout_redirect_uri", s.config.URL+"/")
	if idToken != "" {
		q.Set("id_token_hint", idToken)
	}
	target.RawQuery = q.Encode()
	return target.String()
}

// flow returns the path to come back to, if this browser started the sign-in
// with this state.
func (s *Sessions) flow(r *http.Request, state string) (back string, ok bool) {
	cookie, err := r.Cookie(s.prefix + s.flowCookie(state))
	if err != nil || state == "" {
		return "", false
	}
	held, encoded, _ := strings.Cut(cookie.Value, ".")
	path, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || subtle.ConstantTimeCompare([]byte(held), []byte(state)) != 1 {
		return "", false
	}
	// The path is checked again: on plain http another port of this computer
	// could have set the cookie.
	return returnPath(string(path)), true
}

// flowCookie names the cookie of one sign-in.
func (s *Sessions) flowCookie(state string) string {
	sum := sha256.Sum256([]byte(state))
	return s.config.CookieName + "_login_" + hex.EncodeToString(sum[:4])
}

// dropOldFlows keeps abandoned sign-ins from filling the browser's cookie jar.
func (s *Sessions) dropOldFlows(w http.ResponseWriter, r *http.Request) {
	var flows []string
	for _, cookie := range r.Cookies() {
		if name, ok := strings.CutPrefix(cookie.Name, s.prefix); ok && strings.HasPrefix(name, s.config.CookieName+"_login_") {
			flows = append(flows, name)
		}
	}
	// Browsers send older cookies first (RFC 6265 §5.4).
	for len(flows) >= maxFlows {
		s.dropCookie(w, flows[0])
		flows = flows[1:]
	}
}

// derive makes a value that belongs to one sign-in.
func (s *Sessions) derive(purpose, state string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(purpose + " " + state))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (s *Sessions) openID() bool { return slices.Contains(s.config.Scopes, "openid") }

// secret returns 256 random bits.
func secret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// returnPath returns target if it is a path on this host, else "/". It must
// begin with one slash; a second slash or a backslash would name another host,
// and browsers drop tabs and newlines before they look.
func returnPath(target string) string {
	if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") || len(target) > 2048 {
		return "/"
	}
	for _, c := range []byte(target) {
		if c <= ' ' || c == '\\' || c >= 0x7f {
			return "/"
		}
	}
	if u, err := url.Parse(target); err != nil || u.Host != "" || u.Scheme != "" {
		return "/"
	}
	return target
}
