package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/web"
)

// docs/guide/hardening.md promises these.
func TestDefaultLimits(t *testing.T) {
	limits := map[string]web.Limit{
		"pages": pageLimit(), "authorize": authorizeLimit(), "mails": mailLimit(), "machines": machineLimit(), "introspection": introspectLimit(),
	}
	if diff := cmp.Diff(map[string]web.Limit{
		"pages": {Count: 120, Per: time.Minute}, "authorize": {Count: 60, Per: time.Minute}, "mails": {Count: 20, Per: time.Hour},
		"machines": {Count: 600, Per: time.Minute}, "introspection": {Count: 6000, Per: time.Minute},
	}, limits); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(
		[]time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second, 60 * time.Second, 15 * time.Second, 20 * time.Second},
		[]time.Duration{web.HeaderTimeout, web.ReadTimeout, web.WriteTimeout, web.IdleTimeout, web.HandlerTimeout, web.DrainTimeout}); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{16 << 10, 8 << 10, 64, 64 << 10, 2 << 20},
		[]int{web.MaxHeaderBytes, web.MaxURL, web.MaxCookies, web.BodyPage, web.MaxBody}); diff != "" {
		t.Error(diff)
	}
}
