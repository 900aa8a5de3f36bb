package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

// The test binary starts itself as a child that writes: childRole says how.
const (
	childRole    = "POSTERN_STORE_TEST_CHILD"
	childPath    = "POSTERN_STORE_TEST_PATH"
	childProject = "POSTERN_STORE_TEST_PROJECT"
	childJournal = "POSTERN_STORE_TEST_JOURNAL"

	childEntrance = "POSTERN_STORE_TEST_ORGANIZATION"

	untilKilled = "until killed"
	beside      = "beside"
	entering    = "entering"
)

// child writes rows and notes each in the journal after it was told that the
// row is kept.
func child(role string) int {
	work := childWrites
	if role == entering {
		work = childEnters
	}
	if err := work(context.Background(), role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func childWrites(ctx context.Context, role string) error {
	db, err := store.Open(ctx, store.Config{Path: os.Getenv(childPath), Now: time.Now})
	if err != nil {
		return err
	}
	defer db.Close()
	count := int64(300)
	if role == untilKilled {
		count = 1 << 40
		if err := db.LockServer(); err != nil {
			return err
		}
	}
	journal, err := os.OpenFile(os.Getenv(childJournal), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	var written atomic.Int64
	var wait sync.WaitGroup
	errs := make(chan error, 16)
	for range 16 {
		wait.Go(func() {
			for n := written.Add(1); n <= count; n = written.Add(1) {
				row := fmt.Sprintf("%d-%d", os.Getpid(), n)
				e := audit.Event{ProjectID: os.Getenv(childProject), At: now, Kind: audit.SignedOut, Object: row}
				if err := db.Record(ctx, e); err != nil {
					errs <- err
					return
				}
				if _, err := fmt.Fprintln(journal, row); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wait.Wait()
	close(errs)
	return <-errs
}

// childEnters brings browser after browser into an organization.
func childEnters(ctx context.Context, _ string) error {
	db, err := store.Open(ctx, store.Config{Path: os.Getenv(childPath), Now: time.Now})
	if err != nil {
		return err
	}
	defer db.Close()
	journal, err := os.OpenFile(os.Getenv(childJournal), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := world{DB: db, project: project.Project{ID: os.Getenv(childProject)}}
	organization, browsers, _ := strings.Cut(os.Getenv(childEntrance), " ")
	for _, id := range strings.Fields(browsers) {
		b, err := db.Browser(ctx, w.project.ID, id, now)
		if err != nil {
			return err
		}
		if _, _, err := db.Enter(ctx, w.entry(b, organization), w.event(audit.MemberEntered)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(journal, id); err != nil {
			return err
		}
	}
	return nil
}

func start(t *testing.T, role, path, projectID, journal string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role, childPath+"="+path, childProject+"="+projectID, childJournal+"="+journal)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	return cmd
}

// noted returns the rows that a child was told are kept. A last line without an
// end was being written.
func noted(t *testing.T, journal string) []string {
	t.Helper()
	text, err := os.ReadFile(journal)
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	lines := strings.Split(string(text), "\n")
	return lines[:len(lines)-1]
}

// written returns the rows of all children.
func written(t *testing.T, db *store.DB, projectID string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, row := range rows(t, db, "SELECT object FROM event WHERE project_id = $1", projectID) {
		all[row] = true
	}
	return all
}

// A server that is killed at any moment has kept every row of which it said so.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := sqliteCopy(t)
	db := open(t, store.Config{Path: path, Now: time.Now})
	projectID := newWorld(t, db, "auth.example.com").project.ID
	must(t, db.Close())
	total := 0
	for cycle := range 20 {
		journal := filepath.Join(t.TempDir(), "journal")
		cmd := start(t, untilKilled, path, projectID, journal)
		for len(noted(t, journal)) < 20 {
			time.Sleep(5 * time.Millisecond)
			must(t, t.Context().Err())
		}
		time.Sleep(rand.N(50 * time.Millisecond))
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // "killed"

		db, err := store.Open(t.Context(), store.Config{Path: path, Now: time.Now})
		must(t, err)
		must(t, db.LockServer()) // the lock died with its holder
		if got := rows(t, db, "PRAGMA integrity_check"); got[0] != "ok" {
			t.Fatalf("cycle %d: %v", cycle, got)
		}
		have := written(t, db, projectID)
		for _, row := range noted(t, journal) {
			total++
			if !have[row] {
				t.Errorf("cycle %d: row %s was lost", cycle, row)
			}
		}
		must(t, db.Close())
	}
	t.Logf("%d rows were told to be kept, and are", total)
}

// Who was killed on the way into an organization is inside or outside of it, and
// nothing between: member, session, choice and both events are one.
func TestKilledWhileEntering(t *testing.T) { // not parallel: it sets the environment of its children
	path := sqliteCopy(t)
	db := open(t, store.Config{Path: path, Now: time.Now})
	w := newWorld(t, db, "auth.example.com")
	inside, killed := 0, 0
	for cycle := range 10 {
		o := w.organization(fmt.Sprint("organization-", cycle), func(o *identity.Organization) {
			o.Settings.AllowedDomains, o.Settings.Provisioning = []string{"example.test"}, true
		})
		list := o.ID
		for i := range 40 {
			list += " " + w.browser(fmt.Sprintf("p%d-%d@example.test", cycle, i)).ID
		}
		journal := filepath.Join(t.TempDir(), "journal")
		must(t, os.WriteFile(journal, nil, 0o600))
		t.Setenv(childEntrance, list)
		cmd := start(t, entering, path, w.project.ID, journal)
		for len(noted(t, journal)) < 1+cycle {
			time.Sleep(time.Millisecond)
			must(t, t.Context().Err())
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // "killed"

		counts := map[string]string{}
		for name, query := range map[string]string{
			"members":  "SELECT count(*) FROM member WHERE project_id = $1 AND organization_id = $2 AND status = 'active'",
			"sessions": "SELECT count(*) FROM session WHERE project_id = $1 AND organization_id = $2",
			"choices":  "SELECT count(*) FROM browser WHERE project_id = $1 AND organization_id = $2",
			"joined":   "SELECT count(*) FROM event WHERE project_id = $1 AND object = $2 AND kind = 'member.joined'",
			"entered":  "SELECT count(*) FROM event WHERE project_id = $1 AND object = $2 AND kind = 'member.entered'",
		} {
			counts[name] = rows(t, db, query, w.project.ID, o.ID)[0]
		}
		for name, n := range counts {
			if n != counts["members"] {
				t.Errorf("cycle %d: %s %s, but %s members: %v", cycle, n, name, counts["members"], counts)
			}
		}
		for _, id := range noted(t, journal) {
			inside++
			b, err := db.Browser(t.Context(), w.project.ID, id, now)
			must(t, err)
			if _, _, _, err := db.BrowserSession(t.Context(), b, now); err != nil {
				t.Errorf("cycle %d: browser %s was told to be inside: %v", cycle, id, err)
			}
		}
		if counts["members"] != "40" {
			killed++
		}
	}
	if killed == 0 {
		t.Error("every child was done before it was killed: the test proves nothing")
	}
	t.Logf("%d browsers were told to be inside, and are; %d of 10 children were killed on the way", inside, killed)
}

// Two processes write to one file: both get through.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	path := sqliteCopy(t)
	db := open(t, store.Config{Path: path, Now: time.Now})
	must(t, db.LockServer())
	w := newWorld(t, db, "auth.example.com")
	journal := filepath.Join(t.TempDir(), "journal")
	cmd := start(t, beside, path, w.project.ID, journal)
	at(16, func(i int) {
		for n := range 20 {
			e := w.event(audit.SignedOut)
			e.Object = fmt.Sprintf("own-%d-%d", i, n)
			if err := db.Record(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
	})
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v", err)
	}
	if n := len(noted(t, journal)); n != 300 {
		t.Errorf("the other process wrote %d rows", n)
	}
	have := written(t, db, w.project.ID)
	for _, row := range noted(t, journal) {
		if !have[row] {
			t.Errorf("row %s is not there", row)
		}
	}
	own := 0
	for row := range have {
		if strings.HasPrefix(row, "own-") {
			own++
		}
	}
	if own != 320 {
		t.Errorf("%d of our rows are there", own)
	}
}
