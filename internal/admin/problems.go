package admin

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/project"
)

// sentences says why an operation was refused, in sentences for the
// administrator. What is not for them comes back as an error.
func sentences(err error) ([]string, error) {
	var problem project.Problem
	var problems identity.Problems
	switch {
	case errors.As(err, &problem):
		var all []string
		for one := range strings.SplitSeq(string(problem), "\n") {
			all = append(all, sentence(one))
		}
		return all, nil
	case errors.As(err, &problems):
		return problems, nil
	case errors.Is(err, project.ErrTaken):
		return []string{sentence(strings.TrimPrefix(err.Error(), project.ErrTaken.Error()+": "))}, nil
	case errors.Is(err, project.ErrConflict):
		return []string{"Another project has this host, or another window changed it first. Load the page again."}, nil
	case errors.Is(err, identity.ErrStale), errors.Is(err, oauth.ErrConflict):
		return []string{"Another window changed it first. Load the page again."}, nil
	case errors.Is(err, identity.ErrConflict):
		return []string{"Another one has this address or name already."}, nil
	case errors.Is(err, picture.ErrUnfit):
		return []string{"Use a PNG, JPEG, GIF or WebP file of at most 256 KiB and 2048 by 2048 pixels."}, nil
	}
	return nil, err
}

// sentence begins with a capital letter and ends with a full stop.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + strings.TrimSuffix(s[size:], ".") + "."
}
