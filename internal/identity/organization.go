package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/rbac"
)

// Errors about organizations and members.
var (
	// ErrConflict says that a slug, address or external id is taken.
	ErrConflict = errors.New("identity: taken")
	// ErrStale says that somebody else changed the row since it was read.
	ErrStale = errors.New("identity: changed in between")
	// ErrLastAdmin says that the organization would have no administrator left.
	ErrLastAdmin = errors.New("identity: the last administrator stays")
	// ErrLimited says that an address made too many organizations today.
	ErrLimited = errors.New("identity: too many organizations")
	// ErrMethod says that the organization does not accept the way in which the
	// person proved who they are.
	ErrMethod = errors.New("identity: the organization asks for another way to sign in")
	// ErrOldProof says that the member was signed out everywhere since the person
	// proved who they are.
	ErrOldProof = errors.New("identity: the proof is older than the sign-out")
)

// Organization is a customer of a B2B project: members, and rules for them.
type Organization struct {
	ID              string // organization-<test|live>-<uuid>
	ProjectID       string
	Name            string
	Slug            string // unique in the project; lower case
	ExternalID      string // the customer's id elsewhere, unique in the project, "" for none
	Active          bool   // false: suspended, nobody gets in and every token is inactive
	Settings        OrganizationSettings
	TrustedMetadata map[string]any // written by the operator's programs alone
	Roles           []rbac.Role    // roles of this organization alone
	Logo            string         // SHA-256 of a PNG in hex, "" without one
	Version         int64          // rises with every change
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// OrganizationSettings are an organization's own rules. The zero value is not
// useful: start from DefaultOrganization.
type OrganizationSettings struct {
	// AllowedDomains are the e-mail domains of its people, lower case. They count
	// where Provisioning or Invitations say so.
	AllowedDomains []string `json:"allowed_domains"`
	// Provisioning lets everybody of AllowedDomains join without an invitation.
	Provisioning bool `json:"email_jit_provisioning"`
	// Invitations says who may be invited.
	Invitations Extent `json:"email_invites"`
	// Methods says which ways to sign in count: all, or those that are listed.
	Methods        Extent   `json:"auth_methods"`
	AllowedMethods []string `json:"allowed_auth_methods"` // "email_code", "sso"
	// FirstParty and ThirdParty say which connected apps its members may let in.
	FirstParty AppPolicy `json:"first_party_connected_apps"`
	ThirdParty AppPolicy `json:"third_party_connected_apps"`
	// ImplicitRoles are given to everybody with an address of a domain.
	ImplicitRoles []ImplicitRole `json:"implicit_roles"`
}

// Extent is how far a rule lets people go.
type Extent string

// The three extents.
const (
	All    Extent = "all"
	Listed Extent = "listed"
	None   Extent = "none"
)

// AppPolicy says which connected apps of one kind an organization lets in.
type AppPolicy struct {
	Allowed Extent   `json:"allowed"`
	Listed  []string `json:"listed"` // ids of connected apps
}

// ImplicitRole is a role that an e-mail domain brings.
type ImplicitRole struct {
	Domain string `json:"domain"`
	Role   string `json:"role_id"`
}

// DefaultOrganization are the settings of a new organization: by invitation
// only, every sign-in method and every connected app.
func DefaultOrganization() OrganizationSettings {
	return OrganizationSettings{
		AllowedDomains: []string{}, Invitations: All, Methods: All, AllowedMethods: []string{},
		FirstParty: AppPolicy{Allowed: All, Listed: []string{}}, ThirdParty: AppPolicy{Allowed: All, Listed: []string{}},
		ImplicitRoles: []ImplicitRole{},
	}
}

// SignInMethods are the ways to sign in that an organization can choose from.
func SignInMethods() []string { return []string{MethodEmailCode, MethodSSO} }

// Bounds of what an organization holds.
const (
	maxName     = 128 // runes
	maxSlug     = 128 // bytes
	maxDomains  = 50
	maxListed   = 500
	maxMetadata = 16 << 10 // bytes of JSON
)

// OrganizationsADay is how many organizations one address can make in 24 hours.
const OrganizationsADay = 5

// publicDomains belong to everybody: they let nobody in by themselves.
var publicDomains = []string{
	"gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "yahoo.com", "icloud.com", "me.com",
	"mac.com", "aol.com", "proton.me", "protonmail.com", "gmx.de", "gmx.net", "gmx.com", "web.de", "mail.com", "mail.ru",
	"yandex.ru", "yandex.com", "qq.com", "163.com", "126.com", "zoho.com", "fastmail.com", "hey.com",
}

// Check names everything that is wrong with an organization, one sentence each.
func (o Organization) Check(rules Rules) []string {
	var problems []string
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !Printable(o.Name, maxName) {
		say("The name must have 1 to %d characters that can be read.", maxName)
	}
	if !ValidSlug(o.Slug) {
		say("The slug must have 2 to %d of a-z, 0-9, '-', '_', '.' and '~', such as 'fennel-labs'.", maxSlug)
	}
	if len(o.ExternalID) > maxSlug {
		say("The external id must have at most %d bytes.", maxSlug)
	}
	if tooMuch(o.TrustedMetadata) {
		say("The trusted metadata must be at most %d bytes of JSON.", maxMetadata)
	}
	s := o.Settings
	if len(s.AllowedDomains) > maxDomains {
		say("At most %d domains can be allowed.", maxDomains)
	}
	for _, d := range s.AllowedDomains {
		switch {
		case !ValidDomain(d):
			say("'%s' is not a domain in lower case, such as 'example.com'.", d)
		case slices.Contains(publicDomains, d):
			say("'%s' belongs to everybody; only a domain of the organization's own can be allowed.", d)
		}
	}
	if s.Provisioning && len(s.AllowedDomains) == 0 {
		say("Joining by e-mail domain needs an allowed domain.")
	}
	for name, e := range map[string]Extent{"email_invites": s.Invitations, "auth_methods": s.Methods, "first_party_connected_apps": s.FirstParty.Allowed, "third_party_connected_apps": s.ThirdParty.Allowed} {
		if e != All && e != Listed && (e != None || name == "auth_methods") {
			say("%s is '%s'; choose all, listed%s.", name, e, map[bool]string{true: "", false: " or none"}[name == "auth_methods"])
		}
	}
	for _, m := range s.AllowedMethods {
		if !slices.Contains(SignInMethods(), m) {
			say("'%s' is not a way to sign in; choose from %s.", m, strings.Join(SignInMethods(), ", "))
		}
	}
	if s.Methods == Listed && len(s.AllowedMethods) == 0 {
		say("At least one way to sign in must be allowed.")
	}
	if len(s.FirstParty.Listed) > maxListed || len(s.ThirdParty.Listed) > maxListed {
		say("At most %d connected apps can be listed.", maxListed)
	}
	for _, i := range s.ImplicitRoles {
		if !ValidDomain(i.Domain) || slices.Contains(publicDomains, i.Domain) {
			say("'%s' brings no role: it is not a domain of the organization's own.", i.Domain)
		}
		if !rules.role(o, i.Role) {
			say("There is no role '%s'.", i.Role)
		}
	}
	var bad *rbac.Problems
	if errors.As(rules.Policy.CheckRoles(o.Roles), &bad) {
		problems = append(problems, bad.Error())
	}
	slices.Sort(problems)
	return problems
}

// tooMuch reports whether metadata is longer than what is kept.
func tooMuch(metadata map[string]any) bool {
	text, err := json.Marshal(metadata)
	return err != nil || len(text) > maxMetadata
}

// ValidSlug reports whether s can be a slug.
func ValidSlug(s string) bool {
	if len(s) < 2 || len(s) > maxSlug {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.~") == ""
}

// SlugOf makes a slug from a name; it may be too short to be one.
func SlugOf(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 60 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// ValidDomain reports whether s is a domain name in lower case with at least
// two labels.
func ValidDomain(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// Printable reports whether s is text of 1 to most runes that people can read.
func Printable(s string, most int) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// DomainOf is the domain of a folded address.
func DomainOf(folded string) string { return folded[strings.LastIndexByte(folded, '@')+1:] }

// Admits reports whether the organization's members may let a connected app in.
func (o Organization) Admits(clientID string, firstParty bool) bool {
	policy := o.Settings.ThirdParty
	if firstParty {
		policy = o.Settings.FirstParty
	}
	return policy.Allowed == All || policy.Allowed == Listed && slices.Contains(policy.Listed, clientID)
}

// Accepts reports whether the organization takes one of these proofs.
func (o Organization) Accepts(factors []Factor) bool {
	return slices.ContainsFunc(factors, func(f Factor) bool {
		return f.Counts(o.ID) && (o.Settings.Methods != Listed || slices.Contains(o.Settings.AllowedMethods, f.Method))
	})
}

// MemberStatus is where a membership stands.
type MemberStatus string

// The statuses.
const (
	Invited MemberStatus = "invited" // a mail was sent; nobody came yet
	Pending MemberStatus = "pending" // added without a mail; nobody came yet
	Active  MemberStatus = "active"
	Deleted MemberStatus = "deleted" // removed; may be restored
)

// Member is a person in one organization. The same address in another
// organization is another member.
type Member struct {
	ID                string // member-<test|live>-<uuid>
	ProjectID         string
	OrganizationID    string
	Email             string // as it was written
	EmailFolded       string // what identifies the person
	Name              string
	Status            MemberStatus
	Roles             []string // given directly
	ExternalID        string
	TrustedMetadata   map[string]any
	UntrustedMetadata map[string]any
	Version           int64
	CreatedAt         time.Time
	UpdatedAt         time.Time
	LastSignInAt      time.Time
	InvitedAt         time.Time // when the last invitation was sent, zero for never
}

// RoleSource is a role and why a member has it.
type RoleSource struct {
	Role   string
	Source string // "member" (everybody), "direct_assignment", "email_assignment"
	Domain string // of an email_assignment
}

// RolesOf are a member's roles with their sources, each role once for each
// source.
func RolesOf(m Member, o Organization) []RoleSource {
	roles := []RoleSource{{Role: rbac.RoleMember, Source: "member"}}
	for _, r := range m.Roles {
		roles = append(roles, RoleSource{Role: r, Source: "direct_assignment"})
	}
	domain := DomainOf(m.EmailFolded)
	for _, i := range o.Settings.ImplicitRoles {
		if i.Domain == domain {
			roles = append(roles, RoleSource{Role: i.Role, Source: "email_assignment", Domain: domain})
		}
	}
	return roles
}

// roleIDs are the ids of RolesOf.
func roleIDs(m Member, o Organization) []string {
	var ids []string
	for _, r := range RolesOf(m, o) {
		if !slices.Contains(ids, r.Role) {
			ids = append(ids, r.Role)
		}
	}
	return ids
}

// MemberQuery says which members to list.
type MemberQuery struct {
	Text   string       // part of the address, or the whole id; "" for all
	Status MemberStatus // "" for all that are not removed
	Role   string       // given directly; "" for any
	After  string       // the last id of the page before
	Limit  int
}

// Choice is an organization that a person can be in.
type Choice struct {
	Organization Organization
	Member       Member // zero when the person would join by e-mail domain
}

// OrganizationStore is what the package needs of a database for B2B projects.
type OrganizationStore interface {
	// Organization returns an organization by id, or ErrNotFound.
	Organization(ctx context.Context, projectID, id string) (Organization, error)
	// OrganizationBySlug returns an organization by slug, or ErrNotFound.
	OrganizationBySlug(ctx context.Context, projectID, slug string) (Organization, error)
	// Organizations lists those whose id begins with query ("" for all), and then
	// those whose slug does, as Store.Users does.
	Organizations(ctx context.Context, projectID, query, after string, limit int) ([]Organization, error)
	// CreateOrganization keeps a new organization, or returns ErrConflict.
	CreateOrganization(ctx context.Context, o Organization, e audit.Event) error
	// SaveOrganization replaces what an organization is, if its version is still
	// o.Version (else ErrStale), or returns ErrConflict, or ErrLockedOut when o needs
	// an active connection and has none.
	SaveOrganization(ctx context.Context, o Organization, e audit.Event) error
	// SaveOrganizationLogo keeps an organization's logo, a PNG; nil takes it away.
	SaveOrganizationLogo(ctx context.Context, projectID, id string, png []byte, e audit.Event) error
	// DeleteOrganization removes an organization with its members, sessions and
	// grants, and appends to the revocation feed.
	DeleteOrganization(ctx context.Context, projectID, id string, e audit.Event) error

	// Member returns a member of an organization, or ErrNotFound.
	Member(ctx context.Context, projectID, organizationID, id string) (Member, error)
	// MemberByAddress returns the member with a folded address who is not removed,
	// or ErrNotFound.
	MemberByAddress(ctx context.Context, projectID, organizationID, emailFolded string) (Member, error)
	// MemberAndOrganization returns both by one read, whatever their state, or
	// ErrNotFound.
	MemberAndOrganization(ctx context.Context, projectID, organizationID, id string) (Member, Organization, error)
	// Members lists members ascending by id.
	Members(ctx context.Context, projectID, organizationID string, q MemberQuery) ([]Member, error)
	// CreateMember keeps a new member, or returns ErrConflict when a member who is
	// not removed has the address.
	CreateMember(ctx context.Context, m Member, e audit.Event) error
	// SaveMember replaces what a member is, if the version is still m.Version
	// (else ErrStale). ErrLastAdmin when the organization had an active
	// administrator and would have none. A member that is no longer active loses
	// sessions and grants in the same transaction.
	SaveMember(ctx context.Context, m Member, e audit.Event) error
	// CountInvitation counts a mail that an organization sends to an address, or
	// returns ErrLimited after InvitationsAnHour or InvitedAnHour.
	CountInvitation(ctx context.Context, projectID, organizationID, emailFolded string, now time.Time) error
	// EndMemberSessions ends every session of a member, and the browsers they are
	// in, and reports how many sessions there were. What was proved before e.At in
	// any other browser does not let the member in again.
	EndMemberSessions(ctx context.Context, projectID, memberID string, e audit.Event) (int, error)
	// LeaveEverywhere does what EndMemberSessions does, and ends the person's
	// browser b and, unless b is confined, all in which the address was proved.
	LeaveEverywhere(ctx context.Context, m Member, b Browser, e audit.Event) error
	// RevokeMember does what EndMemberSessions does and revokes every grant, as
	// RevokeUser does.
	RevokeMember(ctx context.Context, m Member, e audit.Event) (grants int, err error)

	// Policy returns a project's policy document.
	Policy(ctx context.Context, projectID string) (rbac.Policy, error)
	// ApplyPolicy keeps a policy document as the next version, if policy.Version is
	// still the newest (else ErrStale), raises the project's change counter, and
	// returns the new version.
	ApplyPolicy(ctx context.Context, projectID string, policy rbac.Policy, e audit.Event) (int64, error)

	// Discover lists the organizations that a proved address belongs to or is
	// invited to, the one it was in last first, and then those it may join by its
	// domain.
	Discover(ctx context.Context, projectID, emailFolded string, limit int) ([]Choice, error)
	// Browser returns a browser that has not run out, or ErrNotFound.
	Browser(ctx context.Context, projectID, id string, now time.Time) (Browser, error)
	// BrowserSession returns the live session of a browser in the organization it
	// chose, with its active member and organization, or ErrNotFound.
	BrowserSession(ctx context.Context, b Browser, now time.Time) (Session, Member, Organization, error)
	// Enter begins a member's session below a browser and makes its organization
	// the chosen one. A member who was invited becomes active; e.Newcomer is kept
	// when nobody has the address and the organization lets its domain in.
	// ErrNotFound when the person may not be there, ErrOldProof when the member was
	// signed out everywhere since the browser's proof.
	Enter(ctx context.Context, n Entry, e audit.Event) (Session, Member, error)
	// FoundOrganization makes an organization with n.Newcomer as its first member,
	// and enters it. ErrConflict when the slug is taken, ErrLimited when the address
	// made OrganizationsADay within a day.
	FoundOrganization(ctx context.Context, o Organization, n Entry, e audit.Event) (Session, Member, error)
	// TouchBrowser moves the idle expiry of a browser and its sessions.
	TouchBrowser(ctx context.Context, projectID, id string, seen, idleExpires time.Time) error
	// EndBrowser ends a browser with all its sessions.
	EndBrowser(ctx context.Context, projectID, id string, e audit.Event) error
}

// Browser is a browser of a B2B project in which somebody proved an address
// (decision 30).
type Browser struct {
	ID             string // id part of the cookie (decision 23)
	ProjectID      string
	SecretHash     []byte // SHA-256 of its random part
	Email          string
	EmailFolded    string
	Factors        []Factor
	OrganizationID string // the chosen organization, "" before
	Address        string
	UserAgent      string // at most 256 bytes
	CreatedAt      time.Time
	LastSeenAt     time.Time
	IdleExpiresAt  time.Time
	ExpiresAt      time.Time
}

// AuthTime is when the person last proved who they are in this browser.
func (b Browser) AuthTime() time.Time { return newest(b.CreatedAt, b.Factors) }

// Entry is a browser going into an organization.
type Entry struct {
	Browser  Browser
	Session  Session // Subject is set by the store
	Newcomer Member  // who joins if nobody has the address
	Keep     int     // sessions that a browser may have; the oldest go
	Ends     Ending  // by EnterBySSO
}

// Visit is who a browser's cookie says is there, and where.
type Visit struct {
	Browser      Browser
	Session      Session // zero until an organization is chosen
	Member       Member
	Organization Organization
}
