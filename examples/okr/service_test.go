package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newService opens a service on a fresh file.
func newService(t *testing.T) *Service {
	t.Helper()
	path := filepath.Join(t.TempDir(), "okr ?#%.db") // a path is not a URL
	service, err := OpenService(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close() })
	return service
}

// by is a person of an organization, on the page.
func by(organization string) Caller { return Caller{Organization: organization, Subject: "ada"} }

// must returns a value that there must be.
func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// outline is what a list says, without its ids.
func outline(t *testing.T, service *Service, organization string) []string {
	t.Helper()
	lines := []string{}
	for _, o := range must[[]Objective](t)(service.List(t.Context(), organization)) {
		lines = append(lines, o.Text)
		for _, k := range o.KeyResults {
			lines = append(lines, fmt.Sprintf("  %s %d", k.Text, k.Attainment))
		}
	}
	return lines
}

var seeded = []string{
	"Know what we want to reach this quarter",
	"  Every team has written down one objective 0",
	"  Every objective has a number that shows how far we are 0",
}

// empty deletes what a new organization begins with.
func empty(t *testing.T, service *Service, organization string) {
	t.Helper()
	for _, o := range must[[]Objective](t)(service.List(t.Context(), organization)) {
		must[Objective](t)(service.DeleteObjective(t.Context(), by(organization), o.ID))
	}
}

// Each organization begins with objectives of its own: what one does to them
// never shows in another's, whether that has begun already or begins later. (In
// the original, the first list was one and the same for all.)
func TestSeedsAreNotShared(t *testing.T) {
	service := newService(t)
	before := must[[]Objective](t)(service.List(t.Context(), "before"))
	acme := must[[]Objective](t)(service.List(t.Context(), "acme"))
	if diff := cmp.Diff(seeded, outline(t, service, "acme")); diff != "" {
		t.Fatalf("a new organization (-want +got):\n%s", diff)
	}
	if acme[0].ID == before[0].ID || acme[0].KeyResults[0].ID == before[0].KeyResults[0].ID || acme[0].KeyResults[0].ID == acme[0].KeyResults[1].ID {
		t.Error("ids are shared")
	}
	okr, kr := acme[0], acme[0].KeyResults[0]
	must[KeyResult](t)(service.SetAttainment(t.Context(), by("acme"), okr.ID, kr.ID, 50))
	must[KeyResult](t)(service.AddKeyResult(t.Context(), by("acme"), okr.ID, "ours alone"))
	must[Objective](t)(service.AddObjective(t.Context(), by("acme"), "ours alone"))
	for _, other := range []string{"before", "after"} {
		if diff := cmp.Diff(seeded, outline(t, service, other)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", other, diff)
		}
	}
}

// The first to write before anybody reads finds the same beginning.
func TestSeedBeforeTheFirstWrite(t *testing.T) {
	service := newService(t)
	must[Objective](t)(service.AddObjective(t.Context(), by("acme"), "first"))
	if diff := cmp.Diff(append(seeded[:3:3], "first"), outline(t, service, "acme")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEmptiedListStaysEmpty(t *testing.T) {
	service := newService(t)
	empty(t, service, "acme")
	for range 2 {
		if got := must[[]Objective](t)(service.List(t.Context(), "acme")); got == nil || len(got) != 0 {
			t.Errorf("after emptying: %+v", got)
		}
	}
}

func TestFirstReadersAtOnceSeedOnce(t *testing.T) {
	service := newService(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := service.List(context.Background(), "acme"); err != nil || len(got) != 1 || len(got[0].KeyResults) != 2 {
				t.Errorf("a first reader sees %+v, %v", got, err)
			}
		})
	}
	wg.Wait()
}

func TestChanges(t *testing.T) {
	service, c := newService(t), by("acme")
	empty(t, service, "acme")
	okr := must[Objective](t)(service.AddObjective(t.Context(), c, "  Grow "))
	kr := must[KeyResult](t)(service.AddKeyResult(t.Context(), c, okr.ID, "20 customers"))
	second := must[KeyResult](t)(service.AddKeyResult(t.Context(), c, okr.ID, "another"))
	if kr.Objective != okr.ID || kr.Attainment != 0 || len(okr.ID) != 32 || len(kr.ID) != 32 {
		t.Errorf("added %+v to %+v", kr, okr)
	}
	for _, attainment := range []int{0, 100, 40, 40} {
		if set := must[KeyResult](t)(service.SetAttainment(t.Context(), c, okr.ID, kr.ID, attainment)); set.Attainment != attainment || set.Text != "20 customers" {
			t.Errorf("set to %d: %+v", attainment, set)
		}
	}
	if diff := cmp.Diff([]string{"Grow", "  20 customers 40", "  another 0"}, outline(t, service, "acme")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := must[Objective](t)(service.Objective(t.Context(), "acme", okr.ID)); len(got.KeyResults) != 2 || got.KeyResults[0].Attainment != 40 {
		t.Errorf("read %+v", got)
	}
	if got := must[KeyResult](t)(service.KeyResult(t.Context(), "acme", second.ID)); got != second {
		t.Errorf("read %+v, want %+v", got, second)
	}
	if gone := must[KeyResult](t)(service.DeleteKeyResult(t.Context(), c, okr.ID, second.ID)); gone != second {
		t.Errorf("deleted %+v", gone)
	}
	if gone := must[Objective](t)(service.DeleteObjective(t.Context(), c, okr.ID)); gone.Text != "Grow" || len(gone.KeyResults) != 1 {
		t.Errorf("deleted %+v; want it with what it had", gone)
	}
	if _, err := service.KeyResult(t.Context(), "acme", kr.ID); !errors.Is(err, ErrNoKeyResult) {
		t.Errorf("a key result of a deleted objective: %v", err)
	}
}

// every calls each method that takes ids, with these.
func every(service *Service, c Caller, okr, kr string) map[string]error {
	ctx, results := context.Background(), map[string]error{}
	_, results["read objective"] = service.Objective(ctx, c.Organization, okr)
	_, results["read key result"] = service.KeyResult(ctx, c.Organization, kr)
	_, results["add key result"] = service.AddKeyResult(ctx, c, okr, "x")
	_, results["set attainment"] = service.SetAttainment(ctx, c, okr, kr, 1)
	_, results["delete key result"] = service.DeleteKeyResult(ctx, c, okr, kr)
	_, results["delete objective"] = service.DeleteObjective(ctx, c, okr)
	return results
}

// Ids that are unknown, another organization's or another objective's are all
// the same: not found, and nothing changes.
// Row: X06.
func TestIDsOfNobody(t *testing.T) {
	service := newService(t)
	theirs := must[[]Objective](t)(service.List(t.Context(), "theirs"))[0]
	ours := must[[]Objective](t)(service.List(t.Context(), "ours"))[0]
	for name, ids := range map[string][2]string{
		"unknown":                {"made-up", "made-up"},
		"empty":                  {"", ""},
		"another organization's": {theirs.ID, theirs.KeyResults[0].ID},
	} {
		for call, err := range every(service, by("ours"), ids[0], ids[1]) {
			if !errors.Is(err, ErrNoObjective) && !errors.Is(err, ErrNoKeyResult) {
				t.Errorf("%s, %s: %v", name, call, err)
			}
		}
	}
	other := must[Objective](t)(service.AddObjective(t.Context(), by("ours"), "other"))
	if _, err := service.SetAttainment(t.Context(), by("ours"), other.ID, ours.KeyResults[0].ID, 1); !errors.Is(err, ErrNoKeyResult) {
		t.Errorf("a key result of another objective: %v", err)
	}
	if _, err := service.DeleteKeyResult(t.Context(), by("ours"), other.ID, ours.KeyResults[0].ID); !errors.Is(err, ErrNoKeyResult) {
		t.Errorf("a key result of another objective: %v", err)
	}
	if diff := cmp.Diff(seeded, outline(t, service, "theirs")); diff != "" {
		t.Errorf("theirs now (-want +got):\n%s", diff)
	}
	for call, err := range every(service, by(""), ours.ID, ours.KeyResults[0].ID) {
		if err == nil {
			t.Errorf("%s without an organization", call)
		}
	}
	if got, err := service.List(t.Context(), ""); err == nil {
		t.Errorf("without an organization: %+v", got)
	}
	if got, err := service.AddObjective(t.Context(), by(""), "x"); err == nil {
		t.Errorf("without an organization: %+v", got)
	}
}

func TestRefusedValues(t *testing.T) {
	service, c := newService(t), by("acme")
	okr := must[[]Objective](t)(service.List(t.Context(), "acme"))[0]
	for name, text := range map[string]string{
		"empty":     "",
		"blank":     " \t ",
		"too long":  strings.Repeat("ä", maxText+1),
		"two lines": "one\ntwo",
		"not UTF-8": "a\xff",
	} {
		if _, err := service.AddObjective(t.Context(), c, text); !errors.Is(err, ErrText) {
			t.Errorf("%s: %v, want ErrText", name, err)
		}
		if _, err := service.AddKeyResult(t.Context(), c, okr.ID, text); !errors.Is(err, ErrText) {
			t.Errorf("%s: %v, want ErrText", name, err)
		}
	}
	must[Objective](t)(service.AddObjective(t.Context(), c, strings.Repeat("ä", maxText)))
	for _, attainment := range []int{-1, 101, 1 << 40, -1 << 63} {
		if _, err := service.SetAttainment(t.Context(), c, okr.ID, okr.KeyResults[0].ID, attainment); !errors.Is(err, ErrAttainment) {
			t.Errorf("%d: %v, want ErrAttainment", attainment, err)
		}
	}
	if _, err := service.db.ExecContext(t.Context(), `UPDATE key_result SET attainment = 101`); err == nil {
		t.Error("the file keeps 101 %")
	}
}

func TestFullLists(t *testing.T) {
	service, c := newService(t), by("acme")
	okr := must[[]Objective](t)(service.List(t.Context(), "acme"))[0]
	for range maxKeyResults - len(okr.KeyResults) {
		must[KeyResult](t)(service.AddKeyResult(t.Context(), c, okr.ID, "x"))
	}
	if _, err := service.AddKeyResult(t.Context(), c, okr.ID, "one more"); !errors.Is(err, ErrFull) {
		t.Errorf("one more key result: %v, want ErrFull", err)
	}
	for range maxObjectives - 1 {
		must[Objective](t)(service.AddObjective(t.Context(), c, "x"))
	}
	if _, err := service.AddObjective(t.Context(), c, "one more"); !errors.Is(err, ErrFull) {
		t.Errorf("one more objective: %v, want ErrFull", err)
	}
	must[Objective](t)(service.AddObjective(t.Context(), by("other"), "another organization's list is not full"))
}

// A hundred writers on one organization, each with changes of its own: what
// remains is exactly what each left.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	service := newService(t)
	empty(t, service, "acme")
	okr := must[Objective](t)(service.AddObjective(t.Context(), by("acme"), "shared"))
	const writers = 100
	var results []KeyResult
	for i := range maxKeyResults {
		results = append(results, must[KeyResult](t)(service.AddKeyResult(t.Context(), by("acme"), okr.ID, fmt.Sprint(i))))
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			c := Caller{"acme", "ada", fmt.Sprintf("https://%d.example.test/client.json", w)}
			var err error
			if w < maxKeyResults {
				_, err = service.SetAttainment(context.Background(), c, okr.ID, results[w].ID, w+1)
			} else {
				_, err = service.AddObjective(context.Background(), c, fmt.Sprint(w))
			}
			if err != nil {
				t.Errorf("writer %d: %v", w, err)
			}
		})
	}
	wg.Wait()
	all := must[[]Objective](t)(service.List(t.Context(), "acme"))
	if len(all) != 1+writers-maxKeyResults || len(all[0].KeyResults) != maxKeyResults {
		t.Fatalf("%d objectives, the first with %d key results", len(all), len(all[0].KeyResults))
	}
	for i, k := range all[0].KeyResults {
		if k.Text != fmt.Sprint(i) || k.Attainment != i+1 {
			t.Errorf("key result %d: %+v", i, k)
		}
	}
	if events := must[[]Event](t)(service.Events(t.Context(), "acme")); len(events) != 10 {
		t.Errorf("%d events", len(events))
	}
}

// Of two who delete the same, one does.
func TestDeletedOnce(t *testing.T) {
	service := newService(t)
	okr := must[[]Objective](t)(service.List(t.Context(), "acme"))[0]
	deleted := make(chan error, 20)
	for range cap(deleted) {
		go func() {
			_, err := service.DeleteObjective(context.Background(), by("acme"), okr.ID)
			deleted <- err
		}()
	}
	done := 0
	for range cap(deleted) {
		if err := <-deleted; err == nil {
			done++
		} else if !errors.Is(err, ErrNoObjective) {
			t.Error(err)
		}
	}
	if done != 1 {
		t.Errorf("%d times deleted", done)
	}
}

func TestEvents(t *testing.T) {
	service := newService(t)
	okr := must[[]Objective](t)(service.List(t.Context(), "acme"))[0]
	agent := Caller{"acme", "ada", "client"}
	must[Objective](t)(service.AddObjective(t.Context(), by("acme"), "by hand"))
	must[KeyResult](t)(service.SetAttainment(t.Context(), agent, okr.ID, okr.KeyResults[0].ID, 64))
	for range 3 { // an app that tries again is noted once
		if err := service.Refused(t.Context(), agent, deleteObjective); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := service.DeleteObjective(t.Context(), agent, "made-up"); err == nil {
		t.Fatal("deleted")
	}
	for range 2 { // the second time changes nothing
		if err := service.Remember(t.Context(), "acme", "ada", "Ada"); err != nil {
			t.Fatal(err)
		}
	}
	got := must[[]Event](t)(service.Events(t.Context(), "acme"))
	if len(got) != 2 || got[0].At.Before(got[1].At) {
		t.Fatalf("%+v", got)
	}
	got[0].At, got[1].At = got[0].At.Truncate(1<<62), got[0].At.Truncate(1<<62)
	want := []Event{
		{got[0].At, "ada", "Ada", "client", deleteObjective, "", true},
		{got[1].At, "ada", "Ada", "client", setKeyResultAttainment, "Every team has written down one objective: 64%", false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if others := must[[]Event](t)(service.Events(t.Context(), "other")); len(others) != 0 {
		t.Errorf("another organization sees %+v", others)
	}
	for i := range 12 {
		must[Objective](t)(service.AddObjective(t.Context(), agent, fmt.Sprint(i)))
	}
	if got := must[[]Event](t)(service.Events(t.Context(), "acme")); len(got) != 10 || got[0].About != "11" || got[9].About != "2" {
		t.Errorf("the last ten: %+v", got)
	}
}

func TestReopenKeepsTheList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "okr.db")
	for range 2 {
		service, err := OpenService(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		must[Objective](t)(service.AddObjective(t.Context(), by("acme"), "again"))
		if err := service.Close(); err != nil {
			t.Fatal(err)
		}
	}
	service, err := OpenService(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	if diff := cmp.Diff(append(seeded[:3:3], "again", "again"), outline(t, service, "acme")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
