package login

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

func urlQuery(s string) string { return url.QueryEscape(s) }

// logoutFields are the parameters of a logout request that are kept through the
// question to the person.
func logoutFields() []string {
	return []string{"client_id", "post_logout_redirect_uri", "state", "id_token_hint"}
}

// SignOut asks, and by POST signs this browser out. A GET changes nothing, so
// no other site can sign a person out.
func (l *Pages) SignOut(w http.ResponseWriter, r *http.Request) error {
	ctx, p := r.Context(), project.FromContext(r.Context())
	who, err := l.session(ctx, r)
	if errors.Is(err, identity.ErrNotFound) {
		return l.pages.signedOut(w, signedOutView{Site: site(p), SignIn: p.Path() + signInPath})
	}
	if err != nil {
		return err
	}
	binding := []string{"sign out", who.cookieID()}
	if r.Method != http.MethodPost {
		return l.pages.signOut(w, signOutView{
			Site: site(p), form: form{Post: p.Path() + signOutPath, CSRF: l.csrf.Token(binding...)}, Email: who.email,
		})
	}
	values, ok, err := l.form(w, r, step{who: who}, binding)
	if !ok {
		return err
	}
	if values.Get("action") != "sign_out" {
		http.Redirect(w, r, p.Path()+appsPath, http.StatusSeeOther)
		return nil
	}
	if err := l.signOut(w, r, who); err != nil {
		return err
	}
	return l.pages.signedOut(w, signedOutView{Site: site(p), SignIn: p.Path() + signInPath})
}

// Logout is RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0 §2): a
// connected app asks that the person be signed out here. The person is asked,
// unless the request proves that it means this very session; any page can send
// a browser to this address.
func (l *Pages) Logout(w http.ResponseWriter, r *http.Request) error {
	ctx, p := r.Context(), project.FromContext(r.Context())
	read := wire.Query
	if r.Method == http.MethodPost {
		read = func(r *http.Request, repeatable ...string) (url.Values, error) {
			return wire.Form(r, web.BodyPage, repeatable...)
		}
	}
	values, err := read(r)
	if err != nil {
		return err
	}
	request, err := l.oauth.ParseLogout(ctx, p, values)
	var refusal *oauth.Error
	if errors.As(err, &refusal) {
		return l.fail(w, r, "sign out", requestRefused("", refusal.Description))
	}
	if err != nil {
		return err
	}
	name := ""
	if request.Client.ID != "" {
		name = request.Client.Name()
	}
	if _, ours := readSession(r, p); r.Method == http.MethodPost && !(ours && values.Has("csrf")) {
		// A form of another site comes without our cookies (SameSite=Lax), whatever
		// it holds; asked again by GET, the browser sends them.
		again := url.Values{}
		for _, field := range logoutFields() {
			if values.Has(field) {
				again.Set(field, values.Get(field))
			}
		}
		http.Redirect(w, r, p.Path()+logoutPath+"?"+again.Encode(), http.StatusSeeOther)
		return nil
	}
	done := signedOutView{Site: site(p), SignIn: p.Path() + signInPath, Client: name, Return: returnLink(request)}
	who, err := l.session(ctx, r)
	if errors.Is(err, identity.ErrNotFound) {
		return l.pages.signedOut(w, done)
	}
	if err != nil {
		return err
	}
	binding := []string{"log out", who.cookieID()}
	confirmed := r.Method == http.MethodPost && l.csrf.Check(values.Get("csrf"), binding...)
	switch {
	case confirmed && values.Get("action") == "stay":
		http.Redirect(w, r, p.Path()+appsPath, http.StatusSeeOther)
		return nil
	case !confirmed && !request.Matches(who.person()):
		v := signOutView{
			Site: site(p), form: form{Post: p.Path() + logoutPath, CSRF: l.csrf.Token(binding...)}, Client: name, Email: who.email,
		}
		for _, field := range logoutFields() {
			if values.Has(field) {
				v.Hidden = append(v.Hidden, hiddenField{field, values.Get(field)})
			}
		}
		return l.pages.signOut(w, v)
	}
	if err := l.signOut(w, r, who); err != nil {
		return err
	}
	return l.pages.signedOut(w, done)
}

// returnLink marks the address after sign-out as one that a template may use as
// it is: it is one that the client registered, letter by letter, and passed the
// rules of redirect URIs then; oauth added the state.
func returnLink(request oauth.LogoutRequest) template.URL {
	return template.URL(request.Target()) //nolint:gosec // see above
}
