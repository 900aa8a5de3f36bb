package audit

// Entry describes a kind for operators.
type Entry struct {
	Kind     Kind
	Sentence string // what an event of this kind says
}

// Group is a part of the kinds that operators look at together.
type Group struct {
	Name    string // for addresses and flags
	Title   string // for people
	Entries []Entry
}

// Kinds are the kinds of the group.
func (g Group) Kinds() []Kind {
	all := make([]Kind, len(g.Entries))
	for i, e := range g.Entries {
		all[i] = e.Kind
	}
	return all
}

// KindsOf returns the kinds of the group with this name, or the one kind that
// is called so, or false.
func KindsOf(name string) ([]Kind, bool) {
	for _, g := range Groups() {
		if g.Name == name {
			return g.Kinds(), true
		}
		for _, e := range g.Entries {
			if string(e.Kind) == name {
				return []Kind{e.Kind}, true
			}
		}
	}
	return nil, false
}

// Groups are all kinds, each in one group.
func Groups() []Group {
	return []Group{
		{"signins", "Sign-ins", []Entry{
			{CodeSent, "A one-time code was mailed to somebody who wants to sign in."},
			{SignedIn, "Somebody signed in."},
			{SignInRefused, "A sign-in was refused: a wrong or old code, too many mails asked for, or what an organization's own sign-in service said."},
			{SignedOut, "One session ended, or all of a person's, by the person or by an administrator."},
			{MemberEntered, "A member went into an organization with a new session, or was refused."},
		}},
		{"access", "Access", []Entry{
			{AuthorizeRefused, "A client's authorization request was refused."},
			{GrantAllowed, "A person allowed a connected app something, or what they had allowed before was enough."},
			{GrantDenied, "A person said no to a connected app."},
			{GrantNarrowed, "A person took some permissions back from a connected app."},
			{GrantRevoked, "A connected app lost a person's grant, or the grants of a whole organization; its tokens ended."},
			{TokenIssued, "A client got its first tokens for an authorization."},
			{TokenRefreshed, "A client got new tokens for its refresh token."},
			{TokenRefused, "A token request was refused for its form, its code or its refresh token, or the revocation of another client's token."},
			{RequestRefused, "A program's request for a token, a revocation or an introspection could not be read, or named no token."},
			{UserinfoRefused, "Somebody asked about a person with an access token that is wrong, ran out, was taken back, or was not given for that."},
			{FormRefused, "A form was refused because none of our own pages made it for whoever sent it."},
			{TokenRevoked, "A client gave a token back."},
			{TokenDisplaced, "The oldest of too many authorizations of one client ended."},
			{CodeReused, "A code was used a second time: what it had been exchanged for ended."},
			{RefreshReused, "An old refresh token was used again: somebody may have stolen it, so all tokens of its authorization ended."},
		}},
		{"apps", "Connected apps", []Entry{
			{ClientCreated, "A client was registered by hand."},
			{ClientRegistered, "A client registered itself, or its metadata document was read."},
			{ClientCopied, "A client's metadata document could not be read, and a stored copy stands for it."},
			{ClientDeleted, "A client was deleted with its tokens, or deleted itself."},
			{ClientExpired, "A client that registered itself and was never allowed anything was deleted."},
			{ClientRotated, "A client got a new secret."},
			{ClientChanged, "A client that was registered by hand was changed, or one that registered itself replaced its registration."},
			{ClientBlocked, "A client was shut out, and what people had allowed it ended."},
			{ClientUnblocked, "A client that had been shut out may ask people again."},
			{RegisterRefused, "A client's registration, or a change of one, was refused: its metadata, the limits, or because nobody may register."},
			{ClientRefused, "A caller did not prove to be the client, resource server or project that it named, or had no right to its registration."},
		}},
		{"people", "People", []Entry{
			{UserCreated, "A user signed in for the first time."},
			{UserRevoked, "Every session and grant of a user ended."},
			{UserDeactivated, "A user was shut out, and with them their sessions and grants."},
			{UserActivated, "A user who had been shut out may sign in again."},
			{UserDeleted, "A user was deleted with their sessions and grants."},
			{OrganizationCreated, "An organization was created."},
			{OrganizationChanged, "An organization's name, logo or settings changed."},
			{OrganizationDeleted, "An organization was deleted."},
			{MemberAdded, "A member was added."},
			{MemberInvited, "A member was invited by mail."},
			{MemberJoined, "A member came in, by invitation or by the domain of their address."},
			{MemberChanged, "A member's name, roles or data changed."},
			{MemberRemoved, "A member was removed, and with them their sessions and grants."},
			{MemberRestored, "A member who had been removed came back."},
			{MemberRevoked, "Every session and grant of a member ended."},
			{SSOCreated, "An organization was connected to its own sign-in service."},
			{SSOChanged, "A connection to an organization's own sign-in service changed."},
			{SSODeleted, "A connection to an organization's own sign-in service was deleted."},
		}},
		{"settings", "Settings", []Entry{
			{ProjectCreated, "A project was created."},
			{ProjectChanged, "A project's name, logo or settings changed."},
			{IssuerChanged, "A project got another issuer, and everything issued under the old one ended."},
			{ProjectRotated, "A project got a new secret; the old one stopped."},
			{ResourceAdded, "A resource server was added."},
			{ResourceChanged, "A resource server changed."},
			{ResourceMoved, "A resource server got another address, and tokens for the old one ended."},
			{ResourceRemoved, "A resource server was removed."},
			{KeyCreated, "A project got its first signing key of an algorithm."},
			{KeyRotated, "A project got its next signing key."},
			{KeyCompromised, "A signing key that somebody else may have was taken out, and every token that it signed ended."},
			{PolicyApplied, "A new version of the policy came into force."},
			{WorkspaceKeyCreated, "A workspace key was created."},
			{WorkspaceKeyRevoked, "A workspace key was revoked, or ended because the administrator who made it was removed."},
			{WorkspaceKeyRefused, "A caller of the management API had no working workspace key, one that only reads, or a secret in the address."},
			{AdministratorInvited, "A one-time link for an administrator was made."},
			{AdministratorCreated, "An administrator came in by their link."},
			{AdministratorChanged, "An administrator has another way to sign in."},
			{AdministratorRemoved, "An administrator was removed."},
			{AdministratorSignedIn, "An administrator signed in."},
			{AdministratorSignedOut, "An administrator signed out."},
			{AdministratorRefused, "A one-time link or a sign-in of an administrator was refused."},
			{DeploymentRestored, "The database was restored from a copy, and everybody's codes, tokens and sessions ended."},
			{MasterKeyReplaced, "Another master key took the place of the one before; everything sealed in the database was sealed anew."},
		}},
	}
}
