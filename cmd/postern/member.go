package main

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
)

func (p *program) memberCommand() *cobra.Command {
	c := group("member", "Look after the members of an organization",
		p.memberAdd(), p.memberList(), p.memberShow(), p.memberSet(), p.memberRemove(), p.memberRestore(), p.memberSignOut(), p.memberRevoke())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	c.PersistentFlags().String("organization", "", "which organization, by slug or id")
	return c
}

// ofOrganization makes a command's function of one that works on an
// organization.
func (p *program) ofOrganization(do func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ref, err := cmd.Flags().GetString("organization")
		if err != nil {
			return err
		}
		if ref == "" {
			return misused(cmd, "%s needs the organization: --organization SLUG", cmd.CommandPath())
		}
		return p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			o, err := d.findOrganization(ctx, one, ref)
			if err != nil {
				return err
			}
			return do(ctx, d, one, o, args)
		})(cmd, args)
	}
}

func (p *program) memberAdd() *cobra.Command {
	var m identity.Member
	c := &cobra.Command{
		Use:   "add EMAIL",
		Short: "Add a member without sending a mail; they are in when they sign in",
		Args:  needs("the member's e-mail address"),
		RunE: p.ofOrganization(func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error {
			m.Email, m.Status = strings.TrimSpace(args[0]), identity.Pending
			added, err := d.people.AddMember(ctx, one, o, m, d.event(one, audit.MemberAdded, o.ID))
			if errors.Is(err, identity.ErrConflict) {
				return wrong("postern member show "+m.Email+" --organization "+o.Slug, "%s is a member of %s already", printable(m.Email), o.Name)
			}
			if err != nil {
				return organizationFault(err, "postern member add --help")
			}
			return d.changedMember(added, o, "added")
		}),
	}
	c.Flags().StringArrayVar(&m.Roles, "role", nil, "a role besides the one that everybody has; may repeat")
	c.Flags().StringVar(&m.Name, "name", "", "what others read")
	return c
}

// everyMember is how many members are read at once.
const everyMember = 200

func (p *program) memberList() *cobra.Command {
	var q identity.MemberQuery
	var removed bool
	c := &cobra.Command{
		Use:   "list [TEXT]",
		Short: "List members, all or those with TEXT in their address",
		Args:  atMost(1),
		RunE: p.ofOrganization(func(ctx context.Context, d *desk, _ *project.Project, o identity.Organization, args []string) error {
			q.Text, q.Limit = strings.Join(args, ""), everyMember
			if removed {
				q.Status = identity.Deleted
			}
			all := []memberJSON{}
			var rows [][]string
			for {
				page, err := d.people.Members(ctx, o, q)
				if err != nil {
					return err
				}
				for _, m := range page {
					all = append(all, describeMember(m, o))
					rows = append(rows, []string{
						d.out.bright(printable(m.Email)), printable(m.Name), memberState(m), strings.Join(identity.Titles(m, o), ", "), stamp(m.LastSignInAt), m.ID,
					})
				}
				if len(page) < everyMember {
					break
				}
				q.After = page[len(page)-1].ID
			}
			switch {
			case d.json:
				return d.out.json(all)
			case len(all) == 0:
				d.out.line("No member here.   %s", d.out.green("postern member add EMAIL --organization "+o.Slug))
				return nil
			}
			d.out.table([]string{"MEMBER", "NAME", "STATE", "ROLES", "LAST SIGN-IN", "ID"}, rows)
			return nil
		}),
	}
	c.Flags().StringVar(&q.Role, "role", "", "only those who were given this role")
	c.Flags().BoolVar(&removed, "removed", false, "those who were removed")
	return c
}

func (p *program) memberShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show MEMBER",
		Short: "Show a member, by address or id, their roles and what they allowed",
		Args:  needs("the member's address or id"),
		RunE: p.ofOrganization(func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error {
			m, err := d.member(ctx, o, args[0])
			if err != nil {
				return err
			}
			apps, err := d.db.ConnectedApps(ctx, one.ID, m.ID, o.ID, d.program.now())
			if err != nil {
				return err
			}
			sessions, err := d.people.Sessions(ctx, one.ID, m.ID)
			if err != nil {
				return err
			}
			if d.json {
				return d.out.json(struct {
					memberJSON
					Sessions      []sessionJSON `json:"sessions"`
					ConnectedApps []grantJSON   `json:"connected_apps"`
				}{describeMember(m, o), describeSessions(sessions), describeGrants(apps)})
			}
			d.out.line("%s", d.out.bright(printable(m.Email)))
			d.out.line("")
			d.memberFacts(m, o)
			d.sessions(sessions)
			d.grants(apps)
			return nil
		}),
	}
}

func (p *program) memberSet() *cobra.Command {
	var roles []string
	var name, externalID, trusted, untrusted string
	c := &cobra.Command{
		Use:   "set MEMBER",
		Short: "Change a member's roles or name; tokens follow at their next refresh",
		Args:  needs("the member's address or id"),
		RunE: withChange(p.ofOrganization(func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error {
			m, err := d.member(ctx, o, args[0])
			if err != nil {
				return err
			}
			var problems []string
			theirs, own := metadataOf("trusted-metadata", trusted, &problems), metadataOf("untrusted-metadata", untrusted, &problems)
			if len(problems) > 0 {
				return &fault{problems: problems, next: "postern member set --help"}
			}
			return d.changeMember(ctx, one, o, m, "changed", func(m *identity.Member) error {
				m.ExternalID = orNothing(cmp.Or(externalID, m.ExternalID))
				if theirs != nil {
					m.TrustedMetadata = theirs
				}
				if own != nil {
					m.UntrustedMetadata = own
				}
				if roles != nil {
					m.Roles = []string{}
					for _, r := range roles {
						if orNothing(r) != "" {
							m.Roles = append(m.Roles, r)
						}
					}
				}
				m.Name = orNothing(cmp.Or(name, m.Name))
				return nil
			})
		})),
	}
	c.Flags().StringArrayVar(&roles, "role", nil, "a role besides the one that everybody has, or none; may repeat, and replaces those that are there")
	c.Flags().StringVar(&name, "name", "", "what others read, or none")
	c.Flags().StringVar(&externalID, "external-id", "", "their id in your own system, or none")
	c.Flags().StringVar(&trusted, "trusted-metadata", "", "a JSON object that your own programs read; {} for none")
	c.Flags().StringVar(&untrusted, "untrusted-metadata", "", "one that they may change themselves; {} for none")
	return c
}

func (p *program) memberRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove MEMBER",
		Short: "Remove a member: signed out everywhere, and what they allowed is taken back",
		Args:  needs("the member's address or id"),
		RunE: p.ofOrganization(func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error {
			m, err := d.member(ctx, o, args[0])
			if err != nil {
				return err
			}
			return d.changeMember(ctx, one, o, m, "removed", func(m *identity.Member) error {
				m.Status = identity.Deleted
				return nil
			})
		}),
	}
}

func (p *program) memberRestore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore MEMBER",
		Short: "Bring a removed member back, with the roles they had",
		Args:  needs("the member's address or id"),
		RunE: p.ofOrganization(func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error {
			m, err := d.removedMember(ctx, o, args[0])
			if err != nil {
				return err
			}
			return d.changeMember(ctx, one, o, m, "restored", func(m *identity.Member) error {
				m.Status = identity.Pending
				if !m.LastSignInAt.IsZero() {
					m.Status = identity.Active
				}
				return nil
			})
		}),
	}
}

func (p *program) memberSignOut() *cobra.Command {
	var session string
	c := &cobra.Command{
		Use:   "sign-out MEMBER",
		Short: "Sign a member out everywhere, or end one session; what they allowed stays",
		Args:  needs("the member's address or id"),
		RunE: p.ofOrganization(func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error {
			m, err := d.member(ctx, o, args[0])
			if err != nil {
				return err
			}
			n := 1
			if session != "" {
				err = d.endSession(ctx, one, m.ID, session, "postern member show "+args[0]+" --organization "+o.Slug)
			} else {
				n, err = d.people.SignOutMember(ctx, m, d.event(one, audit.SignedOut, o.ID))
			}
			if err != nil {
				return organizationFault(err, "postern member list --organization "+o.Slug)
			}
			if d.json {
				return d.out.json(map[string]any{"member_id": m.ID, "sessions_ended": n})
			}
			d.out.line("%s signed %s out of %d sessions", d.out.ok(), d.out.bright(printable(m.Email)), n)
			return nil
		}),
	}
	c.Flags().StringVar(&session, "session", "", "the id of one session; it ends with the browser it is in, the others stay")
	return c
}

func (p *program) memberRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke MEMBER",
		Short: "Sign a member out everywhere and take back everything they allowed",
		Args:  needs("the member's address or id"),
		RunE: p.ofOrganization(func(ctx context.Context, d *desk, one *project.Project, o identity.Organization, args []string) error {
			m, err := d.member(ctx, o, args[0])
			if err != nil {
				return err
			}
			grants, err := d.people.RevokeMember(ctx, m, d.event(one, audit.MemberRevoked, o.ID))
			if err != nil {
				return organizationFault(err, "postern member list --organization "+o.Slug)
			}
			if d.json {
				return d.out.json(map[string]any{"member_id": m.ID, "grants_revoked": grants})
			}
			d.out.line("%s signed %s out everywhere and took back %d grants", d.out.ok(), d.out.bright(printable(m.Email)), grants)
			d.out.line("%s", d.out.dim(tokensEnd))
			return nil
		}),
	}
}

// member finds a member by id or by the whole address.
func (d *desk) member(ctx context.Context, o identity.Organization, ref string) (identity.Member, error) {
	m, err := d.people.Member(ctx, o, ref)
	if errors.Is(err, identity.ErrNotFound) {
		return m, wrong("postern member list --organization "+o.Slug, "%s has no member %s", o.Name, printable(ref))
	}
	return m, err
}

// removedMember finds a removed member by id, or the last one with the address.
func (d *desk) removedMember(ctx context.Context, o identity.Organization, ref string) (identity.Member, error) {
	q := identity.MemberQuery{Text: identity.Fold(ref), Status: identity.Deleted, Limit: everyMember}
	var last identity.Member
	for {
		page, err := d.people.Members(ctx, o, q)
		if err != nil {
			return last, err
		}
		for _, m := range page {
			if m.EmailFolded == identity.Fold(ref) || m.ID == ref {
				last = m
			}
		}
		if len(page) < everyMember {
			break
		}
		q.After = page[len(page)-1].ID
	}
	if last.ID == "" {
		return last, wrong("postern member list --removed --organization "+o.Slug, "%s has no removed member %s", o.Name, printable(ref))
	}
	return last, nil
}

// changeMember changes a member and tells of it.
func (d *desk) changeMember(ctx context.Context, one *project.Project, o identity.Organization, m identity.Member, done string, change func(*identity.Member) error) error {
	m, err := d.people.ChangeMember(ctx, one, o, m.ID, change, d.event(one, audit.MemberChanged, o.ID))
	if errors.Is(err, identity.ErrConflict) {
		return wrong("postern member list --organization "+o.Slug, "somebody else is a member of %s with this address by now", o.Name)
	}
	if err != nil {
		return organizationFault(err, "postern member list --organization "+o.Slug)
	}
	return d.changedMember(m, o, done)
}

func (d *desk) changedMember(m identity.Member, o identity.Organization, done string) error {
	if d.json {
		return d.out.json(describeMember(m, o))
	}
	d.out.line("%s %s %s", d.out.ok(), done, d.out.bright(printable(m.Email)))
	d.out.line("")
	d.memberFacts(m, o)
	return nil
}

func (d *desk) memberFacts(m identity.Member, o identity.Organization) {
	rows := [][2]string{
		{"Id", m.ID},
		{"Organization", printable(o.Name)},
		{"Name", cmp.Or(printable(m.Name), "none")},
		{"State", memberState(m)},
		{"Since", stamp(m.CreatedAt)},
		{"Last sign-in", stamp(m.LastSignInAt)},
	}
	for _, r := range describeMember(m, o).Roles {
		why := map[string]string{"member": "everybody", "direct_assignment": "given", "email_assignment": "by the domain " + r.Domain}[r.Source]
		rows = append(rows, [2]string{"Role", r.Role + ", " + why})
	}
	d.out.facts(rows...)
}

func memberState(m identity.Member) string {
	if m.Status == identity.Deleted {
		return "removed"
	}
	return string(m.Status)
}

// memberJSON is a member for programs.
type memberJSON struct {
	ID             string           `json:"member_id"`
	OrganizationID string           `json:"organization_id"`
	Email          string           `json:"email"`
	Name           string           `json:"name,omitempty"`
	State          string           `json:"state"` // invited, pending, active or removed
	Roles          []memberRoleJSON `json:"roles"`
	ExternalID     string           `json:"external_id,omitempty"`
	Trusted        map[string]any   `json:"trusted_metadata"`
	Untrusted      map[string]any   `json:"untrusted_metadata"`
	CreatedAt      time.Time        `json:"created_at"`
	UpdatedAt      time.Time        `json:"updated_at"`
	LastSignInAt   *time.Time       `json:"last_sign_in_at,omitempty"`
}

type memberRoleJSON struct {
	Role   string `json:"role_id"`
	Source string `json:"source"` // member, direct_assignment or email_assignment
	Domain string `json:"domain,omitempty"`
}

func describeMember(m identity.Member, o identity.Organization) memberJSON {
	j := memberJSON{
		ID: m.ID, OrganizationID: m.OrganizationID, Email: m.Email, Name: m.Name, State: memberState(m), Roles: []memberRoleJSON{},
		ExternalID: m.ExternalID, Trusted: m.TrustedMetadata, Untrusted: m.UntrustedMetadata, CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt,
	}
	for _, r := range identity.RolesOf(m, o) {
		j.Roles = append(j.Roles, memberRoleJSON(r))
	}
	if !m.LastSignInAt.IsZero() {
		j.LastSignInAt = &m.LastSignInAt
	}
	return j
}
