package admin

import "testing"

// A row shows the end of an id, which differs where the beginning is alike.
func TestShort(t *testing.T) {
	for id, want := range map[string]string{
		"user-test-01a1fdab-18b8-7306-9961-835bbfb2d28a":            "user-…b2d28a",
		"connected-app-live-01a1fdaa-8c6a-7081-a091-468e5dfcf896":   "connected-app-…fcf896",
		"resource-server-test-01a1fdaa-8c6a-7081-a091-468e5df54c8a": "resource-server-…f54c8a",
		"session-01a1fdaa-8c6a-7081-a091-468e5dfcf896":              "session-…fcf896",
		"01a1fdaa-8c6a-7081-a091-468e5dfcf896":                      "…fcf896",
		"nobody":                                                    "nobody",
		"/oauth/authorize":                                          "/oauth/authorize",
		"vcImiNUJgec1232dMy5SiuWcY":                                 "vcImiNUJgec…2dMy5SiuWcY",
		"ééééééééééééééééééééééé":                                   "ééééééééééé…ééééééééééé",
	} {
		if got := short(id); got != want {
			t.Errorf("%q is %q, want %q", id, got, want)
		}
	}
}
