package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/store/db"
)

// Projects returns every project with its resource servers and scopes. The
// change counters are read first: what changes in between is read again at the
// next poll, and never missed.
func (d *DB) Projects(ctx context.Context) ([]*project.Project, error) {
	changes, err := d.Changes(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := d.read.Projects(ctx)
	if err != nil {
		return nil, wrap("read projects", err)
	}
	all := make([]*project.Project, len(rows))
	byID := map[string]*project.Project{}
	for i, r := range rows {
		settings, err := fromJSON[project.Settings](r.Settings)
		if err != nil {
			return nil, err
		}
		all[i] = &project.Project{
			ID: r.ProjectID, Name: r.Name, Issuer: r.Issuer,
			Vertical: project.Vertical(r.Vertical), Environment: project.Environment(r.Environment),
			PublicToken: r.PublicToken, SecretID: r.SecretID, SecretHash: r.SecretHash,
			Settings: settings, Change: changes[r.ProjectID], CreatedAt: fromMicros(r.CreatedAt),
		}
		byID[r.ProjectID] = all[i]
	}
	return all, errors.Join(d.addHosts(ctx, byID), d.addLogos(ctx, byID), d.addResources(ctx, byID), d.addScopes(ctx, byID))
}

// A project made while these are read is in none of byID, and comes whole with
// the next poll.

func (d *DB) addHosts(ctx context.Context, byID map[string]*project.Project) error {
	rows, err := d.read.ProjectHosts(ctx)
	for _, r := range rows {
		if p := byID[r.ProjectID]; p != nil {
			p.Hosts = append(p.Hosts, r.Host)
		}
	}
	return wrap("read hosts", err)
}

func (d *DB) addResources(ctx context.Context, byID map[string]*project.Project) error {
	rows, err := d.read.ResourceServers(ctx)
	if err != nil {
		return wrap("read resource servers", err)
	}
	for _, r := range rows {
		scopes, err := fromJSON[[]string](r.Scopes)
		if err != nil {
			return err
		}
		defaults, err := fromJSON[[]string](r.DefaultScopes)
		if err != nil {
			return err
		}
		aliases, err := fromJSON[[]string](r.Aliases)
		if err != nil {
			return err
		}
		if p := byID[r.ProjectID]; p != nil {
			p.Resources = append(p.Resources, project.Resource{
				ID: r.ID, URI: r.URI, Aliases: aliases, Name: r.Name, Scopes: scopes, DefaultScopes: defaults,
				Profile: project.TokenProfile(r.Profile), AccessToken: int(r.AccessToken),
				SecretID: r.SecretID, SecretHash: r.SecretHash, Default: r.IsDefault, CreatedAt: fromMicros(r.CreatedAt),
			})
		}
	}
	return nil
}

func (d *DB) addScopes(ctx context.Context, byID map[string]*project.Project) error {
	rows, err := d.read.Policies(ctx)
	if err != nil {
		return wrap("read policies", err)
	}
	for _, r := range rows {
		document, err := policyOf(r.Document)
		if err != nil {
			return err
		}
		if p := byID[r.ProjectID]; p != nil {
			for _, s := range document.Scopes {
				p.Scopes = append(p.Scopes, project.Scope{Name: s.Name, Description: s.Description, Detail: s.Detail, ReadOnly: s.ReadOnly})
			}
		}
	}
	return nil
}

// Changes returns the change counter of every project by its id.
func (d *DB) Changes(ctx context.Context) (map[string]int64, error) {
	rows, err := d.read.Changes(ctx)
	if err != nil {
		return nil, wrap("read changes", err)
	}
	changes := make(map[string]int64, len(rows))
	for _, r := range rows {
		changes[r.ProjectID] = r.Change
	}
	return changes, nil
}

// CreateProject keeps a project whose hosts nobody else has.
func (d *DB) CreateProject(ctx context.Context, p project.Project, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		err := q.CreateProject(ctx, db.CreateProjectParams{
			ProjectID: p.ID, Name: p.Name, Issuer: p.Issuer, Vertical: string(p.Vertical), Environment: string(p.Environment),
			PublicToken: p.PublicToken, SecretID: p.SecretID, SecretHash: notNull(p.SecretHash),
			Settings: toJSON(p.Settings), CreatedAt: micros(p.CreatedAt),
		})
		if uniqueTaken(err) {
			return project.ErrConflict
		}
		if err != nil {
			return wrap("create project", err)
		}
		issuer := project.IssuerHost(p.Issuer)
		for _, host := range slices.Compact(slices.Sorted(slices.Values(append([]string{issuer}, p.Hosts...)))) {
			n, err := q.CreateProjectHost(ctx, db.CreateProjectHostParams{Host: host, ProjectID: p.ID, IsIssuer: host == issuer})
			if err != nil {
				return wrap("create project", err)
			}
			if n == 0 {
				return project.ErrConflict
			}
		}
		if err := q.CreateProjectCounter(ctx, p.ID); err != nil {
			return wrap("create project", err)
		}
		return record(ctx, q, e)
	})
}

// SaveSettings replaces name and settings of a project that nobody changed
// since change.
func (d *DB) SaveSettings(ctx context.Context, projectID string, change int64, name string, s project.Settings, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := raiseChangeFrom(ctx, q, projectID, &change); err != nil {
			return err
		}
		if err := q.SaveSettings(ctx, db.SaveSettingsParams{Name: name, Settings: toJSON(s), ProjectID: projectID}); err != nil {
			return wrap("save settings", err)
		}
		return record(ctx, q, e)
	})
}

// SetProjectSecret replaces the secret of a project.
func (d *DB) SetProjectSecret(ctx context.Context, projectID, secretID string, hash []byte, e audit.Event) error {
	return d.changeProject(ctx, projectID, func(q *db.Queries) error {
		if err := q.SetProjectSecret(ctx, db.SetProjectSecretParams{SecretID: secretID, SecretHash: hash, ProjectID: projectID}); err != nil {
			return wrap("set project secret", err)
		}
		return record(ctx, q, e)
	})
}

// AddResource keeps a resource server and what the policy document says of its
// scopes.
func (d *DB) AddResource(ctx context.Context, projectID string, seen *int64, r project.Resource, scopes []project.Scope, e audit.Event) error {
	return d.write(much(ctx), func(q *db.Queries) error {
		if err := raiseChangeFrom(ctx, q, projectID, seen); err != nil {
			return err
		}
		if err := checkTaken(ctx, q, projectID, r); err != nil {
			return err
		}
		id, err := q.SaveResourceServer(ctx, db.SaveResourceServerParams{
			ProjectID: projectID, ID: r.ID, URI: r.URI, URIKey: project.ResourceKey(r.URI), Aliases: toJSON(list(r.Aliases)), Name: r.Name,
			Scopes: toJSON(list(r.Scopes)), DefaultScopes: toJSON(list(r.DefaultScopes)), Profile: string(r.Profile),
			AccessToken: int64(r.AccessToken), SecretID: r.SecretID, SecretHash: r.SecretHash,
			IsDefault: r.Default, CreatedAt: micros(r.CreatedAt),
		})
		if err != nil {
			return wrap("save resource server", err)
		}
		if r.Default {
			if err := q.ClearOtherDefaults(ctx, projectID, id); err != nil {
				return wrap("save resource server", err)
			}
		}
		if err := describeScopes(ctx, q, projectID, scopes, micros(e.At)); err != nil {
			return err
		}
		if id != r.ID { // somebody registered it at the same moment
			return project.ErrConflict
		}
		return record(ctx, q, e)
	})
}

// checkTaken reads under the lock of changeProject, so that of two resource
// servers that want an address at once, one gets it.
func checkTaken(ctx context.Context, q *db.Queries, projectID string, r project.Resource) error {
	rows, err := q.ResourceAddresses(ctx, projectID)
	if err != nil {
		return wrap("read resource servers", err)
	}
	all := make([]project.Resource, len(rows))
	for i, row := range rows {
		aliases, err := fromJSON[[]string](row.Aliases)
		if err != nil {
			return err
		}
		all[i] = project.Resource{URI: row.URI, Aliases: aliases}
	}
	return r.CheckTaken(all)
}

// RemoveResource removes a resource server.
func (d *DB) RemoveResource(ctx context.Context, projectID, uri string, e audit.Event) error {
	return d.changeProject(ctx, projectID, func(q *db.Queries) error {
		n, err := q.DeleteResourceServer(ctx, projectID, project.ResourceKey(uri))
		if err != nil {
			return wrap("remove resource server", err)
		}
		if n == 0 {
			return project.ErrNotFound
		}
		return record(ctx, q, e)
	})
}

// changeProject is write for what is read whole by project.Directory. Raising
// the counter comes first: it also is the lock that lets fn read before it
// writes.
func (d *DB) changeProject(ctx context.Context, projectID string, fn func(q *db.Queries) error) error {
	return d.write(much(ctx), func(q *db.Queries) error {
		if err := raiseChange(ctx, q, projectID); err != nil {
			return err
		}
		return fn(q)
	})
}

func raiseChange(ctx context.Context, q *db.Queries, projectID string) error {
	n, err := q.RaiseChange(ctx, projectID)
	if err == nil && n == 0 {
		return project.ErrNotFound
	}
	return wrap("raise change", err)
}

// raiseChangeFrom is raiseChange, but returns project.ErrConflict where somebody
// else changed the project since it was seen, unless that is nil.
func raiseChangeFrom(ctx context.Context, q *db.Queries, projectID string, seen *int64) error {
	if seen == nil {
		return raiseChange(ctx, q, projectID)
	}
	n, err := q.RaiseChangeFrom(ctx, projectID, *seen)
	if err == nil && n == 0 {
		return project.ErrConflict
	}
	return wrap("raise change", err)
}

// list makes no list an empty one, which JSON tells apart.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// describeScopes defines scopes in the policy document, or describes them anew,
// as a new version of it. What a scope permits stays, and a sentence stays when
// the new one is empty. A sentence brings its own detail, or none; a detail alone
// joins the sentence that is there. The scopes of OpenID Connect are in no
// document.
func describeScopes(ctx context.Context, q *db.Queries, projectID string, scopes []project.Scope, now int64) error {
	document, err := readPolicy(ctx, q, projectID)
	if err != nil {
		return err
	}
	changed := false
	for _, s := range scopes {
		i := slices.IndexFunc(document.Scopes, func(old rbac.Scope) bool { return old.Name == s.Name })
		next := rbac.Scope{Name: s.Name, Description: s.Description, Detail: s.Detail, ReadOnly: s.ReadOnly}
		if i >= 0 {
			old := document.Scopes[i]
			next.Permissions = old.Permissions
			if s.Description == "" {
				next.Description, next.Detail, next.ReadOnly = old.Description, cmp.Or(s.Detail, old.Detail), old.ReadOnly
			}
			if next.Description == old.Description && next.Detail == old.Detail && next.ReadOnly == old.ReadOnly {
				continue
			}
		}
		if !rbac.Standard(s.Name) {
			document, changed = document.WithScopes(next), true
		}
	}
	if !changed {
		return nil
	}
	document.Version++
	if err := document.Validate(); err != nil {
		return err
	}
	return wrap("save policy", q.CreatePolicy(ctx, db.CreatePolicyParams{
		ProjectID: projectID, Version: document.Version, Document: toJSON(document), CreatedAt: now,
	}))
}

// readPolicy returns the policy document, version 0 where there is none yet.
func readPolicy(ctx context.Context, q *db.Queries, projectID string) (rbac.Policy, error) {
	row, err := q.Policy(ctx, projectID)
	if errors.Is(err, sql.ErrNoRows) {
		return rbac.Policy{}, nil
	}
	if err != nil {
		return rbac.Policy{}, wrap("read policy", err)
	}
	return policyOf(row)
}

// policyOf reads a kept document; "" is the empty policy.
func policyOf(document string) (rbac.Policy, error) {
	if document == "" {
		return rbac.Policy{}, nil
	}
	return rbac.Parse([]byte(document))
}

// Policy returns a project's policy document, version 0 where there is none.
func (d *DB) Policy(ctx context.Context, projectID string) (rbac.Policy, error) {
	return readPolicy(ctx, d.read, projectID)
}

// ApplyPolicy keeps a policy document as the next version. The change counter,
// raised first, makes two who read the same version wait for each other.
func (d *DB) ApplyPolicy(ctx context.Context, projectID string, policy rbac.Policy, e audit.Event) (int64, error) {
	seen := policy.Version
	policy.Version++
	err := d.changeProject(ctx, projectID, func(q *db.Queries) error {
		now, err := readPolicy(ctx, q, projectID)
		switch {
		case err != nil:
			return err
		case now.Version != seen:
			return identity.ErrStale
		}
		err = q.CreatePolicy(ctx, db.CreatePolicyParams{
			ProjectID: projectID, Version: policy.Version, Document: toJSON(policy), CreatedAt: micros(e.At),
		})
		if err != nil {
			return wrap("save policy", err)
		}
		return record(ctx, q, e)
	})
	return policy.Version, err
}
