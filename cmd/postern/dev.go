package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/dev"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/store"
)

func (p *program) devCommand() *cobra.Command {
	var authority, policy string
	c := &cobra.Command{
		Use:   "dev [-- COMMAND ARGUMENT… [-- COMMAND ARGUMENT…]]",
		Short: "Run everything on this computer, with nothing to set",
		Long: `Run everything on this computer, with nothing to set: mail is caught, http is
plain, a project is there, and everything is kept in .postern. COMMAND is started
when the server is ready, and ends with it. It finds in its environment:

  POSTERN_ISSUER   the address of this server
  TODO_URL         where the example should be reached
  TODO_PORT        its port
  TODO_CLIENT_ID   the example's own client
  DEMO_CLIENT_ID   a registered MCP client with a loopback redirect URI

A second COMMAND gets a project of its own, whose people are members of an
organization, and finds OKR_ISSUER, OKR_URL, OKR_PORT and OKR_CLIENT_ID.

POSTERN_PORT (4000), TODO_PORT (3000), POSTERN_B2B_PORT (4001) and OKR_PORT (3001)
choose other ports. POSTERN_DATABASE with a PostgreSQL URL, and POSTERN_MASTER_KEY
beside it, keep the data there instead.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			if err := c.unsafeDatabase(); err != nil {
				return err
			}
			first, second := args, []string(nil)
			if i := slices.Index(args, "--"); i >= 0 {
				first, second = args[:i], args[i+1:]
				if len(first) == 0 || len(second) == 0 || slices.Contains(second, "--") {
					return misused(cmd, "%s takes one command or two, such as: -- todo -- okr", cmd.CommandPath())
				}
			}
			d := &devRun{program: p, policyFile: policy, lines: make(chan devLine, 1000)}
			return d.run(cmd.Context(), c, authority, first, second)
		},
	}
	c.Flags().StringVar(&policy, "policy", "", "policy file to apply to the second project when it has none yet")
	c.Flags().StringVar(&authority, "dev-ca", "", "file with certificates (PEM) to trust when metadata documents are read")
	return c
}

// devRun is one run of "postern dev".
type devRun struct {
	*program
	todo, okr  *devExample // okr is nil without a second command
	policyFile string
	applied    bool // the policy file, now
	seeded     dev.Seeded
	office     dev.SeededOKR
	clients    *oauth.Setup
	lines      chan devLine
	firstLink  string // to the dashboard, until somebody looks after it
	dashboard  string // its address, from then on
}

// devExample is an example and the project that it belongs to.
type devExample struct {
	name    string   // "TODO": what its variables begin with
	command []string // nil when nobody asked to start it
	port    int
	url     string
	issuer  string
	at      int // port of the issuer
}

// newDevExample reads the ports of an example. name is what its variables begin
// with, issuer the variable with the port of its issuer.
func newDevExample(name, port, issuer, issuerPort string, command []string) (*devExample, error) {
	e := &devExample{name: name, command: command}
	var err error
	if e.at, err = portOf(issuer, issuerPort); err != nil {
		return nil, err
	}
	if e.port, err = portOf(name+"_PORT", port); err != nil {
		return nil, err
	}
	e.issuer = "http://localhost:" + strconv.Itoa(e.at)
	e.url = cmp.Or(os.Getenv(name+"_URL"), "http://localhost:"+strconv.Itoa(e.port))
	return e, nil
}

// free reports a fault when another program has the example's port: its own
// start would fail later, and less clearly.
func (e *devExample) free() error {
	if len(e.command) == 0 || os.Getenv(e.name+"_URL") != "" {
		return nil
	}
	free, err := server.Listen(local(e.port)...)
	if err != nil {
		return takenFault(err, e.name+"_PORT")
	}
	for _, l := range free {
		_ = l.Close() // nothing was accepted
	}
	return nil
}

// examples are those that run.
func (d *devRun) examples() []*devExample {
	all := []*devExample{d.todo}
	if d.okr != nil {
		all = append(all, d.okr)
	}
	return all
}

// devLine is one event as a developer reads it.
type devLine struct {
	at     time.Time
	word   string
	client string // id of the client it is about, "" for none
	text   string
	bad    bool
}

// tell queues a line. Lines are for reading along; in a flood some are lost
// rather than a request delayed.
func (d *devRun) tell(l devLine) {
	l.at = d.now()
	select {
	case d.lines <- l:
	default:
	}
}

func (d *devRun) run(ctx context.Context, c Config, authority string, first, second []string) error {
	var err error
	if d.todo, err = newDevExample("TODO", "3000", "POSTERN_PORT", "4000", first); err != nil {
		return err
	}
	if len(second) > 0 {
		if d.okr, err = newDevExample("OKR", "3001", "POSTERN_B2B_PORT", "4001", second); err != nil {
			return err
		}
	}
	policy, err := d.readPolicy()
	if err != nil {
		return err
	}
	roots, err := readAuthority(authority)
	if err != nil {
		return err
	}
	for _, e := range d.examples() {
		if err := e.free(); err != nil {
			return err
		}
	}
	listeners, err := server.Listen(local(d.todo.at)...)
	if err != nil {
		return takenFault(err, "POSTERN_PORT")
	}
	if d.okr != nil {
		more, err := server.Listen(local(d.okr.at)...)
		if err != nil {
			return takenFault(err, "POSTERN_B2B_PORT")
		}
		listeners = append(listeners, more...)
	}
	if err := dev.OpenFolder(dev.FolderName, d.todo.issuer); err != nil {
		return wrong("start in another folder", "%s", err)
	}
	logPath := filepath.Join(dev.FolderName, "dev.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return wrong("make "+dev.FolderName+" writable", "%s", plain(err))
	}
	defer logFile.Close()
	data := server.Data{
		Folder: dev.FolderName, Database: c.Database, MasterKey: c.MasterKey, MasterKeyFile: c.MasterKeyFile, Now: d.now,
	}
	opened, err := data.Open(ctx, true)
	if err != nil {
		return storageFault(err, data)
	}
	defer opened.Close()
	if err := opened.DB.Migrate(ctx); err != nil {
		return storageFault(err, data)
	}
	if err := opened.DB.Dedicate(ctx, store.Development); errors.Is(err, store.ErrPurpose) {
		return wrong("start in another folder, or name an empty database in POSTERN_DATABASE", "the database holds data that is not for development")
	} else if err != nil {
		return storageFault(err, data)
	}
	d.clients = oauth.NewSetup(opened.DB, d.now)
	projects := project.NewSetup(opened.DB, d.now)
	seed := dev.Seed{Projects: projects, Clients: d.clients, Issuer: d.todo.issuer, TodoURL: d.todo.url}
	if d.seeded, err = seed.Plant(ctx); err != nil {
		return advise(err, "make dev-reset")
	}
	if d.okr != nil {
		if err := d.plantOffice(ctx, opened.DB, projects, policy); err != nil {
			return advise(err, "make dev-reset")
		}
	}
	mails := dev.NewMail(d.now, func(to, code string) { d.tell(devLine{word: "code", text: code + " for " + printable(to)}) })
	mailbox, err := dev.NewMailbox(mails)
	if err != nil {
		return err
	}
	s, err := server.Open(ctx, server.Config{
		Storage: opened, URL: d.todo.issuer, Mail: mails, Now: d.now, Version: version(), Drain: devDrain,
		Log: slog.New(slog.NewJSONHandler(logFile, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Dev: &server.Dev{Mailbox: mailbox, Roots: roots, Told: d.told},
	})
	if err != nil {
		return storageFault(err, data)
	}
	if d.firstLink, d.dashboard, err = firstLink(ctx, opened.DB, d.todo.issuer, d.now); err != nil {
		return storageFault(err, data)
	}
	return d.together(ctx, s, listeners, logFile)
}

// slow is after what time a developer wants to know what we wait for.
const slow = 15 * time.Second

// devDrain is short, for a developer waits.
const devDrain = time.Second

// together runs server and command until one of them ends or ctx does, and
// then ends the other.
func (d *devRun) together(ctx context.Context, s *server.Server, listeners []net.Listener, log io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	serving := make(chan error, 1)
	go func() {
		serving <- s.Run(ctx, listeners)
		stop()
	}()
	speak := make(chan struct{})
	last := &lastLine{Writer: log}
	running := 0
	ended := make(chan error, 2)
	for _, e := range d.examples() {
		if len(e.command) == 0 {
			continue
		}
		running++
		child := dev.Child{Args: e.command, Env: d.environment(), Err: last, Out: &stdout{speak: speak, log: log, tell: d.tell}}
		go func() {
			err := child.Run(ctx)
			stop()
			ended <- err
		}()
	}
	patience := time.AfterFunc(slow, func() {
		d.err.line("still waiting for %s to answer; what the command says is in %s", d.waiting(), filepath.Join(dev.FolderName, "dev.log"))
	})
	answering := d.answering(ctx)
	patience.Stop()
	if answering {
		d.banner()
		close(speak)
		d.follow(ctx)
	}
	stop()
	var childErr error
	for range running {
		childErr = cmp.Or(childErr, <-ended)
	}
	serverErr := <-serving
	if childErr != nil {
		next := "look into " + filepath.Join(dev.FolderName, "dev.log")
		return &fault{problems: append([]string{childErr.Error()}, last.lines()...), next: next}
	}
	return serverErr
}

// answering waits until everything answers.
func (d *devRun) answering(ctx context.Context) bool {
	for _, e := range d.examples() {
		if dev.Await(ctx, e.issuer+"/healthz") != nil || len(e.command) > 0 && dev.Await(ctx, e.url+"/healthz") != nil {
			return false
		}
	}
	return true
}

// waiting names what is waited for.
func (d *devRun) waiting() string {
	var all []string
	for _, e := range d.examples() {
		all = append(all, e.url)
	}
	return strings.Join(all, " and ")
}

// readPolicy reads the policy file, if there is one to read.
func (d *devRun) readPolicy() (rbac.Policy, error) {
	if d.policyFile == "" || d.okr == nil {
		return rbac.Policy{}, nil
	}
	return readPolicy(strings.NewReader(""), d.policyFile)
}

// plantOffice makes the second project, and gives it the policy where it has
// none, as postern policy apply would.
func (d *devRun) plantOffice(ctx context.Context, db *store.DB, projects *project.Setup, policy rbac.Policy) error {
	people, err := identity.New(identity.Config{Store: db, Now: d.now})
	if err != nil {
		return err
	}
	seed := dev.SeedOKR{Projects: projects, Clients: d.clients, People: people, Now: d.now, Issuer: d.okr.issuer, OKRURL: d.okr.url}
	if d.office, err = seed.Plant(ctx); err != nil {
		return err
	}
	standing, err := people.Policy(ctx, d.office.Project.ID)
	if err != nil {
		return err
	}
	if len(policy.Scopes) > 0 && len(standing.Resources) == 0 {
		policy.Version = standing.Version
		e := audit.Event{ProjectID: d.office.Project.ID, At: d.now(), Kind: audit.PolicyApplied, Actor: "operator", Object: d.office.Project.ID}
		if _, err := people.ApplyPolicy(ctx, d.office.Project.ID, policy, e); err != nil {
			return err
		}
		d.applied = true
		if d.office.Project, err = projects.Find(ctx, d.office.Project.ID); err != nil {
			return err
		}
	}
	return seed.Staff(ctx, d.office.Project, d.applied)
}

// follow prints lines until ctx ends.
func (d *devRun) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-d.lines:
			text := l.text
			if l.bad {
				text = d.out.red(text)
			}
			if l.client != "" {
				text = d.name(ctx, l.client) + "   " + text
			}
			d.out.line("%s   %-10s   %s", d.out.dim(l.at.Format("15:04:05")), l.word, text)
		}
	}
}

// environment is what the command finds.
func (d *devRun) environment() []string {
	all := append(os.Environ(),
		"POSTERN_ISSUER="+d.todo.issuer,
		"TODO_URL="+d.todo.url,
		"TODO_PORT="+strconv.Itoa(d.todo.port),
		"TODO_CLIENT_ID="+d.seeded.TodoClientID,
		"DEMO_CLIENT_ID="+d.seeded.DemoClientID,
	)
	if d.okr != nil {
		all = append(all,
			"OKR_ISSUER="+d.okr.issuer,
			"OKR_URL="+d.okr.url,
			"OKR_PORT="+strconv.Itoa(d.okr.port),
			"OKR_CLIENT_ID="+d.office.OKRClientID,
		)
	}
	return all
}

// banner is the block that stands in the README.
func (d *devRun) banner() {
	t := d.out
	write := func(format string, args ...any) {
		fmt.Fprintln(t, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	row := func(label, address, what string) {
		write("  %s%s%s", t.dim(fmt.Sprintf("%-13s", label)), t.bright(fmt.Sprintf("%-35s", address)), what)
	}
	next := func(command, what string) { write("  %s%s", t.green(fmt.Sprintf("%-61s", command)), what) }
	write("%s (development: mail is caught, plain http, this computer only)", t.bright("Postern is running"))
	write("")
	if len(d.todo.command) > 0 {
		row("MCP server", d.seeded.Resource, "a protected todo list  (/sse for old clients)")
		row("Web page", d.todo.url, "the same list, for people")
	}
	row("Postern", d.todo.issuer, "signs people in, asks, issues tokens")
	row("Mailbox", d.todo.issuer+server.DevMailbox, "one-time codes arrive here, and below")
	if d.dashboard != "" {
		row("Dashboard", d.dashboard, "projects, people, apps, activity")
	} else {
		row("Dashboard", d.firstLink, "")
		row("", "", "this link works once: who opens it is the administrator")
	}
	write("")
	if d.okr != nil {
		row("OKR manager", d.office.Resource, "objectives of an organization, by role")
		row("Web page", d.okr.url, "the same objectives, for its members")
		row("Postern", d.okr.issuer, "its own project: organizations, members, roles")
		for _, m := range d.office.Members {
			row("", m.Email, m.Role)
		}
		if d.applied {
			write("  Applied %s, as this does:", d.policyFile)
			write("    %s", t.green("postern policy apply -f "+d.policyFile+" --project "+d.okr.issuer))
		}
		write("")
	}
	if len(d.todo.command) > 0 {
		write("Next, in another terminal:")
		next("make try", "nothing else needed")
		next("npx @modelcontextprotocol/inspector", "Node 22.19+; connect to the MCP server")
		next("claude mcp add --transport http todo "+d.seeded.Resource, "")
		write("")
	}
	write("Sign in with any address, for example ada@example.test.")
	write("Your own server:  %s", t.green("go run ./cmd/postern "+d.named()+"resource add http://localhost:8080/mcp"))
	write("%s", t.dim(fmt.Sprintf("Project %s   public token %s   data %s   log %s",
		d.seeded.Project.ID, d.seeded.Project.PublicToken, dev.FolderName, filepath.Join(dev.FolderName, "dev.log"))))
	write("")
}

// named is what a set-up command needs to find this folder when there is
// another one beside it.
func (d *devRun) named() string {
	if (server.Data{Folder: Defaults().Data}).Exists() {
		return "--data " + dev.FolderName + " "
	}
	return ""
}

// told makes lines of decisions.
func (d *devRun) told(e audit.Event, scopes []string) {
	l := devLine{client: e.ClientID, text: strings.Join(scopes, " ")}
	switch {
	case e.Refused:
		l.word, l.text, l.bad = "refused", e.Reason+"   postern trace "+cmp.Or(e.Attempt, e.TraceID), true
	case e.Kind == audit.ClientRegistered, e.Kind == audit.ClientCopied:
		l.word = "registered"
	case e.Kind == audit.GrantAllowed:
		l.word = "allowed"
	case e.Kind == audit.GrantDenied:
		l.word = "denied"
	case e.Kind == audit.GrantRevoked:
		l.word = "taken back"
	default:
		return
	}
	d.tell(l)
}

// name is what people call a client.
func (d *devRun) name(ctx context.Context, id string) string {
	for _, p := range []*project.Project{d.seeded.Project, d.office.Project} {
		if p == nil {
			continue
		}
		if c, err := d.clients.Client(ctx, p, id); err == nil {
			return printable(c.Name())
		}
	}
	return printable(id)
}

func portOf(variable, otherwise string) (int, error) {
	text := cmp.Or(os.Getenv(variable), otherwise)
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 {
		return 0, wrong("unset "+variable, "%s is %q; choose a port from 1 to 65535", variable, text)
	}
	return n, nil
}

// local is a port on both addresses of this computer.
func local(port int) []string {
	n := strconv.Itoa(port)
	return []string{net.JoinHostPort("127.0.0.1", n), net.JoinHostPort("::1", n)}
}

// readAuthority reads certificates to trust besides the system's.
func readAuthority(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong("postern dev --help", "--dev-ca: %s", plain(err))
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, wrong("postern dev --help", "--dev-ca: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

// stdout takes the command's output: into the log until everything answers,
// then as event lines, whose first word is the event.
type stdout struct {
	speak <-chan struct{}
	log   io.Writer
	tell  func(devLine)
	rest  string
}

func (s *stdout) Write(b []byte) (int, error) {
	s.rest += string(b)
	for {
		line, rest, found := strings.Cut(s.rest, "\n")
		if !found {
			return len(b), nil
		}
		s.rest = rest
		select {
		case <-s.speak:
			word, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			s.tell(devLine{word: printable(word), text: printable(strings.TrimSpace(text))})
		default:
			if _, err := fmt.Fprintln(s.log, line); err != nil {
				return 0, err
			}
		}
	}
}

// lastLine passes what it gets on and remembers the end of it. Several commands
// may write to it.
type lastLine struct {
	io.Writer
	mu  sync.Mutex
	end []byte
}

func (l *lastLine) Write(b []byte) (int, error) {
	const keep = 2000
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end = append(l.end, b...); len(l.end) > keep {
		l.end = l.end[len(l.end)-keep:]
	}
	return l.Writer.Write(b)
}

// lines are the last few lines.
func (l *lastLine) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for s := bufio.NewScanner(strings.NewReader(string(l.end))); s.Scan(); {
		if text := printable(strings.TrimSpace(s.Text())); text != "" {
			all = append(all, text)
		}
	}
	return all[max(0, len(all)-3):]
}
