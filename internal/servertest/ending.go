package servertest

import (
	"database/sql"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/project"
)

// registered says whether somebody who may has named an address that an answer
// leads to: it is ours, a client registered it, or it belongs to an
// organization's own sign-in service.
func (s *Server) registered(to *url.URL) bool {
	if to.Scheme+"://"+to.Host == originOf(s.Issuer) || to.Scheme+"://"+to.Host == s.Address {
		return true
	}
	key := comparable(to)
	if _, known := s.destinations.Load(key); known {
		return true
	}
	if s.stopped.Load() {
		return true // nobody can be asked any more
	}
	db, err := s.beside()
	if err != nil {
		return false
	}
	defer func() { _ = db.Close() }() // it was read only
	for _, query := range []string{"SELECT metadata FROM client", "SELECT provider FROM sso_connection", "SELECT issuer FROM project"} {
		texts, err := column(db, query)
		if err != nil {
			return s.stopped.Load()
		}
		for _, text := range texts {
			for _, address := range addressesIn(text) {
				s.destinations.Store(comparable(address), true)
			}
		}
	}
	_, known := s.destinations.Load(key)
	return known
}

// comparable is an address without its parameters; of a loopback address also
// without the port (RFC 8252 §7.3).
func comparable(u *url.URL) string {
	host := u.Host
	if project.Loopback(u.Hostname()) {
		host = u.Hostname()
	}
	return u.Scheme + "://" + host + "/" + strings.Trim(u.Opaque+u.EscapedPath(), "/")
}

// addressesIn are the addresses in a JSON document, or the one that a text is.
func addressesIn(text string) (all []*url.URL) {
	texts := textsOf(text)
	if texts == nil {
		texts = map[string][]string{"": {text}}
	}
	for _, list := range texts {
		for _, address := range list {
			if u, err := url.Parse(address); err == nil && u.Scheme != "" {
				all = append(all, u)
			}
		}
	}
	return all
}

func column(db *sql.DB, query string) (texts []string, err error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, rows.Err()
}

// ends checks what a server left behind, when nothing of it runs any more and
// its database is still there.
func (s *Server) ends(t testing.TB) {
	t.Helper()
	mails := s.Mail.Mails()
	if what, found := s.watch.secretIn(withoutTimes(s.Log.String()), true, mails); found {
		t.Errorf("the log holds a secret: %s", what)
	}
	db, err := s.beside()
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = db.Close() }() // it was read only
	tables, err := s.tables(db)
	if err != nil {
		t.Errorf("read what the server kept: %v", err)
		return
	}
	kept := strings.Builder{}
	for name, text := range tables {
		if what, found := s.watch.secretIn(text, false, mails); found {
			t.Errorf("the table %s holds a secret in the clear: %s", name, what)
		}
		if name != "attempt" && name != "event" { // what was asked, also by those who were refused
			kept.WriteString(text)
		}
	}
	s.checkReached(t, strings.ToLower(kept.String()))
	if s.data.Database != "" {
		left, err := column(db, "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'")
		if err != nil || len(left) > 0 {
			t.Errorf("transactions are open when the server has ended: %q %v", left, err)
		}
	}
}

// checkReached checks that whoever was sent a mail or asked for a document was
// named by a request, or is kept.
func (s *Server) checkReached(t testing.TB, kept string) {
	t.Helper()
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for _, m := range s.Mail.Mails() {
		if to := strings.ToLower(m.To); !s.watch.named[to] && !strings.Contains(kept, "\n"+to+"\n") {
			t.Errorf("a mail went to %s, whom no request named", m.To)
		}
	}
	for hostPort := range s.watch.asked {
		host, _ := strings.CutSuffix(hostPort, ":443")
		host, _ = strings.CutSuffix(host, ":80")
		inside := func(text string) bool { return strings.Contains(text, "://"+host) }
		named := false
		for value := range s.watch.named {
			if u, err := url.Parse(value); err == nil && u.Host == host {
				named = true
			}
		}
		if !named && !inside(kept) {
			t.Errorf("the server asked %s, which nobody named", hostPort)
		}
	}
}

// withoutTimes takes the times out of log lines: their digits are like codes.
func withoutTimes(log string) string {
	lines := strings.Split(log, "\n")
	for i, line := range lines {
		if _, rest, ok := strings.Cut(line, `","level"`); ok {
			lines[i] = rest
		}
	}
	return strings.Join(lines, "\n")
}

// mostRows bounds what is read of one table.
const mostRows = 20_000

// tables are the values of every table that can be read as text, one in a line.
func (s *Server) tables(db *sql.DB) (map[string]string, error) {
	query := "SELECT name FROM sqlite_master WHERE type = 'table'"
	if s.data.Database != "" {
		query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
	}
	names, err := column(db, query)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, name := range names {
		if all[name], err = values(db, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// values are those of one table.
func values(db *sql.DB, table string) (string, error) {
	rows, err := db.Query(fmt.Sprintf("SELECT * FROM %q LIMIT %d", table, mostRows))
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	row := make([]any, len(columns))
	for i := range row {
		row[i] = new(sql.RawBytes)
	}
	text := strings.Builder{}
	text.WriteByte('\n')
	for rows.Next() {
		if err := rows.Scan(row...); err != nil {
			return "", err
		}
		for _, v := range row {
			text.Write(*v.(*sql.RawBytes))
			text.WriteByte('\n')
		}
	}
	return text.String(), rows.Err()
}

// alive is how many servers run in this process.
var alive atomic.Int64

// checkGoroutines fails the test if a goroutine that the product began runs
// although the last server has ended.
func checkGoroutines(t testing.TB) {
	t.Helper()
	var left []string
	for range 200 {
		if alive.Load() > 0 {
			return // it may be theirs
		}
		if left = goroutinesOfProduct(); len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines of the server run after its end:\n%s", len(left), strings.Join(left, "\n\n"))
}

const ours = "created by github.com/postern-id/postern/internal/"

func goroutinesOfProduct() []string {
	buffer := make([]byte, 1<<20)
	stacks := strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n")
	return slices.DeleteFunc(stacks, func(stack string) bool {
		_, begun, ok := strings.Cut(stack, ours)
		pkg, _, _ := strings.Cut(begun, ".")
		return !ok || pkg == "servertest" || strings.HasSuffix(pkg, "_test")
	})
}
