package faults

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

const formType = "application/x-www-form-urlencoded"

// errDown ends an actor's turn: the server did not answer, or asks to come again.
var errDown = errors.New("no answer")

// actor is a person with a browser and the app in it. One goroutine at a time
// works with it.
type actor struct {
	w      *world
	node   *node
	name   string
	jar    http.CookieJar
	held   []*held
	silent []func() error // what to ask again after an unknown outcome
	serial int
}

// held is an authorization as the app remembers it.
type held struct {
	code, first, previous, latest string
}

// answer is a page or a JSON body.
type answer struct{ rig.Page }

// outcome of an answer: refused by a rule, or done, or perhaps done.
func (a answer) outcome() outcome {
	switch {
	case a.Status == 0 || a.Status == http.StatusTooManyRequests || a.Status >= 500:
		return unknown
	case a.Status >= 400:
		return refused
	}
	return ok
}

func (a answer) field(name string) string {
	var all map[string]any
	if json.Unmarshal([]byte(a.Body), &all) != nil {
		return ""
	}
	text, _ := all[name].(string)
	return text
}

// visitor is a person who did not sign in.
func (w *world) visitor(n *node) *actor {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	must(w.t, err)
	return &actor{w: w, node: n, name: fmt.Sprintf("person%d", len(w.actors)), jar: jar}
}

// actor signs a new person in at a node.
func (w *world) actor(n *node) *actor {
	w.t.Helper()
	a := w.visitor(n)
	w.actors = append(w.actors, a)
	email := a.name + "@example.test"
	sign, err := a.page(http.MethodGet, w.issuer+"/login", nil)
	must(w.t, err)
	asked, err := a.submit(sign, url.Values{"email": {email}})
	must(w.t, err)
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	code, err := w.mails.Code(ctx, email)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, asked.Body)
	}
	in, err := a.submit(asked, url.Values{"code": {code}})
	must(w.t, err)
	if in.Status != http.StatusOK && in.Status != http.StatusSeeOther {
		w.t.Fatalf("sign-in: %d\n%s", in.Status, in.Body)
	}
	return a
}

// strange are answers that no fault excuses: neither done, refused nor "try again".
var strange atomic.Int64

// page opens an address with the person's browser, following redirects inside
// the issuer.
func (a *actor) page(method, address string, form url.Values) (answer, error) {
	return a.call(method, address, formType, []byte(form.Encode()), "", true)
}

// post calls as the app does, which has no cookies.
func (a *actor) post(path string, form url.Values) (answer, error) {
	return a.call(http.MethodPost, a.w.issuer+path, formType, []byte(form.Encode()), "", false)
}

// call sends a request; errDown when no answer came, or one that says to come
// again.
func (a *actor) call(method, address, contentType string, body []byte, basic string, browser bool) (answer, error) {
	client := &http.Client{Transport: a.node.dialled, Timeout: 45 * time.Second}
	n := a.w.requests()
	dress := func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255))
		r.Header.Set("X-Forwarded-Proto", "http")
		r.Header.Set("User-Agent", "Mozilla/5.0 (faults)")
	}
	client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Scheme+"://"+r.URL.Host != a.w.issuer {
			return http.ErrUseLastResponse
		}
		dress(r)
		return nil
	}
	if browser {
		client.Jar = a.jar
	}
	request, err := http.NewRequestWithContext(a.w.t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	dress(request)
	if method != http.MethodGet {
		request.Header.Set("Content-Type", contentType)
	}
	if browser {
		request.Header.Set("Origin", a.w.issuer)
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if id, secret, found := strings.Cut(basic, ":"); found {
		request.SetBasicAuth(id, secret)
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, errDown
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, errDown
	}
	got := answer{rig.Page{Status: response.StatusCode, At: response.Request.URL, Header: response.Header, Body: string(text)}}
	if got.Status >= 500 || got.Status == http.StatusTooManyRequests {
		if got.Status != http.StatusServiceUnavailable && got.Status != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
			strange.Add(1)
			a.w.t.Errorf("%s %s answered %d without Retry-After: %.300s", method, request.URL.Path, got.Status, got.Body)
		}
		return got, errDown
	}
	return got, nil
}

// note writes an answer into the journal.
func (a *actor) note(e entry, from int64, got answer) {
	e.From, e.Outcome, e.Grant = from, got.outcome(), a.name
	a.w.journal.add(e)
}

// authorize gets a code with the session that the browser has.
func (a *actor) authorize() (*held, error) {
	from := a.w.journal.tick()
	got, err := a.page(http.MethodGet, a.w.issuer+"/oauth/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {a.w.client.ID}, "redirect_uri": {rig.Callback}, "state": {"a-state"},
		"code_challenge": {rig.Challenge()}, "code_challenge_method": {"S256"}, "resource": {resourceURI}, "scope": {"notes:read"},
	}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	session := entry{Kind: visited, Object: a.name}
	to := got.Target()
	if to == nil || to.Query().Get("code") == "" {
		got.Status = http.StatusForbidden // the session was asked for anew
		session.Result = fmt.Sprintf("%d %s", got.Status, anyTag.ReplaceAllString(got.Body, ""))
		a.note(session, from, got)
		return nil, fmt.Errorf("%s got no code: %s %.500s", a.name, got.At, got.Body)
	}
	h := &held{code: to.Query().Get("code")}
	a.note(session, from, got)
	a.note(entry{Kind: issued, Family: h.code, Object: h.code}, from, got)
	return h, nil
}

// redeem exchanges the code.
func (a *actor) redeem(h *held) error {
	from := a.w.journal.tick()
	got, err := a.post("/v1/oauth2/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {h.code}, "redirect_uri": {rig.Callback},
		"client_id": {a.w.client.ID}, "code_verifier": {rig.Verifier}, "resource": {resourceURI},
	})
	token := got.field("refresh_token")
	a.note(entry{Kind: redeemed, Family: h.code, Object: h.code, Result: token}, from, got)
	if err == nil && got.outcome() == ok && h.latest == "" {
		h.first, h.latest = token, token
		a.w.journal.name(h.code, sessionOf(got.field("access_token")))
	}
	return err
}

// refresh presents a token of h, and makes its successor the latest if it was.
func (a *actor) refresh(h *held, token string) error {
	from := a.w.journal.tick()
	got, err := a.post("/v1/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {a.w.client.ID}})
	next := got.field("refresh_token")
	a.note(entry{Kind: refreshed, Family: h.code, Object: token, Result: next}, from, got)
	if err == nil && got.outcome() == ok && token == h.latest {
		h.previous, h.latest = token, next
	}
	return err
}

func (a *actor) revoke(h *held) error {
	from := a.w.journal.tick()
	got, err := a.post("/v1/oauth2/revoke", url.Values{"token": {h.latest}, "client_id": {a.w.client.ID}})
	a.note(entry{Kind: revoked, Family: h.code, Object: h.latest}, from, got)
	return err
}

// look introspects a refresh token as the project.
func (a *actor) look(h *held, token string) error {
	from := a.w.journal.tick()
	got, err := a.call(http.MethodPost, a.w.issuer+"/v1/oauth2/introspect", formType,
		[]byte(url.Values{"token": {token}}.Encode()), a.w.project.ID+":"+a.w.secret, false)
	e := entry{Kind: looked, Family: h.code, Object: token}
	if strings.Contains(got.Body, `"active":true`) {
		e.Result = "active"
	}
	a.note(e, from, got)
	return err
}

var grantField = regexp.MustCompile(`name="grant" value="([^"]*)"`)

// takeBack ends the grant on the page of connected apps.
func (a *actor) takeBack() error {
	apps, err := a.page(http.MethodGet, a.w.issuer+"/connected-apps", nil)
	if err != nil {
		return err
	}
	grant := grantField.FindStringSubmatch(apps.Body)
	if grant == nil {
		return nil // nothing is left to take back
	}
	from := a.w.journal.tick()
	got, err := a.submit(apps, url.Values{"grant": {grant[1]}, "action": {"take_back"}})
	a.note(entry{Kind: takenBack}, from, got)
	return err
}

// register makes a client, whose id is asked for again after the fault.
func (a *actor) register() (id string, err error) {
	a.serial++
	body := fmt.Sprintf(`{"client_name":"%s app %d","redirect_uris":["%s"],"token_endpoint_auth_method":"none"}`, a.name, a.serial, rig.Callback)
	from := a.w.journal.tick()
	got, err := a.call(http.MethodPost, a.w.issuer+"/v1/oauth2/register", "application/json", []byte(body), "", false)
	id = got.field("client_id")
	if err == nil && id != "" {
		a.note(entry{Kind: registered, Object: id}, from, got)
	}
	return id, err
}

// ask finds out whether a client is known: a code of nobody is refused for the
// code, and an unknown client for itself.
func (a *actor) ask(id string) error {
	from := a.w.journal.tick()
	got, err := a.post("/v1/oauth2/token", url.Values{
		"grant_type": {"refresh_token"}, "client_id": {id}, "refresh_token": {"of nobody"},
	})
	e := entry{Kind: known, Object: id}
	if got.outcome() == refused && got.field("error") != "invalid_client" {
		got.Status = http.StatusOK
	}
	a.note(e, from, got)
	return err
}

// change sets the project's policy, which has one scope named after n.
func (a *actor) change(n int) error {
	value := fmt.Sprintf("n%d", n)
	body := fmt.Sprintf(`{"policy":{"custom_scopes":[{"scope":"notes:read","description":"Read your notes"},{"scope":"%s","description":"Nothing"}]}}`, value)
	from := a.w.journal.tick()
	got, err := a.call(http.MethodPut, a.w.issuer+"/v1/projects/"+a.w.project.ID+"/rbac_policy", "application/json", []byte(body), a.w.key.ID+":"+a.w.keyText, false)
	a.note(entry{Kind: set, Object: "policy", Result: value}, from, got)
	if err == nil && got.outcome() != ok {
		return fmt.Errorf("the policy was refused: %d %s", got.Status, got.Body)
	}
	return err
}

var scopeOfPolicy = regexp.MustCompile(`"scope":\s*"(n\d+)"`)

func (a *actor) policy() (answer, error) {
	return a.call(http.MethodGet, a.w.issuer+"/v1/projects/"+a.w.project.ID+"/rbac_policy", "", nil, a.w.key.ID+":"+a.w.keyText, false)
}

func (a *actor) readChange() error {
	from := a.w.journal.tick()
	got, err := a.policy()
	e := entry{Kind: read, Object: "policy"}
	if found := scopeOfPolicy.FindStringSubmatch(got.Body); found != nil {
		e.Result = found[1]
	}
	a.note(e, from, got)
	return err
}

// turn plays one authorization with what can happen to it, and returns errDown
// when the server is gone.
func (a *actor) turn() error {
	h, err := a.authorize()
	if err != nil {
		return err
	}
	a.held = append(a.held, h)
	again := func(do func() error) error {
		err := do()
		if errors.Is(err, errDown) {
			a.silent = append(a.silent, do)
		}
		return err
	}
	if err := again(func() error { return a.redeem(h) }); err != nil {
		return err
	}
	for range 1 + rand.N(3) {
		if token := h.latest; token != "" {
			if err := again(func() error { return a.refresh(h, token) }); err != nil {
				return err
			}
		}
	}
	switch rand.N(10) {
	case 0, 1, 2:
		err = again(func() error { return a.revoke(h) })
	case 3: // theft, or a repeat
		err = again(func() error { return a.refresh(h, h.first) })
	case 4: // the answer got lost, and the app asks again
		if h.previous != "" {
			err = again(func() error { return a.refresh(h, h.previous) })
		}
	case 5:
		err = again(func() error { return a.redeem(h) })
	case 6:
		err = again(a.takeBack)
	}
	if err == nil && a.living() > 20 { // 50 families of one app and person live at most
		err = again(a.takeBack)
	}
	if err != nil {
		return err
	}
	return a.look(h, h.latest)
}

// living is about how many families of the actor live.
func (a *actor) living() int {
	if len(a.held) > 40 {
		a.held = slices.Clone(a.held[len(a.held)-40:])
	}
	return len(a.held) / 2
}

// resolve asks again what got no answer, and looks at what was left.
func (a *actor) resolve() error {
	for _, do := range a.silent {
		if err := do(); err != nil {
			return err
		}
	}
	a.silent = nil
	for _, h := range a.held[max(0, len(a.held)-4):] {
		for _, token := range []string{h.latest, h.previous} {
			if token == "" {
				continue
			}
			if err := a.look(h, token); err != nil {
				return err
			}
		}
	}
	return nil
}

// play lets all actors take turns until stop, or until the server is gone.
func (w *world) play(stop <-chan struct{}) {
	w.t.Helper()
	var all sync.WaitGroup
	for _, a := range w.actors {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := a.turn(); err != nil {
					if !errors.Is(err, errDown) {
						w.t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
}

// each lets every actor do something at once, and fails the test on an error.
func (w *world) each(do func(a *actor) error) {
	w.t.Helper()
	var all sync.WaitGroup
	for _, a := range w.actors {
		all.Go(func() {
			if err := do(a); err != nil {
				w.t.Errorf("%s: %v", a.name, err)
			}
		})
	}
	all.Wait()
}

var anyTag = regexp.MustCompile(`(?s)<style.*?</style>|<[^>]+>`)

// submit sends the first form of a page that posts, with values over what it
// holds.
func (a *actor) submit(p answer, values url.Values) (answer, error) {
	for _, form := range p.Forms() {
		if !form.Posts {
			continue
		}
		to, err := form.Fill(p.Page, values)
		if err != nil {
			return answer{}, err
		}
		return a.page(http.MethodPost, to, form.Values)
	}
	return answer{}, fmt.Errorf("%s (%d) has no form: %.500s", p.At, p.Status, p.Body)
}

// sessionOf is the family that an access token names.
func sessionOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		SID string `json:"sid"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.SID
}
