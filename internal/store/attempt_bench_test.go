package store_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/secret"
)

// BenchmarkAttempts is each list of attempts in a project with
// POSTERN_BENCH_ATTEMPTS of them in a day (it is skipped without), one in fifty of
// them refused, of ten clients.
func BenchmarkAttempts(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("POSTERN_BENCH_ATTEMPTS"))
	if err != nil {
		b.Skip("POSTERN_BENCH_ATTEMPTS is not set")
	}
	eachBench(b, func(b *testing.B, w *world) {
		at(64, func(caller int) {
			for i := caller; i < n; i += 64 {
				a := w.attempt(secret.NewTrace(), now.Add(time.Duration(i)*24*time.Hour/time.Duration(n)))
				a.ClientID, a.Address = fmt.Sprint("client ", i%10), fmt.Sprintf("198.51.%d.%d", i/256%256, i%256)
				a.State, a.Stage, a.Subject = audit.Allowed, audit.AtConsent, w.user.ID
				if i%50 == 0 {
					a.State, a.Stage, a.Subject = audit.Refused, audit.AtAuthorize, ""
				}
				e := w.eventAt(audit.TokenIssued, a.StartedAt)
				e.Attempt = a.Code
				if err := w.RefuseAttempt(context.Background(), a, e, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
		for name, f := range map[string]audit.AttemptFilter{
			"newest": {}, "client": {ClientID: "client 3"}, "refused": {State: audit.Refused},
			"client refused": {ClientID: "client 0", State: audit.Refused}, "client denied": {ClientID: "client 0", State: audit.Denied},
			"waiting": {State: audit.Waiting}, "address": {Query: "198.51.1.7"}, "no address": {Query: "192.0.2.77"},
			"person": {Query: "ada@example.test"},
		} {
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					if _, err := w.Attempts(b.Context(), w.project.ID, f, "", 50); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	})
}
