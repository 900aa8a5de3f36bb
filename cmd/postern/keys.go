package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

func (p *program) keysCommand() *cobra.Command {
	list, rotate, compromise := p.keysList(), p.keysRotate(), p.keysCompromise()
	for _, c := range []*cobra.Command{list, rotate, compromise} {
		c.Flags().String("project", "", "which project, by id or issuer; not needed when there is one")
	}
	c := group("keys", "Look at the signing keys, rotate them or take one out, and replace the master key", list, rotate, compromise, p.keysRewrap())
	c.PersistentFlags().Bool("json", false, "print JSON")
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
				keys, closeKeys, err := d.signingKeys(cmd)
				if err != nil {
					return err
				}
				defer closeKeys()
				var lead time.Duration
				if hurry {
					lead = signing.KeySetMaxAge
				}
				there, err := keys.All(ctx, one.ID)
				if err != nil {
					return err
				}
				for _, alg := range signing.Algorithms() { // before one is rotated, and not the other
					if !slices.ContainsFunc(there, func(k signing.Key) bool { return k.Algorithm == alg }) {
						return wrong("postern serve", "there is no %s key yet; a running server makes it within a second", alg)
					}
				}
				var made []signing.Key
				for _, alg := range signing.Algorithms() {
					k, err := keys.Rotate(ctx, audit.Origin{Actor: audit.Operator}, one.ID, alg, lead)
					if errors.Is(err, signing.ErrConflict) {
						return wrong("postern keys list", "somebody else made an %s key at the same moment; look whether that one is enough", alg)
					}
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

func (p *program) keysCompromise() *cobra.Command {
	var kid string
	c := &cobra.Command{
		Use:   "compromise --kid KEY_ID",
		Short: "Take a signing key out at once, because somebody else may have it",
		Long: `Take a signing key out at once, because somebody else may have it. Every token it
signed ends: a running server refuses it within a second, an MCP server that
verifies by itself within five minutes, for which others keep a key set. A new key
signs from now on. Nobody is signed out: apps get new tokens with their refresh
tokens. Other keys stay; "postern keys list" names them.`,
		Args: needs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kid == "" {
				return misused(cmd, "%s needs --kid with the id of a key; see: postern keys list", cmd.CommandPath())
			}
			return p.ofProject(func(ctx context.Context, d *desk, one *project.Project, _ []string) error {
				keys, closeKeys, err := d.signingKeys(cmd)
				if err != nil {
					return err
				}
				defer closeKeys()
				next, err := keys.Compromise(ctx, audit.Origin{Actor: audit.Operator}, one.ID, kid)
				if errors.Is(err, signing.ErrNotFound) {
					return wrong("postern keys list", "%s has no signing key %s", one.Name, kid)
				}
				if errors.Is(err, signing.ErrConflict) {
					return wrong(cmd.CommandPath()+" --kid "+kid, "somebody else made a key at the same moment; do it again")
				}
				if err != nil {
					return advise(err, "postern keys list")
				}
				if d.json {
					made := []signing.Key{}
					if next.ID != "" {
						made = append(made, next)
					}
					return d.out.json(compromisedJSON{kid, describeKeys(made, p.now())})
				}
				d.out.line("%s key %s is out: every token that it signed ends", d.out.ok(), kid)
				switch {
				case next.ID == "":
					d.out.line("A newer key signs already.")
				case next.NotBefore.After(p.now()):
					d.out.line("%s %s key %s takes its place and signs from %s", d.out.ok(), d.out.bright(string(next.Algorithm)), next.ID, stamp(next.NotBefore))
				default:
					d.out.line("%s %s key %s signs from now on", d.out.ok(), d.out.bright(string(next.Algorithm)), next.ID)
				}
				d.out.line("A running server follows within a second, an MCP server that verifies by itself within five minutes.")
				return nil
			})(cmd, args)
		},
	}
	// A flag, for the id may begin with a hyphen, which would make one of it.
	c.Flags().StringVar(&kid, "kid", "", "id of the key")
	return c
}

// compromisedJSON is a key that was taken out, for programs.
type compromisedJSON struct {
	Out  string    `json:"out"`
	Made []keyJSON `json:"made"` // what takes its place, if anything has to
}

// signingKeys opens the data once more, with the master key, for new signing keys.
func (d *desk) signingKeys(cmd *cobra.Command) (keys *signing.Keys, closeKeys func(), err error) {
	opened, err := d.withKey(cmd)
	if err != nil {
		return nil, nil, err
	}
	closeKeys = func() { _ = opened.Close() } // every change was committed
	keys, err = signing.New(signing.Config{Store: opened.DB, Sealer: opened.Sealer, Now: d.program.now, MaxTokenLife: 24 * time.Hour})
	if err != nil {
		closeKeys()
		return nil, nil, err
	}
	return keys, closeKeys, nil
}

func (p *program) keysRewrap() *cobra.Command {
	c := &cobra.Command{
		Use:   "rewrap",
		Short: "Replace the master key: seal everything under the new one that the old one sealed",
		Long: `Replace the master key: seal everything under the new one that the old one sealed.
master_key_file (or POSTERN_MASTER_KEY) is the new key, old_master_key_file the
one before. Servers run with both meanwhile; start them with both first. The work
may be ended at any moment and run again. docs/guide/deploy.md has the steps.`,
		Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, data, err := p.config(cmd)
			if err != nil {
				return err
			}
			if data.OldMasterKey == "" && data.OldMasterKeyFile == "" {
				return wrong("postern keys rewrap --old-master-key-file FILE", "the old master key is not named")
			}
			done, err := data.Rewrap(cmd.Context(), func(int) error { return cmd.Context().Err() })
			if err != nil {
				return storageFault(err, data)
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				err := p.out.json(rewrappedJSON{done.Moved, done.Done(), append([]string{}, done.Damaged...), append([]string{}, done.Foreign...)})
				if err == nil && !done.Done() {
					err = errReported
				}
				return err
			}
			if !done.Done() {
				return &fault{
					problems: append(named("is sealed under a third master key", done.Foreign), "the old key is still needed"),
					next:     "postern keys rewrap, with that key as the old one",
				}
			}
			p.out.line("%s values sealed anew: %d; nothing is left that needs the old master key", p.out.ok(), done.Moved)
			for _, line := range named("is damaged, no key opens it, and it stays as it is", done.Damaged) {
				p.out.line("%s %s", p.out.amber("note"), line)
			}
			p.out.line("Keep the old key with the copies that were made until now. Codes of sign-in that are under way have to be asked for again.")
			p.out.line("%s   %s", p.out.dim("Next"), p.out.green("take old_master_key_file out of the settings, and start the servers again"))
			return nil
		},
	}
	addFlags(c.Flags(), "master_key_file", "old_master_key_file")
	return c
}

// rewrappedJSON is a replaced master key for programs.
type rewrappedJSON struct {
	Resealed int      `json:"resealed"`
	Done     bool     `json:"done"`      // the old key is needed for nothing here
	Damaged  []string `json:"damaged"`   // where values are that no key opens
	OtherKey []string `json:"other_key"` // where values are that a third key sealed
}

// named says the same of the first few places.
func named(what string, places []string) []string {
	var lines []string
	for i, place := range places {
		if i == 5 {
			lines = append(lines, "and "+strconv.Itoa(len(places)-i)+" more")
			break
		}
		lines = append(lines, place+" "+what)
	}
	return lines
}
