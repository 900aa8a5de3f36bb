package main

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store"
)

func (p *program) adminCommand() *cobra.Command {
	c := group("admin", "Say who may enter the dashboard", p.adminCreate(), p.adminList(), p.adminReset(), p.adminRemove())
	c.PersistentFlags().Bool("json", false, "print JSON")
	addFlags(c.PersistentFlags(), "url")
	return c
}

func (d *desk) administrators() *identity.Administrators {
	return identity.NewAdministrators(d.db, d.program.now)
}

// setupLink is the address of a one-time link. Its secret stands behind the #,
// so that no server, log or Referer header ever has it (docs/decisions/0010).
func setupLink(deployment string, s secret.Secret) string {
	return dashboardOf(deployment) + "/setup#" + s.Text
}

// dashboardOf is the address of the dashboard: at the host of the deployment's
// URL, whatever path that has.
func dashboardOf(deployment string) string {
	u, err := url.Parse(deployment)
	if err != nil {
		return deployment // refused before: config check
	}
	return u.Scheme + "://" + u.Host + "/dashboard"
}

// firstLink is the address of the link for the first administrator, or, once
// there was one, "" and the dashboard's.
func firstLink(ctx context.Context, db *store.DB, deployment string, now func() time.Time) (link, dashboard string, err error) {
	s, err := identity.NewAdministrators(db, now).FirstLink(ctx)
	if errors.Is(err, identity.ErrConflict) {
		return "", dashboardOf(deployment), nil
	}
	if err != nil {
		return "", "", err
	}
	return setupLink(deployment, s), "", nil
}

func (p *program) adminCreate() *cobra.Command {
	return &cobra.Command{
		Use:   "create EMAIL",
		Short: "Make a one-time link for another administrator, or for the next after the last has left",
		Args:  needs("the EMAIL of the administrator"),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			s, err := d.administrators().Invite(ctx, args[0])
			if errors.Is(err, identity.ErrConflict) {
				return wrong("postern admin reset "+args[0], "%s is an administrator already", printable(args[0]))
			}
			if err != nil {
				return organizationFault(err, "postern admin create --help")
			}
			return d.madeLink(args[0], s)
		}),
	}
}

func (p *program) adminList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the administrators and how they sign in",
		Args:  needs(),
		RunE: p.atDesk(func(ctx context.Context, d *desk, _ []string) error {
			all, err := d.administrators().All(ctx)
			if err != nil {
				return err
			}
			list := []administratorJSON{}
			var rows [][]string
			for _, a := range all {
				j := describeAdministrator(a)
				list = append(list, j)
				rows = append(rows, []string{d.out.bright(printable(a.Email)), orNone(j.Ways), stamp(a.CreatedAt), stamp(a.LastSignInAt), a.ID})
			}
			switch {
			case d.json:
				return d.out.json(list)
			case len(list) == 0:
				d.out.line("No administrator.   %s", d.out.green("postern admin create EMAIL"))
				return nil
			}
			d.out.table([]string{"ADMINISTRATOR", "SIGNS IN BY", "SINCE", "LAST SIGN-IN", "ID"}, rows)
			return nil
		}),
	}
}

func (p *program) adminReset() *cobra.Command {
	return &cobra.Command{
		Use:   "reset EMAIL",
		Short: "Sign an administrator out, take their passkeys and password, and make a one-time link for new ones",
		Args:  needs("the EMAIL of the administrator"),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			who, err := d.administrator(ctx, args[0])
			if err != nil {
				return err
			}
			s, err := d.administrators().Reset(ctx, who)
			if err != nil {
				return noAdministrator(err, args[0])
			}
			return d.madeLink(who.Email, s)
		}),
	}
}

func (p *program) adminRemove() *cobra.Command {
	var last bool
	c := &cobra.Command{
		Use:   "remove EMAIL",
		Short: "Remove an administrator, who is signed out at once; the workspace keys that they made end",
		Args:  needs("the EMAIL of the administrator"),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			who, err := d.administrator(ctx, args[0])
			if err != nil {
				return err
			}
			keys, err := d.keysOf(ctx, who) // before, for they end with them
			if err != nil {
				return err
			}
			err = d.administrators().Remove(ctx, who, last)
			if errors.Is(err, identity.ErrLastAdministrator) {
				return wrong("postern admin remove "+args[0]+" --yes", "%s is the last administrator: nobody could enter the dashboard", printable(who.Email))
			}
			if err != nil {
				return noAdministrator(err, args[0])
			}
			if d.json {
				ids := []string{}
				for _, k := range keys {
					ids = append(ids, k.ID)
				}
				return d.out.json(struct {
					administratorJSON
					Ended []string `json:"ended_workspace_keys"` // by id
				}{describeAdministrator(who), ids})
			}
			d.out.line("%s removed %s", d.out.ok(), d.out.bright(printable(who.Email)))
			for _, k := range keys {
				d.out.line("   the workspace key %s (%s) ended with them", k.ID, printable(k.Name))
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&last, "yes", false, "remove the last one too")
	return c
}

// keysOf are the workspace keys that work and that an administrator made.
func (d *desk) keysOf(ctx context.Context, who identity.Administrator) ([]project.WorkspaceKey, error) {
	all, err := d.workspaceKeys().All(ctx)
	return slices.DeleteFunc(all, func(k project.WorkspaceKey) bool {
		return k.MadeBy != who.Email || k.State(d.program.now()) != project.KeyWorks
	}), err
}

func (d *desk) administrator(ctx context.Context, email string) (identity.Administrator, error) {
	who, err := d.administrators().Find(ctx, email)
	return who, noAdministrator(err, email)
}

func noAdministrator(err error, email string) error {
	if errors.Is(err, identity.ErrNotFound) {
		return wrong("postern admin list", "%s is no administrator", printable(email))
	}
	return err
}

// madeLink shows a link once.
func (d *desk) madeLink(email string, s secret.Secret) error {
	link := setupLink(cmp.Or(d.current, d.config.URL), s)
	until := d.program.now().Add(identity.LinkLifetime)
	if d.json {
		return d.out.json(struct {
			Email     string    `json:"email"`
			Link      string    `json:"link"`
			ExpiresAt time.Time `json:"expires_at"`
		}{email, link, until.UTC().Truncate(time.Second)})
	}
	d.out.line("%s made a one-time link for %s", d.out.ok(), d.out.bright(printable(email)))
	d.out.line("")
	d.out.line("%s", d.out.amber(link))
	d.out.line("")
	d.out.line("%s", d.out.dim("It works once, until "+stamp(until)+" UTC, and is shown only here. Whoever opens it is an administrator."))
	return nil
}

// administratorJSON is an administrator for programs.
type administratorJSON struct {
	ID           string     `json:"administrator_id"`
	Email        string     `json:"email"`
	Ways         []string   `json:"signs_in_by"` // passkey, password
	Passkeys     int        `json:"passkeys"`
	CreatedAt    time.Time  `json:"created_at"`
	LastSignInAt *time.Time `json:"last_sign_in_at,omitempty"`
}

func describeAdministrator(a identity.Administrator) administratorJSON {
	j := administratorJSON{ID: a.ID, Email: a.Email, Ways: []string{}, Passkeys: a.Passkeys, CreatedAt: a.CreatedAt}
	if a.Passkeys > 0 {
		j.Ways = append(j.Ways, "passkey")
	}
	if a.Password {
		j.Ways = append(j.Ways, "password")
	}
	if !a.LastSignInAt.IsZero() {
		j.LastSignInAt = &a.LastSignInAt
	}
	return j
}
