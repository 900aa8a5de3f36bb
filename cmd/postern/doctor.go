package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/doctor"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/store"
)

func (p *program) doctorCommand() *cobra.Command {
	walk := doctor.WalkConfig{Client: &http.Client{Timeout: 10 * time.Second}, Now: p.now}
	tokenFile := ""
	c := &cobra.Command{
		Use:   "doctor [ISSUER]…",
		Short: "Find out what is wrong, from outside and from here",
		Long: `Look at the database, the master key, the mail server and the configuration of
this side, then play a client: ask every project's issuer for its metadata and
keys and compare them with what the specifications demand. Exit status 1 when
something is wrong. With ISSUER only that is asked, from anywhere.

With --mcp-url play an MCP client before any MCP server, whoever made it and
its authorization server, up to the sign-in, and name the first thing that is
wrong, whose turn it is and what to do:

  postern doctor --mcp-url https://notes.example.com/mcp`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			asked := cmd.Flags().Changed("mcp-url")
			switch {
			case asked && len(args) > 0:
				return misused(cmd, "give --mcp-url or issuers, not both")
			case asked:
				return p.walk(cmd, walk, tokenFile, asJSON)
			case walk.Register || tokenFile != "":
				return misused(cmd, "--register and --token-file go with --mcp-url")
			}
			issuers := args
			look := doctor.Config{Issuers: func() []string { return issuers }, Client: walk.Client, Now: p.now}
			if len(args) == 0 {
				c, err := load(cmd)
				if err != nil {
					return err
				}
				data, err := p.dataOf(cmd, c)
				if err != nil {
					return err
				}
				look.Probes = p.probes(c, data, &issuers)
			}
			results, err := doctor.Run(cmd.Context(), look)
			if err != nil {
				return err
			}
			return p.diagnosis(results, asJSON)
		},
	}
	addFlags(c.Flags())
	c.Flags().Bool("json", false, "print JSON")
	c.Flags().StringVar(&walk.URL, "mcp-url", "", "an MCP server to look at, by the URL that clients are given")
	c.Flags().BoolVar(&walk.Register, "register", false, "with --mcp-url: also register a client, which stays at the authorization server")
	c.Flags().StringVar(&tokenFile, "token-file", "", "with --mcp-url: a file with an access token to call the server with; - is standard input")
	return c
}

// walk plays a client before one MCP server. A token comes by a file: others
// can read a command line.
func (p *program) walk(cmd *cobra.Command, c doctor.WalkConfig, tokenFile string, asJSON bool) error {
	if tokenFile != "" {
		token, err := readToken(cmd.InOrStdin(), tokenFile)
		if err != nil {
			return wrong("postern doctor --help", "%s: %s", printable(tokenFile), err)
		}
		c.Token = token
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute) // slow servers, each within its own limit
	defer cancel()
	results, err := doctor.Walk(ctx, c)
	if err != nil {
		return err
	}
	if err := p.diagnosis(results, asJSON); err != nil || asJSON {
		return err
	}
	p.out.line("")
	p.out.line("%s", p.out.dim("Nothing is wrong as far as this went. --register tries a registration, --token-file a call."))
	return nil
}

// maxToken bounds what is read of a token, in bytes.
const maxToken = 64 << 10

func readToken(stdin io.Reader, file string) (string, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", errors.New("the file cannot be read")
		}
		defer f.Close()
		stdin = f
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxToken+1))
	token := strings.TrimSpace(string(text))
	switch {
	case err != nil:
		return "", errors.New("it cannot be read")
	case token == "" || len(text) > maxToken || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "", errors.New("there is no access token in it, and nothing else may be")
	}
	return token, nil
}

// diagnosis prints results. What a server wrote is in them.
func (p *program) diagnosis(results []doctor.Result, asJSON bool) error {
	var verdict error
	for i := range results {
		r := &results[i]
		r.Subject, r.Seen, r.Fix = printable(r.Subject), printable(r.Seen), printable(r.Fix)
		for j := range r.Notes {
			r.Notes[j] = printable(r.Notes[j])
		}
		if !r.OK {
			verdict = errReported
		}
	}
	if asJSON {
		if err := p.out.json(results); err != nil {
			return err
		}
		return verdict
	}
	subject := ""
	for _, r := range results {
		if r.Subject != subject {
			if subject != "" {
				p.out.line("")
			}
			subject = r.Subject
			p.out.line("%s", p.out.bright(subject))
		}
		sign := fmt.Sprintf("%-4s", "ok")
		if p.out.color {
			sign = p.out.ok()
		}
		if !r.OK {
			sign = p.out.fail()
		}
		p.out.line("%s   %-11s   %s", sign, r.Check, r.Seen)
		below := strings.Repeat(" ", width(sign)+17)
		if !r.OK && r.Fix != "" {
			fix := p.out.green(r.Fix)
			if r.Turn != "" {
				fix = p.out.dim("The "+string(r.Turn)+"'s turn:") + " " + fix
			}
			p.out.line("%s%s", below, fix)
		}
		for _, note := range r.Notes {
			p.out.line("%s%s %s", below, p.out.amber("note"), note)
		}
	}
	return verdict
}

// probes looks at this side. The database's look finds the issuers.
func (p *program) probes(c Config, data server.Data, issuers *[]string) []doctor.Probe {
	all := []doctor.Probe{
		{Check: "database", Fix: "postern migrate, or postern restore", Look: func(ctx context.Context) (string, error) {
			return p.lookAtDatabase(ctx, data, issuers)
		}},
		{Check: "master key", Fix: "give the file that was made with the database, readable by postern alone (chmod 600)", Look: func(context.Context) (string, error) {
			if err := data.CheckMasterKey(); err != nil {
				return "", err
			}
			return "can be read, by postern alone", nil
		}},
	}
	if data.Folder == c.Data { // not the data of "postern dev", which needs no settings
		all = append(all, doctor.Probe{Check: "settings", Fix: "postern config check", Look: func(ctx context.Context) (string, error) {
			if problems := p.safe(ctx, c); len(problems) > 0 {
				return "", fmt.Errorf("the first of %d: %s", len(problems), problems[0])
			}
			return "complete and safe", nil
		}}, doctor.Probe{Check: "mail", Fix: "compare mail.host, mail.port and mail.security with what your mail provider says", Look: func(ctx context.Context) (string, error) {
			return lookAtMail(ctx, c.Mail)
		}})
	}
	return all
}

func (p *program) lookAtDatabase(ctx context.Context, data server.Data, issuers *[]string) (string, error) {
	if !data.Exists() {
		return "", fmt.Errorf("there is no data in %s", data.Folder)
	}
	config := store.Config{URL: data.Database, Now: p.now}
	if data.Database == "" {
		config.Path, config.ReadOnly = data.Path(), true
	}
	db, err := store.Open(ctx, config)
	if err != nil {
		return "", err
	}
	defer db.Close()
	if err := db.Ping(ctx); err != nil {
		return "", err
	}
	have, _, err := db.SchemaVersion(ctx)
	if err == nil {
		err = db.CheckSchema(ctx)
	}
	if err != nil {
		return "", err
	}
	skew, err := db.ClockSkew(ctx)
	if err != nil {
		return "", err
	}
	if skew.Abs() > doctor.ClockTolerance {
		return "", fmt.Errorf("its clock is %s away from this computer's", skew.Abs().Truncate(time.Second))
	}
	all, err := db.Projects(ctx)
	if err != nil {
		return "", err
	}
	for _, one := range all {
		*issuers = append(*issuers, one.Issuer)
	}
	kind := "PostgreSQL"
	if db.SQLite() {
		kind = "SQLite"
	}
	return fmt.Sprintf("%s, schema version %d, projects: %d", kind, have, len(all)), nil
}

// lookAtMail connects to the mail server and reads its greeting. It logs in
// nowhere and sends nothing.
func lookAtMail(ctx context.Context, c Mail) (string, error) {
	if c.Transport == "console" {
		return "codes are written to the log; for this computer only", nil
	}
	if c.Host == "" {
		return "", errors.New("no mail server is set")
	}
	address := net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
	dial := (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	if c.Security == "implicit" {
		dial = (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}}).DialContext
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("%s does not answer", address)
	}
	defer conn.Close()
	greeting := make([]byte, 3)
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Read(greeting); err != nil || string(greeting) != "220" {
		return "", fmt.Errorf("%s does not greet as a mail server", address)
	}
	return address + " greets as a mail server", nil
}
