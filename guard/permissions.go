package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Ages of the issuer's policy. It is fresh for as long as its Cache-Control
// says, within bounds; busy servers renew it beside their requests when half of
// that is over. Where the issuer does not answer, the last one serves as long as
// the last keys do.
const (
	policyShortest = 5 * time.Second
	policyUsual    = time.Minute // where the answer does not say
	policyLongest  = 5 * time.Minute
	policyDead     = keysDead
	policyRetry    = 30 * time.Second // after a renewal that failed
	policyWait     = 5 * time.Second  // the same where there is none to go on with
)

// maxPolicy bounds the policy document in bytes.
const maxPolicy = 2 << 20

// policySource knows the newest policy of the one trusted issuer.
type policySource struct {
	issuer *issuer
	client *http.Client // follows no redirects: they might leave the issuer
	rules  *policy
	now    func() time.Time
	log    *slog.Logger

	latest  atomic.Pointer[knownPolicy]
	failed  atomic.Int64 // when a fetch last failed, in Unix nanoseconds
	fetches flights[struct{}, *knownPolicy]
}

// knownPolicy is a policy with what its answer said about its age. It is never
// changed: a renewal makes another, with the same permissions where the issuer
// says that nothing is new.
type knownPolicy struct {
	*permissions
	etag    string
	fetched time.Time
	fresh   time.Duration
}

// current returns the permissions that count now, or [ErrUnavailable].
func (s *policySource) current(ctx context.Context) (*permissions, error) {
	known, now := s.latest.Load(), s.now()
	rested := now.Sub(time.Unix(0, s.failed.Load()))
	if known == nil || now.Sub(known.fetched) >= policyDead {
		if rested < policyWait {
			return nil, ErrUnavailable
		}
		return s.renew(ctx)
	}
	switch age := now.Sub(known.fetched); {
	case age < known.fresh/2, rested < policyRetry:
	case age < known.fresh:
		s.fetches.start(ctx, struct{}{}, s.fetch)
	default:
		if renewed, err := s.renew(ctx); err == nil {
			return renewed, nil
		}
	}
	return known.permissions, nil
}

func (s *policySource) renew(ctx context.Context) (*permissions, error) {
	known, err := s.fetches.do(ctx, struct{}{}, s.fetch)
	if err != nil {
		return nil, ErrUnavailable
	}
	return known.permissions, nil
}

// fetch asks the issuer. A document that cannot be read is no better than none:
// the last good one stays.
func (s *policySource) fetch(ctx context.Context) (*knownPolicy, error) {
	before := s.latest.Load()
	known, err := s.read(ctx, before)
	if err != nil {
		s.failed.Store(s.now().UnixNano())
		s.log.Warn("guard: no policy from the issuer", "issuer", s.issuer.url, "reason", err)
		return nil, ErrUnavailable
	}
	s.latest.Store(known)
	if before == nil || before.permissions != known.permissions {
		s.log.Info("guard: policy of the issuer", "issuer", s.issuer.url, "version", known.version)
		s.report(known.permissions)
	}
	return known, nil
}

// report names the acts of the configured rules that a policy does not have:
// typing mistakes that New could not see, or a policy that is not applied yet.
func (s *policySource) report(p *permissions) {
	for kind, needs := range map[string]map[string]need{"tool": s.rules.tools, "method": s.rules.methods} {
		for _, name := range slices.Sorted(maps.Keys(needs)) {
			for _, act := range needs[name].Acts {
				if _, known := p.acts[act]; !known {
					s.log.Warn("guard: a rule asks for an act that the issuer's policy does not have, so nobody may",
						kind, name, "act", act.String(), "policy_version", p.version)
				}
			}
		}
	}
}

// read fetches the policy, or learns that the known one is still the newest.
func (s *policySource) read(ctx context.Context, before *knownPolicy) (*knownPolicy, error) {
	doc, err := s.issuer.document(ctx)
	if err != nil {
		return nil, err
	}
	place := doc.parsed.RBACPolicyEndpoint
	if place == "" {
		return nil, errors.New("the issuer's metadata names no rbac_policy_endpoint")
	}
	if u, err := url.Parse(place); err != nil || !sameOrigin(u, s.issuer.url) {
		return nil, fmt.Errorf("rbac_policy_endpoint: %q is not at the issuer's origin", place)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if before != nil && before.etag != "" {
		req.Header.Set("If-None-Match", before.etag)
	}
	known := &knownPolicy{fetched: s.now()} // before the question: it may be older than the answer
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	known.fresh = freshness(resp.Header)
	if resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "" {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxDocument)) // so that the connection serves again
		known.permissions, known.etag = before.permissions, before.etag
		return known, nil
	}
	raw, err := readJSON(resp, req.URL, maxPolicy)
	if err != nil {
		return nil, err
	}
	known.etag = resp.Header.Get("ETag")
	known.permissions, err = parsePermissions(raw)
	return known, err
}

func sameOrigin(u *url.URL, issuer string) bool {
	of, err := url.Parse(issuer)
	return err == nil && u.User == nil && u.Scheme == of.Scheme && strings.EqualFold(u.Host, of.Host)
}

// freshness is how long an answer may be used (RFC 9111 §4.2), within bounds.
func freshness(h http.Header) time.Duration {
	fresh := policyUsual
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return policyShortest
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				fresh = time.Duration(seconds) * time.Second
			}
		}
	}
	if age, err := strconv.ParseUint(h.Get("Age"), 10, 31); err == nil {
		fresh -= time.Duration(age) * time.Second
	}
	return min(max(fresh, policyShortest), policyLongest)
}

// permissions is a policy document in the form in which it is asked: an act
// knows the scopes that permit it. It is never changed.
type permissions struct {
	version   int64
	resources map[string][]string // their actions
	numbers   map[string]int      // scope → its number
	sizes     []int               // by number: how many acts the scope permits
	acts      map[Act][]int       // every act of the policy → the scopes that name it
	whole     map[string][]int    // resource → the scopes that permit all of it
}

// parsePermissions reads a policy document. It is strict: a document that could
// be read in two ways, names something twice, or permits what it does not
// declare is refused as a whole. Members that it does not know are left alone,
// so that a newer issuer may say more.
func parsePermissions(raw []byte) (*permissions, error) {
	var resources, scopes []json.RawMessage
	p := &permissions{
		version:   -1,
		resources: map[string][]string{}, numbers: map[string]int{},
		acts: map[Act][]int{}, whole: map[string][]int{},
	}
	err := members(raw, []string{"version", "resources", "scopes"}, func(name, value []byte) (err error) {
		switch string(name) {
		case "version":
			p.version, err = strconv.ParseInt(string(value), 10, 64)
		case "resources":
			resources, err = list(value)
		case "scopes":
			scopes, err = list(value)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("policy: %w", err)
	case p.version < 0 || resources == nil || scopes == nil:
		return nil, errors.New("policy: version, resources and scopes are required")
	}
	for i, r := range resources {
		if err := p.addResource(r); err != nil {
			return nil, fmt.Errorf("policy: resources[%d]: %w", i, err)
		}
	}
	for i, s := range scopes {
		if err := p.addScope(s); err != nil {
			return nil, fmt.Errorf("policy: scopes[%d]: %w", i, err)
		}
	}
	return p, nil
}

func (p *permissions) addResource(raw []byte) error {
	id, actions, err := parsePermission(raw)
	if err != nil {
		return err
	}
	if _, twice := p.resources[id]; twice {
		return fmt.Errorf("%q is declared twice", id)
	}
	slices.Sort(actions)
	p.resources[id] = actions
	for _, action := range actions {
		act := Act{id, action}
		if _, twice := p.acts[act]; twice || action == everyAction {
			return fmt.Errorf("%q: action %q is there twice or is no name", id, action)
		}
		p.acts[act] = nil
	}
	return nil
}

func (p *permissions) addScope(raw []byte) error {
	scope := ""
	var granted []json.RawMessage
	err := members(raw, []string{"scope", "permissions"}, func(name, value []byte) (err error) {
		switch string(name) {
		case "scope":
			err = unquoteInto(&scope, value)
		case "permissions":
			granted, err = list(value)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, twice := p.numbers[scope]; twice || !scopeSyntax(scope) || granted == nil {
		return fmt.Errorf("%q is there twice, is no scope or has no permissions", scope)
	}
	n := len(p.sizes)
	p.numbers[scope] = n
	whole, named := map[string]bool{}, map[Act]bool{}
	for _, g := range granted {
		resource, actions, err := parsePermission(g)
		if err != nil {
			return fmt.Errorf("%q: %w", scope, err)
		}
		if _, known := p.resources[resource]; !known {
			return fmt.Errorf("%q permits actions on %q, which is no resource", scope, resource)
		}
		for _, action := range actions {
			act := Act{resource, action}
			if _, known := p.acts[act]; !known && action != everyAction {
				return fmt.Errorf("%q permits %s, which is no action of the resource", scope, act)
			}
			if action == everyAction {
				whole[resource] = true
			} else {
				named[act] = true
			}
		}
	}
	size := 0
	for resource := range whole {
		p.whole[resource] = append(p.whole[resource], n)
		size += len(p.resources[resource])
	}
	for act := range named {
		if !whole[act.Resource] {
			p.acts[act] = append(p.acts[act], n)
			size++
		}
	}
	p.sizes = append(p.sizes, size)
	return nil
}

// everyAction in a permission stands for all actions of its resource.
const everyAction = "*"

// parsePermission reads a resource id with actions, the form that resources
// and permissions share.
func parsePermission(raw []byte) (resource string, actions []string, err error) {
	var listed []json.RawMessage
	err = members(raw, []string{"resource_id", "actions"}, func(name, value []byte) (err error) {
		switch string(name) {
		case "resource_id":
			err = unquoteInto(&resource, value)
		case "actions":
			listed, err = list(value)
		}
		return err
	})
	if err != nil {
		return "", nil, err
	}
	if !scopeSyntax(resource) || resource == everyAction || listed == nil {
		return "", nil, errors.New("resource_id and actions are required")
	}
	actions = make([]string, len(listed))
	for i := range listed {
		if err := unquoteInto(&actions[i], listed[i]); err != nil || !scopeSyntax(actions[i]) {
			return "", nil, fmt.Errorf("%q: actions[%d] is no name", resource, i)
		}
	}
	return resource, actions, nil
}

// list reads the values of a JSON array; it never returns nil for one.
func list(value []byte) ([]json.RawMessage, error) {
	if value[0] != '[' {
		return nil, errors.New("not a list")
	}
	all := []json.RawMessage{}
	err := json.Unmarshal(value, &all)
	return all, err
}

// held are a principal's scopes by their numbers in a policy.
type held struct {
	of     *permissions
	scopes []uint64 // a bit for each number
}

func (p *permissions) hold(scopes []string) *held {
	h := &held{p, make([]uint64, (len(p.sizes)+63)/64)}
	for _, scope := range scopes {
		if n, ok := p.numbers[scope]; ok {
			h.scopes[n/64] |= 1 << (n % 64)
		}
	}
	return h
}

func (h *held) any(numbers []int) bool {
	for _, n := range numbers {
		if h.scopes[n/64]&(1<<(n%64)) != 0 {
			return true
		}
	}
	return false
}

// may reports whether one of the scopes permits an act. What the policy does
// not declare nobody may, not even under "*".
func (h *held) may(act Act) bool {
	named, known := h.of.acts[act]
	return known && (h.any(named) || h.any(h.of.whole[act.Resource]))
}

// lack says for the log why an act is not permitted.
func (h *held) lack(act Act) error {
	if _, known := h.of.acts[act]; !known {
		return fmt.Errorf("%w: the issuer's policy, version %d, does not have the act %s", ErrInsufficientScope, h.of.version, act)
	}
	return fmt.Errorf("%w: none that permits %s by the issuer's policy, version %d", ErrInsufficientScope, act, h.of.version)
}

// smallest returns the scope that permits an act and the fewest others, or "".
func (p *permissions) smallest(act Act, scopes []string) string {
	best, size := "", 0
	for _, scope := range scopes {
		n, ok := p.numbers[scope]
		if ok && (best == "" || p.sizes[n] < size) && p.hold([]string{scope}).may(act) {
			best, size = scope, p.sizes[n]
		}
	}
	return best
}
