package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/dev"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// desk is what a set-up command works with: the operations on the data, beside
// a server that may be running.
type desk struct {
	out      terminal
	json     bool
	config   Config
	current  string // issuer of the project that dev runs, "" elsewhere
	program  *program
	projects *project.Setup
	clients  *oauth.Setup
	people   *identity.People
	db       *store.DB
	close    func()
}

// data is what the settings say of the data.
func (p *program) data(c Config) server.Data {
	return server.Data{
		Folder: c.Data, Database: c.Database, Connections: c.Connections, MasterKey: c.MasterKey, MasterKeyFile: c.MasterKeyFile,
		OldMasterKey: c.OldMasterKey, OldMasterKeyFile: c.OldMasterKeyFile, Now: p.now,
	}
}

// dataOf says where the data is. Without --data or POSTERN_DATA it is the
// folder "data", or the one of "postern dev" if only that is there, so that the
// set-up commands find what runs beside them. A database that the server would
// not open, as one that is spoken to in clear, is not opened by commands either.
func (p *program) dataOf(cmd *cobra.Command, c Config) (server.Data, error) {
	d := p.data(c)
	if err := c.unsafeDatabase(); err != nil {
		return d, err
	}
	_, fromEnvironment := os.LookupEnv("POSTERN_DATA")
	_, isDev := dev.Issuer(dev.FolderName)
	if c.Data != Defaults().Data || c.Database != "" || fromEnvironment || cmd.Flags().Changed("data") || !isDev {
		return d, nil
	}
	if d.Exists() {
		return d, wrong(cmd.CommandPath()+" --data "+dev.FolderName,
			"there are two data folders here, %s and %s; name one", c.Data, dev.FolderName)
	}
	d.Folder = dev.FolderName
	return d, nil
}

// newDesk opens the data. With create it may make it, for the first project of
// an empty folder.
func (p *program) newDesk(cmd *cobra.Command, create bool) (*desk, error) {
	c, err := load(cmd)
	if err != nil {
		return nil, err
	}
	d := &desk{out: p.out, config: c, program: p}
	d.json, _ = cmd.Flags().GetBool("json")
	data, err := p.dataOf(cmd, c)
	if err != nil {
		return nil, err
	}
	d.current, _ = dev.Issuer(data.Folder)
	if create && !data.Exists() {
		opened, err := p.open(cmd.Context(), data, false)
		if err != nil {
			return nil, err
		}
		d.db = opened.DB
	} else if d.db, err = data.OpenBeside(cmd.Context()); err != nil {
		return nil, storageFault(err, data)
	}
	d.close = func() { _ = d.db.Close() } // every change was committed
	if err := d.db.CheckSchema(cmd.Context()); err != nil {
		d.close()
		return nil, storageFault(err, data)
	}
	d.projects = project.NewSetup(d.db, p.now)
	d.clients = oauth.NewSetup(d.db, p.now)
	if d.people, err = identity.New(identity.Config{Store: d.db, Now: p.now}); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// withKey opens the data once more, with the master key.
func (d *desk) withKey(cmd *cobra.Command) (*server.Storage, error) {
	data, err := d.program.dataOf(cmd, d.config)
	if err != nil {
		return nil, err
	}
	return d.program.open(cmd.Context(), data, false)
}

// open opens the data with its master key, and says where that is when it is new.
func (p *program) open(ctx context.Context, data server.Data, lock bool) (*server.Storage, error) {
	opened, err := data.Open(ctx, lock)
	if err != nil {
		return nil, storageFault(err, data)
	}
	if opened.NewKey != "" {
		p.err.line("%s made the master key %s; keep a copy of it apart from the database", p.err.amber("once"), opened.NewKey)
	}
	return opened, nil
}

// atDesk makes a command's function of one that works at a desk.
func (p *program) atDesk(do func(ctx context.Context, d *desk, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		d, err := p.newDesk(cmd, false)
		if err != nil {
			return err
		}
		defer d.close()
		return do(cmd.Context(), d, args)
	}
}

// project finds the project a command is about: the one named by id or issuer,
// else the one that dev runs, else the only one.
func (d *desk) project(ctx context.Context, ref ...string) (*project.Project, error) {
	name := strings.Join(ref, "")
	if name == "" {
		name = d.current
	}
	p, err := d.projects.Find(ctx, name)
	if err == nil {
		return p, nil
	}
	all, allErr := d.projects.All(ctx)
	switch {
	case allErr != nil:
		return nil, allErr
	case len(all) == 0:
		return nil, wrong(`postern project create "My project"`, "there is no project yet")
	}
	return nil, advise(err, "postern project list")
}

// event begins the audit event of what an operator does here.
func (d *desk) event(p *project.Project, kind audit.Kind, object string) audit.Event {
	return audit.Origin{Actor: audit.Operator}.Event(p.ID, d.program.now(), kind, object)
}

// sentinels are errors whose own words are for programmers.
func sentinels() []error {
	return []error{project.ErrNotFound, project.ErrConflict, project.ErrTaken, oauth.ErrNotFound, oauth.ErrConflict, identity.ErrNotFound}
}

// advise makes a sentence of an operation's error and adds what to do.
func advise(err error, next string) error {
	var f *fault
	if errors.As(err, &f) {
		return err
	}
	var problem project.Problem
	if errors.As(err, &problem) {
		return &fault{problems: strings.Split(string(problem), "\n"), next: next}
	}
	text := err.Error()
	for _, s := range sentinels() {
		text = strings.TrimPrefix(text, s.Error()+": ")
	}
	if errors.Is(err, project.ErrConflict) {
		text = "another project has this host, or somebody changed the project at the same moment"
	}
	return wrong(next, "%s", text)
}

// storageFault says what to do about data that cannot be opened.
func storageFault(err error, data server.Data) error {
	var locked *store.Locked
	switch {
	case errors.Is(err, server.ErrNoData):
		folder, absErr := filepath.Abs(data.Folder)
		if absErr != nil {
			folder = data.Folder
		}
		return wrong(`postern project create "My project"`, "there is no data in %s yet", folder)
	case errors.As(err, &locked):
		return wrong("stop it, or choose another folder with --data", "%s", err)
	case errors.Is(err, server.ErrEmptied):
		return wrong("postern restore --force FILE, or delete the empty file to begin anew", "%s is empty, and the master key beside it is that of a database that was not", data.Path())
	case errors.Is(err, store.ErrDamaged):
		return wrong("postern restore --force FILE", "%s is damaged, or no SQLite database: %s", data.Path(), err)
	case errors.Is(err, store.ErrSchemaOld):
		return wrong("postern migrate", "the database is older than this binary")
	case errors.Is(err, store.ErrCopy):
		return wrong("postern restore --already-restored", "%s is a copy that postern backup made; what it holds may have been used since, so it has to be restored first", data.Path())
	case errors.Is(err, signing.ErrWrongMasterKey):
		return wrong("give the key of that time by POSTERN_MASTER_KEY_FILE, or beside a newer one by POSTERN_OLD_MASTER_KEY_FILE", "the master key is not the one that the database was written with")
	case errors.Is(err, store.ErrPurpose):
		return wrong(settingsHelp, forDevelopment)
	case errors.Is(err, store.ErrSchemaNew):
		return wrong("install the newer postern", "the database is newer than this binary")
	}
	return wrong("postern doctor", "%s", err)
}
