package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/store"
)

func (p *program) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database up to date with this binary",
		Long: `Bring the database up to date with this binary. Safe to run while servers of the
version before are serving, and twice at once. On SQLite "postern serve" does
this by itself.`,
		Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			data, err := p.dataOf(cmd, c)
			if err != nil {
				return err
			}
			if !data.Exists() {
				return wrong(`postern serve, or: postern project create "My project"`, "there is no database in %s yet; it is made when something is kept", data.Folder)
			}
			db, err := data.OpenToMigrate(cmd.Context())
			if err != nil {
				return storageFault(err, data)
			}
			defer db.Close()
			before, _, err := db.SchemaVersion(cmd.Context())
			if err != nil {
				return storageFault(err, data)
			}
			if err := db.CheckSchema(cmd.Context()); errors.Is(err, store.ErrSchemaNew) {
				return storageFault(err, data)
			}
			if err := db.Migrate(cmd.Context()); err != nil {
				return storageFault(err, data)
			}
			after, _, err := db.SchemaVersion(cmd.Context())
			if err != nil {
				return storageFault(err, data)
			}
			if before == after {
				p.out.line("%s the database is up to date, version %s", p.out.ok(), strconv.FormatInt(after, 10))
				return nil
			}
			p.out.line("%s migrated from version %d to %d", p.out.ok(), before, after)
			return nil
		},
	}
}
