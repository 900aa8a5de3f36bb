package oauth

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/wire"
)

// embeddedCopies are the stored copies of this program; copies/README.md has
// the rule by which one is added.
//
//go:embed copies
var embeddedCopies embed.FS

// storedCopy stands for a client's metadata document that cannot be read
// (decision 28).
type storedCopy struct {
	taken time.Time // the day, UTC
	body  []byte    // as its host said it
}

// copyFile is a file of copies/.
type copyFile struct {
	ClientID string          `json:"client_id"`
	Taken    string          `json:"taken"`  // YYYY-MM-DD
	Source   string          `json:"source"` // public address where the text was found
	Document json.RawMessage `json:"document"`
}

// readCopies reads every *.json of files, by client_id. A copy passes the checks
// of a document that was read, by the settings of a new project, or nothing
// starts.
func readCopies(files fs.FS) (map[string]storedCopy, error) {
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		return nil, fmt.Errorf("oauth: list copies: %w", err)
	}
	all := map[string]storedCopy{}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("oauth: read copy %s: %w", name, err)
		}
		var f copyFile
		if err := wire.JSON(text, &f); err != nil {
			return nil, fmt.Errorf("oauth: copy %s: %w", name, err)
		}
		taken, err := f.check()
		if err != nil {
			return nil, fmt.Errorf("oauth: copy %s: %w", name, err)
		}
		if _, twice := all[f.ClientID]; twice {
			return nil, fmt.Errorf("oauth: copy %s: there are two copies of %s", name, f.ClientID)
		}
		all[f.ClientID] = storedCopy{taken, f.Document}
	}
	return all, nil
}

func (f copyFile) check() (taken time.Time, err error) {
	usual := &project.Project{Settings: project.Defaults()}
	taken, err = time.Parse(time.DateOnly, f.Taken)
	switch {
	case err != nil:
		return taken, fmt.Errorf("taken is %q; write a day such as 2026-11-03", f.Taken)
	case !strings.HasPrefix(f.Source, "https://"):
		return taken, errors.New("source must be the https address where the document was found")
	case len(f.Document) > documentLimit:
		return taken, fmt.Errorf("the document has more than %d bytes", documentLimit)
	}
	if _, err := checkDocumentURL(usual, f.ClientID); err != nil {
		return taken, err
	}
	_, err = acceptDocument(usual, f.ClientID, f.Document)
	return taken, err
}

// copyOf gives the stored copy of a document that could not be read for the
// reason why. A host that answered that there is no document is believed. One
// that was not even asked, because of our own limits, is replaced by a copy only
// where a copy stands already: nobody can push a client back to its copy by
// using up the limits.
func (s *Server) copyOf(p *project.Project, id string, known Client, why error) (reading, bool) {
	c, ok := s.documents.copies[id]
	if !ok || !p.Settings.DocumentCopies || errors.Is(why, errGone) || errors.Is(why, errNotAsked) && known.CopiedAt.IsZero() {
		return reading{}, false
	}
	metadata, err := acceptDocument(p, id, c.body) // again, by this project's settings
	return reading{metadata: metadata, fresh: documentDefault, copied: c.taken}, err == nil
}
