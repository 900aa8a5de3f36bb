package rbac

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Format writes a policy that Validate accepts as a YAML document for people.
// Parse reads the same policy from it; lists keep their order. A version of 0 is
// left out.
func Format(p Policy) []byte {
	var b strings.Builder
	b.WriteString("# What may be done (resources), by whom (roles), and what connected apps may ask\n")
	b.WriteString("# for (scopes). \"*\" is every action of a resource.\n")
	if p.Version != 0 {
		fmt.Fprintf(&b, "version: %d\n", p.Version)
	}
	section(&b, "resources", len(p.Resources))
	for _, r := range p.Resources {
		fmt.Fprintf(&b, "  - resource_id: %s\n", scalar(r.ID))
		sentence(&b, "description", r.Description)
		fmt.Fprintf(&b, "    actions: %s\n", flow(r.Actions))
	}
	section(&b, "roles", len(p.Roles))
	for _, r := range p.Roles {
		fmt.Fprintf(&b, "  - role_id: %s\n", scalar(r.ID))
		sentence(&b, "description", r.Description)
		permit(&b, r.Permissions)
	}
	section(&b, "scopes", len(p.Scopes))
	for _, s := range p.Scopes {
		fmt.Fprintf(&b, "  - scope: %s\n", scalar(s.Name))
		sentence(&b, "description", s.Description)
		sentence(&b, "detail", s.Detail)
		if s.ReadOnly {
			b.WriteString("    read_only: true\n")
		}
		permit(&b, s.Permissions)
	}
	return []byte(b.String())
}

func section(b *strings.Builder, name string, n int) {
	if n == 0 {
		fmt.Fprintf(b, "\n%s: []\n", name)
		return
	}
	fmt.Fprintf(b, "\n%s:\n", name)
}

func sentence(b *strings.Builder, name, s string) {
	if s != "" {
		fmt.Fprintf(b, "    %s: %s\n", name, scalar(s))
	}
}

func permit(b *strings.Builder, permissions []Permission) {
	if len(permissions) == 0 {
		return
	}
	b.WriteString("    permissions:\n")
	for _, p := range permissions {
		fmt.Fprintf(b, "      - {resource_id: %s, actions: %s}\n", scalar(p.Resource), flow(p.Actions))
	}
}

func flow(actions []string) string {
	words := make([]string, len(actions))
	for i, action := range actions {
		words[i] = scalar(action)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

var (
	// plainForm is text that YAML takes for itself without quotes.
	plainForm = regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9 ,.'()_-]|:[A-Za-z0-9_-])*$`)
	// plainNot are the words that some reader of YAML takes for something else.
	plainNot = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"}
)

func scalar(s string) string {
	if plainForm.MatchString(s) && !strings.HasSuffix(s, " ") && !slices.Contains(plainNot, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s) // what is printable stays itself, and the escapes are YAML's too
}
