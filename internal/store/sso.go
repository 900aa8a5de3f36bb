package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store/db"
)

// Connection returns the connection of an organization.
func (d *DB) Connection(ctx context.Context, projectID, organizationID string) (identity.Connection, error) {
	c, err := d.read.Connection(ctx, projectID, storable(organizationID))
	if err != nil {
		return identity.Connection{}, found("read connection", err, identity.ErrNotFound)
	}
	provider, err := fromJSON[identity.Provider](c.Provider)
	return identity.Connection{
		ID: c.ID, ProjectID: c.ProjectID, OrganizationID: c.OrganizationID, Issuer: c.Issuer, ClientID: c.ClientID,
		SealedSecret: c.ClientSecret, Active: c.Active, Provider: provider,
		CreatedAt: fromMicros(c.CreatedAt), UpdatedAt: fromMicros(c.UpdatedAt),
	}, err
}

// Connected lists the organizations with an active connection that an address
// can be in.
func (d *DB) Connected(ctx context.Context, projectID, emailFolded string) ([]string, error) {
	ids, err := d.read.Connected(ctx, db.ConnectedParams{
		ProjectID: projectID, EmailFolded: emailFolded, Domain: identity.DomainOf(emailFolded),
	})
	return ids, wrap("list connections", err)
}

// CreateConnection keeps a new connection.
func (d *DB) CreateConnection(ctx context.Context, c identity.Connection, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.CreateConnection(ctx, db.CreateConnectionParams{
			ProjectID: c.ProjectID, ID: c.ID, OrganizationID: c.OrganizationID, Issuer: c.Issuer, ClientID: c.ClientID,
			ClientSecret: notNull(c.SealedSecret), Active: c.Active, Provider: toJSON(c.Provider),
			CreatedAt: micros(c.CreatedAt), UpdatedAt: micros(c.UpdatedAt),
		})
		switch {
		case err != nil:
			return wrap("create connection", err)
		case n == 0:
			return identity.ErrConflict
		}
		return record(ctx, q, e)
	})
}

// ActivateConnection lets sign-ins through a connection.
func (d *DB) ActivateConnection(ctx context.Context, c identity.Connection, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.ActivateConnection(ctx, db.ActivateConnectionParams{UpdatedAt: micros(c.UpdatedAt), ProjectID: c.ProjectID, ID: c.ID})
		switch {
		case err != nil:
			return wrap("activate connection", err)
		case n == 0:
			return identity.ErrNotFound
		}
		return record(ctx, q, e)
	})
}

// SaveProvider replaces what the provider of a connection says.
func (d *DB) SaveProvider(ctx context.Context, c identity.Connection, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.SaveProvider(ctx, db.SaveProviderParams{
			Provider: toJSON(c.Provider), UpdatedAt: micros(c.UpdatedAt), ProjectID: c.ProjectID, ID: c.ID,
		})
		switch {
		case err != nil:
			return wrap("save provider", err)
		case n == 0:
			return identity.ErrNotFound
		}
		return record(ctx, q, e)
	})
}

// DeleteConnection removes a connection and ends the browsers that came by it.
// The organization is locked first: its settings must not come to need the
// connection at the same time.
func (d *DB) DeleteConnection(ctx context.Context, c identity.Connection, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.LockOrganization(ctx, c.ProjectID, c.OrganizationID)
		switch {
		case err != nil:
			return wrap("lock organization", err)
		case n == 0:
			return identity.ErrNotFound
		}
		n, err = q.DeleteConnection(ctx, c.ProjectID, c.ID)
		switch {
		case err != nil:
			return wrap("delete connection", err)
		case n == 0:
			return identity.ErrNotFound
		}
		row, err := q.Organization(ctx, c.ProjectID, c.OrganizationID)
		if err != nil {
			return wrap("read organization", err)
		}
		o, err := toOrganization(row)
		if err != nil {
			return err
		}
		if o.NeedsSSO() {
			return identity.ErrLockedOut
		}
		browsers, err := q.BrowsersOfConnection(ctx, db.BrowsersOfConnectionParams{
			ProjectID: c.ProjectID, OrganizationID: c.OrganizationID, Connection: toJSON(c.ID), // as it stands there
		})
		if err != nil {
			return wrap("list browsers", err)
		}
		for _, id := range browsers {
			if err := endBrowser(ctx, q, c.ProjectID, id); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
}

// EnterBySSO begins a member's session in a new browser. Sign-ins through one
// connection wait for each other, so that a person is bound once.
func (d *DB) EnterBySSO(ctx context.Context, n identity.Entry, connectionID, subject string, e audit.Event) (session identity.Session, member identity.Member, err error) {
	b, organizationID := n.Browser, n.Newcomer.OrganizationID
	err = d.write(ctx, func(q *db.Queries) error {
		locked, err := q.LockConnection(ctx, db.LockConnectionParams{ProjectID: b.ProjectID, ID: connectionID, OrganizationID: organizationID})
		switch {
		case err != nil:
			return wrap("lock connection", err)
		case locked == 0:
			return identity.ErrNotFound
		}
		row, joined, err := memberFor(ctx, q, n)
		if err != nil {
			return err
		}
		if row.Status != string(identity.Active) && !joined {
			o, err := q.Organization(ctx, b.ProjectID, organizationID)
			if err != nil {
				return wrap("read organization", err)
			}
			own, err := toOrganization(o)
			if err != nil {
				return err
			}
			if !slices.Contains(own.Settings.AllowedDomains, identity.DomainOf(b.EmailFolded)) {
				return identity.ErrUnproved
			}
		}
		if err := bindSubject(ctx, q, b.ProjectID, connectionID, subject, row.ID); err != nil {
			return err
		}
		if err := createBrowser(ctx, q, b); err != nil {
			return err
		}
		in := e
		in.Kind, in.Actor, in.Subject, in.Object = audit.SignedIn, row.ID, row.ID, connectionID
		if err := record(ctx, q, in); err != nil {
			return err
		}
		e.Kind = audit.MemberEntered
		if session, member, err = enter(ctx, q, n, row, joined, e); err != nil {
			return err
		}
		return endBefore(ctx, q, b.ProjectID, n.Ends)
	})
	return session, member, err
}

// bindSubject binds a provider's id of a person to a member, or returns
// identity.ErrOtherPerson when either is bound to another. A member who was
// removed gives the id back.
func bindSubject(ctx context.Context, q *db.Queries, projectID, connectionID, subject, memberID string) error {
	find := db.SSOSubjectParams{ProjectID: projectID, ConnectionID: connectionID, Subject: subject}
	bound, err := q.SSOSubject(ctx, find)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return wrap("read subject", err)
	case bound.MemberID == memberID:
		return nil
	case bound.Status != string(identity.Deleted):
		return identity.ErrOtherPerson
	default:
		if err := q.DeleteSSOSubject(ctx, db.DeleteSSOSubjectParams(find)); err != nil {
			return wrap("delete subject", err)
		}
	}
	n, err := q.CreateSSOSubject(ctx, db.CreateSSOSubjectParams{
		ProjectID: projectID, ConnectionID: connectionID, Subject: subject, MemberID: memberID,
	})
	if err == nil && n == 0 {
		return identity.ErrOtherPerson
	}
	return wrap("bind subject", err)
}

// KeepAttempt keeps an attempt as the one of its flow.
func (d *DB) KeepAttempt(ctx context.Context, a signin.Attempt) error {
	return d.write(ctx, func(q *db.Queries) error {
		return wrap("keep attempt", q.KeepAttempt(ctx, db.KeepAttemptParams{
			ProjectID: a.ProjectID, FlowID: a.FlowID, ID: a.ID, Hash: notNull(a.Hash), OrganizationID: a.OrganizationID,
			ConnectionID: a.ConnectionID, IsTest: a.Test, ProvesAgain: a.Again, CreatedAt: micros(a.CreatedAt), ExpiresAt: micros(a.ExpiresAt),
		}))
	})
}

// Attempt returns an attempt that has not run out.
func (d *DB) Attempt(ctx context.Context, projectID, id string, now time.Time) (signin.Attempt, error) {
	a, err := d.read.Attempt(ctx, db.AttemptParams{ProjectID: projectID, ID: id, Now: micros(now)})
	if err != nil {
		return signin.Attempt{}, found("read attempt", err, signin.ErrNotFound)
	}
	return signin.Attempt{
		ID: a.ID, ProjectID: a.ProjectID, FlowID: a.FlowID, Hash: a.Hash, OrganizationID: a.OrganizationID,
		ConnectionID: a.ConnectionID, Test: a.IsTest, Again: a.ProvesAgain, CreatedAt: fromMicros(a.CreatedAt), ExpiresAt: fromMicros(a.ExpiresAt),
	}, nil
}

// TakeAttempt uses an attempt up.
func (d *DB) TakeAttempt(ctx context.Context, projectID, id string, now time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.TakeAttempt(ctx, db.TakeAttemptParams{ProjectID: projectID, ID: id, Now: micros(now)})
		if err == nil && n == 0 {
			return signin.ErrNotFound
		}
		return wrap("take attempt", err)
	})
}
