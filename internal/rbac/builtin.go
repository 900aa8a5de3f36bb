package rbac

import "slices"

// The roles that every project has. Every member holds RoleMember without being
// given it; who creates an organization is given RoleAdmin.
const (
	RoleMember = "member"
	RoleAdmin  = "admin"
)

// The resources that every project has: what members do with Postern itself.
// Each is meant within the member's own organization.
const (
	ResourceOrganization = "organization" // its settings, and the apps connected in it
	ResourceMember       = "member"       // the members of it
	ResourceSSO          = "sso"          // its connections to other sign-in services
	ResourceSCIM         = "scim"         // its connections to directories
	ResourceRole         = "role"         // the roles of its own
	ResourceSelf         = "self"         // the member who acts
)

// WithBuiltIns returns the whole policy that a document means: the built-in
// resources and then its own; member, admin, as the document describes them or
// else as they are by default, and then its other roles. p is not changed.
func (p Policy) WithBuiltIns() Policy {
	p.Resources = slices.Concat(builtInResources(), p.Resources)
	roles := defaultRoles()
	for _, r := range p.Roles {
		if i := slices.IndexFunc(roles[:2], func(d Role) bool { return d.ID == r.ID }); i >= 0 {
			roles[i] = r
		} else {
			roles = append(roles, r)
		}
	}
	p.Roles = roles
	return p
}

func defaultRoles() []Role {
	all := func(resource string) Permission { return Permission{Resource: resource, Actions: []string{AllActions}} }
	return []Role{
		{
			ID: RoleMember, Description: "Every member of an organization",
			Permissions: []Permission{all(ResourceSelf)},
		},
		{
			ID: RoleAdmin, Description: "Runs the organization",
			Permissions: []Permission{
				all(ResourceOrganization), all(ResourceMember), all(ResourceSSO), all(ResourceSCIM), all(ResourceRole),
			},
		},
	}
}

// builtInResources have the actions that compatible clients ask about; those on
// connected apps are our own.
func builtInResources() []Resource {
	managed := func() []string { return []string{"create", "get", "update", "delete"} }
	return []Resource{
		{ID: ResourceOrganization, Description: "The organization, its settings and its connected apps", Actions: []string{
			"update.info.name",
			"update.info.slug",
			"update.info.logo-url",
			"update.settings.allowed-auth-methods",
			"update.settings.allowed-mfa-methods",
			"update.settings.email-jit-provisioning",
			"update.settings.email-invites",
			"update.settings.allowed-domains",
			"update.settings.default-sso-connection",
			"update.settings.sso-jit-provisioning",
			"update.settings.mfa-policy",
			"update.settings.implicit-roles",
			"update.settings.oauth-tenant-jit-provisioning",
			"update.settings.allowed-oauth-tenants",
			"update.settings.connected-apps", // which apps members may connect
			"get.connected-apps",             // who connected which app, with which scopes
			"revoke.connected-apps",          // for any member
			"delete",
		}},
		{ID: ResourceMember, Description: "The members of the organization", Actions: []string{
			"create",
			"search",
			"update.info.name",
			"update.info.email",
			"update.info.untrusted-metadata",
			"update.info.mfa-phone",
			"update.info.delete.mfa-phone",
			"update.info.delete.mfa-totp",
			"update.info.delete.password",
			"update.settings.is-breakglass",
			"update.settings.mfa-enrolled",
			"update.settings.default-mfa-method",
			"update.settings.roles",
			"revoke-sessions",
			"delete",
		}},
		{ID: ResourceSSO, Description: "Sign-in through the organization's own service", Actions: managed()},
		{ID: ResourceSCIM, Description: "Members from the organization's own directory", Actions: managed()},
		{ID: ResourceRole, Description: "Roles of the organization's own", Actions: managed()},
		{ID: ResourceSelf, Description: "The member's own profile and sessions", Actions: []string{
			"update.info.name",
			"update.info.untrusted-metadata",
			"update.info.mfa-phone",
			"update.info.delete.mfa-phone",
			"update.info.delete.mfa-totp",
			"update.info.delete.password",
			"update.settings.mfa-enrolled",
			"update.settings.default-mfa-method",
			"revoke-sessions",
			"delete",
		}},
	}
}
