package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/store/db"
)

// Organization returns an organization by id.
func (d *DB) Organization(ctx context.Context, projectID, id string) (identity.Organization, error) {
	row, err := d.read.Organization(ctx, projectID, id)
	if err != nil {
		return identity.Organization{}, found("read organization", err, identity.ErrNotFound)
	}
	return toOrganization(row)
}

// OrganizationBySlug returns an organization by slug.
func (d *DB) OrganizationBySlug(ctx context.Context, projectID, slug string) (identity.Organization, error) {
	row, err := d.read.OrganizationBySlug(ctx, projectID, slug)
	if err != nil {
		return identity.Organization{}, found("read organization", err, identity.ErrNotFound)
	}
	return toOrganization(row)
}

// Organizations lists organizations whose id begins with query, and then those
// whose slug does.
func (d *DB) Organizations(ctx context.Context, projectID, query, after string, limit int) ([]identity.Organization, error) {
	prefix, after := strings.ToLower(strings.TrimSpace(storable(query))), storable(after)
	var rows []db.Organization
	slug := ""
	if after == "" || strings.HasPrefix(after, prefix) {
		var err error
		rows, err = d.read.Organizations(ctx, db.OrganizationsParams{ProjectID: projectID, FromID: from(prefix, after), BelowID: below(prefix), MaxRows: int32(limit)})
		if err != nil {
			return nil, wrap("list organizations", err)
		}
	} else {
		last, err := d.Organization(ctx, projectID, after)
		if err != nil {
			return nil, err
		}
		slug = last.Slug
	}
	if len(rows) < limit && prefix != "" {
		more, err := d.read.OrganizationsBySlug(ctx, db.OrganizationsBySlugParams{
			ProjectID: projectID, FromText: from(prefix, slug), BelowText: below(prefix), FromID: prefix, BelowID: below(prefix),
			MaxRows: int32(limit - len(rows)),
		})
		if err != nil {
			return nil, wrap("list organizations", err)
		}
		rows = append(rows, more...)
	}
	return each(rows, toOrganization)
}

// CreateOrganization keeps a new organization.
func (d *DB) CreateOrganization(ctx context.Context, o identity.Organization, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := createOrganization(ctx, q, o); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

func createOrganization(ctx context.Context, q *db.Queries, o identity.Organization) error {
	n, err := q.CreateOrganization(ctx, db.CreateOrganizationParams{
		ProjectID: o.ProjectID, ID: o.ID, Name: o.Name, Slug: o.Slug, ExternalID: o.ExternalID, Active: o.Active,
		Settings: toJSON(o.Settings), TrustedMetadata: toJSON(object(o.TrustedMetadata)), Roles: toJSON(list(o.Roles)),
		CreatedAt: micros(o.CreatedAt), UpdatedAt: micros(o.UpdatedAt),
	})
	switch {
	case err != nil:
		return wrap("create organization", err)
	case n == 0:
		return identity.ErrConflict
	}
	return keepDomains(ctx, q, o)
}

// keepDomains writes the domains whose people may join an organization.
func keepDomains(ctx context.Context, q *db.Queries, o identity.Organization) error {
	if err := q.DeleteOrganizationDomains(ctx, o.ProjectID, o.ID); err != nil {
		return wrap("delete domains", err)
	}
	if !o.Settings.Provisioning {
		return nil
	}
	for _, domain := range o.Settings.AllowedDomains {
		if err := q.CreateOrganizationDomain(ctx, db.CreateOrganizationDomainParams{ProjectID: o.ProjectID, Domain: domain, OrganizationID: o.ID}); err != nil {
			return wrap("create domain", err)
		}
	}
	return nil
}

// SaveOrganization replaces what an organization is.
func (d *DB) SaveOrganization(ctx context.Context, o identity.Organization, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.SaveOrganization(ctx, db.SaveOrganizationParams{
			ProjectID: o.ProjectID, ID: o.ID, Name: o.Name, Slug: o.Slug, ExternalID: o.ExternalID, Active: o.Active,
			Settings: toJSON(o.Settings), TrustedMetadata: toJSON(object(o.TrustedMetadata)), Roles: toJSON(list(o.Roles)),
			UpdatedAt: micros(o.UpdatedAt), Version: o.Version,
		})
		switch {
		case err != nil && uniqueTaken(err):
			return identity.ErrConflict
		case err != nil:
			return wrap("save organization", err)
		case n == 0:
			return identity.ErrStale
		}
		if o.NeedsSSO() { // the row is held: a connection that is deleted meanwhile waits, and stays
			c, err := q.Connection(ctx, o.ProjectID, o.ID)
			if err != nil {
				return found("read connection", err, identity.ErrLockedOut)
			}
			if !c.Active {
				return identity.ErrLockedOut
			}
		}
		if err := keepDomains(ctx, q, o); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// DeleteOrganization removes an organization and all that hangs on it.
func (d *DB) DeleteOrganization(ctx context.Context, projectID, id string, e audit.Event) error {
	return d.write(much(ctx), func(q *db.Queries) error {
		grants, err := q.RevokeGrantsInOrganization(ctx, db.RevokeGrantsInOrganizationParams{Now: micros(e.At), ProjectID: projectID, Organization: id})
		if err != nil {
			return wrap("revoke grants", err)
		}
		if err := endGrants(ctx, q, projectID, grants, e.At, e.At.Add(longestAccessToken)); err != nil {
			return err
		}
		if err := q.EndSessionsOfOrganization(ctx, projectID, id); err != nil {
			return wrap("end sessions", err)
		}
		n, err := q.DeleteOrganization(ctx, projectID, id)
		switch {
		case err != nil:
			return wrap("delete organization", err)
		case n == 0:
			return identity.ErrNotFound
		}
		return record(ctx, q, e)
	})
}

// Member returns a member of an organization.
func (d *DB) Member(ctx context.Context, projectID, organizationID, id string) (identity.Member, error) {
	row, err := d.read.Member(ctx, db.MemberParams{ProjectID: projectID, ID: id, OrganizationID: organizationID})
	if err != nil {
		return identity.Member{}, found("read member", err, identity.ErrNotFound)
	}
	return toMember(row)
}

// MemberByAddress returns the member who has an address and is not removed.
func (d *DB) MemberByAddress(ctx context.Context, projectID, organizationID, emailFolded string) (identity.Member, error) {
	row, err := d.read.MemberByEmail(ctx, db.MemberByEmailParams{ProjectID: projectID, OrganizationID: organizationID, EmailFolded: emailFolded})
	if err != nil {
		return identity.Member{}, found("read member", err, identity.ErrNotFound)
	}
	return toMember(row)
}

// MemberAndOrganization returns both.
func (d *DB) MemberAndOrganization(ctx context.Context, projectID, organizationID, id string) (identity.Member, identity.Organization, error) {
	row, err := d.read.MemberAndOrganization(ctx, db.MemberAndOrganizationParams{ProjectID: projectID, ID: id, OrganizationID: organizationID})
	if err != nil {
		return identity.Member{}, identity.Organization{}, found("read member", err, identity.ErrNotFound)
	}
	return both(row.Member, row.Organization)
}

func both(m db.Member, o db.Organization) (identity.Member, identity.Organization, error) {
	member, err := toMember(m)
	if err != nil {
		return identity.Member{}, identity.Organization{}, err
	}
	organization, err := toOrganization(o)
	return member, organization, err
}

// Members lists members of an organization.
func (d *DB) Members(ctx context.Context, projectID, organizationID string, m identity.MemberQuery) ([]identity.Member, error) {
	role := ""
	if m.Role != "" {
		role = toJSON(m.Role) // as it stands in the list
	}
	rows, err := d.read.Members(ctx, db.MembersParams{
		ProjectID: projectID, OrganizationID: organizationID, After: m.After, Status: string(m.Status),
		Part: identity.Fold(m.Text), Whole: m.Text, Role: role, MaxRows: int32(m.Limit),
	})
	if err != nil {
		return nil, wrap("list members", err)
	}
	return each(rows, toMember)
}

// CreateMember keeps a new member.
func (d *DB) CreateMember(ctx context.Context, m identity.Member, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.LockOrganization(ctx, m.ProjectID, m.OrganizationID)
		switch {
		case err != nil:
			return wrap("lock organization", err)
		case n == 0:
			return identity.ErrNotFound
		}
		if err := createMember(ctx, q, m); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

func createMember(ctx context.Context, q *db.Queries, m identity.Member) error {
	n, err := q.CreateMember(ctx, db.CreateMemberParams{
		ProjectID: m.ProjectID, ID: m.ID, OrganizationID: m.OrganizationID, Email: m.Email, EmailFolded: m.EmailFolded,
		Name: m.Name, Status: string(m.Status), Roles: toJSON(list(m.Roles)), IsAdmin: isAdmin(m), ExternalID: m.ExternalID,
		TrustedMetadata: toJSON(object(m.TrustedMetadata)), UntrustedMetadata: toJSON(object(m.UntrustedMetadata)),
		CreatedAt: micros(m.CreatedAt), UpdatedAt: micros(m.UpdatedAt), LastSignInAt: micros(m.LastSignInAt), InvitedAt: micros(m.InvitedAt),
	})
	if err == nil && n == 0 {
		return identity.ErrConflict
	}
	return wrap("create member", err)
}

func isAdmin(m identity.Member) bool { return slices.Contains(m.Roles, rbac.RoleAdmin) }

// SaveMember replaces what a member is. The organization is locked first, so
// that two administrators who remove each other at once do not both go.
func (d *DB) SaveMember(ctx context.Context, m identity.Member, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.LockOrganization(ctx, m.ProjectID, m.OrganizationID)
		switch {
		case err != nil:
			return wrap("lock organization", err)
		case n == 0:
			return identity.ErrNotFound
		}
		before, err := q.Admins(ctx, m.ProjectID, m.OrganizationID)
		if err != nil {
			return wrap("count administrators", err)
		}
		n, err = q.SaveMember(ctx, db.SaveMemberParams{
			ProjectID: m.ProjectID, ID: m.ID, OrganizationID: m.OrganizationID, Name: m.Name, Status: string(m.Status),
			Roles: toJSON(list(m.Roles)), IsAdmin: isAdmin(m), ExternalID: m.ExternalID,
			TrustedMetadata: toJSON(object(m.TrustedMetadata)), UntrustedMetadata: toJSON(object(m.UntrustedMetadata)),
			UpdatedAt: micros(m.UpdatedAt), InvitedAt: micros(m.InvitedAt), Version: m.Version,
		})
		switch {
		case err != nil && uniqueTaken(err):
			return identity.ErrConflict
		case err != nil:
			return wrap("save member", err)
		case n == 0:
			return identity.ErrStale
		}
		after, err := q.Admins(ctx, m.ProjectID, m.OrganizationID)
		switch {
		case err != nil:
			return wrap("count administrators", err)
		case before > 0 && after == 0:
			return identity.ErrLastAdmin
		}
		if m.Status == identity.Deleted {
			if _, err := endSubject(ctx, q, m.ProjectID, m.ID, e.At); err != nil {
				return err
			}
			if _, err := revokeSubject(ctx, q, m.ProjectID, m.ID, e.At); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
}

// EndMemberSessions ends every session of a member, and what proofs of the
// address from before are worth there.
func (d *DB) EndMemberSessions(ctx context.Context, projectID, memberID string, e audit.Event) (int, error) {
	var n int
	err := d.write(ctx, func(q *db.Queries) (err error) {
		if n, err = endSubject(ctx, q, projectID, memberID, e.At); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
	return n, err
}

// LeaveEverywhere signs a member out, and ends every browser in which the
// person's address was proved. What an organization's own service says about an
// address does not reach so far: from a browser that it vouches for, no other one
// ends.
func (d *DB) LeaveEverywhere(ctx context.Context, m identity.Member, b identity.Browser, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if _, err := endSubject(ctx, q, m.ProjectID, m.ID, e.At); err != nil {
			return err
		}
		browsers := []string{b.ID}
		if b.Confined() == "" {
			var err error
			if browsers, err = q.BrowsersOfAddress(ctx, b.ProjectID, b.EmailFolded); err != nil {
				return wrap("list browsers", err)
			}
		}
		for _, id := range browsers {
			if err := endBrowser(ctx, q, b.ProjectID, id); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
}

// RevokeMember ends every session and every grant of a member and reports how
// many grants lived.
func (d *DB) RevokeMember(ctx context.Context, m identity.Member, e audit.Event) (grants int, err error) {
	err = d.write(ctx, func(q *db.Queries) error {
		if _, err := q.Member(ctx, db.MemberParams{ProjectID: m.ProjectID, ID: m.ID, OrganizationID: m.OrganizationID}); err != nil {
			return found("read member", err, identity.ErrNotFound)
		}
		if _, err := endSubject(ctx, q, m.ProjectID, m.ID, e.At); err != nil {
			return err
		}
		var err error
		if grants, err = revokeSubject(ctx, q, m.ProjectID, m.ID, e.At); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
	return grants, err
}

// endSubject ends the sessions of a member, and the browsers they are below. The
// address was perhaps proved in other browsers, which are at the chooser or in
// other organizations: those stay, but their proofs open this organization no
// more.
func endSubject(ctx context.Context, q *db.Queries, projectID, subject string, now time.Time) (int, error) {
	changed, err := q.EndMemberProofs(ctx, db.EndMemberProofsParams{Now: micros(now), ProjectID: projectID, ID: subject})
	if err == nil && changed == 0 {
		err = identity.ErrNotFound
	}
	if err != nil {
		return 0, wrap("end proofs", err)
	}
	browsers, err := q.BrowsersOfSubject(ctx, projectID, subject)
	if err != nil {
		return 0, wrap("list browsers", err)
	}
	n, err := q.EndSessions(ctx, projectID, subject)
	if err != nil {
		return 0, wrap("end sessions", err)
	}
	for _, id := range browsers {
		if err := endBrowser(ctx, q, projectID, id); err != nil {
			return 0, err
		}
	}
	return int(n), nil
}

func endBrowser(ctx context.Context, q *db.Queries, projectID, id string) error {
	if err := q.EndBrowserSessions(ctx, projectID, id); err != nil {
		return wrap("end sessions", err)
	}
	_, err := q.EndBrowser(ctx, projectID, id)
	return wrap("end browser", err)
}

// revokeSubject ends every grant of a user or member, appends to the feed, and
// reports how many lived.
func revokeSubject(ctx context.Context, q *db.Queries, projectID, subject string, now time.Time) (int, error) {
	ids, err := q.RevokeGrantsOfSubject(ctx, db.RevokeGrantsOfSubjectParams{Now: micros(now), ProjectID: projectID, Subject: subject})
	if err != nil {
		return 0, wrap("revoke grants", err)
	}
	return len(ids), endGrants(ctx, q, projectID, ids, now, now.Add(longestAccessToken))
}

// endGrants ends the families of grants that were just revoked, and appends all
// of it to the feed.
func endGrants(ctx context.Context, q *db.Queries, projectID string, ids []string, now, until time.Time) error {
	var feed []oauth.Revocation
	for _, id := range ids {
		families, err := revokeFamilies(ctx, q, projectID, id, now, until)
		if err != nil {
			return err
		}
		feed = append(append(feed, families...), oauth.Revocation{Kind: grantRevoked, Value: id, Until: until})
	}
	return publish(ctx, q, projectID, now, feed)
}

// Discover lists the organizations that an address can be in.
func (d *DB) Discover(ctx context.Context, projectID, emailFolded string, limit int) ([]identity.Choice, error) {
	members, err := d.read.Memberships(ctx, db.MembershipsParams{ProjectID: projectID, EmailFolded: emailFolded, MaxRows: int32(limit)})
	if err != nil {
		return nil, wrap("list memberships", err)
	}
	var choices []identity.Choice
	for _, row := range members {
		m, o, err := both(row.Member, row.Organization)
		if err != nil {
			return nil, err
		}
		choices = append(choices, identity.Choice{Organization: o, Member: m})
	}
	if len(choices) == limit {
		return choices, nil
	}
	joinable, err := d.read.JoinableOrganizations(ctx, db.JoinableOrganizationsParams{
		ProjectID: projectID, Domain: identity.DomainOf(emailFolded), EmailFolded: emailFolded, MaxRows: int32(limit - len(choices)),
	})
	if err != nil {
		return nil, wrap("list organizations of a domain", err)
	}
	for _, row := range joinable {
		o, err := toOrganization(row.Organization)
		if err != nil {
			return nil, err
		}
		choices = append(choices, identity.Choice{Organization: o})
	}
	return choices, nil
}

// Browser returns a browser that has not run out.
func (d *DB) Browser(ctx context.Context, projectID, id string, now time.Time) (identity.Browser, error) {
	b, err := d.read.Browser(ctx, db.BrowserParams{ProjectID: projectID, ID: id, Now: micros(now)})
	if err != nil {
		return identity.Browser{}, found("read browser", err, identity.ErrNotFound)
	}
	factors, err := fromJSON[[]identity.Factor](b.Factors)
	return identity.Browser{
		ID: b.ID, ProjectID: b.ProjectID, SecretHash: b.SecretHash, Email: b.Email, EmailFolded: b.EmailFolded,
		Factors: factors, OrganizationID: b.OrganizationID, Address: b.Address, UserAgent: b.UserAgent,
		CreatedAt: fromMicros(b.CreatedAt), LastSeenAt: fromMicros(b.LastSeenAt),
		IdleExpiresAt: fromMicros(b.IdleExpiresAt), ExpiresAt: fromMicros(b.ExpiresAt),
	}, err
}

func createBrowser(ctx context.Context, q *db.Queries, b identity.Browser) error {
	return wrap("create browser", q.CreateBrowser(ctx, db.CreateBrowserParams{
		ProjectID: b.ProjectID, ID: b.ID, SecretHash: notNull(b.SecretHash), Email: b.Email, EmailFolded: b.EmailFolded,
		Factors: toJSON(b.Factors), Address: b.Address, UserAgent: storable(b.UserAgent),
		CreatedAt: micros(b.CreatedAt), LastSeenAt: micros(b.LastSeenAt),
		IdleExpiresAt: micros(b.IdleExpiresAt), ExpiresAt: micros(b.ExpiresAt),
	}))
}

// BrowserSession returns the session of a browser in the organization it chose.
func (d *DB) BrowserSession(ctx context.Context, b identity.Browser, now time.Time) (identity.Session, identity.Member, identity.Organization, error) {
	row, err := d.read.BrowserSession(ctx, db.BrowserSessionParams{
		ProjectID: b.ProjectID, BrowserID: b.ID, OrganizationID: b.OrganizationID, Now: micros(now),
	})
	if err != nil {
		return identity.Session{}, identity.Member{}, identity.Organization{}, found("read session", err, identity.ErrNotFound)
	}
	s, err := toSession(row.Session)
	if err != nil {
		return identity.Session{}, identity.Member{}, identity.Organization{}, err
	}
	m, o, err := both(row.Member, row.Organization)
	return s, m, o, err
}

// Enter begins a member's session below a browser. The member is found by the
// address that the browser proved, never by an id that somebody sent.
func (d *DB) Enter(ctx context.Context, n identity.Entry, e audit.Event) (session identity.Session, member identity.Member, err error) {
	err = d.write(ctx, func(q *db.Queries) error {
		row, joined, err := memberFor(ctx, q, n)
		if err != nil {
			return err
		}
		session, member, err = enter(ctx, q, n, row, joined, e)
		return err
	})
	return session, member, err
}

// FoundOrganization makes an organization with its first member, and enters it.
func (d *DB) FoundOrganization(ctx context.Context, o identity.Organization, n identity.Entry, e audit.Event) (session identity.Session, member identity.Member, err error) {
	err = d.write(ctx, func(q *db.Queries) error {
		made := oauth.Counter{Kind: "organization", Key: n.Browser.EmailFolded, Limit: identity.OrganizationsADay, Window: 24 * time.Hour}
		ok, err := count(ctx, q, o.ProjectID, made, o.CreatedAt)
		switch {
		case err != nil:
			return err
		case !ok:
			return identity.ErrLimited
		}
		if err := createOrganization(ctx, q, o); err != nil {
			return err
		}
		if err := createMember(ctx, q, n.Newcomer); err != nil {
			return err
		}
		founded := e
		founded.Kind, founded.Actor, founded.Subject, founded.Object = audit.OrganizationCreated, n.Newcomer.ID, n.Newcomer.ID, o.ID
		if err := record(ctx, q, founded); err != nil {
			return err
		}
		row, err := q.Member(ctx, db.MemberParams{ProjectID: o.ProjectID, ID: n.Newcomer.ID, OrganizationID: o.ID})
		if err != nil {
			return wrap("read member", err)
		}
		session, member, err = enter(ctx, q, n, row, true, e)
		return err
	})
	return session, member, err
}

func enter(ctx context.Context, q *db.Queries, n identity.Entry, row db.Member, joined bool, e audit.Event) (identity.Session, identity.Member, error) {
	session, b := n.Session, n.Browser
	fail := func(what string, err error) (identity.Session, identity.Member, error) {
		return identity.Session{}, identity.Member{}, wrap(what, err)
	}
	proofsAfter, err := q.MemberEnters(ctx, db.MemberEntersParams{Now: micros(session.CreatedAt), ProjectID: b.ProjectID, ID: row.ID})
	switch {
	case err != nil:
		return identity.Session{}, identity.Member{}, found("enter", err, identity.ErrNotFound)
	case proofsAfter >= micros(b.AuthTime()):
		return fail("enter", identity.ErrOldProof)
	}
	changed, err := q.ChooseOrganization(ctx, db.ChooseOrganizationParams{
		OrganizationID: row.OrganizationID, ProjectID: b.ProjectID, ID: b.ID, Now: micros(session.CreatedAt),
	})
	if err == nil && changed == 0 {
		err = identity.ErrNotFound
	}
	if err != nil {
		return fail("choose organization", err)
	}
	err = q.EndBrowserSession(ctx, db.EndBrowserSessionParams{ProjectID: b.ProjectID, BrowserID: b.ID, OrganizationID: row.OrganizationID})
	if err != nil {
		return fail("end session", err)
	}
	session.Subject, session.OrganizationID, session.BrowserID = row.ID, row.OrganizationID, b.ID
	if err := createSession(ctx, q, session); err != nil {
		return fail("enter", err)
	}
	err = q.EndOldBrowserSessions(ctx, db.EndOldBrowserSessionsParams{ProjectID: b.ProjectID, BrowserID: b.ID, Keep: int32(n.Keep)})
	if err != nil {
		return fail("end old sessions", err)
	}
	e.Actor, e.Subject, e.Object = row.ID, row.ID, row.OrganizationID
	if joined || row.Status != string(identity.Active) {
		in := e
		in.Kind = audit.MemberJoined
		if err := record(ctx, q, in); err != nil {
			return fail("enter", err)
		}
	}
	row.Status, row.LastSignInAt = string(identity.Active), micros(session.CreatedAt)
	member, err := toMember(row)
	if err != nil {
		return fail("enter", err)
	}
	return session, member, record(ctx, q, e)
}

// memberFor finds the member with a browser's address, or lets it join by its
// domain. Somebody who was removed does not come back that way.
func memberFor(ctx context.Context, q *db.Queries, n identity.Entry) (row db.Member, joined bool, err error) {
	b, organization := n.Browser, n.Newcomer.OrganizationID
	find := db.MemberByEmailParams{ProjectID: b.ProjectID, OrganizationID: organization, EmailFolded: b.EmailFolded}
	row, err = q.MemberByEmail(ctx, find)
	if err == nil && lapsed(row, n.Session.CreatedAt) {
		return row, false, identity.ErrNotFound
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return row, false, wrap("read member", err)
	}
	removed, err := q.RemovedMembersAt(ctx, db.RemovedMembersAtParams(find))
	if err != nil {
		return row, false, wrap("read member", err)
	}
	open, err := q.CanJoinByDomain(ctx, db.CanJoinByDomainParams{
		ProjectID: b.ProjectID, Domain: identity.DomainOf(b.EmailFolded), OrganizationID: organization,
	})
	switch {
	case err != nil:
		return row, false, wrap("read domain", err)
	case removed > 0 || open == 0:
		return row, false, identity.ErrNotFound
	}
	if err := createMember(ctx, q, n.Newcomer); err != nil && !errors.Is(err, identity.ErrConflict) {
		return row, false, err // in a conflict another browser was first
	}
	row, err = q.MemberByEmail(ctx, find)
	return row, row.ID == n.Newcomer.ID, wrap("read member", err)
}

// lapsed reports whether a row is an invitation that was not taken up in time.
func lapsed(row db.Member, now time.Time) bool {
	return identity.Member{Status: identity.MemberStatus(row.Status), InvitedAt: fromMicros(row.InvitedAt)}.Lapsed(now)
}

// TouchBrowser moves the idle expiry of a browser and of what is below it.
func (d *DB) TouchBrowser(ctx context.Context, projectID, id string, seen, idleExpires time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		err := q.TouchBrowser(ctx, db.TouchBrowserParams{LastSeenAt: micros(seen), IdleExpiresAt: micros(idleExpires), ProjectID: projectID, ID: id})
		if err != nil {
			return wrap("touch browser", err)
		}
		return wrap("touch sessions", q.TouchBrowserSessions(ctx, db.TouchBrowserSessionsParams{
			IdleExpiresAt: micros(idleExpires), ProjectID: projectID, BrowserID: id,
		}))
	})
}

// EndBrowser ends a browser with all its sessions.
func (d *DB) EndBrowser(ctx context.Context, projectID, id string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := endBrowser(ctx, q, projectID, id); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

func toOrganization(o db.Organization) (identity.Organization, error) {
	settings, err1 := fromJSON[identity.OrganizationSettings](o.Settings)
	metadata, err2 := fromJSON[map[string]any](o.TrustedMetadata)
	roles, err3 := fromJSON[[]rbac.Role](o.Roles)
	return identity.Organization{
		ID: o.ID, ProjectID: o.ProjectID, Name: o.Name, Slug: o.Slug, ExternalID: o.ExternalID, Active: o.Active,
		Settings: settings, TrustedMetadata: metadata, Roles: roles, Logo: o.Logo, Version: o.Version,
		CreatedAt: fromMicros(o.CreatedAt), UpdatedAt: fromMicros(o.UpdatedAt),
	}, errors.Join(err1, err2, err3)
}

func toMember(m db.Member) (identity.Member, error) {
	roles, err1 := fromJSON[[]string](m.Roles)
	trusted, err2 := fromJSON[map[string]any](m.TrustedMetadata)
	untrusted, err3 := fromJSON[map[string]any](m.UntrustedMetadata)
	return identity.Member{
		ID: m.ID, ProjectID: m.ProjectID, OrganizationID: m.OrganizationID, Email: m.Email, EmailFolded: m.EmailFolded,
		Name: m.Name, Status: identity.MemberStatus(m.Status), Roles: roles, ExternalID: m.ExternalID,
		TrustedMetadata: trusted, UntrustedMetadata: untrusted, Version: m.Version,
		CreatedAt: fromMicros(m.CreatedAt), UpdatedAt: fromMicros(m.UpdatedAt), LastSignInAt: fromMicros(m.LastSignInAt), InvitedAt: fromMicros(m.InvitedAt),
	}, errors.Join(err1, err2, err3)
}

// each turns rows into values.
func each[Row, Value any](rows []Row, to func(Row) (Value, error)) ([]Value, error) {
	values := make([]Value, len(rows))
	for i, row := range rows {
		var err error
		if values[i], err = to(row); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// object keeps JSON from being null, as list does.
func object(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
