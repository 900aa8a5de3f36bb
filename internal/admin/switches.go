package admin

import (
	"net/http"
	"net/url"

	"github.com/postern-id/postern/internal/project"
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

// switchRows says how switches stand, and the command that sets them so.
func (v visit) switchRows(switches []aSwitch) (rows []switchRow, cli string) {
	words := []string{"project", "set"}
	for _, s := range switches {
		setting, _ := project.SettingOf(s.setting)
		row := switchRow{Setting: s.setting, Name: s.name, Text: s.off, On: setting.Get(v.project) == setting.On}
		if row.On {
			row.Text = s.on
		}
		rows, words = append(rows, row), append(words, s.setting, setting.Get(v.project))
	}
	return rows, v.command(words...)
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
	if _, err := d.Projects.By(v.origin).Set(r.Context(), v.project.ID, changes); err != nil {
		return err
	}
	d.Changed(r.Context())
	d.done(w, r, r.URL.Path, "saved", "")
	return nil
}
