package main

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

func (p *program) keysCommand() *cobra.Command {
	c := group("keys", "Look at the signing keys and rotate them", p.keysList(), p.keysRotate())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

// keyJSON is a signing key for programs. The key itself never leaves.
type keyJSON struct {
	ID         string     `json:"kid"`
	Algorithm  string     `json:"alg"`
	Generation int64      `json:"generation"`
	State      string     `json:"state"` // signs, next, published or retired
	CreatedAt  time.Time  `json:"published_from"`
	NotBefore  time.Time  `json:"signs_from"`
	RetireAt   *time.Time `json:"published_until,omitempty"`
}

func (p *program) keysList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the signing keys of a project",
		Args:  needs(),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, _ []string) error {
			keys, err := d.db.Keys(ctx, one.ID)
			if err != nil {
				return err
			}
			list := describeKeys(keys, d.program.now())
			if d.json {
				return d.out.json(list)
			}
			if len(list) == 0 {
				d.out.line("No keys yet: a running server makes them within a second.   %s", d.out.green("postern serve"))
				return nil
			}
			var rows [][]string
			for _, k := range list {
				until := "no end yet"
				if k.RetireAt != nil {
					until = stamp(*k.RetireAt)
				}
				rows = append(rows, []string{d.out.bright(k.Algorithm), strconv.FormatInt(k.Generation, 10), k.State, stamp(k.CreatedAt), stamp(k.NotBefore), until, k.ID})
			}
			d.out.table([]string{"KEY", "GENERATION", "STATE", "PUBLISHED", "SIGNS FROM", "UNTIL", "ID"}, rows)
			return nil
		}),
	}
}

// describeKeys tells what each key does now: of an algorithm, the newest that
// may sign does.
func describeKeys(keys []signing.Key, now time.Time) []keyJSON {
	slices.SortFunc(keys, func(a, b signing.Key) int {
		return cmp.Or(cmp.Compare(a.Algorithm, b.Algorithm), cmp.Compare(b.Generation, a.Generation))
	})
	signs := map[signing.Algorithm]bool{}
	list := []keyJSON{}
	for _, k := range keys {
		j := keyJSON{ID: k.ID, Algorithm: string(k.Algorithm), Generation: k.Generation, CreatedAt: k.CreatedAt, NotBefore: k.NotBefore}
		if !k.RetireAt.IsZero() {
			j.RetireAt = &k.RetireAt
		}
		switch {
		case !k.RetireAt.IsZero() && !now.Before(k.RetireAt):
			j.State = "retired"
		case now.Before(k.NotBefore):
			j.State = "next"
		case signs[k.Algorithm]:
			j.State = "published"
		default:
			j.State, signs[k.Algorithm] = "signs", true
		}
		list = append(list, j)
	}
	return list
}

func (p *program) keysRotate() *cobra.Command {
	var hurry bool
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Make new signing keys; they sign after a day, and no token is refused",
		Long: `Make new signing keys. They are published at once and sign after a day, so that
everybody knows them by then; the old ones stay published until the last token
they signed has run out. A running server follows within a second.`,
		Args: needs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.ofProject(func(ctx context.Context, d *desk, one *project.Project, _ []string) error {
				data, err := p.dataOf(cmd, d.config)
				if err != nil {
					return err
				}
				opened, err := data.Open(ctx, false)
				if err != nil {
					return storageFault(err, data)
				}
				defer opened.Close()
				keys, err := signing.New(signing.Config{Store: opened.DB, Sealer: opened.Sealer, Now: p.now, MaxTokenLife: 24 * time.Hour})
				if err != nil {
					return err
				}
				var lead time.Duration
				if hurry {
					lead = signing.KeySetMaxAge
				}
				var made []signing.Key
				for _, alg := range []signing.Algorithm{signing.ES256, signing.RS256} {
					k, err := keys.Rotate(ctx, audit.Origin{Actor: audit.Operator}, one.ID, alg, lead)
					if err != nil {
						return advise(err, "postern keys list")
					}
					made = append(made, k)
				}
				if d.json {
					return d.out.json(describeKeys(made, p.now()))
				}
				for _, k := range made {
					d.out.line("%s %s key %s is published and signs from %s", d.out.ok(), d.out.bright(string(k.Algorithm)), k.ID, stamp(k.NotBefore))
				}
				return nil
			})(cmd, args)
		},
	}
	c.Flags().BoolVar(&hurry, "now", false, "let the new keys sign after five minutes, the time for which others keep a key set")
	return c
}
