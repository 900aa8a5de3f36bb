package admin

import (
	"net/http"
	"net/url"
)

// pager leads to other pages of a list: First is "" on the first one, Next on
// the last.
type pager struct{ First, Next string }

// turn makes the pager of a list whose cursor is "after". next is the cursor of
// the page that follows, "" for none. Filters stay in the address.
func turn(r *http.Request, next string) pager {
	query := r.URL.Query()
	address := func(after string) string {
		q := url.Values{}
		for name, values := range query {
			if name != "after" && name != "done" && name != "about" {
				q[name] = values
			}
		}
		if after != "" {
			q.Set("after", after)
		}
		if len(q) == 0 {
			return r.URL.Path
		}
		return r.URL.Path + "?" + q.Encode()
	}
	var p pager
	if query.Get("after") != "" {
		p.First = address("")
	}
	if next != "" {
		p.Next = address(next)
	}
	return p
}
