package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/dev"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/store"
)

func (p *program) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check",
		Short: "Name every reason why \"postern serve\" would refuse this configuration",
		Args:  needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, problems := loadConfig(cmd.Flags(), os.LookupEnv)
			problems = append(problems, p.safe(cmd.Context(), c)...)
			if len(problems) > 0 {
				return &fault{problems: problems, next: settingsHelp}
			}
			p.out.line("%s the configuration is complete and safe", p.out.ok())
			return nil
		},
	}
	printing := &cobra.Command{
		Use:   "print",
		Short: "Print the configuration as it is after file, environment and flags; secrets are masked",
		Args:  needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			if asJSON {
				all := map[string]string{}
				for _, s := range c.settings() {
					all[s.key] = s.text()
				}
				return p.out.json(all)
			}
			var rows [][]string
			for _, s := range c.settings() {
				rows = append(rows, []string{s.key, p.out.bright(s.text()), p.out.dim(s.usage)})
			}
			p.out.table([]string{"SETTING", "VALUE", ""}, rows)
			return nil
		},
	}
	printing.Flags().Bool("json", false, "print JSON")
	for _, c := range []*cobra.Command{check, printing} {
		addFlags(c.Flags())
	}
	return group("config", "Check and print the configuration", check, printing)
}

// safe names every reason, in the configuration and in the data, why a server
// must not run like this (decision 36). It changes nothing.
func (p *program) safe(ctx context.Context, c Config) []string {
	problems := c.check()
	_, ofDev := dev.Issuer(c.Data)
	if ofDev = ofDev && c.Database == ""; ofDev {
		problems = append(problems, fmt.Sprintf("the folder %s belongs to postern dev; choose another with data", c.Data))
	}
	data := p.data(c)
	if err := data.CheckMasterKey(); err != nil {
		problems = append(problems, "master key: "+err.Error())
	}
	if c.TLS.Certificate != "" && c.TLS.Key != "" {
		if err := server.CheckCertificate(c.TLS.Certificate, c.TLS.Key); err != nil {
			problems = append(problems, "tls: "+err.Error())
		}
	}
	if data.Exists() && c.unsafeDatabase() == nil && !ofDev {
		problems = append(problems, p.unfit(ctx, data, c.Mail.Transport == "console")...)
	}
	return problems
}

// forDevelopment is what to do about a database that is not for serving.
const forDevelopment = "the database was made by postern dev; choose another with database or data"

// damagedDatabase begins what is said of a file that SQLite cannot read.
const damagedDatabase = "the database is damaged, so bring it back from a copy by postern restore --force FILE: "

// unfit names what in the data must not be served as it is. A database that
// cannot be read is a problem too; one that waits for a migration is not.
// console says that mails go to the log.
func (p *program) unfit(ctx context.Context, data server.Data, console bool) []string {
	config := store.Config{URL: data.Database, Now: p.now}
	if data.Database == "" {
		config.Path, config.ReadOnly = data.Path(), true
	}
	db, err := store.Open(ctx, config)
	if errors.Is(err, store.ErrCopy) {
		return []string{"the database is a copy that was not restored; run: postern restore --already-restored"}
	}
	if errors.Is(err, store.ErrDamaged) {
		return []string{damagedDatabase + err.Error()}
	}
	if err != nil {
		return []string{"database: " + err.Error()}
	}
	defer db.Close()
	err = db.CheckSchema(ctx)
	if errors.Is(err, store.ErrSchemaOld) {
		return nil
	}
	if errors.Is(err, store.ErrDamaged) {
		return []string{damagedDatabase + err.Error()}
	}
	if err != nil {
		return []string{"database: " + err.Error()}
	}
	purpose, err := db.Purpose(ctx)
	if err != nil {
		return []string{"database: " + err.Error()}
	}
	if purpose == store.Development {
		return []string{forDevelopment}
	}
	all, err := db.Projects(ctx)
	if err != nil {
		return []string{"database: " + err.Error()}
	}
	var problems []string
	for _, one := range all {
		problems = append(problems, server.Unfit(one.Name, one.Issuer, console)...)
	}
	return problems
}
