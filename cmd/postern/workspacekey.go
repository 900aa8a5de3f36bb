package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/project"
)

func (p *program) workspaceKeyCommand() *cobra.Command {
	c := group("workspace-key", "Make the keys with which programs change projects over the network",
		p.workspaceKeyCreate(), p.workspaceKeyList(), p.workspaceKeyRevoke())
	c.PersistentFlags().Bool("json", false, "print JSON")
	return c
}

func (d *desk) workspaceKeys() *project.WorkspaceKeys {
	return project.NewWorkspaceKeys(d.db, d.program.now)
}

func (p *program) workspaceKeyCreate() *cobra.Command {
	var n project.NewKey
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a key; it may change every project of this deployment, or only read",
		Args:  needs("a NAME, so that you know later whose key it is"),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			n.Name = args[0]
			k, s, err := d.workspaceKeys().Create(ctx, n)
			if err != nil {
				return advise(err, "postern workspace-key create --help")
			}
			if d.json {
				j := describeWorkspaceKey(k, p.now())
				j.Secret = s.Text
				return d.out.json(j)
			}
			d.out.line("%s made the workspace key %s", d.out.ok(), d.out.bright(k.Name))
			d.out.line("")
			d.out.facts([2]string{"Key id", k.ID}, [2]string{"Secret", d.out.amber(s.Text)}, [2]string{"May", keyMay(k)}, [2]string{"Ends", stamp(k.ExpiresAt)})
			d.out.line("%s", d.out.dim("The secret is shown once; only its hash is kept. Commands read both from POSTERN_KEY_ID and POSTERN_SECRET."))
			return nil
		}),
	}
	f := c.Flags()
	f.BoolVar(&n.ReadOnly, "read-only", false, "the key reads and changes nothing")
	f.StringVar(&n.Lifetime, "expires", "", "the key ends after this time, such as 12h or 90d (default never)")
	return c
}

func (p *program) workspaceKeyList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys, revoked and ended ones too",
		Args:  needs(),
		RunE: p.atDesk(func(ctx context.Context, d *desk, _ []string) error {
			all, err := d.workspaceKeys().All(ctx)
			if err != nil {
				return err
			}
			list := []workspaceKeyJSON{}
			var rows [][]string
			for _, k := range all {
				j := describeWorkspaceKey(k, p.now())
				list = append(list, j)
				rows = append(rows, []string{
					d.out.bright(k.Name), j.State, keyMay(k), stamp(k.CreatedAt), stamp(k.ExpiresAt), stamp(k.LastUsedAt), printable(k.MadeBy), k.ID,
				})
			}
			switch {
			case d.json:
				return d.out.json(list)
			case len(list) == 0:
				d.out.line("No workspace key yet.   %s", d.out.green("postern workspace-key create NAME"))
				return nil
			}
			d.out.table([]string{"WORKSPACE KEY", "STATE", "MAY", "SINCE", "ENDS", "LAST USED", "MADE BY", "ID"}, rows)
			return nil
		}),
	}
}

func (p *program) workspaceKeyRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke KEY_ID",
		Short: "End a key at once",
		Args:  needs("the id of the key"),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			err := d.workspaceKeys().Revoke(ctx, args[0])
			if errors.Is(err, project.ErrNotFound) {
				return wrong("postern workspace-key list", "no workspace key that works has the id %s", printable(args[0]))
			}
			if err != nil {
				return err
			}
			if d.json {
				return d.out.json(map[string]any{"key_id": args[0], "state": project.KeyRevoked})
			}
			d.out.line("%s revoked %s", d.out.ok(), d.out.bright(args[0]))
			return nil
		}),
	}
}

// keyMay says what a workspace key may do while it works; one that may change
// things may read them too.
func keyMay(k project.WorkspaceKey) string {
	if k.ReadOnly {
		return "read"
	}
	return "change"
}

// workspaceKeyJSON is a workspace key for programs.
type workspaceKeyJSON struct {
	ID         string     `json:"key_id"`
	Name       string     `json:"name"`
	State      string     `json:"state"`            // works, ended or revoked
	Secret     string     `json:"secret,omitempty"` // only when it was made
	ReadOnly   bool       `json:"read_only"`
	MadeBy     string     `json:"made_by"` // operator, or an administrator's address
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
}

func describeWorkspaceKey(k project.WorkspaceKey, now time.Time) workspaceKeyJSON {
	j := workspaceKeyJSON{ID: k.ID, Name: k.Name, State: k.State(now), ReadOnly: k.ReadOnly, MadeBy: k.MadeBy, CreatedAt: k.CreatedAt}
	if !k.LastUsedAt.IsZero() {
		j.LastUsedAt = &k.LastUsedAt
	}
	if !k.ExpiresAt.IsZero() {
		j.ExpiresAt = &k.ExpiresAt
	}
	if !k.RevokedAt.IsZero() {
		j.RevokedAt = &k.RevokedAt
	}
	return j
}
