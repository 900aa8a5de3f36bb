package main

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/dev"
	"github.com/postern-id/postern/internal/server"
)

func (p *program) serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the authorization server",
		Long: `Run the authorization server. An empty folder is enough to begin with: on this
computer "postern serve --mail-transport console" runs, and the other commands
set it up while it does. It refuses to run with an unsafe configuration and
names every reason at once. See docs/guide/configuration.md.`,
		Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, problems := loadConfig(cmd.Flags(), os.LookupEnv)
			problems = append(problems, p.safe(cmd.Context(), config)...)
			if len(problems) > 0 {
				return &fault{problems: problems, next: settingsHelp}
			}
			return p.serve(cmd.Context(), config)
		},
	}
	addFlags(c.Flags())
	return c
}

// settingsHelp is what to do about a configuration.
const settingsHelp = "postern config print shows every setting, docs/guide/configuration.md explains them"

// serve runs a server with a configuration that was found safe.
func (p *program) serve(ctx context.Context, c Config) error {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		// Requests leave much that is soon forgotten. What is never touched takes no
		// memory, but counts: garbage is collected when there are 64 MiB more of it.
		defer runtime.KeepAlive(make([]byte, 64<<20))
	}
	log, flush := newLog(p.err, c.Log)
	defer flush()
	data := p.data(c)
	opened, err := p.open(ctx, data, true)
	if err != nil {
		return err
	}
	defer opened.Close()
	proxies, _ := c.proxies(new([]string))
	config := server.Config{
		Storage: opened, URL: c.URL, Proxies: proxies, Certificate: c.TLS.Certificate, Key: c.TLS.Key, Migrate: c.Migrate,
		Log: log, Now: p.now, Version: version(),
	}
	if c.Mail.Transport == "console" {
		config.Mail = server.ConsoleMail{Log: log}
	} else if config.Mail, err = server.NewSMTP(server.SMTP{
		Host: c.Mail.Host, Port: c.Mail.Port, Security: c.Mail.Security, Username: c.Mail.Username, Password: c.Mail.Password,
		From: c.Mail.From, FromName: c.Mail.FromName, Now: p.now,
	}); err != nil {
		return wrong("postern config check", "mail: %s", err)
	}
	s, err := server.Open(ctx, config)
	var unsafe *server.Unsafe
	if errors.As(err, &unsafe) {
		return &fault{problems: unsafe.Problems, next: "postern project list"}
	}
	if err != nil {
		return storageFault(err, data)
	}
	listeners, err := server.Listen(c.Listen...)
	if err != nil {
		return takenFault(err, "POSTERN_LISTEN")
	}
	p.greet(ctx, c, opened, listeners)
	return s.Run(ctx, listeners)
}

// greet says where the server is, and in an empty one what to do next.
func (p *program) greet(ctx context.Context, c Config, opened *server.Storage, listeners []net.Listener) {
	var open []string // perhaps fewer than were asked for
	for _, l := range listeners {
		open = append(open, l.Addr().String())
	}
	p.err.line("%s listens on %s", p.err.bright("Postern "+version()), strings.Join(open, ", "))
	projects, err := opened.DB.Projects(ctx)
	if err != nil {
		return // a database that waits for its migration; the log says so
	}
	for _, one := range projects {
		p.err.line("%s   %s", one.Name, one.Issuer)
		if one.Secure() && c.TLS.Certificate == "" && len(c.BehindProxy) == 0 {
			p.err.line("%s   this issuer is https, but nothing here speaks TLS and no proxy is named: set behind_proxy", p.err.amber("note"))
		}
	}
	if link, _, err := firstLink(ctx, opened.DB, c.URL, p.now); err == nil && link != "" {
		p.err.line("Nobody looks after this deployment yet. Whoever opens this link within 24 hours is its first administrator:")
		p.err.line("%s", p.err.amber(link))
	}
	if len(projects) == 0 {
		p.err.line("There is no project yet. Make one on the dashboard, or in another terminal:")
		create := `postern project create "My project"`
		if c.URL != Defaults().URL {
			create += " --issuer " + c.URL
		}
		p.err.line("%s", p.err.green(create))
		p.err.line("%s", p.err.green("postern resource add https://notes.example.com/mcp"))
	}
}

// takenFault names who has a port, where the system tells it.
func takenFault(err error, variable string) error {
	var taken *server.Taken
	if !errors.As(err, &taken) {
		return wrong("choose another address with "+variable, "%s", err)
	}
	owner := dev.PortOwner(taken.Port)
	if owner == "" {
		owner = "another program"
	}
	return wrong("end it, or choose another with "+variable, "port %d is taken by %s", taken.Port, owner)
}
