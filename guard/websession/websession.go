// Package websession is the web half of a resource server: it signs people in
// on web pages at the same issuer that package guard trusts, and turns their
// cookie into the same [guard.Principal] that an MCP client's token becomes,
// so that pages, REST routes and MCP tools agree on who may do what.
//
//	sessions, err := websession.New(websession.Config{
//		Guard:    g,
//		Resource: "http://localhost:3000/mcp",
//		URL:      "http://localhost:3000",
//		ClientID: "…",
//		Scopes:   []string{"openid", "email", "read:todos", "write:todos"},
//	})
//	…
//	mux.HandleFunc("GET "+websession.LoginPath, sessions.Login)
//	mux.HandleFunc("GET "+websession.CallbackPath, sessions.Callback)
//	mux.HandleFunc("POST "+websession.LogoutPath, sessions.Logout)
//	mux.Handle("GET /{$}", sessions.Page(home))
//	mux.Handle("GET /api/todos", sessions.API(g.Require(guard.AllOf("read:todos"), list)))
//
// [Sessions] runs the authorization code flow with PKCE on the server
// (RFC 6749 §4.1); the browser never holds a token, only an opaque HttpOnly
// cookie. Three wrappers read it: [Sessions.API] for REST routes, which never
// redirects; [Sessions.Page] for pages that need a person, which sends others
// to sign in and back; [Sessions.Optional] for pages for everybody.
// [FromContext] tells a page the name and e-mail address of its person.
//
// Tokens are kept in this process's memory and not sealed into the cookie:
// only so can a hundred parallel requests share one refresh, can a sign-out
// end a copied cookie, and does the cookie stay small. The price: a restart
// forgets the sessions, and people are sent once through the issuer, which
// usually still knows them; several instances behind one address need sticky
// routing.
//
// What it will not do: sign people in by itself, serve several issuers, or
// hand tokens to the browser or to the application.
package websession

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/postern-id/postern/guard"
)

// Config is what [New] needs. Guard, Resource, URL and ClientID are required.
type Config struct {
	// Guard verifies the access tokens; its issuer signs the people in.
	Guard *guard.Guard

	// Resource is the guard's resource identifier: the tokens are asked for it
	// (RFC 8707 §2).
	Resource string

	// URL is the public origin of the web application, such as
	// "https://todo.example.com": https, or http on a loopback host.
	// URL + CallbackPath is the redirect URI to register.
	URL string

	// ClientID is how the issuer knows this web application. ClientSecret is
	// empty for a public client; otherwise it is sent by HTTP Basic.
	ClientID     string
	ClientSecret string

	// Scopes are asked for at sign-in; none asks for the issuer's default.
	// With "openid" the person's id_token is required and checked.
	Scopes []string

	// CookieName is the name of the session's cookie; the default is
	// "session". Cookies know no port, so programs that share a host need
	// different names. On https it gets the prefix "__Host-".
	CookieName string

	// Lifetime is how long a session lasts at most after signing in, however
	// long the issuer's tokens live. The default is 7 days.
	Lifetime time.Duration

	// MaxSessions bounds the memory; the oldest session makes room. The
	// default is 10,000.
	MaxSessions int

	// Fail answers a browser whose sign-in or sign-out did not work, with a
	// sentence that says what to do. The default answers in plain text.
	Fail func(w http.ResponseWriter, r *http.Request, status int, message string)

	// HTTPClient sends the token and revocation requests. The default follows
	// no redirects and gives up after 10 s.
	HTTPClient *http.Client

	// Now is the clock; the default is time.Now.
	Now func() time.Time

	// Logger hears why a sign-in or a refresh failed; never a token. Nil logs
	// nothing.
	Logger *slog.Logger
}

const (
	refreshPause = 5 * time.Second  // after a refresh that got no answer
	exchangeWait = 10 * time.Second // for the issuer's answer to a code or refresh token
	revokeWait   = 3 * time.Second  // a browser may have to wait for it
	leeway       = 30 * time.Second // between the issuer's clock and ours, as in guard
)

// Sessions signs browsers in and recognises them again. It is made by [New]
// and safe for use by many goroutines.
type Sessions struct {
	config      Config
	issuer      *issuer
	store       *store
	prefix      string // of cookie names
	secure      bool
	key         []byte // see Login
	crossOrigin *http.CrossOriginProtection
}

// Person is who is signed in on a page. Name and Email come from the id_token
// and are empty where it does not have them.
type Person struct {
	Subject string
	Name    string
	Email   string
}

// New checks the configuration. It does not reach for the issuer: that happens
// when the first person signs in.
func New(cfg Config) (*Sessions, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case cfg.Guard == nil:
		return nil, errors.New("websession: Config.Guard is required")
	case cfg.Resource == "":
		return nil, errors.New("websession: Config.Resource is required: the guard's resource identifier")
	case cfg.ClientID == "":
		return nil, errors.New("websession: Config.ClientID is required: register this application with the issuer first")
	case err != nil || u.Host == "" || cfg.URL != u.Scheme+"://"+u.Host:
		return nil, errors.New("websession: Config.URL must be an origin such as https://todo.example.com, without a path")
	case !secure(u):
		return nil, errors.New("websession: Config.URL must be https; http is for loopback hosts only")
	}
	if cfg.CookieName == "" {
		cfg.CookieName = "session"
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 7 * 24 * time.Hour
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = 10_000
	}
	if cfg.Fail == nil {
		cfg.Fail = plainFail
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{
			Timeout:       exchangeWait,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sessions{
		config: cfg,
		issuer: &issuer{
			guard:        cfg.Guard,
			clientID:     cfg.ClientID,
			clientSecret: cfg.ClientSecret,
			resource:     cfg.Resource,
			redirectURI:  cfg.URL + CallbackPath,
			client:       cfg.HTTPClient,
			now:          cfg.Now,
		},
		store:       &store{max: cfg.MaxSessions, age: cfg.Lifetime, sessions: map[[32]byte]*session{}},
		secure:      u.Scheme == "https",
		key:         make([]byte, 32),
		crossOrigin: http.NewCrossOriginProtection(),
	}
	if s.secure {
		s.prefix = "__Host-" // only this host can have set it (RFC 6265bis §4.1.3.2)
	}
	rand.Read(s.key)
	// Behind a proxy that rewrites Host, our own pages would look foreign.
	if err := s.crossOrigin.AddTrustedOrigin(cfg.URL); err != nil {
		return nil, err
	}
	return s, nil
}

// API wraps a REST route. A live session becomes the request's principal, for
// [guard.Guard.Require] inside to judge; without one the request goes on as it
// came, so that Require answers 401 in JSON or accepts a bearer token. A
// changing request from another site is refused. It never redirects.
func (s *Sessions) API(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Header.Get("Authorization") != "" { // the credential that no other site can add
			next.ServeHTTP(w, r)
			return
		}
		if err := s.crossOrigin.Check(r); err != nil {
			s.log(r, "refused a request from another site", err)
			writeJSON(w, http.StatusForbidden, "cross_origin", "This request came from another site, so nothing was done.")
			return
		}
		ctx, err := s.attach(r)
		switch {
		case errors.Is(err, errNobody):
			next.ServeHTTP(w, r)
		case err != nil:
			s.log(r, "no answer from the issuer", err)
			w.Header().Set("Retry-After", "5")
			writeJSON(w, http.StatusServiceUnavailable, "temporarily_unavailable", "The sign-in service does not answer. Try again in a minute.")
		default:
			next.ServeHTTP(w, r.WithContext(ctx))
		}
	})
}

// Page wraps a page, or a form's target, that needs a person. Without a live
// session the browser is sent to sign in and comes back: to the same page
// after a GET, to "/" after a form. A form posted from another site is refused.
func (s *Sessions) Page(next http.Handler) http.Handler {
	return s.page(next, func(w http.ResponseWriter, r *http.Request) {
		target := LoginPath
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			target += "?return_to=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, target, http.StatusSeeOther)
	})
}

// Optional wraps a page that everybody may see; [FromContext] tells it whether
// somebody is signed in.
func (s *Sessions) Optional(next http.Handler) http.Handler {
	return s.page(next, next.ServeHTTP)
}

func (s *Sessions) page(next http.Handler, nobody http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if err := s.crossOrigin.Check(r); err != nil {
			s.fail(w, r, http.StatusForbidden, "This came from another site, so nothing was done.", err)
			return
		}
		ctx, err := s.attach(r)
		switch {
		case errors.Is(err, errNobody):
			nobody(w, r)
		case err != nil:
			w.Header().Set("Retry-After", "5")
			s.fail(w, r, http.StatusServiceUnavailable, "The sign-in service does not answer. Try again in a minute.", err)
		default:
			next.ServeHTTP(w, r.WithContext(ctx))
		}
	})
}

// FromContext returns who is signed in, on a route wrapped by Page, Optional
// or API. What the person may do is in [guard.FromContext].
func FromContext(ctx context.Context) (Person, bool) {
	person, ok := ctx.Value(personKey{}).(Person)
	return person, ok
}

type personKey struct{}

// errNobody: no cookie, or the cookie of a session that is no more.
var errNobody = errors.New("nobody is signed in")

// attach returns the request's context with its principal and person, or
// errNobody, or why the issuer could not be asked.
func (s *Sessions) attach(r *http.Request) (context.Context, error) {
	value := s.cookie(r)
	sess := s.store.get(value, s.config.Now())
	if sess == nil {
		return nil, errNobody
	}
	principal, err := s.principal(r.Context(), sess)
	if errors.Is(err, errNobody) {
		if sess := s.store.delete(value); sess != nil {
			s.end(r.Context(), sess) // of many requests, one
		}
	}
	if err != nil {
		return nil, err
	}
	return context.WithValue(guard.WithPrincipal(r.Context(), principal), personKey{}, sess.person), nil
}

// principal verifies the session's access token by the guard, after renewing
// it when it is about to end. However many requests arrive then, one renews.
func (s *Sessions) principal(ctx context.Context, sess *session) (*guard.Principal, error) {
	sess.mu.Lock()
	err := s.renew(ctx, sess)
	token := sess.tokens.AccessToken
	sess.mu.Unlock()
	if err != nil {
		return nil, err
	}
	principal, err := s.config.Guard.Verify(ctx, token)
	if errors.Is(err, guard.ErrInvalidToken) || err == nil && principal.Subject != sess.person.Subject {
		return nil, errNobody
	}
	return principal, err
}

// renew exchanges the refresh token if the access token is about to end.
// The caller holds sess.mu.
func (s *Sessions) renew(ctx context.Context, sess *session) error {
	now := s.config.Now()
	switch {
	case sess.ended:
		return errNobody
	case sess.expires.IsZero() || sess.tokens.RefreshToken == "":
		return nil // it serves until the guard refuses it
	case now.Before(sess.renewAt) && now.Before(sess.expires):
		return nil
	case now.Before(sess.renewAt):
		return guard.ErrUnavailable
	}
	// Finished even if the browser goes away: the old refresh token is spent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeWait)
	defer cancel()
	answer, err := s.issuer.refresh(ctx, sess.tokens.RefreshToken)
	if err == nil {
		sess.tokens.AccessToken = answer.AccessToken
		if answer.RefreshToken != "" {
			sess.tokens.RefreshToken = answer.RefreshToken
		}
		var principal *guard.Principal
		if principal, err = s.config.Guard.Verify(ctx, answer.AccessToken); err == nil {
			sess.lives(now, principal.Expires)
			return nil
		}
	}
	if no := new(refused); errors.As(err, &no) && no.final() || errors.Is(err, guard.ErrInvalidToken) {
		s.config.Logger.InfoContext(ctx, "websession: the issuer ended a session", "error", err)
		sess.ended = true
		return errNobody
	}
	s.config.Logger.WarnContext(ctx, "websession: could not refresh", "error", err)
	now = s.config.Now()                 // the issuer may have taken all the time it had
	sess.renewAt = now.Add(refreshPause) // those who wait behind us need not all try
	if now.Before(sess.expires) {
		return nil
	}
	return fmt.Errorf("%w: %w", guard.ErrUnavailable, err)
}

// cookie returns the value of the session's cookie, or "".
func (s *Sessions) cookie(r *http.Request) string {
	cookie, err := r.Cookie(s.prefix + s.config.CookieName)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// setCookie sets a cookie that scripts cannot read and that other sites'
// requests do not carry, save for a link.
func (s *Sessions) setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure but for http on this computer
		Name:     s.prefix + name,
		Value:    value,
		Path:     "/",
		MaxAge:   int(age.Seconds()),
		Secure:   s.secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	})
}

func (s *Sessions) dropCookie(w http.ResponseWriter, name string) {
	s.setCookie(w, name, "", -time.Second)
}

// fail logs the cause and shows the sentence.
func (s *Sessions) fail(w http.ResponseWriter, r *http.Request, status int, message string, cause error) {
	s.log(r, message, cause)
	s.config.Fail(w, r, status, message)
}

func (s *Sessions) log(r *http.Request, message string, cause error) {
	s.config.Logger.WarnContext(r.Context(), "websession: "+message, "path", r.URL.Path, "error", cause)
}

func plainFail(w http.ResponseWriter, _ *http.Request, status int, message string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(message + "\n"))
}

func writeJSON(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description})
}
