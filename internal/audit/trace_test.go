package audit_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signin"
)

var begun = time.Date(2026, 11, 20, 23, 41, 5, 0, time.UTC)

// refusedIn are the reasons that the code refuses for, by the file that does.
func refusedIn(t *testing.T) map[string]string {
	t.Helper()
	// Functions that take a reason, and which of their arguments it is.
	takes := map[string]int{"refuseGrant": 3, "refuseToken": 3, "refuseClient": 4, "refuseSignIn": 3, "refuse": 0}
	// What authorization requests are refused with, made by functions of their own.
	found := map[string]string{"invalid_request": "error.go", "invalid_client": "error.go", "unauthorized_client": "error.go", "invalid_scope": "error.go", "invalid_target": "error.go"}
	text := func(e ast.Expr) (string, bool) {
		l, ok := e.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	note := func(file string, e ast.Expr) {
		if s, ok := text(e); ok && s != "" {
			found[s] = file
		}
	}
	for _, folder := range []string{"oauth", "login", "store", "server"} {
		files, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					called := ""
					switch f := n.Fun.(type) {
					case *ast.Ident:
						called = f.Name
					case *ast.SelectorExpr:
						called = f.Sel.Name
					}
					if i, ok := takes[called]; ok && i < len(n.Args) {
						note(name, n.Args[i])
					}
				case *ast.AssignStmt:
					for i, left := range n.Lhs {
						s, isField := left.(*ast.SelectorExpr)
						v, isName := left.(*ast.Ident)
						if i < len(n.Rhs) && (isField && s.Sel.Name == "Reason" || isName && v.Name == "reason") {
							note(name, n.Rhs[i])
						}
					}
				case *ast.ValueSpec:
					for i, v := range n.Names {
						if strings.HasPrefix(v.Name, "reason") && i < len(n.Values) {
							note(name, n.Values[i])
						}
					}
				case *ast.KeyValueExpr:
					if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Code" && folder == "oauth" {
						note(name, n.Value)
					}
				}
				return true
			})
		}
	}
	return found
}

// Every reason that the code has is a plain sentence in a trace, with whose turn
// it is and what to do.
func TestReasonsHaveSentences(t *testing.T) {
	// Refusals that are no step of an attempt: an administrator's pages, registration,
	// too large a request.
	elsewhere := []string{
		"no permission", "not the member's own domain", "unsupported_grant_type", "invalid_grant", "invalid_redirect_uri",
		"invalid_client_metadata", "unapproved_software_statement", "registration_disabled", "request_too_large",
	}
	kinds := map[audit.Stage]audit.Kind{audit.AtSignIn: audit.SignInRefused, audit.AtToken: audit.TokenRefused}
	found := refusedIn(t)
	if len(found) < 45 {
		t.Errorf("only %d reasons were found", len(found))
	}
	for reason, file := range found {
		if slices.Contains(elsewhere, reason) {
			continue
		}
		stage := audit.RefusedAt(reason)
		kind, ok := kinds[stage]
		if !ok {
			kind = audit.AuthorizeRefused
		}
		tr := audit.TellRefusal(audit.Event{Kind: kind, Reason: reason, At: begun, TraceID: "K7F-2QX-9MD", Refused: true})
		s := tr.Steps[0]
		if strings.HasPrefix(s.Sentence, "Refused:") || s.Turn == "" || s.Next == "" || s.Mark != audit.Failed {
			t.Errorf("%s: %q has no sentence in a trace: %+v", file, reason, s)
		}
		if !regexp.MustCompile(`^[A-Z][^\n]*[.]$`).MatchString(s.Sentence) || !strings.HasSuffix(s.Next, ".") && !strings.HasSuffix(s.Next, ": postern resource add") {
			t.Errorf("%q is told as %q, %q", reason, s.Sentence, s.Next)
		}
	}
}

// A reason that nobody wrote a sentence for is shown as it is.
func TestUnknownReason(t *testing.T) {
	for reason, want := range map[string]string{
		"the moon is full":                   "Refused: the moon is full.",
		"The provider's keys could not be.":  "The provider's keys could not be.",
		"":                                   "It was refused.",
		"The signature is <b>not</b> right.": "The signature is <b>not</b> right.",
	} {
		s := audit.TellRefusal(audit.Event{Kind: audit.SignInRefused, Reason: reason}).Steps[0]
		if s.Sentence != want || s.Stage != audit.AtSignIn {
			t.Errorf("%q: %+v", reason, s)
		}
	}
}

func TestCodeRange(t *testing.T) {
	for text, want := range map[string][2]string{
		"K7F-2QX-9MD":   {"K7F-2QX-9MD", "K7F-2QX-9MD"},
		"k7f2qx9md":     {"K7F-2QX-9MD", "K7F-2QX-9MD"},
		" k7f 2qx 9md ": {"K7F-2QX-9MD", "K7F-2QX-9MD"},
		"K7F-2QX":       {"K7F-2QX-", "K7F-2QX-~"},
		"K7F-2QX-":      {"K7F-2QX-", "K7F-2QX-~"},
		"k7f2qx":        {"K7F-2QX-", "K7F-2QX-~"},
		"K7F":           {},
		"K7F-2QX-9M":    {},
		"K7F-2QX-9MDD":  {},
		"K7F-2QX-9M%":   {},
		"":              {},
		"ada@a.test":    {},
		"192.0.2.1":     {},
	} {
		first, last, ok := audit.CodeRange(text)
		if got := [2]string{first, last}; got != want || ok != (want[0] != "") {
			t.Errorf("%q: %q %v", text, got, ok)
		}
	}
}

// A search is a code, a person or an address, or nothing.
func TestSearch(t *testing.T) {
	for text, want := range map[string]string{
		"k7f2qx":               "code k7f2qx",
		" ada@example.test ":   "email ada@example.test",
		"192.0.2.1":            "address 192.0.2.1",
		"::ffff:192.0.2.1":     "address 192.0.2.1",
		"2001:db8::1":          "address 2001:db8::1",
		"what happened to me?": "",
		"":                     "",
	} {
		code, email, address := audit.AttemptFilter{Query: text}.Search()
		got := ""
		for kind, value := range map[string]string{"code": code, "email": email, "address": address} {
			if value != "" {
				got += fmt.Sprint(kind, " ", value)
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// What an attempt that nobody finished says changes when its time is over.
func TestAttemptsThatWait(t *testing.T) {
	soon, late := begun.Add(time.Minute), begun.Add(15*time.Minute)
	for _, row := range []struct {
		name   string
		a      audit.Attempt
		events []audit.Event
		now    time.Time
		got    string
		step   int
		says   string
	}{
		{"at sign-in", audit.Attempt{State: audit.Waiting, Stage: audit.AtSignIn}, nil, soon, "Waiting at sign-in", 3, "Waiting for the person to sign in."},
		{"left at sign-in", audit.Attempt{State: audit.Waiting, Stage: audit.AtSignIn}, nil, late, "Left at sign-in", 3, "The person left without signing in."},
		{"with a mail", audit.Attempt{State: audit.Waiting, Stage: audit.AtSignIn}, []audit.Event{{Kind: audit.CodeSent}}, soon, "Waiting at sign-in", 3, "A code was mailed. Nobody typed it yet."},
		{"left with a mail", audit.Attempt{State: audit.Waiting, Stage: audit.AtSignIn}, []audit.Event{{Kind: audit.CodeSent}}, late, "Left at sign-in", 3, "A code was mailed. Nobody typed it."},
		{"at consent", audit.Attempt{State: audit.Waiting, Stage: audit.AtConsent}, nil, soon, "Waiting at consent", 4, "Waiting for the person’s answer."},
		{"left at consent", audit.Attempt{State: audit.Waiting, Stage: audit.AtConsent}, nil, late, "Left at consent", 4, "The person left without an answer."},
		{"before a token", audit.Attempt{State: audit.Allowed, Stage: audit.AtConsent}, nil, soon, "Allowed, no token yet", 5, "Waiting for the app to exchange its code."},
		{"no token", audit.Attempt{State: audit.Allowed, Stage: audit.AtConsent}, nil, late, "Allowed, tokens never fetched", 5, "The app never exchanged its code for tokens. Either the answer did not reach it, or it does not know what to do with it."},
	} {
		row.a.StartedAt = begun
		s := audit.Tell(row.a, row.events, audit.Known{}, row.now).Steps[row.step]
		if got := (audit.Listed{Attempt: row.a}).Got(row.now); got != row.got || s.Sentence != row.says {
			t.Errorf("%s: %q, %q", row.name, got, s.Sentence)
		}
	}
	if signin.FlowLifetime != 15*time.Minute {
		t.Error("a trace says that a person left when a sign-in is over; its time has changed")
	}
}

// How a client came to be known is said in the step of its registration.
func TestRegistrationStep(t *testing.T) {
	for _, row := range []struct {
		a    audit.Attempt
		says string
		at   time.Time
	}{
		{audit.Attempt{Creation: "dynamic", RegisteredAt: begun.Add(-time.Second)}, "Registered itself.", begun.Add(-time.Second)},
		{audit.Attempt{Creation: "dynamic", RegisteredAt: begun.Add(-48 * time.Hour)}, "Registered itself on 18 Nov 2026 at 23:41.", time.Time{}},
		{audit.Attempt{Creation: "document", RegisteredAt: begun.Add(-time.Hour)}, "Known by its metadata document, read on 20 Nov 2026 at 22:41.", begun.Add(-time.Hour)},
		{audit.Attempt{Creation: "preregistered", RegisteredAt: begun.Add(-time.Hour)}, "Registered by hand on 20 Nov 2026 at 22:41.", time.Time{}},
		{audit.Attempt{ClientID: "https://zed.example/client.json"}, "Its metadata document is read once somebody has signed in.", time.Time{}},
	} {
		row.a.StartedAt, row.a.State, row.a.Stage = begun, audit.Waiting, audit.AtSignIn
		s := audit.Tell(row.a, nil, audit.Known{}, begun).Steps[1]
		if s.Sentence != row.says || !s.At.Equal(row.at) {
			t.Errorf("%q at %v, want %q at %v", s.Sentence, s.At, row.says, row.at)
		}
	}
}

// The registered resource that is most like the one that was asked comes first.
func TestNearest(t *testing.T) {
	a := audit.Attempt{State: audit.Refused, Stage: audit.AtAuthorize, Asked: "https://todo.example.test/mpc", StartedAt: begun}
	known := audit.Known{Resources: []string{"https://a.example.test/mcp", "https://notes.example.test/mcp", "https://todo.example.test/mcp", "https://z.example.test/"}}
	tr := audit.Tell(a, []audit.Event{{Kind: audit.AuthorizeRefused, Reason: "invalid_target", At: begun, Refused: true}}, known, begun)
	s, _ := tr.Refusal()
	want := []string{"https://todo.example.test/mcp", "https://a.example.test/mcp", "https://notes.example.test/mcp"}
	if diff := cmp.Diff(want, s.Registered); diff != "" {
		t.Error(diff)
	}
}

// What a stranger chose is kept no longer than a page can show, and is text.
func TestBound(t *testing.T) {
	long := strings.Repeat("é", 5000)
	a := audit.Attempt{ClientID: long, ClientName: long, RedirectURI: long, Resource: "\xff", Scopes: long, Detail: long, Asked: long}.Bound()
	for name, text := range map[string]string{"id": a.ClientID, "name": a.ClientName, "redirect": a.RedirectURI, "scopes": a.Scopes, "detail": a.Detail, "asked": a.Asked} {
		if len(text) > 510 || strings.ToValidUTF8(text, "") != text {
			t.Errorf("%s: %d bytes", name, len(text))
		}
	}
	if a.Resource != "?" {
		t.Errorf("resource: %q", a.Resource)
	}
}

// Tell never fails, whatever an attempt and its events say.
func FuzzTell(f *testing.F) {
	f.Add("refused", "token", "token.refused", "wrong verifier", "x")
	f.Add("allowed", "first call", "grant.allowed", "", "")
	f.Add("waiting", "sign-in", "signin.refused", "wrong code", "")
	f.Fuzz(func(t *testing.T, state, stage, kind, reason, asked string) {
		a := audit.Attempt{State: audit.State(state), Stage: audit.Stage(stage), Asked: asked, StartedAt: begun}
		tr := audit.Tell(a, []audit.Event{{Kind: audit.Kind(kind), Reason: reason, Refused: reason != "", At: begun}}, audit.Known{Resources: []string{asked}}, begun)
		if len(tr.Steps) != 7 {
			t.Errorf("%d steps", len(tr.Steps))
		}
		for _, s := range tr.Steps {
			if s.Sentence == "" || s.Mark == "" || s.Stage == "" {
				t.Errorf("%+v", s)
			}
		}
	})
}
