package admin

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/web"
)

// keysView is everything about a project that is a key or a secret, and the
// workspace keys of the deployment.
type keysView struct {
	frame
	ID          string // of the project
	PublicToken string
	KeySet      string // address of the published keys
	Signing     []signingRow
	Due         time.Time // of the next rotation, zero without keys
	Rotate      danger
	RotateCLI   string
	TakeOut     string // id of the key whose form was sent with something else typed
	Secret      danger
	Workspace   []workspaceRow
	CreateCLI   string
	RevokeCLI   string
	New         project.NewKey // as it was typed

	MadeSecret string // of the project: shown once
	MadeKey    project.WorkspaceKey
	MadeText   string // its secret: shown once
}

// signingRow is one signing key.
type signingRow struct {
	signing.Key
	State   string // signs, next, published or retired
	TakeOut danger // nothing to do for one that is retired
}

// workspaceRow is one workspace key, and how it is ended.
type workspaceRow struct {
	project.WorkspaceKey
	State  string // project.KeyWorks and so on
	Maker  string // "" for the command line
	Revoke danger
}

// revokeAction begins the action that ends the workspace key behind it.
const revokeAction = "revoke-"

// SigningKeys shows the keys and secrets of a project, and makes new ones.
func (d *Dashboard) SigningKeys(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	var view keysView
	if r.Method != http.MethodPost {
		return d.keys(w, r, v, http.StatusOK, view)
	}
	values, err := d.form(r, v)
	if err != nil {
		return err
	}
	err = d.changeKeys(r, v, &view, values)
	if view.Problems, err = refused(err); err != nil {
		return err
	}
	switch {
	case view.Problems != nil:
		return d.keys(w, r, v, http.StatusUnprocessableEntity, view)
	case view.MadeSecret != "" || view.MadeText != "":
		d.Changed(r.Context())
		return d.keys(w, r, v, http.StatusOK, view)
	}
	d.Changed(r.Context())
	done, _, _ := strings.Cut(values.Get("action"), "-")
	d.done(w, r, r.URL.Path, done, "")
	return nil
}

// refused is sentences for what may be nil.
func refused(err error) ([]string, error) {
	if err == nil {
		return nil, nil
	}
	return sentences(err)
}

// changeKeys carries a form out.
func (d *Dashboard) changeKeys(r *http.Request, v visit, view *keysView, values url.Values) error {
	ctx, action := r.Context(), values.Get("action")
	keys := d.Workspace.By(v.origin)
	name := confirmationOf(v.project.Name)
	typed := func() error {
		if confirmed(values, name) {
			return nil
		}
		view.Rotate.Open, view.Secret.Open = action == "hurry", action == "secret"
		if action == "compromise" {
			view.TakeOut = values.Get("about")
		}
		return project.Problem(unconfirmed(name)[0])
	}
	switch action {
	case "rotate":
		return d.rotate(r, v, 0)
	case "hurry":
		if err := typed(); err != nil {
			return err
		}
		return d.rotate(r, v, signing.KeySetMaxAge)
	case "compromise":
		if err := typed(); err != nil {
			return err
		}
		_, err := d.Keys.Compromise(ctx, v.origin, v.project.ID, values.Get("about"))
		switch {
		case errors.Is(err, signing.ErrNotFound):
			return project.Problem("this key is out already; load the page again")
		case errors.Is(err, signing.ErrConflict):
			return project.Problem("somebody else made a key at the same moment; do it again")
		}
		return err
	case "secret":
		if err := typed(); err != nil {
			return err
		}
		made, err := d.Projects.By(v.origin).RotateSecret(ctx, v.project)
		view.MadeSecret = made.Text
		return err
	case "create":
		view.New = project.NewKey{Name: values.Get("name"), ReadOnly: values.Get("read_only") == "on", Lifetime: values.Get("expires")}
		made, text, err := keys.Create(ctx, view.New)
		if err == nil {
			view.MadeKey, view.MadeText, view.New = made, text.Text, project.NewKey{}
		}
		return err
	}
	id, ok := strings.CutPrefix(action, revokeAction)
	if !ok {
		return &web.Error{Status: http.StatusBadRequest}
	}
	all, err := keys.All(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(k project.WorkspaceKey) bool { return k.ID == id && k.State(d.Now()) == project.KeyWorks })
	if i < 0 {
		return &web.Error{Status: http.StatusNotFound}
	}
	if name := confirmationOf(all[i].Name); !confirmed(values, name) {
		return project.Problem(unconfirmed(name)[0])
	}
	err = keys.Revoke(ctx, id)
	if errors.Is(err, project.ErrNotFound) { // another window was faster
		return nil
	}
	return err
}

// rotate makes the next signing key of each algorithm.
func (d *Dashboard) rotate(r *http.Request, v visit, lead time.Duration) error {
	for _, alg := range signing.Algorithms() {
		_, err := d.Keys.Rotate(r.Context(), v.origin, v.project.ID, alg, lead)
		if errors.Is(err, signing.ErrConflict) || errors.Is(err, signing.ErrNoKey) {
			return project.Problem("somebody else made a key at the same moment, or the first one is being made; load the page again")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keys draws the page.
func (d *Dashboard) keys(w http.ResponseWriter, r *http.Request, v visit, status int, view keysView) error {
	ctx := r.Context()
	problems := view.Problems
	view.frame = d.frame(r, v, "keys", "Keys", v.command("keys", "list"))
	view.Problems, view.Lead = problems, "Times are in UTC."
	view.ID, view.PublicToken, view.KeySet = v.project.ID, v.project.PublicToken, v.project.Issuer+"/.well-known/jwks.json"
	rows, err := d.Keys.All(ctx, v.project.ID)
	if err != nil {
		return err
	}
	view.Due, view.Signing = d.Keys.Due(rows), signingRows(rows, d.Now())
	name := confirmationOf(v.project.Name)
	for i, row := range view.Signing {
		view.Signing[i].TakeOut = view.guard(danger{
			Action: "compromise", About: row.ID, Type: name, Sure: "Take it out", CLI: v.command("keys", "compromise", "--kid", row.ID), Open: view.TakeOut == row.ID,
			Button: "Take out " + string(row.Algorithm) + " " + row.ID[:8],
			Stops:  "Every token that this key signed ends: here within a second, at MCP servers that verify by themselves within five minutes. Another key signs from now on; who keeps the published keys without asking for an unknown one refuses new tokens for five minutes. Nobody is signed out. Do it when somebody else may have the key; other keys stay.",
		})
	}
	view.RotateCLI = v.command("keys", "rotate")
	view.Rotate = view.guard(danger{
		Action: "hurry", Button: "Rotate now", Type: name, Sure: "Rotate now", CLI: v.command("keys", "rotate", "--now"), Open: view.Rotate.Open,
		Stops: "New keys sign after five minutes. A server that keeps the published keys for longer than that refuses new tokens until it asks again. The old keys' tokens stay good: take a key out below when somebody else may have it.",
	})
	view.Secret = view.guard(danger{
		Action: "secret", Button: "Make a new project secret", Type: name, Sure: "Make a new secret", CLI: projectCommand(v, "rotate-secret"), Open: view.Secret.Open,
		Stops: "The one that works now stops at once, for every program that has it: calls of the API and introspection with it are refused.",
	})
	keys, err := d.Workspace.All(ctx)
	if err != nil {
		return err
	}
	view.CreateCLI, view.RevokeCLI = command("workspace-key", "create", "NAME", "--read-only", "--expires", "90d"), command("workspace-key", "revoke", "KEY_ID")
	for _, k := range slices.Backward(keys) {
		row := workspaceRow{WorkspaceKey: k, State: k.State(d.Now()), Revoke: view.guard(danger{
			Action: revokeAction + k.ID, Button: "Revoke", Type: confirmationOf(k.Name), Sure: "Revoke it",
			Stops: "Programs with this key can read and change nothing any more, in every project. It does not come back.",
		})}
		if k.MadeBy != audit.Operator {
			row.Maker = k.MadeBy
		}
		view.Workspace = append(view.Workspace, row)
	}
	return d.pages.Render(w, status, "keys", view)
}

// projectCommand is a command that takes the project as its argument.
func projectCommand(v visit, words ...string) string {
	words = append([]string{"project"}, words...)
	if len(v.projects) > 1 {
		words = append(words, v.project.Issuer)
	}
	return command(words...)
}

// signingRows tells what each key does now: of an algorithm, the newest that may
// sign does.
func signingRows(keys []signing.Key, now time.Time) []signingRow {
	slices.SortFunc(keys, func(a, b signing.Key) int {
		return cmp.Or(cmp.Compare(a.Algorithm, b.Algorithm), cmp.Compare(b.Generation, a.Generation))
	})
	signs := map[signing.Algorithm]bool{}
	var rows []signingRow
	for _, k := range keys {
		row := signingRow{Key: k, State: "published"}
		switch {
		case !k.RetireAt.IsZero() && !now.Before(k.RetireAt):
			row.State = "retired"
		case now.Before(k.NotBefore):
			row.State = "next"
		case !signs[k.Algorithm]:
			row.State, signs[k.Algorithm] = "signs", true
		}
		rows = append(rows, row)
	}
	return rows
}
