package project

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Setting is one thing about a project that an operator can set, by the name
// and in the words that the command line and the dashboard share.
type Setting struct {
	Name   string
	Values string // what can be set, for whoever set something else
	// On and Off are the words of a setting that is one of two, else "".
	On, Off string
	get     func(*Project) string
	set     func(*Project, string) error
}

// Get is the value as Setup.Set takes it.
func (s Setting) Get(p *Project) string { return s.get(p) }

// Set changes p alone, which has to be a copy; Setup.Set keeps it. The error
// says what can be set.
func (s Setting) Set(p *Project, value string) error {
	if err := s.set(p, value); err != nil {
		return Problem(fmt.Sprintf("%s is %q; use %s", s.Name, value, s.Values))
	}
	return nil
}

// The settings that are more than a value in Settings.
const (
	IssuerSetting          = "issuer"           // kept by Setup.SetIssuer
	DefaultResourceSetting = "default-resource" // a mark on a resource server
)

// none is the value of a setting that has none.
const none = "none"

// SettingOf finds a setting by name.
func SettingOf(name string) (Setting, bool) {
	all := AllSettings()
	i := slices.IndexFunc(all, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return all[i], true
}

// AllSettings lists them in the order in which people read them.
func AllSettings() []Setting {
	return []Setting{
		{Name: "name", Values: "what people read, at most 100 characters on one line", get: func(p *Project) string { return p.Name }, set: func(p *Project, v string) error {
			p.Name = strings.TrimSpace(v)
			return checkName(p.Name)
		}},
		{Name: IssuerSetting, Values: "an address such as https://auth.example.com or https://auth.example.com/tenant1, without a slash at its end", get: func(p *Project) string { return p.Issuer }, set: func(p *Project, v string) error {
			p.Issuer = v
			return CheckIssuer(v)
		}},
		link("authorization-url", "the address of your own authorization page, or none", true, func(s *Settings) *string { return &s.AuthorizationURL }),
		either("dynamic-registration", "on", "off", func(s *Settings) *bool { return &s.DynamicRegistration }),
		either("cimd", "on", "off", func(s *Settings) *bool { return &s.MetadataDocuments }),
		either("cimd-copies", "on", "off", func(s *Settings) *bool { return &s.DocumentCopies }),
		either("organization-creation", "on", "off", func(s *Settings) *bool { return &s.OrganizationCreation }),
		either("unregistered-resources", "allow", "refuse", func(s *Settings) *bool { return &s.UnregisteredResources }),
		{Name: DefaultResourceSetting, Values: "the URL of a resource server, or none", get: func(p *Project) string {
			if r, ok := p.DefaultResource(); ok {
				return r.URI
			}
			return none
		}, set: func(p *Project, v string) error {
			chosen, ok := p.Resource(v)
			if !ok && v != none {
				return errValue
			}
			p.Resources = slices.Clone(p.Resources)
			for i := range p.Resources {
				p.Resources[i].Default = ok && p.Resources[i].URI == chosen.URI
			}
			return nil
		}},
		words("default-scopes", "scopes with commas between, where neither request nor resource names any", func(s *Settings) *[]string { return &s.DefaultScopes }),
		words("private-use-schemes", "schemes that a redirect URI may have besides https, such as cursor,vscode", func(s *Settings) *[]string { return &s.PrivateUseSchemes }),
		either("preselect", "read-only", "all", func(s *Settings) *bool { return &s.PreselectReadOnly }),
		either("badge", "hide", "show", func(s *Settings) *bool { return &s.HideBadge }),
		link("privacy-url", "an https address, or none", false, func(s *Settings) *string { return &s.PrivacyURL }),
		link("help-url", "an https address, or none", false, func(s *Settings) *string { return &s.HelpURL }),
		span("code-lifetime", func(l *Lifetimes) *int { return &l.Code }),
		span("access-token-lifetime", func(l *Lifetimes) *int { return &l.AccessToken }),
		span("lone-access-token-lifetime", func(l *Lifetimes) *int { return &l.LoneAccessToken }),
		span("refresh-idle", func(l *Lifetimes) *int { return &l.RefreshIdle }),
		span("refresh-absolute", func(l *Lifetimes) *int { return &l.RefreshAbsolute }),
		span("replay-window", func(l *Lifetimes) *int { return &l.ReplayWindow }),
		span("email-code-lifetime", func(l *Lifetimes) *int { return &l.EmailCode }),
		span("session-idle", func(l *Lifetimes) *int { return &l.SessionIdle }),
		span("session-absolute", func(l *Lifetimes) *int { return &l.SessionAbsolute }),
	}
}

// errValue says that a value is not one of a setting's.
var errValue = errors.New("not a value of this setting")

// maxName is how long the name of a project or of a resource server may be, in
// characters.
const maxName = 100

// checkName refuses what cannot stand on one line of a page or of a mail.
func checkName(name string) error {
	if name == "" || !plain(name, maxName) {
		return errValue
	}
	return nil
}

// maxSentence is how long the sentence of a scope may be, in characters, and its
// detail.
const maxSentence = 300

// plain reports whether text has at most so many characters, all of which can be
// read, on one line.
func plain(text string, most int) bool {
	unreadable := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	return utf8.RuneCountInString(text) <= most && !strings.ContainsFunc(text, unreadable)
}

// either is a switch whose true is called on and whose false is called off.
func either(name, on, off string, field func(*Settings) *bool) Setting {
	return Setting{Name: name, Values: on + " or " + off, On: on, Off: off, get: func(p *Project) string {
		if *field(&p.Settings) {
			return on
		}
		return off
	}, set: func(p *Project, v string) error {
		if v != on && v != off {
			return errValue
		}
		*field(&p.Settings) = v == on
		return nil
	}}
}

func words(name, values string, field func(*Settings) *[]string) Setting {
	return Setting{Name: name, Values: values, get: func(p *Project) string {
		if l := *field(&p.Settings); len(l) > 0 {
			return strings.Join(l, ",")
		}
		return none
	}, set: func(p *Project, v string) error {
		items := []string{}
		for item := range strings.SplitSeq(v, ",") {
			item = strings.TrimSpace(item)
			switch {
			case item == "" || item == none:
			case !ValidScope(item): // a scheme has fewer characters yet; see Settings.Check
				return errValue
			default:
				items = append(items, item)
			}
		}
		*field(&p.Settings) = items
		return nil
	}}
}

// link is an https address or none. One that is for development too may be plain
// http on this computer.
func link(name, values string, local bool, field func(*Settings) *string) Setting {
	return Setting{Name: name, Values: values, get: func(p *Project) string {
		if u := *field(&p.Settings); u != "" {
			return u
		}
		return none
	}, set: func(p *Project, v string) error {
		if v == none {
			*field(&p.Settings) = ""
			return nil
		}
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || u.User != nil || len(v) > 500 {
			return errValue
		}
		if u.Scheme != "https" && !(local && u.Scheme == "http" && Loopback(u.Hostname())) {
			return errValue
		}
		*field(&p.Settings) = v
		return nil
	}}
}

func span(name string, field func(*Lifetimes) *int) Setting {
	return Setting{Name: name, Values: "a time such as 90s, 15m, 12h or 14d", get: func(p *Project) string {
		return Span(*field(&p.Settings.Lifetimes))
	}, set: func(p *Project, v string) error {
		n, err := ParseSpan(v)
		if err == nil {
			*field(&p.Settings.Lifetimes) = n
		}
		return err
	}}
}

// Span writes seconds in the largest unit that fits.
func Span(n int) string {
	for _, u := range []struct {
		size int
		name string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.Itoa(n/u.size) + u.name
		}
	}
	return strconv.Itoa(n) + "s"
}

// ParseSpan reads what Span writes, and every other time of whole seconds that
// time.ParseDuration reads.
func ParseSpan(text string) (int, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 100_000 {
			return 0, errValue
		}
		return n * 86400, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d%time.Second != 0 {
		return 0, errValue
	}
	return int(d / time.Second), nil
}

// Change is a setting by name and the value it gets.
type Change struct{ Setting, Value string }

// try applies changes to a copy of p. The error names all that is wrong.
func (p *Project) try(changes []Change) (*Project, error) {
	trial, problems := *p, []string(nil)
	for _, c := range changes {
		s, ok := SettingOf(c.Setting)
		if !ok {
			problems = append(problems, fmt.Sprintf("there is no setting %q", c.Setting))
			continue
		}
		if err := s.Set(&trial, c.Value); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if problems = append(problems, trial.Settings.Check()...); len(problems) > 0 {
		return nil, Problem(strings.Join(problems, "\n"))
	}
	return &trial, nil
}

// Set changes settings of a project, all of them or, when one cannot be had,
// none. The issuer is not among them: see SetIssuer. check, unless nil, sees the
// project as it is before; its error is returned, and nothing set.
func (s *Setup) Set(ctx context.Context, id string, changes []Change, check func(*Project) error) (*Project, error) {
	if slices.ContainsFunc(changes, func(c Change) bool { return c.Setting == IssuerSetting }) {
		return nil, Problem("a new issuer ends what was issued under the old one; it is set by itself")
	}
	changed, err := s.Change(ctx, id, func(p *Project) error {
		if check != nil {
			if err := check(p); err != nil {
				return err
			}
		}
		trial, err := p.try(changes)
		if err == nil {
			*p = *trial
		}
		return err
	})
	i := slices.IndexFunc(changes, func(c Change) bool { return c.Setting == DefaultResourceSetting })
	if err != nil || i < 0 {
		return changed, err
	}
	// The default is a mark on a resource server, which another command may have
	// changed meanwhile: what is there now gets the mark.
	for range 5 {
		now, err := s.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		err = s.markDefault(ctx, now, changes[i].Value)
		if err == nil {
			return s.Find(ctx, id)
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
	}
	return nil, ErrConflict
}

// markDefault makes the resource server with an address the default, or none.
func (s *Setup) markDefault(ctx context.Context, p *Project, address string) error {
	i := slices.IndexFunc(p.Resources, func(r Resource) bool { return r.Is(address) }) // which takes the mark from the others
	if i < 0 {
		i = slices.IndexFunc(p.Resources, func(r Resource) bool { return r.Default })
	}
	if i < 0 {
		return nil
	}
	r := p.Resources[i]
	r.Default = r.Is(address)
	_, _, err := s.AddResource(ctx, p, r, nil, false)
	return err
}
