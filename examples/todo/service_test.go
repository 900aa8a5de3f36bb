package main

import (
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
	path := filepath.Join(t.TempDir(), "todo ?#%.db") // a path is not a URL
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

func create(t *testing.T, service *Service, subject, text string) Todo {
	t.Helper()
	todo, err := service.Create(t.Context(), subject, "", text)
	if err != nil {
		t.Fatal(err)
	}
	return todo
}

func texts(t *testing.T, service *Service, subject string) []string {
	t.Helper()
	todos, err := service.List(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, todo := range todos {
		got = append(got, todo.Text)
	}
	return got
}

func TestListOrder(t *testing.T) {
	service := newService(t)
	first := create(t, service, "ada", "first")
	create(t, service, "ada", "second")
	third := create(t, service, "ada", "third")
	for _, done := range []Todo{third, first} {
		if _, err := service.Complete(t.Context(), "ada", done.ID); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"second", "first", "third"}, texts(t, service, "ada")); diff != "" {
		t.Errorf("open ones first, then by age (-want +got):\n%s", diff)
	}
}

func TestChanges(t *testing.T) {
	service := newService(t)
	todo := create(t, service, "ada", "  Water the lemon tree ")
	if todo.Text != "Water the lemon tree" || todo.Completed || todo.CreatedAt.IsZero() {
		t.Errorf("created %+v", todo)
	}
	if read, err := service.Read(t.Context(), "ada", todo.ID); err != nil || read != todo {
		t.Errorf("read %+v, %v; want what was created", read, err)
	}
	for range 2 { // the second time changes nothing and is no error
		if done, err := service.Complete(t.Context(), "ada", todo.ID); err != nil || !done.Completed {
			t.Errorf("complete: %+v, %v", done, err)
		}
	}
	if gone, err := service.Delete(t.Context(), "ada", todo.ID); err != nil || gone.ID != todo.ID {
		t.Errorf("delete: %+v, %v", gone, err)
	}
	for name, call := range map[string]func() (Todo, error){
		"read":     func() (Todo, error) { return service.Read(t.Context(), "ada", todo.ID) },
		"complete": func() (Todo, error) { return service.Complete(t.Context(), "ada", todo.ID) },
		"delete":   func() (Todo, error) { return service.Delete(t.Context(), "ada", todo.ID) },
	} {
		if _, err := call(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of what is gone: %v, want ErrNotFound", name, err)
		}
	}
}

func TestRefusedText(t *testing.T) {
	service := newService(t)
	for name, text := range map[string]string{
		"empty":     "",
		"blank":     " \t ",
		"too long":  strings.Repeat("ä", maxText+1),
		"two lines": "one\ntwo",
		"not UTF-8": "a\xff",
	} {
		if _, err := service.Create(t.Context(), "ada", "", text); !errors.Is(err, ErrText) {
			t.Errorf("%s: %v, want ErrText", name, err)
		}
	}
	if _, err := service.Create(t.Context(), "ada", "", strings.Repeat("ä", maxText)); err != nil {
		t.Errorf("the longest text: %v", err)
	}
}

func TestFullList(t *testing.T) {
	service := newService(t)
	if _, err := service.db.ExecContext(t.Context(), `
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO todo SELECT 'ada', CAST(i AS TEXT), 'x', 0, 0, '' FROM n`, maxTodos); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Create(t.Context(), "ada", "", "one more"); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v, want ErrFull", err)
	}
	create(t, service, "bob", "another person's list is not full")
}

func TestAnotherPersonsIDIsNotFound(t *testing.T) {
	service := newService(t)
	hers := create(t, service, "ada", "hers")
	for name, call := range map[string]func() (Todo, error){
		"read":     func() (Todo, error) { return service.Read(t.Context(), "bob", hers.ID) },
		"complete": func() (Todo, error) { return service.Complete(t.Context(), "bob", hers.ID) },
		"delete":   func() (Todo, error) { return service.Delete(t.Context(), "bob", hers.ID) },
	} {
		if got, err := call(); !errors.Is(err, ErrNotFound) || got != (Todo{}) {
			t.Errorf("%s: %+v, %v; want nothing and ErrNotFound", name, got, err)
		}
	}
	if got := texts(t, service, "bob"); len(got) != 0 {
		t.Errorf("bob's list shows %q", got)
	}
	if read, err := service.Read(t.Context(), "ada", hers.ID); err != nil || read.Completed {
		t.Errorf("hers is now %+v, %v; want it untouched", read, err)
	}
}

// Many writers on one list, each adding, completing and deleting its own: what
// remains is exactly what each left.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	service := newService(t)
	const writers, each = 16, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				todo, err := service.Create(t.Context(), "ada", "", fmt.Sprintf("%d/%d", w, i))
				switch {
				case err != nil:
				case i == 0:
					_, err = service.Delete(t.Context(), "ada", todo.ID)
				case i == 1:
					_, err = service.Complete(t.Context(), "ada", todo.ID)
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	todos, err := service.List(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, todo := range todos {
		if todo.Completed {
			done++
		}
	}
	if len(todos) != writers*(each-1) || done != writers {
		t.Errorf("%d to-dos, %d done; want %d and %d", len(todos), done, writers*(each-1), writers)
	}
}

func TestReopenKeepsTheList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "todo.db")
	for range 2 {
		service, err := OpenService(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		create(t, service, "ada", "again")
		if err := service.Close(); err != nil {
			t.Fatal(err)
		}
	}
	service, err := OpenService(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	if got := texts(t, service, "ada"); len(got) != 2 {
		t.Errorf("after reopening: %q, want both", got)
	}
}
