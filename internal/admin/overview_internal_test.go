package admin

import (
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// A day as four figures: the sum, what changed, and a bar for each hour that
// had any.
func TestCharts(t *testing.T) {
	start := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	day := audit.Day{Before: audit.Hour{SignIns: 1000, Tokens: 4, Refusals: 0}}
	for i := range 24 {
		h := audit.Hour{Start: start.Add(time.Duration(i) * time.Hour)}
		switch i {
		case 3:
			h.SignIns = 1000
		case 23:
			h.SignIns, h.Tokens, h.Refusals = 500, 4, 2
		}
		day.Hours = append(day.Hours, h)
	}
	all := charts(day)
	for i, want := range []struct{ figure, change string }{{"1,500", "+50 %"}, {"0", ""}, {"4", ""}, {"2", ""}} {
		if all[i].Figure != want.figure || all[i].Change != want.change {
			t.Errorf("%s: %s %q, want %s %q", all[i].Name, all[i].Figure, all[i].Change, want.figure, want.change)
		}
	}
	bars := all[0].Bars
	if bars[3].Path != "M24.75 44v-41a3 3 0 0 1 6 0v41z" || bars[3].Clock != "12:00" || bars[3].Running {
		t.Errorf("the highest bar is %+v", bars[3])
	}
	if bars[23].Path != "M189.75 44v-19a3 3 0 0 1 6 0v19z" || !bars[23].Running {
		t.Errorf("the running hour is %+v", bars[23])
	}
	if bars[4].Path != "" {
		t.Errorf("an hour without any is %+v", bars[4])
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
}
