package admin

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// aSwitch is a setting of two values as a page with a form of switches says it.
type aSwitch struct{ setting, name, on, off string }

// switchRow is a switch as it stands.
type switchRow struct {
	Setting, Name, Text string // Setting is the field of the form
	On                  bool
}

// registration are the switches that say who may register.
func registration() []aSwitch {
	return []aSwitch{
		{"cimd", "Registration by metadata document", "The host it comes from vouches for it.", "Off. Clients that are known by an address of their own are refused."},
		{"dynamic-registration", "Self-registration", "Dynamic client registration, at most 60 an hour for each address.", "Off: no dynamic client registration. Only clients that you register, or that have a metadata document, come in."},
	}
}

// doors are those and what else lets strangers in.
func doors() []aSwitch {
	return append(registration(),
		aSwitch{"unregistered-resources", "Unregistered resources", "Tokens may name servers that nobody registered here.", "Off. Tokens name a server you know."})
}

// switchRows says how switches stand, the command that sets them so, and what their
// form says it saw.
func (v visit) switchRows(switches []aSwitch) (rows []switchRow, cli, was string) {
	words := []string{"project", "set"}
	for _, s := range switches {
		setting, _ := project.SettingOf(s.setting)
		row := switchRow{Setting: s.setting, Name: s.name, Text: s.off, On: setting.Get(v.project) == setting.On}
		if row.On {
			row.Text = s.on
		}
		rows, words = append(rows, row), append(words, s.setting, setting.Get(v.project))
	}
	return rows, v.command(words...), shown(v.project, names(switches))
}

// set changes settings as a form says, unless somebody else changed one of the
// form since its page was made: what stood in the other fields would come back.
func (d *Dashboard) set(r *http.Request, v visit, values url.Values, changes []project.Change, form []string) error {
	_, err := d.Projects.By(v.origin).Set(r.Context(), v.project.ID, changes, func(p *project.Project) error {
		if values.Has("was") && values.Get("was") != shown(p, form) {
			return project.ErrConflict
		}
		return nil
	})
	return err
}

// shown is how settings stand, for a form to say what it saw.
func shown(p *project.Project, settings []string) string {
	var values []string
	for _, name := range settings {
		s, _ := project.SettingOf(name)
		values = append(values, s.Get(p))
	}
	return strings.Join(values, " | ")
}

// names are the settings that switches are.
func names(switches []aSwitch) []string {
	var all []string
	for _, s := range switches {
		all = append(all, s.setting)
	}
	return all
}

// flip sets switches as a form says, and goes back to its page.
func (d *Dashboard) flip(w http.ResponseWriter, r *http.Request, v visit, values url.Values, switches []aSwitch) error {
	var changes []project.Change
	for _, s := range switches {
		setting, _ := project.SettingOf(s.setting)
		value := setting.Off
		if values.Get(s.setting) == "on" {
			value = setting.On
		}
		changes = append(changes, project.Change{Setting: s.setting, Value: value})
	}
	err := d.set(r, v, values, changes, names(switches))
	if errors.Is(err, project.ErrConflict) {
		return &web.Error{Status: http.StatusConflict, Page: web.ErrorPage{
			Headline: "Somebody changed the project first",
			What:     "It is not as the page showed it any more, so nothing was saved.",
			Next:     "Go back, load the page again and choose anew.",
		}}
	}
	if err != nil {
		return err
	}
	d.Changed(r.Context())
	d.done(w, r, r.URL.Path, "saved", "")
	return nil
}
