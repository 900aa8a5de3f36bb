package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store/db"
)

// CreateFlow keeps a new flow, and the authorization attempt that it is for.
func (d *DB) CreateFlow(ctx context.Context, f signin.Flow, a audit.Attempt) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := saveAttempt(ctx, q, a); err != nil {
			return err
		}
		return wrap("create flow", q.CreateFlow(ctx, db.CreateFlowParams{
			ProjectID: f.ProjectID, ID: f.ID, BrowserHash: notNull(f.BrowserHash), ReturnTo: f.ReturnTo, Request: f.Request,
			Email: f.Email, MethodID: f.MethodID, CodeExpiresAt: micros(f.CodeExpiresAt), TraceID: f.TraceID,
			CreatedAt: micros(f.CreatedAt), ExpiresAt: micros(f.ExpiresAt),
		}))
	})
}

// Flow returns a flow that has not run out, decided or not.
func (d *DB) Flow(ctx context.Context, projectID, id string, now time.Time) (signin.Flow, error) {
	f, err := d.read.Flow(ctx, db.FlowParams{ProjectID: projectID, ID: id, Now: micros(now)})
	if err != nil {
		return signin.Flow{}, found("read flow", err, signin.ErrNotFound)
	}
	return signin.Flow{
		ID: f.ID, ProjectID: f.ProjectID, BrowserHash: f.BrowserHash, ReturnTo: f.ReturnTo, Request: f.Request,
		Email: f.Email, MethodID: f.MethodID, CodeExpiresAt: fromMicros(f.CodeExpiresAt), TraceID: f.TraceID,
		CreatedAt: fromMicros(f.CreatedAt), ExpiresAt: fromMicros(f.ExpiresAt), Decided: f.DecidedAt != 0,
	}, nil
}

// SetFlowRequest replaces the waiting request of an undecided flow, with what is
// known of its attempt by now.
func (d *DB) SetFlowRequest(ctx context.Context, projectID, id string, request []byte, a audit.Attempt) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.SetFlowRequest(ctx, db.SetFlowRequestParams{Request: request, ProjectID: projectID, ID: id})
		if err == nil && n == 0 {
			return signin.ErrNotFound
		}
		if err != nil {
			return wrap("set request", err)
		}
		return saveAttempt(ctx, q, a)
	})
}

// ClearFlowEmail forgets the address of a flow and ends its code.
func (d *DB) ClearFlowEmail(ctx context.Context, projectID, id string) error {
	return d.write(ctx, func(q *db.Queries) error {
		return wrap("clear flow", q.ClearFlowMethod(ctx, projectID, id))
	})
}

// CreateEmailCode keeps a code and makes it the one that works in its flow.
func (d *DB) CreateEmailCode(ctx context.Context, c signin.EmailCode, limit signin.MailLimit, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := countMail(ctx, q, c, limit); err != nil {
			return err
		}
		n, err := q.SetFlowMethod(ctx, db.SetFlowMethodParams{
			Email: c.Email, MethodID: c.ID, CodeExpiresAt: micros(c.ExpiresAt), ProjectID: c.ProjectID, ID: c.FlowID, Now: micros(c.CreatedAt),
		})
		if err != nil {
			return wrap("set method", err)
		}
		if n == 0 {
			return signin.ErrNotFound
		}
		err = q.CreateEmailCode(ctx, db.CreateEmailCodeParams{
			ProjectID: c.ProjectID, ID: c.ID, FlowID: c.FlowID, Email: c.Email, EmailFolded: c.EmailFolded,
			Mac: notNull(c.MAC), CreatedAt: micros(c.CreatedAt), ExpiresAt: micros(c.ExpiresAt),
		})
		if err != nil {
			return wrap("create code", err)
		}
		e.Object = c.ID
		return record(ctx, q, e)
	})
}

// countMail counts a mail under both limits of its address, or returns
// *signin.TooSoon with the time until both have room.
func countMail(ctx context.Context, q *db.Queries, c signin.EmailCode, limit signin.MailLimit) error {
	var soon signin.TooSoon
	key := limitKey(c.EmailFolded, c.Browser)
	for _, counter := range []oauth.Counter{
		{Kind: "mail_gap", Key: key, Limit: 1, Window: limit.Gap},
		{Kind: mailsCounted, Key: key, Limit: limit.Count, Window: limit.Window},
	} {
		ok, err := count(ctx, q, c.ProjectID, counter, c.CreatedAt)
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		row, err := counterRow(ctx, q, c.ProjectID, counter, c.CreatedAt)
		if err != nil {
			return err
		}
		soon.Wait = max(soon.Wait, fromMicros(row.Until).Sub(c.CreatedAt))
		soon.Full = counter.Kind == mailsCounted
	}
	switch {
	case soon.Wait == 0:
		return nil
	case soon.Full:
		var err error
		if soon.Subject, err = userOfAddress(ctx, q, c.ProjectID, c.EmailFolded); err != nil {
			return err
		}
	}
	return &soon
}

// mailsCounted is the counter of the mails to an address.
const mailsCounted = "mail"

// limitKey is what the limits of an address count under: a browser that proved
// the address before has a counter of its own. No address has a blank.
func limitKey(address, browser string) string {
	if browser == "" {
		return address
	}
	return address + " " + browser
}

// Why a try was refused, for the event.
const (
	reasonDead     = "code no longer works"
	reasonLocked   = "too many wrong codes today"
	reasonWrong    = "wrong code"
	reasonInactive = "user is not active"
)

// RedeemEmailCode tries a code. The address's daily tries are counted before
// the comparison, which locks their row, and given back if it was right: of any
// number of parallel guesses over any number of codes, no more than
// r.DailyTries are compared.
func (d *DB) RedeemEmailCode(ctx context.Context, r signin.Redemption, e audit.Event) (signin.Outcome, error) {
	var out signin.Outcome
	err := d.write(ctx, func(q *db.Queries) (err error) {
		var reason string
		if out, reason, err = tryEmailCode(ctx, q, r); err != nil {
			return err
		}
		done := e
		if !out.Right {
			done.Kind, done.Refused, done.Reason = audit.SignInRefused, true, reason
			if done.Subject, err = userOfCode(ctx, q, r); err != nil {
				return err
			}
			return record(ctx, q, done)
		}
		done.Actor, done.Subject, done.Object = out.User.ID, out.User.ID, cmp.Or(out.Session.ID, out.Visitor.ID)
		if out.Created {
			made := done
			made.Kind, made.Object = audit.UserCreated, out.User.ID
			if err := record(ctx, q, made); err != nil {
				return err
			}
		}
		if err := record(ctx, q, done); err != nil {
			return err
		}
		return endBefore(ctx, q, r.ProjectID, r.Ends)
	})
	if err != nil {
		return signin.Outcome{}, err
	}
	return out, nil
}

// userOfCode is the id of the user to whose address a code was sent, "" where
// there is none yet, and in a B2B project, where an address is several members'.
func userOfCode(ctx context.Context, q *db.Queries, r signin.Redemption) (string, error) {
	address, err := q.EmailCodeAddress(ctx, db.EmailCodeAddressParams{ProjectID: r.ProjectID, ID: r.MethodID, FlowID: r.FlowID})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", wrap("read code", err)
	}
	return userOfAddress(ctx, q, r.ProjectID, address)
}

// userOfAddress is the id of the user who has an address, "" for nobody.
func userOfAddress(ctx context.Context, q *db.Queries, projectID, folded string) (string, error) {
	user, err := q.UserByEmail(ctx, projectID, folded)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return user.ID, wrap("read user", err)
}

func tryEmailCode(ctx context.Context, q *db.Queries, r signin.Redemption) (out signin.Outcome, reason string, err error) {
	address, err := q.EmailCodeAddress(ctx, db.EmailCodeAddressParams{ProjectID: r.ProjectID, ID: r.MethodID, FlowID: r.FlowID})
	if errors.Is(err, sql.ErrNoRows) {
		return signin.Outcome{Dead: true}, reasonDead, nil
	}
	if err != nil {
		return out, "", wrap("read code", err)
	}
	daily := oauth.Counter{Kind: "email_code", Key: limitKey(address, r.Browser), Limit: r.DailyTries, Window: 24 * time.Hour}
	ok, err := count(ctx, q, r.ProjectID, daily, r.Now)
	if err != nil {
		return out, "", err
	}
	if !ok {
		return signin.Outcome{Locked: true}, reasonLocked, nil
	}
	try, err := q.TryEmailCode(ctx, db.TryEmailCodeParams{
		Mac: notNull(r.MAC), Now: micros(r.Now), ProjectID: r.ProjectID, ID: r.MethodID, FlowID: r.FlowID, MaxTries: int64(r.Tries),
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return signin.Outcome{Dead: true}, reasonDead, uncount(ctx, q, r.ProjectID, daily)
	case err != nil:
		return out, "", wrap("try code", err)
	case try.UsedAt == 0:
		left := r.Tries - int(try.Tries)
		return signin.Outcome{Wrong: true, Left: left, Dead: left == 0}, reasonWrong, nil
	}
	if err := uncount(ctx, q, r.ProjectID, daily); err != nil {
		return out, "", err
	}
	return signIn(ctx, q, r, try)
}

// signIn finds or makes the user of a proved address and keeps the session, or
// keeps the browser of a B2B project.
func signIn(ctx context.Context, q *db.Queries, r signin.Redemption, try db.TryEmailCodeRow) (out signin.Outcome, reason string, err error) {
	if r.Visitor != nil {
		b := *r.Visitor
		b.Email, b.EmailFolded = try.Email, try.EmailFolded
		return signin.Outcome{Right: true, Visitor: b}, "", createBrowser(ctx, q, b)
	}
	var made int64
	user, err := db.User{}, sql.ErrNoRows
	for tries := 0; tries < 2 && errors.Is(err, sql.ErrNoRows); tries++ { // who is deleted between the two statements is somebody new
		if made, err = q.CreateUser(ctx, db.CreateUserParams{
			ProjectID: r.ProjectID, ID: r.NewUserID, Email: try.Email, EmailFolded: try.EmailFolded,
			EmailVerified: true, Active: true, CreatedAt: micros(r.Now), LastSignInAt: micros(r.Now),
		}); err != nil {
			return out, "", wrap("create user", err)
		}
		user, err = q.UserByEmail(ctx, r.ProjectID, try.EmailFolded)
	}
	if err != nil {
		return out, "", wrap("read user", err)
	}
	n, err := q.UserSignedIn(ctx, db.UserSignedInParams{Now: micros(r.Now), ProjectID: r.ProjectID, ID: user.ID})
	if err != nil {
		return out, "", wrap("sign in", err)
	}
	if n == 0 {
		return signin.Outcome{Inactive: true}, reasonInactive, nil
	}
	user.EmailVerified, user.LastSignInAt = true, micros(r.Now)
	session := r.Session
	session.Subject = user.ID
	if err := createSession(ctx, q, session); err != nil {
		return out, "", err
	}
	return signin.Outcome{Right: true, User: toUser(user), Session: session, Created: made == 1}, "", nil
}
