package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

func (p *program) userCommand() *cobra.Command {
	c := group("user", "Look at the people of a project, and take back what they allowed",
		p.userList(), p.userShow(), p.userRevoke())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

// everyUser is how many users are read at once.
const everyUser = 200

func (p *program) userList() *cobra.Command {
	return &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List users, all or those whose address or id begins with PREFIX",
		Args:  atMost(1),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			all, after := []userJSON{}, ""
			var rows [][]string
			for {
				page, err := d.people.Users(ctx, one.ID, strings.Join(args, ""), after, everyUser)
				if err != nil {
					return err
				}
				for _, u := range page {
					all = append(all, describeUser(u))
					rows = append(rows, []string{d.out.bright(printable(u.Email)), stamp(u.CreatedAt), stamp(u.LastSignInAt), u.ID})
				}
				if len(page) < everyUser {
					break
				}
				after = page[len(page)-1].ID
			}
			switch {
			case d.json:
				return d.out.json(all)
			case len(all) == 0:
				d.out.line("Nobody has signed in yet.")
				return nil
			}
			d.out.table([]string{"USER", "SINCE", "LAST SIGN-IN", "ID"}, rows)
			return nil
		}),
	}
}

func (p *program) userShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show USER",
		Short: "Show a user, by address or id, and what they allowed",
		Args:  needs("the user's address or id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			u, err := d.user(ctx, one, args[0])
			if err != nil {
				return err
			}
			apps, err := d.db.ConnectedApps(ctx, one.ID, u.ID, "", d.program.now())
			if err != nil {
				return err
			}
			if d.json {
				return d.out.json(struct {
					userJSON
					ConnectedApps []grantJSON `json:"connected_apps"`
				}{describeUser(u), describeGrants(apps)})
			}
			d.out.line("%s", d.out.bright(printable(u.Email)))
			d.out.line("")
			d.out.facts(
				[2]string{"Id", u.ID}, [2]string{"Since", stamp(u.CreatedAt)}, [2]string{"Last sign-in", stamp(u.LastSignInAt)},
				[2]string{"May sign in", yesNo(u.Active)},
			)
			d.out.line("")
			var rows [][]string
			for _, g := range describeGrants(apps) {
				rows = append(rows, []string{d.out.bright(printable(g.Client)), orNone(g.Scopes), stamp(g.LastUsedAt)})
			}
			if len(rows) == 0 {
				d.out.line("No connected app.")
				return nil
			}
			d.out.table([]string{"CONNECTED APP", "MAY", "LAST USED"}, rows)
			return nil
		}),
	}
}

func (p *program) userRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke USER",
		Short: "Sign a user out everywhere and take back everything they allowed",
		Args:  needs("the user's address or id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			u, err := d.user(ctx, one, args[0])
			if err != nil {
				return err
			}
			e := d.event(one, audit.UserRevoked, u.ID)
			e.Subject = u.ID
			grants, err := d.people.Revoke(ctx, one.ID, u.ID, e)
			if err != nil {
				return advise(err, "postern user list")
			}
			if d.json {
				return d.out.json(map[string]any{"user_id": u.ID, "grants_revoked": grants})
			}
			d.out.line("%s signed %s out everywhere and took back %d grants", d.out.ok(), d.out.bright(printable(u.Email)), grants)
			d.out.line("%s", d.out.dim("Access tokens end at once where they are introspected, elsewhere when they expire."))
			return nil
		}),
	}
}

// user finds a user by id or by the whole address.
func (d *desk) user(ctx context.Context, p *project.Project, ref string) (identity.User, error) {
	u, err := d.people.User(ctx, p.ID, ref)
	if !errors.Is(err, identity.ErrNotFound) {
		return u, err
	}
	found, err := d.people.Users(ctx, p.ID, ref, "", everyUser)
	if err != nil {
		return u, err
	}
	for _, u := range found {
		if strings.EqualFold(u.Email, ref) {
			return u, nil
		}
	}
	return u, wrong("postern user list", "the project %s has no user %s", p.Name, ref)
}

// userJSON is a user for programs.
type userJSON struct {
	ID            string     `json:"user_id"`
	Email         string     `json:"email"`
	EmailVerified bool       `json:"email_verified"`
	Name          string     `json:"name,omitempty"`
	Active        bool       `json:"active"`
	CreatedAt     time.Time  `json:"created_at"`
	LastSignInAt  *time.Time `json:"last_sign_in_at,omitempty"`
}

func describeUser(u identity.User) userJSON {
	j := userJSON{ID: u.ID, Email: u.Email, EmailVerified: u.EmailVerified, Name: u.Name, Active: u.Active, CreatedAt: u.CreatedAt}
	if !u.LastSignInAt.IsZero() {
		j.LastSignInAt = &u.LastSignInAt
	}
	return j
}

// grantJSON is a grant for programs.
type grantJSON struct {
	ID         string    `json:"grant_id"`
	Client     string    `json:"client_name"`
	ClientID   string    `json:"client_id"`
	Scopes     []string  `json:"scopes"`
	LastUsedAt time.Time `json:"last_used_at"`
	CreatedAt  time.Time `json:"created_at"`
}

func describeGrants(apps []oauth.ConnectedApp) []grantJSON {
	list := []grantJSON{}
	for _, a := range apps {
		if !a.Grant.RevokedAt.IsZero() {
			continue
		}
		g := grantJSON{
			ID: a.Grant.ID, Client: a.Client.Name(), ClientID: a.Client.PublicID(), Scopes: []string{},
			LastUsedAt: a.Grant.LastUsedAt, CreatedAt: a.Grant.CreatedAt,
		}
		for _, s := range a.Scopes {
			if s.Allowed {
				g.Scopes = append(g.Scopes, s.Scope)
			}
		}
		list = append(list, g)
	}
	return list
}
