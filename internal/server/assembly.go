package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/postern-id/postern/internal/admin"
	"github.com/postern-id/postern/internal/api"
	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/login"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
	"github.com/postern-id/postern/internal/web"
)

// assembly is every part of a running server, wired.
type assembly struct {
	log       *slog.Logger
	now       func() time.Time
	version   string
	dev       *Dev
	db        *store.DB
	directory *project.Directory
	keys      *signing.Keys
	loading   sync.Mutex
	loads     map[string]load // by project; on loading
	oauth     *oauth.Server
	login     *login.Pages
	api       *api.API
	admin     *admin.Dashboard
	tallies   *audit.Tallies
	seals     *audit.Seals
	home      string // host of the deployment's own URL, as project.Host writes it
	mails     *mail.Queue
	skewed    atomic.Bool // our clock and the database's are too far apart
	ready     atomic.Bool // nothing was missing once
	looks     singleflight.Group
	good      atomic.Int64 // when nothing was missing last, in nanoseconds since 1970
	console   bool         // mails go to the log

	id       string    // of this server among those that share the database
	started  time.Time // when it was assembled
	renewed  time.Time // when its lease was; of keepUp alone
	limiters []*web.Limiter

	pages     http.Handler
	machine   http.Handler
	desk      http.Handler // the dashboard
	noPage    http.Handler // these two have no route: beside the path of an issuer
	noMachine http.Handler
	fetchers  sync.Map // with credentials or not, allowed ports -> *http.Client
}

// maxTokenLife is the ceiling of every lifetime that project.Settings allows
// for something signed.
const maxTokenLife = 24 * time.Hour

// The flood limits, each per address and in memory; servers that share a
// database take an even part of each (decision 32). A peer on
// this computer is not limited: that is a test, or a proxy that was not named,
// and one bucket for everybody would lock everybody out.
func pageLimit() web.Limit      { return web.Limit{Count: 120, Per: time.Minute} }
func authorizeLimit() web.Limit { return web.Limit{Count: 60, Per: time.Minute} }
func mailLimit() web.Limit      { return web.Limit{Count: 20, Per: time.Hour} }
func machineLimit() web.Limit   { return web.Limit{Count: 600, Per: time.Minute} }

// introspectLimit is the one for resource servers: each asks from one address for
// everybody who calls it.
func introspectLimit() web.Limit { return web.Limit{Count: 6000, Per: time.Minute} }

const (
	// waitingMails bounds the mails in line; more are refused.
	waitingMails = 1000
	// maxFetched bounds whatever is read for a metadata document, in bytes: a
	// logo. Of the document itself oauth reads less.
	maxFetched = 256<<10 + 1
)

// limitedPeers bounds how many addresses a limiter remembers.
const limitedPeers = 50_000

func assemble(ctx context.Context, c Config) (*assembly, error) {
	a := &assembly{log: c.Log, now: c.Now, version: c.Version, dev: c.Dev, db: c.Storage.DB, started: c.Now(), loads: map[string]load{}}
	a.id = secret.NewUUID(a.started)
	_, a.console = c.Mail.(ConsoleMail)
	var err error
	if a.directory, err = project.NewDirectory(ctx, a.db); err != nil {
		return nil, err
	}
	if a.keys, err = signing.New(signing.Config{Store: a.db, Sealer: c.Storage.Sealer, Now: c.Now, MaxTokenLife: maxTokenLife, RSA: c.RSA}); err != nil {
		return nil, err
	}
	for _, p := range a.directory.All() { // a few milliseconds, and only the first time
		if err := a.keys.Ensure(ctx, p.ID, signing.ES256); err != nil {
			return nil, fmt.Errorf("keys of project %s: %w", p.ID, err)
		}
	}
	if a.mails, err = mail.NewQueue(mail.QueueConfig{Sender: c.Mail, Now: c.Now, Size: waitingMails, Failed: a.mailFailed}); err != nil {
		return nil, err
	}
	people, err := identity.New(identity.Config{Store: a.db, Now: c.Now})
	if err != nil {
		return nil, err
	}
	kept := keeper(a.db, c.Dev)
	a.api, err = api.New(api.Config{People: people, Keys: project.NewWorkspaceKeys(a.db, c.Now), Store: a.db, Now: c.Now})
	if err != nil {
		return nil, err
	}
	a.oauth, err = oauth.New(oauth.Config{
		Store: kept, Subjects: people, Keys: a.keys, Fetch: a.fetcher, Now: c.Now,
		Address: func(r *http.Request) string { return web.ClientIP(r).String() },
		Trace:   web.Trace, Note: web.Note,
	})
	if err != nil {
		return nil, err
	}
	methods, err := signin.New(signin.Config{
		Store: kept, Mail: a.mails, Now: c.Now,
		MAC: func(projectID, methodID, code string) [32]byte {
			return c.Storage.Sealer.MAC(signing.OTP, projectID, methodID, code)
		},
	})
	if err != nil {
		return nil, err
	}
	upstream, err := signin.NewUpstream(signin.UpstreamConfig{
		Store: a.db, Fetch: a.upstreamFetcher, Now: c.Now, Verify: signing.VerifyForeign,
		Seal: func(plain []byte, id string) []byte { return c.Storage.Sealer.Seal(plain, ssoSecret(id)) },
		Open: func(sealed []byte, id string) ([]byte, error) { return c.Storage.Sealer.Open(sealed, ssoSecret(id)) },
		MAC:  func(parts ...string) [32]byte { return c.Storage.Sealer.MAC(signing.SSO, parts...) },
	})
	if err != nil {
		return nil, err
	}
	mailbox := ""
	if c.Dev != nil && c.Dev.Mailbox != nil {
		mailbox = DevMailbox
	}
	mails := a.limiter(mailLimit())
	a.login, err = login.New(login.Config{
		Mails: func(r *http.Request) (time.Duration, bool) {
			key := floodKey(r)
			if key == "" {
				return 0, true
			}
			return mails.Allow(key)
		},
		OAuth: a.oauth, People: people, Methods: methods, Upstream: upstream, Audit: kept, Now: c.Now, Mailbox: mailbox,
		CSRF: web.CSRF{Key: c.Storage.Sealer.Derive(signing.CSRF)},
	})
	if err != nil {
		return nil, err
	}
	if err := a.dashboard(c, people); err != nil {
		return nil, err
	}
	return a, a.handlers()
}

// dashboard builds what administrators see.
func (a *assembly) dashboard(c Config, people *identity.People) error {
	administrators, err := signin.NewAdministrators(signin.AdministratorsConfig{
		Store: a.db, Now: c.Now, URL: c.URL,
		Seal: func(plain []byte, id string) []byte { return c.Storage.Sealer.Seal(plain, adminSecret(id)) },
		Open: func(sealed []byte, id string) ([]byte, error) { return c.Storage.Sealer.Open(sealed, adminSecret(id)) },
	})
	if err != nil {
		return err
	}
	a.home = project.IssuerHost(c.URL)
	a.tallies = audit.NewTallies(a.db, c.Now)
	a.seals = c.Storage.Seals(c.Now)
	database := "PostgreSQL"
	if a.db.SQLite() {
		database = "SQLite"
	}
	a.admin, err = admin.New(admin.Config{
		URL: c.URL, Version: c.Version, Database: database,
		Projects: project.NewSetup(a.db, c.Now), Clients: oauth.NewSetup(a.db, c.Now), People: people, Administrators: administrators,
		Keys: a.keys, Workspace: project.NewWorkspaceKeys(a.db, c.Now), Events: a.db, Tallies: a.tallies, Traces: a.db,
		CSRF: web.CSRF{Key: c.Storage.Sealer.Derive(signing.CSRF)}, Now: c.Now,
		Changed: func(ctx context.Context) {
			if err := a.follow(ctx); err != nil {
				a.log.Warn("a change is seen a second later", "error", err)
			}
		},
		Unfit: func(name, issuer string) []string { return Unfit(name, issuer, a.console) },
		Ask:   a.asker, KeepRefusal: a.oauth.KeepRefusal, FixedIssuers: a.dev != nil,
	})
	return err
}

// handlers builds the two chains, outermost first.
func (a *assembly) handlers() error {
	assets, err := web.Assets()
	if err != nil {
		return err
	}
	a.pages = web.Chain(web.Mux(mux(a.people(assets)), a.login.Error),
		web.PageHeaders,
		web.Bounds(a.login.Error),
	)
	a.desk = web.Chain(web.Mux(mux(a.administrators(assets)), a.admin.Error),
		web.DashboardHeaders,
		web.Bounds(a.admin.Error),
	)
	a.machine = web.Chain(web.Mux(mux(a.machines()), refuseMachine),
		web.MachineHeaders,
		web.Bounds(refuseMachine),
		a.limitMachines,
	)
	a.noPage = web.Chain(web.Mux(http.NewServeMux(), a.login.Error), web.PageHeaders)
	a.noMachine = web.Chain(web.Mux(http.NewServeMux(), refuseMachine), web.MachineHeaders)
	return nil
}

// limit bounds how often one address asks.
func (a *assembly) limit(l web.Limit, write web.ErrorWriter) web.Middleware {
	return a.limiter(l).Wrap(floodKey, write)
}

// limiter counts in memory, for this server's part of a limit.
func (a *assembly) limiter(l web.Limit) *web.Limiter {
	limiter := web.NewLimiter(l, limitedPeers, a.now)
	a.limiters = append(a.limiters, limiter)
	return limiter
}

// floodKey is what a request counts under, "" for one that is not limited. An
// address that another computer forwarded is what it says, also when it says that
// it is this one.
func floodKey(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil && peer.Addr().Unmap().IsLoopback() && web.ClientIP(r).IsLoopback() {
		return ""
	}
	return web.AddressKey(web.ClientIP(r))
}

// limitMachines bounds how often one address asks the endpoints of programs.
func (a *assembly) limitMachines(next http.Handler) http.Handler {
	others := a.limit(machineLimit(), refuseMachine)(next)
	introspection := a.limit(introspectLimit(), refuseMachine)(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/oauth2/introspect") {
			introspection.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// route finds the project of a request's host and sends the request to the
// chain of its kind. The issuer never comes from the request.
func (a *assembly) route(w http.ResponseWriter, r *http.Request) {
	host := project.Host(web.Scheme(r), web.Host(r))
	p, ok := a.directory.ByHost(host)
	if host == a.home && (forAdministrators(r.URL.Path) || !ok && !forMachines(r.URL.Path)) {
		a.desk.ServeHTTP(w, r)
		return
	}
	if !ok {
		a.misdirected(w, r, host)
		return
	}
	r = r.WithContext(project.NewContext(r.Context(), p))
	web.Note(r.Context(), slog.String("project", p.ID))
	inside, ok := below(p.Path(), r)
	switch {
	case !ok && forMachines(r.URL.Path):
		a.noMachine.ServeHTTP(w, r)
	case !ok && host == a.home: // what its pages are made of
		a.desk.ServeHTTP(w, r)
	case !ok:
		a.noPage.ServeHTTP(w, r)
	case forMachines(inside.URL.Path):
		a.machine.ServeHTTP(w, inside)
	default:
		a.pages.ServeHTTP(w, inside)
	}
}

// below takes the path of an issuer off a request, so that the rest of the
// server knows of none. ok is false for what is not the issuer's. Its metadata
// has three addresses (RFC 8414 §3.1 and §5, OpenID Connect Discovery §4), and
// whoever asks for that of the whole host gets none, for it would name another
// issuer (RFC 8414 §3.3). The published SDKs drop the path of the address they
// are given, so the JSON API is at the root of the host as well.
func below(issuer string, r *http.Request) (inside *http.Request, ok bool) {
	asked := r.URL.EscapedPath()
	if issuer == "" || asked == "/" || strings.HasPrefix(asked, "/v1/") {
		return r, true
	}
	u := *r.URL
	switch {
	case asked == issuer:
		u.Path, u.RawPath = "/", ""
	case asked == oauth.PathMetadata+issuer:
		u.Path, u.RawPath = oauth.PathMetadata, ""
	case asked == oauth.PathDiscovery+issuer:
		u.Path, u.RawPath = oauth.PathDiscovery, ""
	case asked != issuer+oauth.PathMetadata && strings.HasPrefix(asked, issuer+"/"):
		u.Path, u.RawPath = strings.TrimPrefix(u.Path, issuer), strings.TrimPrefix(u.RawPath, issuer)
	default:
		return nil, false
	}
	// A ServeMux redirects from a path with // or .. in it; one that knows only
	// the rest would lead out of the issuer's path.
	if u.Path != "/" && path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") {
		return nil, false
	}
	inside = r.WithContext(r.Context())
	inside.URL = &u
	return inside, true
}

// forAdministrators tells the dashboard's addresses from those of the project
// that may share its host.
func forAdministrators(path string) bool {
	return path == admin.Path || strings.HasPrefix(path, admin.Path+"/")
}

// forMachines tells the two kinds of address apart. Everything well-known is
// for programs, so that an unknown one is a plain 404 (MCP-AS-9).
func forMachines(path string) bool {
	return strings.Contains(path, "/.well-known/") || strings.HasPrefix(path, "/v1/")
}

// misdirected answers for a host that no project has (RFC 9110 §15.5.20). In
// development a page asked for by the number of this computer is sent to its
// name, where the cookies are.
func (a *assembly) misdirected(w http.ResponseWriter, r *http.Request, host string) {
	if name, ok := a.localName(host); ok && r.Method == http.MethodGet && !forMachines(r.URL.Path) {
		http.Redirect(w, r, name+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		return
	}
	var issuers []string
	for _, p := range a.directory.All() {
		issuers = append(issuers, p.Issuer)
	}
	sentence := "There is no project here yet. Whoever runs this server: postern project create NAME"
	if len(issuers) > 0 {
		slices.Sort(issuers)
		sentence = "This server answers at " + strings.Join(issuers, ", ") + ". A proxy in front of it must pass the Host header on and stand in behind_proxy."
	}
	refuse(w, http.StatusMisdirectedRequest, "misdirected_request", sentence)
}

// localName is the issuer at localhost with the port of a loopback address.
func (a *assembly) localName(host string) (string, bool) {
	u, err := url.Parse("http://" + host)
	if a.dev == nil || err != nil || !project.Loopback(u.Hostname()) || u.Hostname() == "localhost" {
		return "", false
	}
	p, ok := a.directory.ByHost(project.Host("http", "localhost:"+u.Port()))
	if !ok {
		return "", false
	}
	return strings.TrimSuffix(p.Issuer, p.Path()), true
}

// ssoSecret is where the client secret of a connection is kept.
func ssoSecret(id string) signing.Place {
	return signing.Place{Table: "sso_connection", Row: id, Column: "client_secret"}
}

// adminSecret is where the secret of an administrator's authenticator is kept,
// and what a ceremony remembers.
func adminSecret(id string) signing.Place {
	return signing.Place{Table: "administrator", Row: id, Column: "secret"}
}

// fetcher is the client for a project's metadata documents.
func (a *assembly) fetcher(p *project.Project) *http.Client { return a.fetch(p, false) }

// asker is the client that asks an MCP server what it says of itself. In
// development, and where mails go to the log, everything is on this computer,
// with plain http.
func (a *assembly) asker(p *project.Project) *http.Client {
	if a.dev == nil && !a.console {
		return a.fetcher(p)
	}
	return &http.Client{
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// upstreamFetcher is the client for the sign-in services of a project's
// organizations: they get the secrets that are theirs.
func (a *assembly) upstreamFetcher(p *project.Project) *http.Client { return a.fetch(p, true) }

// fetch is a client for addresses that strangers name. Projects that allow the
// same ports share one.
func (a *assembly) fetch(p *project.Project, credentials bool) *http.Client {
	key := fmt.Sprint(credentials, p.Settings.DocumentPorts)
	if c, ok := a.fetchers.Load(key); ok {
		return c.(*http.Client)
	}
	f := web.FetchConfig{UserAgent: "postern/" + a.version, MaxBytes: maxFetched, Credentials: credentials}
	for _, port := range p.Settings.DocumentPorts {
		f.Ports = append(f.Ports, uint16(port)) // project.Settings.Check bounds it
	}
	if a.dev != nil {
		f.Loopback, f.Roots = true, a.dev.Roots
	}
	made, err := web.NewFetcher(f)
	if err != nil {
		a.log.Error("no client for addresses outside", "project", p.ID, "error", err)
		return &http.Client{Transport: refuseAll{err}}
	}
	c, _ := a.fetchers.LoadOrStore(key, made)
	return c.(*http.Client)
}

// refuseAll is a transport that reaches nobody.
type refuseAll struct{ err error }

func (t refuseAll) RoundTrip(*http.Request) (*http.Response, error) { return nil, t.err }

// mailFailed logs without the address or the code: who reads the log is not
// who the mail was for.
func (a *assembly) mailFailed(_ mail.Mail, err error, again time.Time) {
	if again.IsZero() {
		a.log.Error("a mail was given up", "error", err)
		return
	}
	a.log.Warn("a mail was not sent yet", "error", err, "again", again)
}
