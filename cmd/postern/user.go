package main

import (
	"cmp"
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
	c := group("user", "Look at the people of a project, sign them out, and take back what they allowed",
		p.userList(), p.userShow(), p.userSignOut(), p.userRevoke(), p.userActivate(false), p.userActivate(true), p.userDelete())
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
			case len(all) == 0 && len(args) > 0:
				d.out.line("No user's address or id begins with %s.", printable(args[0]))
				return nil
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
			sessions, err := d.people.Sessions(ctx, one.ID, u.ID)
			if err != nil {
				return err
			}
			if d.json {
				return d.out.json(struct {
					userJSON
					Sessions      []sessionJSON `json:"sessions"`
					ConnectedApps []grantJSON   `json:"connected_apps"`
				}{describeUser(u), describeSessions(sessions), describeGrants(apps)})
			}
			d.out.line("%s", d.out.bright(printable(u.Email)))
			d.out.line("")
			d.out.facts(
				[2]string{"Id", u.ID}, [2]string{"Since", stamp(u.CreatedAt)}, [2]string{"Last sign-in", stamp(u.LastSignInAt)},
				[2]string{"May sign in", yesNo(u.Active)},
			)
			d.sessions(sessions)
			d.grants(apps)
			return nil
		}),
	}
}

// sessions prints where a person is signed in.
func (d *desk) sessions(sessions []identity.Session) {
	if len(sessions) == 0 {
		return
	}
	var rows [][]string
	for _, s := range sessions {
		rows = append(rows, []string{cmp.Or(s.Address, "unknown"), stamp(s.CreatedAt), stamp(s.LastSeenAt), s.ID})
	}
	d.out.line("")
	d.out.table([]string{"SIGNED IN FROM", "SINCE", "LAST SEEN", "SESSION"}, rows)
}

// grants prints what a person allowed.
func (d *desk) grants(apps []oauth.ConnectedApp) {
	var rows [][]string
	for _, g := range describeGrants(apps) {
		rows = append(rows, []string{d.out.bright(printable(g.Client)), orNone(g.Scopes), orNone(g.Resources), stamp(g.LastUsedAt), g.ID})
	}
	d.out.line("")
	if len(rows) == 0 {
		d.out.line("No connected app.")
		return
	}
	d.out.table([]string{"CONNECTED APP", "MAY", "AT", "LAST USED", "GRANT"}, rows)
}

func (p *program) userSignOut() *cobra.Command {
	var session string
	c := &cobra.Command{
		Use:   "sign-out USER",
		Short: "Sign a user out everywhere, or end one session; what they allowed stays",
		Args:  needs("the user's address or id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			u, err := d.user(ctx, one, args[0])
			if err != nil {
				return err
			}
			n, e := 1, d.event(one, audit.SignedOut, u.ID)
			if session != "" {
				err = d.endSession(ctx, one, u.ID, session, "postern user show "+args[0])
			} else {
				n, err = d.people.SignOutUser(ctx, u, e)
			}
			if err != nil {
				return advise(err, "postern user list")
			}
			if d.json {
				return d.out.json(map[string]any{"user_id": u.ID, "sessions_ended": n})
			}
			d.out.line("%s signed %s out of %d sessions", d.out.ok(), d.out.bright(printable(u.Email)), n)
			return nil
		}),
	}
	c.Flags().StringVar(&session, "session", "", "the id of one session; the others stay")
	return c
}

// endSession ends one session of a person; show is the command that lists them.
func (d *desk) endSession(ctx context.Context, one *project.Project, subject, id, show string) error {
	err := d.people.EndSession(ctx, one.ID, subject, id, d.event(one, audit.SignedOut, id))
	if errors.Is(err, identity.ErrNotFound) {
		return wrong(show, "there is no session %s", printable(id))
	}
	return err
}

func (p *program) userActivate(active bool) *cobra.Command {
	c := &cobra.Command{
		Use:   "deactivate USER",
		Short: "Shut a user out: signed out, everything they allowed taken back, no sign-in",
		Args:  needs("the user's address or id"),
	}
	done := "shut out"
	if active {
		c.Use, c.Short, done = "activate USER", "Let a user sign in again; what was taken back stays so", "let in again"
	}
	c.RunE = p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
		u, err := d.user(ctx, one, args[0])
		if err != nil {
			return err
		}
		grants, err := d.people.SetActive(ctx, u, active, d.event(one, audit.UserActivated, u.ID))
		if err != nil {
			return advise(err, "postern user list")
		}
		if d.json {
			return d.out.json(map[string]any{"user_id": u.ID, "active": active, "grants_revoked": grants})
		}
		d.out.line("%s %s: %s", d.out.ok(), done, d.out.bright(printable(u.Email)))
		return nil
	})
	return c
}

func (p *program) userDelete() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "delete USER",
		Short: "Delete a user with their sessions and everything they allowed",
		Long: `Delete a user with their sessions and everything they allowed. That does not come
back, so the command asks; --yes answers. To shut somebody out for a while:
postern user deactivate USER.`,
		Args: needs("the user's address or id"),
	}
	c.RunE = p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
		u, err := d.user(ctx, one, args[0])
		if err != nil {
			return err
		}
		if !yes {
			p.err.line("The user %s goes, with their sessions and everything they allowed. They do not come back.", printable(u.Email))
			if err := p.ask(c, !d.json); err != nil {
				return err
			}
		}
		if err := d.people.DeleteUser(ctx, u, d.event(one, audit.UserDeleted, u.ID)); err != nil {
			return advise(err, "postern user list")
		}
		if d.json {
			return d.out.json(describeUser(u))
		}
		d.out.line("%s deleted %s", d.out.ok(), d.out.bright(printable(u.Email)))
		return nil
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
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
			d.out.line("%s", d.out.dim(tokensEnd))
			return nil
		}),
	}
}

const tokensEnd = "Access tokens end at once where they are introspected, elsewhere when they expire."

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

// sessionJSON is a session for programs.
type sessionJSON struct {
	ID         string    `json:"session_id"`
	Address    string    `json:"address"`
	UserAgent  string    `json:"user_agent"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

func describeSessions(sessions []identity.Session) []sessionJSON {
	list := []sessionJSON{}
	for _, s := range sessions {
		list = append(list, sessionJSON{s.ID, s.Address, s.UserAgent, s.CreatedAt, s.LastSeenAt, s.ExpiresAt})
	}
	return list
}

// grantJSON is a grant for programs.
type grantJSON struct {
	ID         string    `json:"grant_id"`
	Client     string    `json:"client_name"`
	ClientID   string    `json:"client_id"`
	Scopes     []string  `json:"scopes"`
	Resources  []string  `json:"resources"`
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
			ID: a.Grant.ID, Client: a.Client.Name(), ClientID: a.Client.PublicID(),
			LastUsedAt: a.LastUsedAt, CreatedAt: a.Grant.CreatedAt,
		}
		g.Scopes, g.Resources = oauth.Allowed(a.Scopes)
		list = append(list, g)
	}
	return list
}
