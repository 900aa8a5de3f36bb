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
	return &cobra.Command{
		Use:   "create NAME",
		Short: "Make a key; it may change every project of this deployment",
		Args:  needs("a NAME, so that you know later whose key it is"),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			k, s, err := d.workspaceKeys().Create(ctx, args[0])
			if err != nil {
				return advise(err, "postern workspace-key create --help")
			}
			if d.json {
				j := describeWorkspaceKey(k)
				j.Secret = s.Text
				return d.out.json(j)
			}
			d.out.line("%s made the workspace key %s", d.out.ok(), d.out.bright(k.Name))
			d.out.line("")
			d.out.facts([2]string{"Key id", k.ID}, [2]string{"Secret", d.out.amber(s.Text)})
			d.out.line("%s", d.out.dim("The secret is shown once; only its hash is kept. Commands read both from POSTERN_KEY_ID and POSTERN_SECRET."))
			return nil
		}),
	}
}

func (p *program) workspaceKeyList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys, revoked ones too",
		Args:  needs(),
		RunE: p.atDesk(func(ctx context.Context, d *desk, _ []string) error {
			all, err := d.workspaceKeys().All(ctx)
			if err != nil {
				return err
			}
			list := []workspaceKeyJSON{}
			var rows [][]string
			for _, k := range all {
				j := describeWorkspaceKey(k)
				list = append(list, j)
				rows = append(rows, []string{d.out.bright(k.Name), j.State, stamp(k.CreatedAt), stamp(k.LastUsedAt), k.ID})
			}
			switch {
			case d.json:
				return d.out.json(list)
			case len(list) == 0:
				d.out.line("No workspace key yet.   %s", d.out.green("postern workspace-key create NAME"))
				return nil
			}
			d.out.table([]string{"WORKSPACE KEY", "STATE", "SINCE", "LAST USED", "ID"}, rows)
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
				return d.out.json(map[string]any{"key_id": args[0], "state": keyRevoked})
			}
			d.out.line("%s revoked %s", d.out.ok(), d.out.bright(args[0]))
			return nil
		}),
	}
}

// What a workspace key does.
const (
	keyWorks   = "works"
	keyRevoked = "revoked"
)

// workspaceKeyJSON is a workspace key for programs.
type workspaceKeyJSON struct {
	ID         string     `json:"key_id"`
	Name       string     `json:"name"`
	State      string     `json:"state"`            // works or revoked
	Secret     string     `json:"secret,omitempty"` // only when it was made
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
}

func describeWorkspaceKey(k project.WorkspaceKey) workspaceKeyJSON {
	j := workspaceKeyJSON{ID: k.ID, Name: k.Name, State: keyWorks, CreatedAt: k.CreatedAt}
	if !k.LastUsedAt.IsZero() {
		j.LastUsedAt = &k.LastUsedAt
	}
	if !k.RevokedAt.IsZero() {
		j.State, j.RevokedAt = keyRevoked, &k.RevokedAt
	}
	return j
}
