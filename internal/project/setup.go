package project

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/secret"
)

// Problem is what an operator asked for and cannot have: one sentence, or one a
// line, which begins in the middle and has no full stop.
type Problem string

func (p Problem) Error() string { return string(p) }

// SetupStore is what Setup needs of a database. Every method is one
// transaction, raises the project's change counter and keeps the event.
type SetupStore interface {
	Store
	MoveStore
	// CreateProject keeps a project, or returns ErrConflict when its issuer's host
	// or one of its hosts is taken.
	CreateProject(ctx context.Context, p Project, e audit.Event) error
	// SaveSettings replaces name and settings of a project if its change counter
	// still is change, or returns ErrConflict.
	SaveSettings(ctx context.Context, projectID string, change int64, name string, s Settings, e audit.Event) error
	// SetProjectSecret replaces the secret of a project.
	SetProjectSecret(ctx context.Context, projectID, secretID string, hash []byte, e audit.Event) error
	// SaveLogo keeps a project's logo, a PNG; nil takes it away.
	SaveLogo(ctx context.Context, projectID string, png []byte, e audit.Event) error
	// AddResource keeps a resource server, or replaces the one with the same id,
	// whose secret stays unless r has one. It returns ErrTaken when an address of r
	// is another's, and ErrConflict when another has its URI. The scopes are defined in the policy
	// document, or described anew there; those it has and that are not named here
	// stay. A new sentence brings its own detail or none, a detail alone joins the
	// sentence that is there. If r.Default is set, no other is. With seen it returns
	// ErrConflict unless that still is the project's change counter.
	AddResource(ctx context.Context, projectID string, seen *int64, r Resource, scopes []Scope, e audit.Event) error
	// RemoveResource removes a resource server, or returns ErrNotFound. Its scopes
	// stay in the policy document.
	RemoveResource(ctx context.Context, projectID, uri string, e audit.Event) error
}

// Setup changes projects: what the set-up commands and the dashboard do.
type Setup struct {
	store SetupStore
	now   func() time.Time
	by    audit.Origin
}

// NewSetup returns a Setup on a store, whose changes are the operator's.
func NewSetup(store SetupStore, now func() time.Time) *Setup {
	return &Setup{store: store, now: now, by: audit.Origin{Actor: audit.Operator}}
}

// By returns a Setup whose changes are made by somebody else.
func (s *Setup) By(o audit.Origin) *Setup {
	return &Setup{store: s.store, now: s.now, by: o}
}

// New describes a project to create. Empty ids are made; dev gives its own so
// that they stay the same.
type New struct {
	Name        string
	Issuer      string
	Vertical    Vertical    // "" is Consumer
	Environment Environment // "" is Live
	Settings    *Settings   // nil is Defaults
}

// Create keeps a new project and returns it with its secret, which is shown
// once and kept as a hash only.
func (s *Setup) Create(ctx context.Context, n New) (*Project, secret.Secret, error) {
	if strings.TrimSpace(n.Name) == "" {
		return nil, secret.Secret{}, Problem("a project needs a name")
	}
	if checkName(strings.TrimSpace(n.Name)) != nil {
		return nil, secret.Secret{}, Problem(fmt.Sprintf("the name of a project has at most %d characters, which can be read, on one line", maxName))
	}
	if err := CheckIssuer(n.Issuer); err != nil {
		return nil, secret.Secret{}, Problem(err.Error())
	}
	if n.Vertical == "" {
		n.Vertical = Consumer
	}
	if n.Environment == "" {
		n.Environment = Live
	}
	settings := Defaults()
	if n.Settings != nil {
		settings = *n.Settings
	}
	if problems := settings.Check(); len(problems) > 0 {
		return nil, secret.Secret{}, Problem(strings.Join(problems, "\n"))
	}
	now, env := s.now(), string(n.Environment)
	key := secret.New(secret.ProjectSecret, now)
	p := Project{
		ID: secret.NewID(now, "project", env), Name: strings.TrimSpace(n.Name), Issuer: n.Issuer,
		Vertical: n.Vertical, Environment: n.Environment,
		PublicToken: secret.NewID(now, "public-token", env),
		SecretID:    key.ID, SecretHash: key.Hash[:],
		Settings: settings, CreatedAt: now,
	}
	err := s.store.CreateProject(ctx, p, s.event(p.ID, audit.ProjectCreated, p.ID))
	return &p, key, err
}

// Find returns a project by id, by issuer, or the only one when ref is "".
func (s *Setup) Find(ctx context.Context, ref string) (*Project, error) {
	all, err := s.store.Projects(ctx)
	if err != nil {
		return nil, err
	}
	if ref == "" && len(all) == 1 {
		return all[0], nil
	}
	for _, p := range all {
		if ref != "" && (p.ID == ref || p.Issuer == strings.TrimSuffix(ref, "/")) {
			return p, nil
		}
	}
	switch {
	case ref != "":
		return nil, fmt.Errorf("%w: no project has the id or issuer %q", ErrNotFound, ref)
	case len(all) == 0:
		return nil, fmt.Errorf("%w: there is no project yet", ErrNotFound)
	default:
		return nil, fmt.Errorf("%w: there are %d projects; name one by id or issuer", ErrNotFound, len(all))
	}
}

// All returns every project.
func (s *Setup) All(ctx context.Context) ([]*Project, error) { return s.store.Projects(ctx) }

// Change edits name and settings of a project. It tries again when somebody
// else changed the project in between.
func (s *Setup) Change(ctx context.Context, id string, edit func(p *Project) error) (*Project, error) {
	for range 5 {
		p, err := s.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := edit(p); err != nil {
			return nil, err
		}
		if problems := p.Settings.Check(); len(problems) > 0 {
			return nil, Problem(strings.Join(problems, "\n"))
		}
		err = s.store.SaveSettings(ctx, p.ID, p.Change, p.Name, p.Settings, s.event(p.ID, audit.ProjectChanged, p.ID))
		if !errors.Is(err, ErrConflict) {
			return p, err
		}
	}
	return nil, ErrConflict
}

// RotateSecret gives a project a new secret, which is returned once. The old one
// stops at once.
func (s *Setup) RotateSecret(ctx context.Context, p *Project) (secret.Secret, error) {
	key := secret.New(secret.ProjectSecret, s.now())
	return key, s.store.SetProjectSecret(ctx, p.ID, key.ID, key.Hash[:], s.event(p.ID, audit.ProjectRotated, p.ID))
}

// RotateResourceSecret gives a resource server a secret with which it may
// introspect tokens for it, returned once. One that it had stops at once.
func (s *Setup) RotateResourceSecret(ctx context.Context, p *Project, uri string) (Resource, secret.Secret, error) {
	r, err := p.movable(uri)
	if err != nil {
		return Resource{}, secret.Secret{}, err
	}
	r, key, err := s.AddResource(ctx, p, r, nil, true)
	if err != nil {
		return Resource{}, secret.Secret{}, err
	}
	return r, *key, nil
}

// SetLogo gives a project the logo of a picture file, drawn anew within the
// bounds of picture.Logo, or takes it away when file is nil. The error of a file
// that does not fit is picture.ErrUnfit.
func (s *Setup) SetLogo(ctx context.Context, p *Project, file []byte) error {
	var png []byte
	if file != nil {
		var err error
		if png, err = picture.Logo(file); err != nil {
			return err
		}
	}
	return s.store.SaveLogo(ctx, p.ID, png, s.event(p.ID, audit.ProjectChanged, p.ID))
}

// AddResource registers a resource server with its scopes, or changes the one that
// p has at its URI: ErrConflict says that somebody changed the project since p was
// read. With introspect it gets a secret of its own, returned once; else a secret
// that it has stays.
func (s *Setup) AddResource(ctx context.Context, p *Project, r Resource, scopes []Scope, introspect bool) (Resource, *secret.Secret, error) {
	if err := CheckResource(r.URI); err != nil {
		return Resource{}, nil, Problem(err.Error())
	}
	if err := r.CheckAliases(); err != nil {
		return Resource{}, nil, Problem(err.Error())
	}
	for _, sc := range scopes {
		if !plain(sc.Description, maxSentence) || !plain(sc.Detail, maxSentence) {
			return Resource{}, nil, Problem(fmt.Sprintf("the sentence and the detail of the scope %q have at most %d characters each, which can be read, on one line", sc.Name, maxSentence))
		}
		if !ValidScope(sc.Name) {
			return Resource{}, nil, Problem(fmt.Sprintf("scope %q must be printable ASCII without space, quote or backslash", sc.Name))
		}
	}
	now := s.now()
	r.ID, r.CreatedAt = secret.NewID(now, "resource-server", string(p.Environment)), now
	kind, seen := audit.ResourceAdded, (*int64)(nil)
	known, ok := p.Resource(r.URI)
	if ok {
		r.ID, r.CreatedAt, kind, seen = known.ID, known.CreatedAt, audit.ResourceChanged, &p.Change
	}
	if r.Profile == "" {
		r.Profile = RFC9068
	}
	if r.Name == "" {
		r.Name = IssuerHost(r.URI)
	}
	if checkName(r.Name) != nil {
		return Resource{}, nil, Problem(fmt.Sprintf("the name of a resource server has at most %d characters, which can be read, on one line", maxName))
	}
	if r.AccessToken != 0 && (r.AccessToken < 60 || r.AccessToken > 86400) {
		return Resource{}, nil, Problem(fmt.Sprintf("the access token lifetime is %s; choose 1m to 1d", Span(r.AccessToken)))
	}
	if r.Profile != RFC9068 && r.Profile != Compatible {
		return Resource{}, nil, Problem(fmt.Sprintf("the profile is %q; use %s or %s", r.Profile, RFC9068, Compatible))
	}
	for _, sc := range scopes {
		if !slices.Contains(r.Scopes, sc.Name) {
			r.Scopes = append(r.Scopes, sc.Name)
		}
	}
	for _, name := range r.DefaultScopes { // one that is there may be taken away in its own time
		if !ValidScope(name) && !slices.Contains(known.DefaultScopes, name) {
			return Resource{}, nil, Problem(fmt.Sprintf("default scope %q must be printable ASCII without space, quote or backslash", name))
		}
	}
	var key *secret.Secret
	r.SecretID, r.SecretHash = "", nil // the store keeps the one that is there
	if introspect {
		k := secret.New(secret.ResourceServer, now)
		r.SecretID, r.SecretHash, key = k.ID, k.Hash[:], &k
	}
	return r, key, s.store.AddResource(ctx, p.ID, seen, r, scopes, s.event(p.ID, kind, r.ID))
}

// RemoveResource removes a resource server. Tokens for it live until they
// expire; none is issued or refreshed any more.
func (s *Setup) RemoveResource(ctx context.Context, p *Project, uri string) error {
	return s.store.RemoveResource(ctx, p.ID, uri, s.event(p.ID, audit.ResourceRemoved, uri))
}

func (s *Setup) event(projectID string, kind audit.Kind, object string) audit.Event {
	return s.by.Event(projectID, s.now(), kind, object)
}
