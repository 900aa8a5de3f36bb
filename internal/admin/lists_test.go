package admin_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// Text that PostgreSQL keeps nowhere finds nothing, in whatever part of an
// address it stands, and is no fault of ours.
func TestNonsenseInAddresses(t *testing.T) {
	for _, vertical := range []project.Vertical{project.Consumer, project.B2B} {
		each(t, servertest.Config{Vertical: vertical}, func(t *testing.T, d desk) {
			for _, list := range []string{"users", "organizations", "apps", "activity", "attempts", "attempts/%ff", "users/%ff", "apps/%00", "organizations/%00", "resources/%ff"} {
				for _, query := range []string{
					"q=%00", "q=%ff", "q=%ff@x", "after=%00", "after=%ff", "state=%00", "person=%ff", "client=%00", "kind=%00",
					"object=%ff", "show=how:%00", "show=type:%ff",
				} {
					if p := d.b.Get(t, d.page(list+"?"+query)); p.Status >= http.StatusInternalServerError {
						t.Errorf("%s?%s: %d", list, query, p.Status)
					}
				}
				d.Clock.Advance(time.Minute) // an address may ask for so many pages in one
			}
		})
	}
}
