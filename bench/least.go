package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/postern-id/postern/internal/rig"
)

// The least that an operation can cost: handlers that do what it cannot do
// without, on SQLite with the same driver and the same promise to keep what was
// answered, and nothing else. They know no projects, check nothing, keep no
// trail, write no log and have no index beside the primary key. They are served
// by the yardsticks' process and measured as the yardsticks are.

const (
	leastRefresh    = "least refresh"
	leastIntrospect = "least introspection"
	leastRegister   = "least registration"
)

// leastRows is how many rows the handlers find: one for each of the load's
// workers.
const leastRows = 16

type least struct {
	read  *sql.Stmt
	write chan change
	last  atomic.Int64 // rows are added in the order of their ids, as in the product
	key   *ecdsa.PrivateKey
}

// change is one caller's share of a commit.
type change struct {
	rotate, id, text string // the row to change, "" for none; the row to add
	done             chan error
}

func newLeast(ctx context.Context, folder string) (*least, error) {
	query := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "cache_size(-4000)", "wal_autocheckpoint(4000)"}}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "least.db")+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(5) // four that read, as the server has, and the writer
	db.SetMaxIdleConns(5)
	for _, statement := range []string{
		"CREATE TABLE held (id TEXT PRIMARY KEY, hash BLOB NOT NULL, text TEXT NOT NULL)",
		"CREATE TABLE added (id TEXT PRIMARY KEY, text TEXT NOT NULL)",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	for i := range leastRows {
		if _, err := db.ExecContext(ctx, "INSERT INTO held VALUES ($1, $2, $3)", fmt.Sprint(i), make([]byte, 32), strings.Repeat("t", 300)); err != nil {
			return nil, err
		}
	}
	l := &least{write: make(chan change, 256)}
	if l.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if l.read, err = db.PrepareContext(ctx, "SELECT hash, text FROM held WHERE id = $1"); err != nil {
		return nil, err
	}
	writer, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	rotate, err := writer.PrepareContext(ctx, "UPDATE held SET hash = $1 WHERE id = $2") //nolint:sqlclosecheck // until the process ends
	if err != nil {
		return nil, err
	}
	add, err := writer.PrepareContext(ctx, "INSERT INTO added VALUES ($1, $2)") //nolint:sqlclosecheck // until the process ends
	if err != nil {
		return nil, err
	}
	go l.commit(ctx, writer, rotate, add)
	return l, nil
}

// commit serves all who wait with one commit.
func (l *least) commit(ctx context.Context, writer *sql.Conn, rotate, add *sql.Stmt) {
	for one := range l.write {
		group := []change{one}
		for len(l.write) > 0 {
			group = append(group, <-l.write)
		}
		_, err := writer.ExecContext(ctx, "BEGIN IMMEDIATE")
		for _, c := range group {
			if err == nil && c.rotate != "" {
				hash := sha256.Sum256([]byte(c.id))
				_, err = rotate.ExecContext(ctx, hash[:], c.rotate)
			}
			if err == nil {
				_, err = add.ExecContext(ctx, c.id, c.text)
			}
		}
		if err == nil {
			_, err = writer.ExecContext(ctx, "COMMIT")
		}
		for _, c := range group {
			c.done <- err
		}
	}
}

func (l *least) keep(rotate, text string) error {
	c := change{rotate: rotate, id: fmt.Sprintf("%026d", l.last.Add(1)), text: text, done: make(chan error, 1)}
	l.write <- c
	return <-c.done
}

// find reads the row of a form's token, whose first part says which.
func (l *least) find(r *http.Request, name string) (id string, err error) {
	if err := r.ParseForm(); err != nil {
		return "", err
	}
	id, _, _ = strings.Cut(r.PostForm.Get(name), ".")
	var hash []byte
	var text string
	return id, l.read.QueryRowContext(context.Background(), id).Scan(&hash, &text)
}

func (l *least) serve(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, v any, err error) {
		text, broken := json.Marshal(v)
		if err != nil || broken != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(text) // a client that went away needs no answer
	}
	mux.HandleFunc("POST /least/refresh", func(w http.ResponseWriter, r *http.Request) {
		id, err := l.find(r, "refresh_token")
		var token string
		if err == nil {
			token, err = l.sign(id)
		}
		if err == nil {
			err = l.keep(id, "token.refreshed")
		}
		answer(w, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 900, "refresh_token": r.PostForm.Get("refresh_token")}, err)
	})
	mux.HandleFunc("POST /least/introspect", func(w http.ResponseWriter, r *http.Request) {
		id, err := l.find(r, "token")
		seen := sha256.Sum256([]byte(r.PostForm.Get("token")))
		answer(w, map[string]any{"active": seen != [32]byte{}, "sub": id, "scope": "notes:read", "token_type": "Bearer", "exp": 1_800_000_000}, err)
	})
	mux.HandleFunc("POST /least/register", func(w http.ResponseWriter, r *http.Request) {
		var client struct {
			Name      string   `json:"client_name"`
			Redirects []string `json:"redirect_uris"`
			Grants    []string `json:"grant_types"`
			Method    string   `json:"token_endpoint_auth_method"`
		}
		err := json.NewDecoder(r.Body).Decode(&client)
		if err == nil {
			err = l.keep("", client.Name+strings.Join(client.Redirects, " "))
		}
		answer(w, client, err)
	})
}

// sign makes an access token of the usual size.
func (l *least) sign(id string) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"iss": "https://auth.example.com", "sub": id, "aud": "https://notes.example.com/mcp", "client_id": strings.Repeat("c", 56),
		"scope": "notes:read", "jti": rand.Text(), "sid": strings.Repeat("s", 36), "grant_id": strings.Repeat("g", 36),
		"iat": 1_800_000_000, "exp": 1_800_000_900,
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"k","typ":"at+jwt"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := ecdsa.SignASN1(rand.Reader, l.key, digest[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// leastRequest is the request of a worker.
func leastRequest(name, address string, n int) []byte {
	token := fmt.Sprint(n%leastRows) + "."
	switch name {
	case leastRefresh:
		return request(address, rig.Address(1), "/least/refresh", form, "grant_type=refresh_token&client_id=connected-app-test-0123456789&refresh_token="+token+strings.Repeat("r", 74))
	case leastIntrospect:
		return request(address, rig.Address(1), "/least/introspect", form+"Authorization: Basic cmVzb3VyY2Utc2VydmVyOmEtc2VjcmV0\r\n", "token="+token+strings.Repeat("a", 600))
	default:
		return request(address, rig.Address(1), "/least/register", inJSON,
			`{"client_name":"Bench","redirect_uris":["http://127.0.0.1:7777/callback"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`)
	}
}
