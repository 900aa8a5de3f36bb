package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/dev"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/store"
)

func (p *program) backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the SQLite database into a new file, while the server runs",
		Long: `Copy the SQLite database into a new file, while the server runs. The copy is as the
database was at one moment, is checked from end to end, and is put in place by
"postern restore". It does not have the master key: keep that apart from it.

PostgreSQL has tools of its own; docs/guide/deploy.md says how to use them.`,
		Args: needs("the FILE to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, data, err := p.config(cmd)
			if err != nil {
				return err
			}
			if err := data.Backup(cmd.Context(), args[0]); err != nil {
				return backupFault(err, data, args[0])
			}
			info, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return p.out.json(map[string]any{"file": args[0], "bytes": info.Size()})
			}
			p.out.line("%s copied to %s (%d kB), and checked from end to end", p.out.ok(), p.out.bright(args[0]), (info.Size()+1023)/1024)
			p.out.line("%s the master key is not in it. Keep a copy of %s, apart from this one: without the key no copy can be served.", p.out.amber("note"), keyPlace(c))
			return nil
		},
	}
	c.Flags().Bool("json", false, "print JSON")
	return c
}

// config reads the settings of a command and says where its data is.
func (p *program) config(cmd *cobra.Command) (Config, server.Data, error) {
	c, err := load(cmd)
	if err != nil {
		return c, server.Data{}, err
	}
	data, err := p.dataOf(cmd, c)
	return c, data, err
}

// keyPlace says where the master key is.
func keyPlace(c Config) string {
	switch {
	case c.MasterKey != "":
		return "the value of POSTERN_MASTER_KEY"
	case c.MasterKeyFile != "":
		return c.MasterKeyFile
	}
	return filepath.Join(c.Data, "master.key")
}

// forDump and forLoad are what PostgreSQL's own tools are told.
const (
	forDump = `pg_dump --format=custom --no-owner --file=postern.dump "$POSTERN_DATABASE"`
	forLoad = `pg_restore --no-owner --exit-on-error --dbname="$POSTERN_DATABASE" postern.dump && postern restore --already-restored`
)

func backupFault(err error, data server.Data, file string) error {
	switch {
	case errors.Is(err, store.ErrNoFile):
		return wrong(forDump, "the database is PostgreSQL, which has its own tool for copies")
	case errors.Is(err, store.ErrPurpose):
		return wrong("postern backup --data DIR "+file, "%s belongs to postern dev, and is not for keeping", data.Folder)
	case errors.Is(err, fs.ErrExist):
		return wrong("choose another name", "%s is there already, and is not overwritten", file)
	}
	return copyFault(err, data, data.Path())
}

// copyFault says what is wrong with a file that should hold a database.
func copyFault(err error, data server.Data, file string) error {
	switch {
	case errors.Is(err, store.ErrDamaged):
		return wrong("use another copy", "%s is damaged, or is no SQLite database", file)
	case errors.Is(err, store.ErrForeign):
		return wrong("name a file that postern backup made", "%s is no database of Postern", file)
	case errors.Is(err, store.ErrInUse):
		return wrong("postern backup --data "+filepath.Dir(file)+" COPY", "%s is a database in use, with changes in a second file beside it; only a copy can be restored", file)
	case errors.Is(err, fs.ErrNotExist):
		return wrong("name a file that postern backup made", "%s", plain(err))
	}
	return storageFault(err, data)
}

func (p *program) restoreCommand() *cobra.Command {
	var force, already, yes bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a copy of the database in its place, and end what may have been used since",
		Long: `Put a copy of the SQLite database in its place, while no server runs. The file is
checked from end to end and opened with the master key before anything changes.
A database that is there stays, under another name, and has to be replaced by
--force.

Nobody can tell what was used or revoked after the copy was made. So codes,
one-time links, sign-ins, sessions and every token of every connected app end:
people sign in again, and apps ask again. Users, organizations, apps, what people
allowed, keys, settings and the audit trail are those of the copy.

With --already-restored the same ends in a database that is in place: one that
pg_restore wrote, or a standby that was behind when it was promoted.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if already {
				return needs()(cmd, args)
			}
			return needs("the FILE that postern backup made")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, data, err := p.config(cmd)
			if err != nil {
				return err
			}
			if _, isDev := dev.Issuer(data.Folder); isDev && data.Database == "" {
				return wrong(cmd.CommandPath()+" --data DIR FILE", "the folder %s belongs to postern dev", data.Folder)
			}
			asJSON, _ := cmd.Flags().GetBool("json")
			var done server.Restored
			if already {
				if !yes {
					p.err.line("Everybody is signed out, and every connected app has to ask again.")
					if err := p.ask(cmd, !asJSON); err != nil {
						if f, ok := errors.AsType[*fault](err); ok {
							f.next = cmd.CommandPath() + " --already-restored --yes"
						}
						return err
					}
				}
				done, err = data.Restarted(cmd.Context())
			} else {
				done, err = data.Restore(cmd.Context(), args[0], force)
			}
			if err != nil {
				return restoreFault(err, data, args)
			}
			if asJSON {
				return p.out.json(describeRestored(done))
			}
			p.restored(done, already)
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace the database that is there; it stays under another name")
	c.Flags().BoolVar(&already, "already-restored", false, "the database is in place: end what may have been used since")
	c.Flags().BoolVar(&yes, "yes", false, "with --already-restored: do not ask")
	c.Flags().Bool("json", false, "print JSON")
	return c
}

func (p *program) restored(done server.Restored, already bool) {
	if already {
		p.out.line("%s the database begins anew; the master key opens it", p.out.ok())
	} else {
		p.out.line("%s the copy is in place; it was checked from end to end, and the master key opens it", p.out.ok())
	}
	p.out.line("")
	facts := [][2]string{
		{"Newest event", stampOr(done.Until, "none")},
		{"Ended", fmt.Sprintf("authorizations of connected apps: %d", done.Authorizations)},
		{"", fmt.Sprintf("sessions of people: %d, of administrators: %d", done.Sessions, done.AdministratorSessions)},
		{"", fmt.Sprintf("codes of apps: %d, sign-ins under way: %d, one-time links: %d", done.Codes, done.SignIns, done.AdministratorLinks)},
	}
	if done.Aside != "" {
		facts = append(facts, [2]string{"Before it", done.Aside})
	}
	p.out.facts(facts...)
	p.out.line("")
	p.out.line("What was changed after that event is lost: do again what shut somebody out, and what took a secret or a key away.")
	p.out.line("%s   %s", p.out.dim("Next"), p.out.green("postern serve, then: postern doctor"))
}

func stampOr(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return stamp(t) + " UTC"
}

// restoredJSON is a restore for programs.
type restoredJSON struct {
	NewestEvent           *time.Time `json:"newest_event,omitempty"`
	Authorizations        int        `json:"ended_authorizations"`
	Sessions              int        `json:"ended_sessions"`
	AdministratorSessions int        `json:"ended_administrator_sessions"`
	AdministratorLinks    int        `json:"ended_administrator_links"`
	Codes                 int        `json:"ended_codes"`
	SignIns               int        `json:"ended_sign_ins"`
	Aside                 string     `json:"before,omitempty"` // the file of the database that was there
}

func describeRestored(done server.Restored) restoredJSON {
	j := restoredJSON{
		Authorizations: done.Authorizations, Sessions: done.Sessions, AdministratorSessions: done.AdministratorSessions,
		AdministratorLinks: done.AdministratorLinks, Codes: done.Codes, SignIns: done.SignIns, Aside: done.Aside,
	}
	if !done.Until.IsZero() {
		j.NewestEvent = &done.Until
	}
	return j
}

func restoreFault(err error, data server.Data, args []string) error {
	file := data.Path()
	if len(args) > 0 {
		file = args[0]
	}
	switch {
	case errors.Is(err, store.ErrNoFile):
		return wrong(forLoad, "the database is PostgreSQL, which has its own tool for this")
	case errors.Is(err, store.ErrOpen):
		return wrong("end it, and restore again", "another command has %s open", data.Path())
	case errors.Is(err, server.ErrDataThere):
		return wrong("postern restore --force "+file, "there is a database in %s; with --force it is kept under another name", data.Folder)
	case errors.Is(err, store.ErrPurpose):
		return wrong("name a copy of a server's database", "%s was made by postern dev", file)
	}
	return copyFault(err, data, file)
}
