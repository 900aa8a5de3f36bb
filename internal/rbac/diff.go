package rbac

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Change is one difference between two policies, as a line for people.
type Change struct {
	Sign string // "+" is new, "-" is gone, "~" is different
	Text string
}

// String is the sign and the text.
func (c Change) String() string { return c.Sign + " " + c.Text }

// Diff tells what changes when old is replaced by new: resources, roles, then
// scopes, each in the order of new with what is gone behind, and under a scope
// which roles come to cover it or cease to. It tells of the policies as they
// work: a built-in role left out is the default one, the order of actions in a
// permission means nothing, and versions are not compared. Nothing changes if
// there is no Change.
func Diff(old, new Policy) []Change {
	old, new = old.WithBuiltIns(), new.WithBuiltIns()
	resources := entries("resource", old.Resources, new.Resources,
		func(r Resource, _ bool) (id, text string) { return r.ID, strings.Join(r.Actions, ", ") },
		func(a, b Resource) []string {
			return slices.Concat(
				differs("description", quoted(a.Description), quoted(b.Description)),
				differs("actions", strings.Join(a.Actions, ", "), strings.Join(b.Actions, ", ")))
		})
	roles := entries("role", old.Roles, new.Roles,
		func(r Role, _ bool) (id, text string) { return r.ID, permitting(r.Permissions) },
		func(a, b Role) []string {
			return slices.Concat(
				differs("description", quoted(a.Description), quoted(b.Description)),
				permissionsDiffer(a.Permissions, b.Permissions))
		})
	all := holders(old, new)
	scopes := entries("scope", old.Scopes, new.Scopes,
		func(s Scope, added bool) (id, text string) {
			text = permitting(s.Permissions)
			if added && len(s.Permissions) > 0 {
				text += "; grantable with " + coverage(all, s.Name)
			}
			return s.Name, text
		},
		func(a, b Scope) []string {
			return slices.Concat(
				differs("description", quoted(a.Description), quoted(b.Description)),
				differs("detail", quoted(a.Detail), quoted(b.Detail)),
				differs("read_only", fmt.Sprint(a.ReadOnly), fmt.Sprint(b.ReadOnly)),
				permissionsDiffer(a.Permissions, b.Permissions),
				coverageDiffers(all, b.Name))
		})
	return slices.Concat(resources, roles, scopes)
}

// entries compares two lists of what about gives an id, and a text for when it
// was added or is gone; differences has a line for each thing in which two of
// the same id differ.
func entries[T any](kind string, old, new []T, about func(v T, added bool) (id, text string), differences func(a, b T) []string) (changes []Change) {
	say := func(sign, id, text string) {
		changes = append(changes, Change{sign, kind + " " + quoted(id) + ": " + text})
	}
	was := map[string]T{}
	for _, a := range old {
		id, _ := about(a, false)
		was[id] = a
	}
	var order, orderWas []string // of what is in both
	is := map[string]bool{}
	for _, b := range new {
		id, text := about(b, true)
		is[id] = true
		a, ok := was[id]
		if !ok {
			say("+", id, text)
			continue
		}
		order = append(order, id)
		for _, line := range differences(a, b) {
			say("~", id, line)
		}
	}
	for _, a := range old {
		id, text := about(a, false)
		if is[id] {
			orderWas = append(orderWas, id)
		} else {
			say("-", id, text)
		}
	}
	if !slices.Equal(order, orderWas) {
		changes = append(changes, Change{"~", kind + "s are listed in another order"})
	}
	return changes
}

func differs(name, a, b string) []string {
	if a == b {
		return nil
	}
	return []string{name + ": " + a + " → " + b}
}

func quoted(s string) string { return `"` + s + `"` }

// permitted returns the resources that permissions name, in their order, and the
// actions on each.
func permitted(permissions []Permission) (resources []string, actions map[string]string) {
	lists := map[string][]string{}
	for _, p := range permissions {
		if lists[p.Resource] == nil {
			resources = append(resources, p.Resource)
		}
		lists[p.Resource] = append(lists[p.Resource], p.Actions...)
	}
	actions = map[string]string{}
	for resource, list := range lists {
		slices.Sort(list)
		actions[resource] = strings.Join(slices.Compact(list), ", ")
		if slices.Contains(list, AllActions) {
			actions[resource] = AllActions
		}
	}
	return resources, actions
}

func permitting(permissions []Permission) string {
	resources, actions := permitted(permissions)
	if len(resources) == 0 {
		return "no permissions"
	}
	for i, resource := range resources {
		resources[i] = resource + " (" + actions[resource] + ")"
	}
	return strings.Join(resources, ", ")
}

func permissionsDiffer(a, b []Permission) (lines []string) {
	before, was := permitted(a)
	after, is := permitted(b)
	for _, resource := range before {
		if is[resource] == "" {
			after = append(after, resource)
		}
	}
	for _, resource := range after {
		lines = append(lines, differs("permissions on "+resource, cmp.Or(was[resource], "none"), cmp.Or(is[resource], "none"))...)
	}
	return lines
}

// holder is somebody who holds one role of the new policy, and member.
type holder struct {
	role    string
	stayed  bool // the role is in the old policy too
	was, is Rights
}

func holders(old, new Policy) []holder {
	before, after := Compile(old), Compile(new)
	all := make([]holder, len(new.Roles))
	for i, r := range new.Roles {
		_, stayed := before.roles[r.ID]
		all[i] = holder{r.ID, stayed, before.Rights(r.ID), after.Rights(r.ID)}
	}
	return all
}

// coverage names the roles with which a scope can be granted.
func coverage(all []holder, scope string) string {
	var ids []string
	for _, h := range all {
		if h.is.covers(scope) {
			ids = append(ids, h.role)
		}
	}
	if len(ids) == len(all) {
		return "every role"
	}
	return named(ids)
}

// coverageDiffers names the roles that come to cover a scope or cease to.
func coverageDiffers(all []holder, scope string) (lines []string) {
	var gained, lost []string
	for _, h := range all {
		was, is := h.was.covers(scope), h.is.covers(scope)
		switch {
		case h.stayed && is && !was:
			gained = append(gained, h.role)
		case h.stayed && was && !is:
			lost = append(lost, h.role)
		}
	}
	if len(gained) > 0 {
		lines = append(lines, "now grantable with "+named(gained))
	}
	if len(lost) > 0 {
		lines = append(lines, "no longer grantable with "+named(lost))
	}
	return lines
}

// named lists some roles, and not hundreds.
func named(ids []string) string {
	const most = 8
	switch {
	case len(ids) == 0:
		return "no role"
	case len(ids) == 1:
		return "the role " + ids[0]
	case len(ids) <= most:
		return "the roles " + strings.Join(ids, ", ")
	}
	return fmt.Sprintf("the roles %s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
}
