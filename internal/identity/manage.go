package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/secret"
)

// Problems is everything that is wrong with what was given, one sentence each.
type Problems []string

func (p Problems) Error() string { return "identity: " + strings.Join(p, " ") }

// Fold gives the form of an address that identifies a person: Unicode form C,
// lower case, without blanks around it.
func Fold(email string) string {
	return strings.ToLower(norm.NFC.String(strings.TrimSpace(email)))
}

// checkAddress refuses what no code can be sent to. Only ASCII passes, where
// folding is lower case and no address looks like another.
func checkAddress(email string) error {
	if mail.CheckAddress(strings.TrimSpace(email)) != nil {
		return Problems{"Enter an e-mail address, such as you@company.com."}
	}
	return nil
}

// Organization returns an organization by id or slug, or ErrNotFound.
func (p *People) Organization(ctx context.Context, projectID, ref string) (Organization, error) {
	if strings.HasPrefix(ref, "organization-") {
		o, err := p.store.Organization(ctx, projectID, ref)
		if !errors.Is(err, ErrNotFound) {
			return o, err
		}
	}
	return p.store.OrganizationBySlug(ctx, projectID, strings.ToLower(ref))
}

// Organizations lists organizations; see OrganizationStore.
func (p *People) Organizations(ctx context.Context, projectID, query, after string, limit int) ([]Organization, error) {
	return p.store.Organizations(ctx, projectID, query, after, limit)
}

// CreateOrganization makes an organization without members. Of o, Name is
// needed; an empty Slug is made from it. The error may be Problems.
func (p *People) CreateOrganization(ctx context.Context, proj *project.Project, o Organization, e audit.Event) (Organization, error) {
	rules, err := p.Rules(ctx, proj)
	if err != nil {
		return Organization{}, err
	}
	now := p.now()
	o.ID, o.ProjectID = secret.NewID(now, "organization", string(proj.Environment)), proj.ID
	o.Active, o.Version, o.CreatedAt, o.UpdatedAt = true, 1, now, now
	if o.Slug == "" {
		o.Slug = NewSlug(o.Name)
	}
	if problems := o.Check(rules); problems != nil {
		return Organization{}, Problems(problems)
	}
	if o.NeedsSSO() { // it has no connection yet
		return Organization{}, Problems{lockedOut}
	}
	e.Kind, e.Object = audit.OrganizationCreated, o.ID
	return o, p.store.CreateOrganization(ctx, o, e)
}

const lockedOut = "Single sign-on alone would lock everybody out: the organization has no active connection."

// retries is how often a change is made again because another came between.
const retries = 3

// ChangeOrganization changes an organization: change gets it as it is now, and
// may be called again when another change came between. The error may be
// Problems, ErrConflict, or what change returned. What was wrong before, as a role
// that left the policy, holds no other change up.
func (p *People) ChangeOrganization(ctx context.Context, proj *project.Project, id string, change func(*Organization) error, e audit.Event) (Organization, error) {
	rules, err := p.Rules(ctx, proj)
	if err != nil {
		return Organization{}, err
	}
	for range retries {
		var o Organization
		if o, err = p.store.Organization(ctx, proj.ID, id); err != nil {
			return Organization{}, err
		}
		before := o.Check(rules)
		if err = change(&o); err != nil {
			return Organization{}, err
		}
		if problems := without(o.Check(rules), before); problems != nil {
			return Organization{}, problems
		}
		o.UpdatedAt = p.now()
		e.Kind, e.Object = audit.OrganizationChanged, o.ID
		err = p.store.SaveOrganization(ctx, o, e)
		switch {
		case errors.Is(err, ErrLockedOut):
			return Organization{}, Problems{lockedOut}
		case !errors.Is(err, ErrStale):
			o.Version++
			return o, err
		}
	}
	return Organization{}, err
}

// without are the problems that are not among those before.
func without(problems, before []string) Problems {
	var left Problems
	for _, one := range problems {
		if !slices.Contains(before, one) {
			left = append(left, one)
		}
	}
	return left
}

// SetOrganizationLogo gives an organization the logo of a picture file, drawn
// anew within the bounds of picture.Logo, or takes it away when file is nil. The
// error of a file that does not fit is picture.ErrUnfit.
func (p *People) SetOrganizationLogo(ctx context.Context, o Organization, file []byte, e audit.Event) error {
	var png []byte
	if file != nil {
		var err error
		if png, err = picture.Logo(file); err != nil {
			return err
		}
	}
	e.At, e.Kind, e.Object = p.now(), audit.OrganizationChanged, o.ID
	return p.store.SaveOrganizationLogo(ctx, o.ProjectID, o.ID, png, e)
}

// DeleteOrganization removes an organization with everything in it.
func (p *People) DeleteOrganization(ctx context.Context, projectID, id string, e audit.Event) error {
	e.Kind, e.Object = audit.OrganizationDeleted, id
	return p.store.DeleteOrganization(ctx, projectID, id, e)
}

// Member returns a member by id, or by whole address one who is not removed, or
// ErrNotFound.
func (p *People) Member(ctx context.Context, o Organization, ref string) (Member, error) {
	if strings.HasPrefix(ref, "member-") {
		return p.store.Member(ctx, o.ProjectID, o.ID, ref)
	}
	return p.store.MemberByAddress(ctx, o.ProjectID, o.ID, Fold(ref))
}

// Members lists members; see OrganizationStore.
func (p *People) Members(ctx context.Context, o Organization, q MemberQuery) ([]Member, error) {
	return p.store.Members(ctx, o.ProjectID, o.ID, q)
}

// AddMember adds a member to an organization. Of m, Email, Name, Roles and
// Status (Invited, Pending or Active) are read. The error may be Problems or
// ErrConflict.
func (p *People) AddMember(ctx context.Context, proj *project.Project, o Organization, m Member, e audit.Event) (Member, error) {
	now := p.now()
	m.ID, m.ProjectID, m.OrganizationID = secret.NewID(now, "member", string(proj.Environment)), proj.ID, o.ID
	m.Email = strings.TrimSpace(m.Email)
	if err := checkAddress(m.Email); err != nil {
		return Member{}, err
	}
	m.EmailFolded, m.Version, m.CreatedAt, m.UpdatedAt = Fold(m.Email), 1, now, now
	rules, err := p.Rules(ctx, proj)
	if err != nil {
		return Member{}, err
	}
	if problems := m.check(rules, o); problems != nil {
		return Member{}, problems
	}
	e.Kind, e.Subject, e.Object = audit.MemberAdded, m.ID, o.ID
	if m.Status == Invited {
		e.Kind, m.InvitedAt = audit.MemberInvited, now
	}
	return m, p.store.CreateMember(ctx, m, e)
}

// ChangeMember changes a member's name, roles, status or metadata, as
// ChangeOrganization does.
func (p *People) ChangeMember(ctx context.Context, proj *project.Project, o Organization, id string, change func(*Member) error, e audit.Event) (Member, error) {
	rules, err := p.Rules(ctx, proj)
	if err != nil {
		return Member{}, err
	}
	for range retries {
		var m Member
		if m, err = p.store.Member(ctx, proj.ID, o.ID, id); err != nil {
			return Member{}, err
		}
		before, wrong := m.Status, m.check(rules, o)
		if err = change(&m); err != nil {
			return Member{}, err
		}
		if problems := without(m.check(rules, o), wrong); problems != nil {
			return Member{}, problems
		}
		m.UpdatedAt = p.now()
		e.Subject, e.Object = m.ID, o.ID
		switch {
		case e.Kind == audit.MemberInvited && m.Status == Invited: // again
		case before != Deleted && m.Status == Deleted:
			e.Kind = audit.MemberRemoved
		case before == Deleted && m.Status != Deleted:
			e.Kind = audit.MemberRestored
		default:
			e.Kind = audit.MemberChanged
		}
		if err = p.store.SaveMember(ctx, m, e); !errors.Is(err, ErrStale) {
			m.Version++
			return m, err
		}
	}
	return Member{}, err
}

// check names what is wrong with a member of an organization, nil for nothing.
func (m Member) check(rules Rules, o Organization) Problems {
	var problems Problems
	for i, r := range m.Roles {
		switch {
		case r == rbac.RoleMember:
			problems = append(problems, "Everybody has the role 'member'; it cannot be given.")
		case !rules.role(o, r):
			problems = append(problems, fmt.Sprintf("There is no role '%s' here.", r))
		case slices.Contains(m.Roles[:i], r):
			problems = append(problems, fmt.Sprintf("The role '%s' is named twice.", r))
		}
	}
	if m.Status != Active && o.NeedsSSO() && !o.inDomains(Fold(m.Email)) { // the address is never proved (docs/decisions/0009)
		problems = append(problems, "The organization takes single sign-on alone, which lets in new addresses of its domains only; this one is of none.")
	}
	if m.Name != "" && !Printable(m.Name, maxName) {
		problems = append(problems, fmt.Sprintf("The name must have at most %d characters that can be read.", maxName))
	}
	if tooMuch(m.TrustedMetadata) || tooMuch(m.UntrustedMetadata) {
		problems = append(problems, fmt.Sprintf("Metadata must be at most %d bytes of JSON.", maxMetadata))
	}
	if len(m.ExternalID) > maxSlug {
		problems = append(problems, fmt.Sprintf("The external id must have at most %d bytes.", maxSlug))
	}
	return problems
}

// SignOutMember ends every session of a member, and reports how many there
// were. The address has to be proved anew before the member goes in again.
func (p *People) SignOutMember(ctx context.Context, m Member, e audit.Event) (int, error) {
	e.Kind, e.Subject = audit.SignedOut, m.ID
	return p.store.EndMemberSessions(ctx, m.ProjectID, m.ID, e)
}

// RevokeMember ends every session and takes back every grant of a member, and
// reports how many grants there were. The member can sign in again.
func (p *People) RevokeMember(ctx context.Context, m Member, e audit.Event) (int, error) {
	e.Kind, e.Subject, e.Object = audit.MemberRevoked, m.ID, m.OrganizationID
	return p.store.RevokeMember(ctx, m, e)
}
