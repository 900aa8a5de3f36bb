package store

import (
	"context"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store/db"
)

// Record keeps an event that stands alone.
func (d *DB) Record(ctx context.Context, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error { return record(ctx, q, e) })
}

// RecordRefusal keeps an event, or returns oauth.ErrLimited when a counter is
// full.
func (d *DB) RecordRefusal(ctx context.Context, e audit.Event, limits []oauth.Counter) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := countAll(ctx, q, e.ProjectID, limits, e.At); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// record keeps the event that tells of a change, beside it.
func record(ctx context.Context, q *db.Queries, e audit.Event) error {
	return wrap("record event", q.CreateEvent(ctx, db.CreateEventParams{
		ProjectID:  e.ProjectID,
		ID:         secret.NewUUID(e.At),
		OccurredAt: micros(e.At),
		Kind:       string(e.Kind),
		Actor:      storable(e.Actor),
		Subject:    storable(e.Subject),
		ClientID:   storable(e.ClientID),
		Object:     storable(e.Object),
		Address:    e.Address,
		Refused:    e.Refused,
		Reason:     e.Reason,
		TraceID:    e.TraceID,
		Attempt:    e.Attempt,
	}))
}
