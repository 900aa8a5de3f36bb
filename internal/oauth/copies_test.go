package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// copyDay is the day of the copies of these tests.
var copyDay = time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)

// copies are the files of one copy.
func copies(id, document string) fstest.MapFS {
	return fstest.MapFS{"notebook.json": {Data: fmt.Appendf(nil,
		`{"client_id":%q,"taken":"2026-11-03","source":"https://docs.example.test/mcp","document":%s}`, id, document)}}
}

// toldStore remembers the kinds of the events about documents.
type toldStore struct {
	oauth.Store
	kinds []audit.Kind
}

func (s *toldStore) SaveDocumentClient(ctx context.Context, c oauth.Client, logo []byte, e audit.Event) (oauth.Client, error) {
	s.kinds = append(s.kinds, e.Kind)
	return s.Store.SaveDocumentClient(ctx, c, logo, e)
}

// copied is a rig whose client's document has a stored copy, and the document's
// host, which is away.
func copied(t *testing.T, members string, edit ...func(*project.Project)) (*rig, *publisher, *toldStore) {
	t.Helper()
	r := newRig(t, edit...)
	host := r.publish("")
	told := &toldStore{Store: r.store}
	r.copies = copies(host.id, strings.Replace(host.document(members), "Notebook", "Copied notebook", 1))
	r.server = r.serve(told)
	host.answer = away(http.StatusServiceUnavailable)
	return r, host, told
}

func away(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func (r *rig) read(host *publisher) oauth.Client {
	r.Helper()
	client, err := r.begin(host.id)
	if err != nil {
		r.Fatal(err)
	}
	return client
}

func TestCopyStandsForADocumentThatCannotBeRead(t *testing.T) {
	broken := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"403", away(http.StatusForbidden)},
		{"429", away(http.StatusTooManyRequests)},
		{"500", away(http.StatusInternalServerError)},
		{"connection broken", broken},
		{"a page that asks who we are", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><title>Are you a robot?</title>")
		}},
		{"sent elsewhere", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "/robots", http.StatusFound)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, host, told := copied(t, `"logo_uri":"https://client.example.test/logo.png"`)
			host.answer = test.answer
			client := r.read(host)
			if client.Metadata.ClientName != "Copied notebook" || !client.CopiedAt.Equal(copyDay) || client.Logo != "" {
				t.Errorf("%+v", client)
			}
			if !client.FetchedAt.IsZero() || !client.FreshUntil.Equal(r.clock.Now().Add(5*time.Minute)) || client.Creation != oauth.Document {
				t.Errorf("fetched %v, fresh until %v, %s", client.FetchedAt, client.FreshUntil, client.Creation)
			}
			if !slices.Equal(told.kinds, []audit.Kind{audit.ClientCopied}) {
				t.Errorf("told %v", told.kinds)
			}
		})
	}
}

func TestCopyIsNotUsed(t *testing.T) {
	for _, test := range []struct {
		name, sentence string
		edit           func(p *project.Project)
		change         func(host *publisher)
	}{
		{"when the document is wrong", "another client", nil, func(host *publisher) {
			host.answer = func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, strings.Replace(host.document(""), "/client.json", "/other.json", 1))
			}
		}},
		{"when the document takes itself back", "private_key_jwt", nil, func(host *publisher) {
			host.answer = func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, host.document(`"token_endpoint_auth_method":"private_key_jwt"`))
			}
		}},
		{"when there is no document", "could not be read", nil, func(host *publisher) { host.answer = away(http.StatusNotFound) }},
		{"when the document is gone", "could not be read", nil, func(host *publisher) { host.answer = away(http.StatusGone) }},
		{"when copies are off", "could not be read", func(p *project.Project) { p.Settings.DocumentCopies = false }, func(*publisher) {}},
		{"when it names a scheme that this project does not allow", "could not be read", func(p *project.Project) { p.Settings.PrivateUseSchemes = nil }, func(*publisher) {}},
		{"for another address", "could not be read", nil, func(host *publisher) { host.id += "?x" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			edit := test.edit
			if edit == nil {
				edit = func(*project.Project) {}
			}
			r, host, told := copied(t, "", edit)
			if test.name == "when it names a scheme that this project does not allow" {
				r.copies = copies(host.id, strings.Replace(host.document(""), rigCallback, "cursor://notebook/cb", 1))
				r.server = r.serve(told)
			}
			test.change(host)
			r.refusedPage(host.id, test.sentence)
			if len(told.kinds) > 0 {
				t.Errorf("told %v", told.kinds)
			}
		})
	}
	t.Run("when our own limit is what keeps us from asking", func(t *testing.T) {
		r, host, _ := copied(t, "")
		for i := range 5 {
			r.refusedPage(fmt.Sprintf("%s/%d", host.URL, i), "could not be read")
		}
		var refusal *oauth.Error
		if _, err := r.begin(host.id); !errors.As(err, &refusal) || refusal.Code != "too_many_requests" {
			t.Errorf("got %v", err)
		}
		r.clock.Advance(time.Minute)
		r.read(host)
		// Where it stands already it stays, limit or not.
		r.clock.Advance(5 * time.Minute)
		for i := range 5 {
			r.refusedPage(fmt.Sprintf("%s/%d", host.URL, i), "could not be read")
		}
		if c := r.read(host); !c.CopiedAt.Equal(copyDay) {
			t.Errorf("%+v", c)
		}
	})
	t.Run("from the moment that copies are turned off", func(t *testing.T) {
		r, host, _ := copied(t, "")
		r.read(host)
		r.project.Settings.DocumentCopies = false
		r.refusedPage(host.id, "could not be read")
	})
	t.Run("while what was read last still serves", func(t *testing.T) {
		r, host, _ := copied(t, "")
		host.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, host.document("")) }
		if c := r.read(host); c.Metadata.ClientName != "Notebook" {
			t.Fatalf("%+v", c)
		}
		host.answer = away(http.StatusForbidden)
		r.clock.Advance(5*time.Minute + 24*time.Hour - time.Second)
		if c := r.read(host); c.Metadata.ClientName != "Notebook" || !c.CopiedAt.IsZero() {
			t.Errorf("within its day: %+v", c)
		}
		r.clock.Advance(time.Second)
		if c := r.read(host); c.Metadata.ClientName != "Copied notebook" || c.CopiedAt.IsZero() {
			t.Errorf("after its day: %+v", c)
		}
	})
}

// The host is asked again after five minutes, and what it says then counts.
func TestCopyGivesWayToTheDocument(t *testing.T) {
	r, host, told := copied(t, "")
	first := r.read(host)
	r.clock.Advance(5*time.Minute - time.Second)
	r.read(host)
	if host.asked.Load() != 1 {
		t.Errorf("asked %d times", host.asked.Load())
	}
	r.clock.Advance(time.Second)
	if c := r.read(host); c.CopiedAt.IsZero() || host.asked.Load() != 2 {
		t.Errorf("asked %d times: %+v", host.asked.Load(), c)
	}
	r.clock.Advance(5 * time.Minute)
	host.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, host.document("")) }
	c := r.read(host)
	if c.ID != first.ID || !c.CopiedAt.IsZero() || c.Metadata.ClientName != "Notebook" || cmp.Equal(c.MetadataHash, first.MetadataHash) || !c.FetchedAt.Equal(r.clock.Now()) {
		t.Errorf("first %+v\nthen %+v", first, c)
	}
	if want := []audit.Kind{audit.ClientCopied, audit.ClientCopied, audit.ClientRegistered}; !slices.Equal(told.kinds, want) {
		t.Errorf("told %v, want %v", told.kinds, want)
	}
}

// Nobody's host answers for a copy, so the person sees its page every time.
func TestCopyIsNeverAllowedInSilence(t *testing.T) {
	r, host, _ := copied(t, "")
	asked := func() bool {
		t.Helper()
		pending, err := r.server.Begin(t.Context(), r.project, r.request(host.id, rigNotes, "read:notes"), true)
		if err != nil {
			t.Fatal(err)
		}
		consent, err := r.server.Consent(t.Context(), r.project, pending, r.person())
		if err != nil {
			t.Fatal(err)
		}
		return !consent.Skip
	}
	host.answer = func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Replace(host.document(""), "Notebook", "Copied notebook", 1))
	}
	r.authorize(r.read(host), "", rigNotes, "read:notes")
	if asked() {
		t.Error("asked again about the document that the host serves")
	}
	r.clock.Advance(48 * time.Hour)
	host.answer = away(http.StatusForbidden)
	if !asked() {
		t.Error("a copy with the same words was allowed in silence")
	}
}

func TestBadCopiesRefuseToStart(t *testing.T) {
	r := newRig(t)
	const id = "https://app.example.test/client.json"
	good := `{"client_id":"` + id + `","client_name":"Notebook","redirect_uris":["https://app.example.test/cb"]}`
	file := string(copies(id, good)["notebook.json"].Data)
	start := func(files fstest.MapFS) error {
		_, err := oauth.New(oauth.Config{
			Store: r.store, Subjects: r.people, Keys: r.signingKeys(), Now: r.clock.Now, Copies: files,
			Fetch:   func(*project.Project) *http.Client { return nil },
			Address: func(*http.Request) string { return "" }, Trace: func(context.Context) string { return "" },
			Note: func(context.Context, ...slog.Attr) {},
		})
		return err
	}
	if err := start(fstest.MapFS{"a.json": {Data: []byte(file)}, "README.md": {Data: []byte("# Copies")}}); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name, change := range map[string][2]string{
		"not JSON":                   {file, "notebook"},
		"no day":                     {`"taken":"2026-11-03"`, `"taken":""`},
		"a day in another form":      {"2026-11-03", "3 Nov 2026"},
		"no source":                  {"https://docs.example.test/mcp", ""},
		"of plain http":              {`"client_id":"https://app.example.test/client.json","taken"`, `"client_id":"http://app.example.test/client.json","taken"`},
		"no document":                {good, "null"},
		"a document of another":      {`"document":{"client_id":"https://app.example.test/`, `"document":{"client_id":"https://evil.example.test/`},
		"a document with a secret":   {`"client_name"`, `"client_secret":"x","client_name"`},
		"a document without a name":  {`"client_name":"Notebook",`, ""},
		"a redirect nobody may have": {"https://app.example.test/cb", "javascript:alert(1)"},
		"a member twice":             {`"taken"`, `"taken":"2026-11-03","taken"`},
		"more than a document has":   {`"client_name"`, `"x":"` + strings.Repeat("x", 5<<10) + `","client_name"`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(file, change[0], change[1], 1)
			if bad == file {
				t.Fatal("nothing was changed")
			}
			if err := start(fstest.MapFS{"a.json": {Data: []byte(bad)}}); err == nil || !strings.Contains(err.Error(), "a.json") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("two of one client", func(t *testing.T) {
		if err := start(fstest.MapFS{"a.json": {Data: []byte(file)}, "b.json": {Data: []byte(file)}}); err == nil {
			t.Error("accepted")
		}
	})
}
