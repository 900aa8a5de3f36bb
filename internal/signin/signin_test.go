package signin_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/signin"
)

const ada = "ada@example.test"

var began = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)

// rig is the methods of one project on a database of its own.
type rig struct {
	*signin.Methods
	t       *testing.T
	store   *watched
	project *project.Project
	mails   *mail.Recorder
	now     time.Time
}

// watched sees what the methods ask of the store.
type watched struct {
	signin.Store
	code  signin.EmailCode
	tried signin.Redemption
}

func (w *watched) CreateEmailCode(ctx context.Context, c signin.EmailCode, limit signin.MailLimit, e audit.Event) error {
	w.code = c
	return w.Store.CreateEmailCode(ctx, c, limit, e)
}

func (w *watched) RedeemEmailCode(ctx context.Context, r signin.Redemption, e audit.Event) (signin.Outcome, error) {
	w.tried = r
	return w.Store.RedeemEmailCode(ctx, r, e)
}

func mac(projectID, methodID, code string) [sha256.Size]byte {
	h := hmac.New(sha256.New, []byte("a key of the test"))
	h.Write([]byte(projectID + "\x00" + methodID + "\x00" + code))
	return [sha256.Size]byte(h.Sum(nil))
}

func newRig(t *testing.T, settings func(*project.Settings)) *rig {
	t.Helper()
	r := &rig{t: t, now: began}
	now := func() time.Time { return r.now }
	data, err := server.Data{Folder: t.TempDir(), Now: now}.Open(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { data.Close() })
	s := project.Defaults()
	if settings != nil {
		settings(&s)
	}
	r.project, _, err = project.NewSetup(data.DB, now).Create(t.Context(), project.New{Name: "Notes", Issuer: "https://auth.example.test", Environment: project.Test, Settings: &s})
	if err != nil {
		t.Fatal(err)
	}
	r.store, r.mails = &watched{Store: data.DB}, mail.NewRecorder(100, now)
	r.Methods, err = signin.New(signin.Config{Store: r.store, Mail: r.mails, MAC: mac, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) begin() (signin.Flow, secret.Secret) {
	r.t.Helper()
	f, browser, err := r.Begin(r.t.Context(), r.project, "/home", nil, "K7Q-2MX-9RD", audit.Attempt{})
	if err != nil {
		r.t.Fatal(err)
	}
	return f, browser
}

// open returns a flow as its browser sees it now.
func (r *rig) open(f signin.Flow, browser secret.Secret, mark string) signin.Flow {
	r.t.Helper()
	f, err := r.Open(r.t.Context(), r.project, f.ID, browser.Text, mark)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

func (r *rig) event(kind audit.Kind) audit.Event {
	return audit.Event{ProjectID: r.project.ID, At: r.now, Kind: kind}
}

// send sends a code and returns it.
func (r *rig) send(f signin.Flow, email string) (code string, err error) {
	err = r.SendCode(r.t.Context(), r.project, f, email, "", func(c string, _ time.Time) (string, string, error) {
		code = c
		return "Your code", "Your code is " + c, nil
	}, r.event(audit.CodeSent))
	return code, err
}

func (r *rig) redeem(f signin.Flow, typed, agent string) signin.Outcome {
	r.t.Helper()
	out, _, err := r.RedeemCode(r.t.Context(), r.project, f, typed, "192.0.2.7", agent, identity.Ending{}, r.event(audit.SignedIn))
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func TestNewWantsEverything(t *testing.T) {
	r := newRig(t, nil)
	whole := signin.Config{Store: r.store, Mail: r.mails, MAC: mac, Now: func() time.Time { return began }}
	for name, change := range map[string]func(*signin.Config){
		"Store": func(c *signin.Config) { c.Store = nil }, "Mail": func(c *signin.Config) { c.Mail = nil },
		"MAC": func(c *signin.Config) { c.MAC = nil }, "Now": func(c *signin.Config) { c.Now = nil },
	} {
		c := whole
		change(&c)
		if _, err := signin.New(c); err == nil {
			t.Errorf("New does without %s", name)
		}
	}
}

func TestOpen(t *testing.T) {
	r := newRig(t, nil)
	f, browser := r.begin()
	other, otherBrowser := r.begin()
	if got := r.open(f, browser, "m"); got.ID != f.ID || got.Mark != "m" || got.ReturnTo != "/home" {
		t.Errorf("the flow's own browser: %+v", got)
	}
	elsewhere := *r.project
	elsewhere.ID = "project-test-other"
	forged := secret.New(secret.Flow, r.now)
	guessed := secret.New(secret.Flow, r.now) // its id is a flow's, its random part is not
	if err := r.store.CreateFlow(t.Context(), signin.Flow{
		ID: guessed.ID, ProjectID: r.project.ID, BrowserHash: forged.Hash[:], CreatedAt: r.now, ExpiresAt: r.now.Add(signin.FlowLifetime),
	}, audit.Attempt{}); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]struct {
		project    *project.Project
		id, cookie string
	}{
		"no cookie":                     {r.project, f.ID, ""},
		"the cookie of another flow":    {r.project, f.ID, otherBrowser.Text},
		"another flow with this cookie": {r.project, other.ID, browser.Text},
		"a cookie that was cut":         {r.project, f.ID, browser.Text[:len(browser.Text)-1]},
		"a cookie of the right form":    {r.project, f.ID, forged.Text},
		"a cookie with another secret":  {r.project, guessed.ID, guessed.Text},
		"another project":               {&elsewhere, f.ID, browser.Text},
		"a secret of another kind":      {r.project, f.ID, secret.New(secret.HostedSession, r.now).Text},
		"no flow":                       {r.project, "", browser.Text},
	} {
		if _, err := r.Open(t.Context(), ask.project, ask.id, ask.cookie, ""); !errors.Is(err, signin.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.now = r.now.Add(signin.FlowLifetime - time.Microsecond)
	r.open(f, browser, "")
	r.now = r.now.Add(time.Microsecond)
	if _, err := r.Open(t.Context(), r.project, f.ID, browser.Text, ""); !errors.Is(err, signin.ErrNotFound) {
		t.Errorf("a flow that ran out: %v", err)
	}
}

func TestSendCode(t *testing.T) {
	r := newRig(t, nil)
	f, browser := r.begin()
	if _, err := r.send(f, "not an address"); !errors.Is(err, signin.ErrAddress) || r.store.code.ID != "" {
		t.Errorf("no address: %v, and the store was asked for %+v", err, r.store.code)
	}
	code, err := r.send(f, "  Ada@Example.Test ")
	if err != nil {
		t.Fatal(err)
	}
	kept := r.store.code
	if kept.Email != "Ada@Example.Test" || kept.EmailFolded != ada || kept.ExpiresAt != r.now.Add(10*time.Minute) || kept.Browser != "" {
		t.Errorf("kept %+v", kept)
	}
	if want := mac(r.project.ID, kept.ID, code); string(kept.MAC) != string(want[:]) {
		t.Error("what is kept is not the code under the key")
	}
	if sent := r.mails.Mails(); len(sent) != 1 || sent[0].To != "Ada@Example.Test" || !sent[0].Until.Equal(kept.ExpiresAt) {
		t.Errorf("sent %+v", sent)
	}
	var soon *signin.TooSoon
	if _, err := r.send(f, ada); !errors.As(err, &soon) || soon.Wait != 20*time.Second {
		t.Errorf("at once: %v %+v", err, soon)
	}
	broken := errors.New("the template is broken")
	r.now = r.now.Add(time.Minute)
	err = r.SendCode(t.Context(), r.project, f, ada, "", func(string, time.Time) (string, string, error) { return "", "", broken }, r.event(audit.CodeSent))
	if f := r.open(f, browser, ""); !errors.Is(err, broken) || len(r.mails.Mails()) != 1 || f.MethodID != kept.ID {
		t.Errorf("a mail that cannot be written: %v", err)
	}
	if got := r.open(f, browser, ""); got.Email != "Ada@Example.Test" || got.MethodID != kept.ID || !got.CodeExpiresAt.Equal(kept.ExpiresAt) {
		t.Errorf("the flow: %+v", got)
	}
	if err := r.Forget(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got := r.open(f, browser, ""); got.Email != "" || got.MethodID != "" {
		t.Errorf("the flow that forgot: %+v", got)
	}
}

func TestRedeemCode(t *testing.T) {
	r := newRig(t, func(s *project.Settings) { s.Lifetimes.SessionAbsolute, s.Lifetimes.SessionIdle = 3600, 7200 })
	f, browser := r.begin()
	code, err := r.send(f, ada)
	if err != nil {
		t.Fatal(err)
	}
	f = r.open(f, browser, "")
	if out := r.redeem(f, "x"+code, ""); out.Right || !out.Wrong || out.Left != 4 || out.Dead {
		t.Errorf("wrong: %+v", out)
	}
	agent := strings.Repeat("a", 255) + "ä" + "rest"
	out := r.redeem(f, code[:3]+" "+code[3:], agent)
	s := r.store.tried.Session
	if !out.Right || !out.Created || out.User.Email != ada || out.Session.Subject != out.User.ID {
		t.Errorf("right: %+v", out)
	}
	if s.UserAgent != strings.Repeat("a", 255) || s.Address != "192.0.2.7" || !s.IdleExpiresAt.Equal(s.ExpiresAt) || !s.ExpiresAt.Equal(r.now.Add(time.Hour)) {
		t.Errorf("session %+v", s)
	}
	if out := r.redeem(f, code, ""); out.Right || out.Wrong || !out.Dead {
		t.Errorf("again: %+v", out)
	}
}

// A mark counts for its project and address, and for nothing else.
func TestMark(t *testing.T) {
	r := newRig(t, nil)
	mark := r.Mark(r.project, "Ada@Example.Test")
	elsewhere := *r.project
	elsewhere.ID = "project-test-other"
	browserOf := func(mark, email string) string {
		r.now = r.now.Add(time.Hour)
		f, browser := r.begin()
		f = r.open(f, browser, mark)
		if _, err := r.send(f, email); err != nil {
			t.Fatal(err)
		}
		r.redeem(r.open(f, browser, mark), "000000x", "")
		if r.store.code.Browser != r.store.tried.Browser {
			t.Errorf("mails count under %q, tries under %q", r.store.code.Browser, r.store.tried.Browser)
		}
		return r.store.code.Browser
	}
	known := browserOf(mark, ada)
	if known == "" || browserOf(mark, " ADA@example.test") != known {
		t.Errorf("the mark's own address: %q", known)
	}
	if another := browserOf(r.Mark(r.project, ada), ada); another == "" || another == known {
		t.Errorf("two browsers are %q and %q", known, another)
	}
	flip := func(i int) string {
		c := byte('A')
		if mark[i] == c {
			c = 'B'
		}
		return mark[:i] + string(c) + mark[i+1:]
	}
	for name, given := range map[string]string{
		"none": "", "text": "hello", "the number alone": mark[:22], "longer": mark + "A", "padded": mark + "=", "another number": flip(0),
		"another code": flip(40), "of another project": r.Mark(&elsewhere, ada), "of another address": r.Mark(r.project, "bea@example.test"),
	} {
		if got := browserOf(given, ada); got != "" {
			t.Errorf("a mark: %s: counts as the browser %q", name, got)
		}
	}
	if strings.Contains(mark, "ada") || len(mark) != 64 {
		t.Errorf("the mark is %q", mark)
	}
}
