package signin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
)

// A mark tells a browser in which somebody proved an address before from
// everybody else's. It opens nothing. It gives that browser limits of its own,
// so that strangers who use up an address's mails and wrong codes lock out each
// other, and not the person whose address it is (docs/decisions/0007).
//
// The mark is a random number and its authentication code for the project and
// the address; nothing of it is kept here, and it does not show the address.

const (
	markNumber = 16 // bytes
	markSize   = markNumber + 32
)

// Mark makes the mark of a browser in which somebody just proved an address.
func (m *Methods) Mark(p *project.Project, email string) string {
	number := make([]byte, markNumber, markSize)
	rand.Read(number) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(append(number, m.markCode(p, number, email)...))
}

// knownAs is the number in a mark, as text, "" when the mark is not of this
// project and address.
func (m *Methods) knownAs(p *project.Project, mark, email string) string {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(mark)
	if err != nil || len(raw) != markSize || subtle.ConstantTimeCompare(raw[markNumber:], m.markCode(p, raw[:markNumber], email)) != 1 {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw[:markNumber])
}

// markCode cannot be the code of a one-time code: ids of methods begin with
// their kind.
func (m *Methods) markCode(p *project.Project, number []byte, email string) []byte {
	sum := m.mac(p.ID, "browser "+base64.RawURLEncoding.EncodeToString(number), identity.Fold(email))
	return sum[:]
}
