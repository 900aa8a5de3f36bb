package doctor

import (
	"regexp"
	"strings"
)

// challenge is one challenge of WWW-Authenticate: a scheme and its parameters,
// their names in lower case.
type challenge struct {
	scheme string
	params map[string]string
}

var (
	tokenStart  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+")
	token68     = regexp.MustCompile(`^[0-9A-Za-z._~+/-]+=*[ \t]*(,|$)`)
	quotedStart = regexp.MustCompile(`^"((?:[^"\\]|\\.)*)"`)
	quotedPair  = regexp.MustCompile(`\\(.)`)
)

// parseChallenges reads the values of WWW-Authenticate (RFC 9110 §11.6.1). Not
// ok means that a client may read something else in them, or nothing.
func parseChallenges(values []string) (all []challenge, ok bool) {
	for _, rest := range values {
		first := len(all)
		for rest = strings.TrimLeft(rest, ", \t"); rest != ""; rest = strings.TrimLeft(rest, ", \t") {
			name := tokenStart.FindString(rest)
			if name == "" {
				return nil, false
			}
			rest = rest[len(name):]
			value, isParam := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "=")
			if !isParam {
				if rest != "" && !strings.ContainsAny(rest[:1], " \t,") {
					return nil, false
				}
				all = append(all, challenge{name, map[string]string{}})
				rest = strings.TrimLeft(rest, " \t")
				if blob := token68.FindString(rest); blob != "" {
					rest = rest[len(blob):]
				}
				continue
			}
			if len(all) == first { // a parameter of no scheme
				return nil, false
			}
			name, params := strings.ToLower(name), all[len(all)-1].params
			if _, twice := params[name]; twice {
				return nil, false
			}
			value = strings.TrimLeft(value, " \t")
			if quoted := quotedStart.FindStringSubmatch(value); quoted != nil {
				params[name], rest = quotedPair.ReplaceAllString(quoted[1], "$1"), value[len(quoted[0]):]
			} else if plain := tokenStart.FindString(value); plain != "" {
				params[name], rest = plain, value[len(plain):]
			} else {
				return nil, false
			}
			if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != ',' {
				return nil, false
			}
		}
	}
	return all, true
}

// bearer finds the challenge that an MCP client follows.
func bearer(all []challenge) (challenge, bool) {
	for _, c := range all {
		if strings.EqualFold(c.scheme, "Bearer") {
			return c, true
		}
	}
	return challenge{}, false
}
