package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

// What another try may find well again is told apart from what stays wrong, so
// that the one becomes 503 and the other 500.
func TestTroubleThatPasses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		passes bool
	}{
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, true},
		{&pgconn.ConnectError{}, true},
		{driver.ErrBadConn, true},
		{sql.ErrConnDone, true},
		{io.ErrUnexpectedEOF, true},
		{&pgconn.PgError{Code: "57P01"}, true}, // the server is stopped
		{&pgconn.PgError{Code: "57P03"}, true}, // it starts
		{&pgconn.PgError{Code: "53100"}, true}, // its disk is full
		{&pgconn.PgError{Code: "53300"}, true}, // it has too many connections
		{&pgconn.PgError{Code: "08006"}, true},
		{&pgconn.PgError{Code: "58030"}, true}, // its disk refuses
		{&pgconn.PgError{Code: "57014"}, false},
		{&pgconn.PgError{Code: "23505"}, false},
		{&pgconn.PgError{Code: "42P01"}, false},
		{sql.ErrNoRows, false},
		{oauth.ErrUsed, false},
		{context.Canceled, false},
		{errors.New("anything else"), false},
	} {
		err := store.Passing(fmt.Errorf("read code: %w", test.err))
		var temporary interface{ Temporary() bool }
		if passes := errors.As(err, &temporary) && temporary.Temporary(); passes != test.passes {
			t.Errorf("%v: passes %t, want %t", test.err, passes, test.passes)
		}
		if !errors.Is(err, test.err) {
			t.Errorf("%v is not found in %v", test.err, err)
		}
	}
}
