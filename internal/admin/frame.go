package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// frame is what stands around every page: the rail and the head of the page. A
// view embeds it.
type frame struct {
	web.Site          // zero: the dashboard is Postern's own
	Title    string   // of the page
	Crumbs   []link   // what leads to it
	Lead     string   // a sentence below the title, "" for none
	CLI      string   // the command that shows or does the same
	Nav      []navRow // of the project, empty without one
	Project  projectRow
	Projects []projectRow
	Email    string // of the administrator
	Version  string
	Database string
	CSRF     string
	Here     string   // path of this page: where its forms go
	Done     string   // what the form before did: one of the page's own words
	About    string   // to what
	Problems []string // why a form was not carried out, a sentence each
	Now      time.Time
}

type link struct{ Name, Path string }

// navRow is one line of the rail.
type navRow struct {
	Name, Path, Icon string
	Current          bool
}

// projectRow is a project in the rail and in the list of projects.
type projectRow struct {
	ID, Name, Issuer, Kind, Path string
	Logo                         string // address of its picture, "" without one
	Current                      bool
}

// section is a part of a project's dashboard.
type section struct{ name, path, icon string }

// The sections, in the order of the rail. People are users or organizations.
func sections(p *project.Project) []section {
	people := section{"Users", "users", "people"}
	if p.Vertical == project.B2B {
		people = section{"Organizations", "organizations", "people"}
	}
	return []section{
		{"Overview", "", "overview"},
		{"Connected apps", "apps", "app"},
		people,
		{"Roles & scopes", "roles", "roles"},
		{"Resource servers", "resources", "server"},
		{"Keys", "keys", "key"},
		{"Activity", "activity", "activity"},
		{"Settings", "settings", "gear"},
	}
}

// frame begins a page in a section ("" for the overview, and outside of any
// project). cli is its command.
func (d *Dashboard) frame(r *http.Request, v visit, current, title, cli string) frame {
	f := frame{
		Title: title, CLI: cli, Email: v.who.Email, Version: d.Version, Database: d.Database,
		CSRF: d.CSRF.Token(csrfPurpose, v.session.ID), Here: r.URL.Path, Now: d.Now(),
	}
	if r.Method == http.MethodGet {
		query := r.URL.Query()
		f.Done, f.About = query.Get("done"), query.Get("about")
	}
	for _, p := range v.projects {
		row := toProjectRow(p)
		if row.Current = p == v.project; row.Current {
			f.Project = row
		}
		f.Projects = append(f.Projects, row)
	}
	if v.project != nil {
		for _, s := range sections(v.project) {
			f.Nav = append(f.Nav, navRow{Name: s.name, Path: projectPath(v.project, s.path), Icon: s.icon, Current: s.path == current})
		}
	}
	return f
}

func toProjectRow(p *project.Project) projectRow {
	kind := "Consumer"
	if p.Vertical == project.B2B {
		kind = "B2B"
	}
	return projectRow{ID: p.ID, Name: p.Name, Issuer: p.Issuer, Kind: kind + ", " + string(p.Environment), Path: projectPath(p, ""), Logo: logoPath(p, p.Logo)}
}

// in adds what leads to a page: the section it is in, and what is above it.
func (f frame) in(above ...link) frame {
	if i := slices.IndexFunc(f.Nav, func(n navRow) bool { return n.Current }); i >= 0 {
		f.Crumbs = append(f.Crumbs, link{f.Nav[i].Name, f.Nav[i].Path})
	}
	f.Crumbs = append(f.Crumbs, above...)
	return f
}

// command writes a command line of postern about a project. Words with blanks
// are quoted as a shell wants them.
func (v visit) command(words ...string) string {
	if v.project != nil && len(v.projects) > 1 {
		words = append(words, "--project", v.project.Issuer)
	}
	return command(words...)
}

func command(words ...string) string {
	quoted := []string{"postern"}
	for _, word := range words {
		plain := word != "" && !strings.ContainsFunc(word, func(c rune) bool {
			return !strings.ContainsRune("-_.,:/=@%+", c) && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
		})
		if !plain {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		quoted = append(quoted, word)
	}
	return strings.Join(quoted, " ")
}
