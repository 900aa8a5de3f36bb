package server

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

// kept is what the protocol and the sign-in methods keep things with.
type kept interface {
	oauth.Store
	signin.Store
}

// keeper returns the database, in development one that tells of what it kept.
func keeper(db *store.DB, dev *Dev) kept {
	if dev == nil || dev.Told == nil {
		return db
	}
	return &tap{DB: db, told: dev.Told}
}

// tap tells of the decisions that a developer wants to see, once they are
// kept. What it does not name passes through in silence.
type tap struct {
	*store.DB
	told func(e audit.Event, scopes []string)
}

func (t *tap) tell(err error, e audit.Event) error {
	if err == nil {
		t.told(e, nil)
	}
	return err
}

func (t *tap) Record(ctx context.Context, e audit.Event) error {
	return t.tell(t.DB.Record(ctx, e), e)
}

func (t *tap) RecordRefusal(ctx context.Context, e audit.Event, limits []oauth.Counter) error {
	return t.tell(t.DB.RecordRefusal(ctx, e, limits), e)
}

func (t *tap) CreateClient(ctx context.Context, c oauth.Client, limits []oauth.Counter, e audit.Event) error {
	return t.tell(t.DB.CreateClient(ctx, c, limits, e), e)
}

func (t *tap) MergeClient(ctx context.Context, c oauth.Client, limits []oauth.Counter, e audit.Event) (id string, created time.Time, err error) {
	id, created, err = t.DB.MergeClient(ctx, c, limits, e)
	e.ClientID = id
	return id, created, t.tell(err, e)
}

func (t *tap) ReplaceOwnClient(ctx context.Context, c, before oauth.Client, limits []oauth.Counter, e audit.Event) error {
	return t.tell(t.DB.ReplaceOwnClient(ctx, c, before, limits, e), e)
}

func (t *tap) DeleteOwnClient(ctx context.Context, before oauth.Client, e audit.Event) error {
	return t.tell(t.DB.DeleteOwnClient(ctx, before, e), e)
}

func (t *tap) SaveDocumentClient(ctx context.Context, c oauth.Client, logo []byte, e audit.Event) (oauth.Client, error) {
	row, err := t.DB.SaveDocumentClient(ctx, c, logo, e)
	e.ClientID = row.ID
	return row, t.tell(err, e)
}

func (t *tap) Decide(ctx context.Context, d oauth.Decision, e audit.Event) error {
	err := t.DB.Decide(ctx, d, e)
	if err == nil {
		t.told(e, d.Code.Scopes)
	}
	return err
}

func (t *tap) Deny(ctx context.Context, projectID, flowID string, now time.Time, a audit.Attempt, e audit.Event) error {
	return t.tell(t.DB.Deny(ctx, projectID, flowID, now, a, e), e)
}

func (t *tap) RefuseAttempt(ctx context.Context, a audit.Attempt, e audit.Event, limits []oauth.Counter) error {
	return t.tell(t.DB.RefuseAttempt(ctx, a, e, limits), e)
}

func (t *tap) RefuseToken(ctx context.Context, asked string, e audit.Event, limits []oauth.Counter) error {
	return t.tell(t.DB.RefuseToken(ctx, asked, e, limits), e)
}

func (t *tap) RedeemCode(ctx context.Context, projectID string, r oauth.Redeem, done, reuse audit.Event) error {
	return t.tell(t.DB.RedeemCode(ctx, projectID, r, done, reuse), done)
}

func (t *tap) RotateRefresh(ctx context.Context, r oauth.Rotate, done, reuse audit.Event) (oauth.Rotation, error) {
	rotation, err := t.DB.RotateRefresh(ctx, r, done, reuse)
	if err == nil && rotation.Done {
		t.told(done, nil)
	}
	return rotation, err
}

func (t *tap) RevokeGrant(ctx context.Context, projectID, subject, grantID string, until time.Time, e audit.Event) error {
	return t.tell(t.DB.RevokeGrant(ctx, projectID, subject, grantID, until, e), e)
}

func (t *tap) RedeemEmailCode(ctx context.Context, r signin.Redemption, e audit.Event) (signin.Outcome, error) {
	outcome, err := t.DB.RedeemEmailCode(ctx, r, e)
	if e.Refused = !outcome.Right; e.Refused {
		e.Kind, e.Reason = audit.SignInRefused, "the code was not right, or no longer valid"
	}
	return outcome, t.tell(err, e)
}
