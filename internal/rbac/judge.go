package rbac

// Judge decides by one policy, with or without the roles of one organization.
// It never changes and may be used by many goroutines.
type Judge struct {
	index  *index
	roles  map[string][]span
	own    map[string][]span // roles of one organization
	scopes map[string][]span
}

// act is one action on one kind of resource: what is permitted or not.
type act struct{ resource, action string }

// index gives every act of a policy a number. The acts of a resource follow one
// another, "*" first: it stands for the actions that nobody listed, which only a
// permission of "*" covers.
type index struct {
	acts      []act
	numbers   map[act]int
	resources map[string]span
}

// span is acts by their numbers, from the first to before the second.
type span struct{ from, to int }

// unlisted is the number of whatever the policy does not know. Nobody has it.
const unlisted = 0

// Compile makes a judge of a policy that Parse or Validate accepts. A permission
// in another that names no resource or action of it permits nothing, and a scope
// with such a permission can be granted by nobody.
func Compile(p Policy) *Judge {
	p = p.WithBuiltIns()
	x := &index{acts: []act{{"?", "?"}}, numbers: map[act]int{}, resources: map[string]span{}}
	for _, r := range p.Resources {
		s := span{from: len(x.acts)}
		for _, action := range append([]string{AllActions}, r.Actions...) {
			x.numbers[act{r.ID, action}] = len(x.acts)
			x.acts = append(x.acts, act{r.ID, action})
		}
		s.to = len(x.acts)
		x.resources[r.ID] = s
	}
	j := &Judge{index: x, roles: x.spans(p.Roles), scopes: map[string][]span{}}
	for _, s := range p.Scopes {
		needed := x.span(s.Permissions)
		for i, n := range needed {
			if x.acts[n.from].action == AllActions {
				needed[i].from++ // every action that is listed is enough
			}
		}
		j.scopes[s.Name] = needed
	}
	return j
}

// WithOrganization returns a judge that knows the roles of one organization too.
// They add to the project's roles and touch neither those nor the scopes. Roles
// that were fit when [Policy.CheckRoles] saw them may be so no longer: an id that
// the project has come to use means the project's role, and what a permission
// names in vain it does not permit.
func (j *Judge) WithOrganization(roles []Role) *Judge {
	with := *j
	with.own = j.index.spans(roles)
	return &with
}

func (x *index) spans(roles []Role) map[string][]span {
	spans := map[string][]span{}
	for _, r := range roles {
		spans[r.ID] = x.span(r.Permissions)
	}
	return spans
}

func (x *index) span(permissions []Permission) (spans []span) {
	for _, p := range permissions {
		for _, action := range p.Actions {
			n := x.numbers[act{p.Resource, action}] // or unlisted
			s := span{n, n + 1}
			if action == AllActions && n != unlisted {
				s = x.resources[p.Resource]
			}
			spans = append(spans, s)
		}
	}
	return spans
}

// Rights is what somebody may do, by the policy of the judge that made it. The
// zero Rights permit nothing. They never change and may be used by many
// goroutines; make them once for a request, not once for a question.
type Rights struct {
	judge *Judge
	bits  []uint64 // by the number of the act
}

// Rights returns what the roles permit together. Ids that neither the project
// nor the organization has are passed over; the role member is always held.
func (j *Judge) Rights(roleIDs ...string) Rights {
	r := Rights{j, make([]uint64, (len(j.index.acts)+63)/64)}
	r.add(j.roles[RoleMember])
	for _, id := range roleIDs {
		spans, ok := j.roles[id]
		if !ok {
			spans = j.own[id]
		}
		r.add(spans)
	}
	r.bits[0] &^= 1 << unlisted
	return r
}

// Permit returns what permissions permit that no role gives, to ask whether
// somebody may give them away ([Rights.Beyond]).
func (j *Judge) Permit(permissions []Permission) Rights {
	r := Rights{j, make([]uint64, (len(j.index.acts)+63)/64)}
	r.add(j.index.span(permissions))
	return r
}

func (r Rights) add(spans []span) {
	for _, s := range spans {
		for n := s.from; n < s.to; n++ {
			r.bits[n/64] |= 1 << (n % 64)
		}
	}
}

func (r Rights) has(n int) bool { return r.bits[n/64]&(1<<(n%64)) != 0 }

// Allows tells whether the action on the resource is permitted: whether one
// permission names the resource and either the action or "*".
func (r Rights) Allows(resource, action string) bool {
	if r.judge == nil {
		return false
	}
	n, listed := r.judge.index.numbers[act{resource, action}]
	if !listed {
		n = r.judge.index.resources[resource].from // its "*", or unlisted
	}
	return r.has(n)
}

// Grantable tells whether the holder may let a connected app have the scope:
// whether every permission of it is covered, and else which are missing. A scope
// that permits nothing, or that the policy does not know, is grantable to
// everybody; whether it may be asked for at all is for others to say.
func (r Rights) Grantable(scope string) (ok bool, missing []Permission) {
	if r.judge == nil {
		return false, nil
	}
	if r.covers(scope) {
		return true, nil
	}
	needed := Rights{r.judge, make([]uint64, len(r.bits))}
	needed.add(r.judge.scopes[scope])
	return false, r.Beyond(needed)
}

func (r Rights) covers(scope string) bool {
	for _, s := range r.judge.scopes[scope] {
		for n := s.from; n < s.to; n++ {
			if !r.has(n) {
				return false
			}
		}
	}
	return true
}

// Permissions lists what is permitted: the resources and their actions in the
// order of the policy, "*" spelled out.
func (r Rights) Permissions() []Permission {
	return r.collect(func(n int) bool { return r.has(n) && r.judge.index.acts[n].action != AllActions })
}

// Beyond lists what given permits and r does not: nobody gives a role or a
// permission beyond what they have. Who has every action of a resource by name
// has not "*", which will cover the actions to come.
func (r Rights) Beyond(given Rights) []Permission {
	return given.collect(func(n int) bool {
		a := given.judge.index.acts[n]
		return given.has(n) && !r.Allows(a.resource, a.action)
	})
}

// collect lists the acts that are wanted. "*" is alone in its permission.
func (r Rights) collect(wanted func(n int) bool) (permissions []Permission) {
	if r.judge == nil {
		return nil
	}
	for n, a := range r.judge.index.acts {
		if !wanted(n) {
			continue
		}
		last := len(permissions) - 1
		switch {
		case last < 0 || permissions[last].Resource != a.resource:
			permissions = append(permissions, Permission{Resource: a.resource, Actions: []string{a.action}})
		case permissions[last].Actions[0] != AllActions:
			permissions[last].Actions = append(permissions[last].Actions, a.action)
		}
	}
	return permissions
}
