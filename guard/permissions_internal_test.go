package guard

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFreshness proves how long a policy is believed, by what its answer says.
func TestFreshness(t *testing.T) {
	for _, c := range []struct {
		cacheControl []string
		age          string
		want         time.Duration
	}{
		{[]string{"public, max-age=60"}, "", time.Minute},
		{[]string{"public", "Max-Age=90"}, "", 90 * time.Second},
		{[]string{`max-age="90"`}, "", 90 * time.Second},
		{[]string{"max-age=90"}, "30", time.Minute},
		{[]string{"max-age=90"}, "2147483647", policyShortest},
		{[]string{"max-age=90"}, "-5", 90 * time.Second},
		{[]string{"max-age=0"}, "", policyShortest},
		{[]string{"no-cache, max-age=90"}, "", policyShortest},
		{[]string{"max-age=90, no-store"}, "", policyShortest},
		{[]string{"max-age=86400"}, "", policyLongest},
		{[]string{"max-age=99999999999999999999"}, "", policyUsual},
		{[]string{"max-age=-1"}, "", policyUsual},
		{[]string{"s-maxage=1, x-max-age=1"}, "", policyUsual},
		{nil, "", policyUsual},
	} {
		h := http.Header{"Cache-Control": c.cacheControl}
		if c.age != "" {
			h.Set("Age", c.age)
		}
		if got := freshness(h); got != c.want {
			t.Errorf("%q, Age %q: %v, want %v", c.cacheControl, c.age, got, c.want)
		}
	}
}

const twoResources = `"resources":[{"resource_id":"a","actions":["x","y"]},{"resource_id":"b","actions":["x"]}]`

// TestParsePermissions proves which documents are policies.
func TestParsePermissions(t *testing.T) {
	scope := func(permissions string) string {
		return `{"version":1,` + twoResources + `,"scopes":[{"scope":"s","permissions":[` + permissions + `]}]}`
	}
	for _, c := range []struct {
		name, document string
		want           string // what scope s permits, or "refused"
	}{
		{"one action", scope(`{"resource_id":"a","actions":["x"]}`), "a:x"},
		{"all actions", scope(`{"resource_id":"a","actions":["*"]}`), "a:x a:y"},
		{"all actions and one of them", scope(`{"resource_id":"a","actions":["*","x"]},{"resource_id":"a","actions":["x"]}`), "a:x a:y"},
		{"in two permissions", scope(`{"resource_id":"a","actions":["x"]},{"resource_id":"a","actions":["y"]},{"resource_id":"b","actions":["x"]}`), "a:x a:y b:x"},
		{"no action", scope(`{"resource_id":"a","actions":[]}`), ""},
		{"no permission", scope(``), ""},
		{"with more than we know", scope(`{"resource_id":"a","actions":["x"],"since":1}`), "a:x"},
		{"escaped", scope(`{"resource_id":"\u0061","actions":["\u0078"]}`), "a:x"},
		{"nothing at all", `{"version":1,"resources":[],"scopes":[]}`, ""},
		{"scopes before resources", `{"scopes":[{"permissions":[{"actions":["x"],"resource_id":"a"}],"scope":"s"}],` + twoResources + `,"version":1}`, "a:x"},

		{"a resource that is not declared", scope(`{"resource_id":"c","actions":["x"]}`), "refused"},
		{"all of a resource that is not declared", scope(`{"resource_id":"c","actions":["*"]}`), "refused"},
		{"an action that is not declared", scope(`{"resource_id":"b","actions":["y"]}`), "refused"},
		{"all resources", scope(`{"resource_id":"*","actions":["x"]}`), "refused"},
		{"an action that is no name", scope(`{"resource_id":"a","actions":["x y"]}`), "refused"},
		{"an action that is no text", scope(`{"resource_id":"a","actions":[1]}`), "refused"},
		{"actions in one text", scope(`{"resource_id":"a","actions":"x"}`), "refused"},
		{"no actions", scope(`{"resource_id":"a"}`), "refused"},
		{"no resource", scope(`{"actions":["x"]}`), "refused"},
		{"actions are null", scope(`{"resource_id":"a","actions":null}`), "refused"},
		{"actions twice", scope(`{"resource_id":"a","actions":["x"],"actions":["y"]}`), "refused"},
		{"Actions", scope(`{"resource_id":"a","actions":["x"],"Actions":["y"]}`), "refused"},
		{"a permission is null", scope(`null`), "refused"},
		{"a permission is text", scope(`"a:x"`), "refused"},
		{"no permissions", `{"version":1,` + twoResources + `,"scopes":[{"scope":"s"}]}`, "refused"},
		{"no scope", `{"version":1,` + twoResources + `,"scopes":[{"permissions":[]}]}`, "refused"},
		{"a scope that is no scope", `{"version":1,` + twoResources + `,"scopes":[{"scope":"a b","permissions":[]}]}`, "refused"},
		{"a scope twice", `{"version":1,` + twoResources + `,"scopes":[{"scope":"s","permissions":[]},{"scope":"s","permissions":[]}]}`, "refused"},
		{"a resource twice", `{"version":1,"resources":[{"resource_id":"a","actions":["x"]},{"resource_id":"a","actions":["y"]}],"scopes":[]}`, "refused"},
		{"an action twice", `{"version":1,"resources":[{"resource_id":"a","actions":["x","x"]}],"scopes":[]}`, "refused"},
		{"an action called *", `{"version":1,"resources":[{"resource_id":"a","actions":["*"]}],"scopes":[]}`, "refused"},
		{"no version", `{` + twoResources + `,"scopes":[]}`, "refused"},
		{"before the first policy", `{"version":0,` + twoResources + `,"scopes":[]}`, ""},
		{"a version below that", `{"version":-1,` + twoResources + `,"scopes":[]}`, "refused"},
		{"a version and a half", `{"version":1.5,` + twoResources + `,"scopes":[]}`, "refused"},
		{"a version of null", `{"version":null,` + twoResources + `,"scopes":[]}`, "refused"},
		{"a version in text", `{"version":"1",` + twoResources + `,"scopes":[]}`, "refused"},
		{"no resources", `{"version":1,"scopes":[]}`, "refused"},
		{"no scopes", `{"version":1,` + twoResources + `}`, "refused"},
		{"scopes are null", `{"version":1,` + twoResources + `,"scopes":null}`, "refused"},
		{"a list", `[]`, "refused"},
		{"null", `null`, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := parsePermissions([]byte(c.document))
			if got := permitted(p, "s"); err == nil && got != c.want || (err != nil) != (c.want == "refused") {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// permitted lists what a scope permits.
func permitted(p *permissions, scope string) string {
	if p == nil {
		return ""
	}
	var all []string
	held := p.hold([]string{scope})
	for act := range p.acts {
		if held.may(act) {
			all = append(all, act.String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestSmallest proves which scope a challenge asks for: the one that permits
// the fewest acts, the first of equal ones, and only one that permits it.
func TestSmallest(t *testing.T) {
	p, err := parsePermissions([]byte(`{"version":1,` + twoResources + `,"scopes":[
		{"scope":"all","permissions":[{"resource_id":"a","actions":["*"]},{"resource_id":"b","actions":["*"]}]},
		{"scope":"a","permissions":[{"resource_id":"a","actions":["*","x"]},{"resource_id":"a","actions":["*"]}]},
		{"scope":"named","permissions":[{"resource_id":"a","actions":["x","y","x"]}]},
		{"scope":"x","permissions":[{"resource_id":"a","actions":["x"]}]},
		{"scope":"none","permissions":[]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{3, 2, 2, 1, 0}; !slices.Equal(p.sizes, want) {
		t.Errorf("sizes %v, want %v", p.sizes, want)
	}
	for _, c := range []struct{ act, from, want string }{
		{"a x", "all a named x none", "x"},
		{"a y", "all a named x none", "a"},
		{"a y", "none named a", "named"},
		{"b x", "none x a all", "all"},
		{"b x", "none x a", ""},
		{"b y", "all", ""},
		{"a x", "unknown", ""},
		{"a x", "", ""},
	} {
		resource, action, _ := strings.Cut(c.act, " ")
		if got := p.smallest(Act{resource, action}, strings.Fields(c.from)); got != c.want {
			t.Errorf("%s from %s: %q, want %q", c.act, c.from, got, c.want)
		}
	}
}

// FuzzPermissions proves that what is accepted as a policy permits exactly what
// a reading of it by encoding/json, permission by permission, says.
func FuzzPermissions(f *testing.F) {
	f.Add([]byte(`{"version":1,` + twoResources + `,"scopes":[{"scope":"s","permissions":[{"resource_id":"a","actions":["x"]},{"resource_id":"b","actions":["*"]}]},{"scope":"t","permissions":[]}]}`))
	f.Add([]byte(`{"version":1,"resources":[],"scopes":[]}`))
	f.Add([]byte(`{"version":1,"resources":[{"resource_id":"\u0061","actions":[]}],"scopes":null,"scopes ":[]}`))
	type permission struct {
		Resource string   `json:"resource_id"`
		Actions  []string `json:"actions"`
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if !json.Valid(document) {
			return // readJSON lets none through
		}
		p, err := parsePermissions(document)
		if err != nil {
			return
		}
		var plain struct {
			Version   int64        `json:"version"`
			Resources []permission `json:"resources"`
			Scopes    []struct {
				Scope       string       `json:"scope"`
				Permissions []permission `json:"permissions"`
			} `json:"scopes"`
		}
		if err := json.Unmarshal(document, &plain); err != nil {
			t.Fatalf("accepted %q: %v", document, err)
		}
		want, got := map[string]bool{}, map[string]bool{}
		for _, scope := range plain.Scopes {
			for _, granted := range scope.Permissions {
				for _, r := range plain.Resources {
					for _, action := range r.Actions {
						if r.Resource == granted.Resource && (slices.Contains(granted.Actions, action) || slices.Contains(granted.Actions, "*")) {
							want[fmt.Sprintf("%q may %q:%q", scope.Scope, r.Resource, action)] = true
						}
					}
				}
			}
			held := p.hold([]string{scope.Scope})
			number := 0
			for act := range p.acts {
				if held.may(act) {
					got[fmt.Sprintf("%q may %q:%q", scope.Scope, act.Resource, act.Action)] = true
					number++
				}
			}
			if number != p.sizes[p.numbers[scope.Scope]] {
				t.Errorf("%q permits %d acts and counts %d", scope.Scope, number, p.sizes[p.numbers[scope.Scope]])
			}
		}
		if !maps.Equal(got, want) || p.version != plain.Version {
			t.Errorf("%q\npermits %v\nwant    %v", document, got, want)
		}
	})
}
