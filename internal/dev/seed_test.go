package dev_test

import (
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/dev"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

func TestSeedPlantsOnce(t *testing.T) {
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "postern.db"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	clients := oauth.NewSetup(db, time.Now)
	plant := func(issuer, todo string) dev.Seeded {
		t.Helper()
		s, err := dev.Seed{Projects: project.NewSetup(db, time.Now), Clients: clients, Issuer: issuer, TodoURL: todo}.Plant(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := plant("http://localhost:4000", "http://localhost:3000")
	p := first.Project
	if p.Name != "Todo" || !p.Settings.UnregisteredResources || p.Environment != project.Test {
		t.Errorf("got %+v", p)
	}
	if r, ok := p.DefaultResource(); !ok || r.URI != "http://localhost:3000/mcp" || strings.Join(r.Scopes, " ") != "read:todos write:todos" {
		t.Errorf("got the default resource %+v", r)
	}
	if r, ok := p.Resource("http://localhost:3000/sse"); !ok || r.URI != first.Resource || len(p.Resources) != 1 {
		t.Errorf("the older transport is of %q, one of %d", r.URI, len(p.Resources))
	}
	if reads, ok := p.Scope("read:todos"); !ok || !reads.ReadOnly || reads.Description == "" || reads.Detail == "" {
		t.Errorf("got %+v", reads)
	}
	if writes, ok := p.Scope("write:todos"); !ok || writes.ReadOnly || writes.Description == "" || writes.Detail == "" {
		t.Errorf("got %+v", writes)
	}

	t.Run("a second start changes nothing", func(t *testing.T) {
		again := plant("http://localhost:4000", "http://localhost:3000")
		if again.Project.ID != p.ID || again.TodoClientID != first.TodoClientID || again.DemoClientID != first.DemoClientID || again.Project.Change != p.Change {
			t.Errorf("got %+v after %+v", again, first)
		}
	})
	t.Run("the example moves to another port", func(t *testing.T) {
		moved := plant("http://localhost:4000", "http://localhost:3100")
		if r, _ := moved.Project.DefaultResource(); r.URI != "http://localhost:3100/mcp" || moved.Resource != r.URI {
			t.Errorf("got the default resource %s", r.URI)
		}
		if moved.TodoClientID != first.TodoClientID {
			t.Error("the web page became another client")
		}
	})
	t.Run("another issuer is another project", func(t *testing.T) {
		other := plant("http://localhost:4100", "http://localhost:3000")
		if other.Project.ID == p.ID || other.TodoClientID == first.TodoClientID {
			t.Errorf("got %+v", other)
		}
	})
}

func TestMailbox(t *testing.T) {
	var told []string
	mails := dev.NewMail(time.Now, func(to, code string) { told = append(told, to+" "+code) })
	for _, m := range []mail.Mail{
		{To: "ada@example.test", Subject: "Code", Text: "Your code is\n\n    123 456\n\nIt works for ten minutes."},
		{To: "bob@example.test", Subject: "Hello", Text: "The year 200000 has no code in a line of its own."},
	} {
		if err := mails.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || told[0] != "ada@example.test 123456" {
		t.Errorf("told %q", told)
	}
	box, err := dev.NewMailbox(mails)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	box.ServeHTTP(w, httptest.NewRequest("GET", "/dev/mailbox.json", nil))
	var list []struct{ To, Subject, Text, Code string }
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].To != "bob@example.test" || list[0].Code != "" || list[1].Code != "123456" {
		t.Errorf("got %+v, want both, the newest first", list)
	}
	w = httptest.NewRecorder()
	box.ServeHTTP(w, httptest.NewRequest("GET", "/dev/mailbox", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "ada@example.test") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
