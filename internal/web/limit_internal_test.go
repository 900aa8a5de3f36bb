package web

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type requestKey struct{}

// A handler's context ends HandlerTimeout after it first waits, with its request,
// or when it is done; so does what is made of it, and values are the request's.
func TestBoundedContext(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(request context.CancelFunc, b *bounded)
		want error
	}{
		"in time":          {func(context.CancelFunc, *bounded) { time.Sleep(HandlerTimeout) }, context.DeadlineExceeded},
		"with its request": {func(request context.CancelFunc, _ *bounded) { request() }, context.Canceled},
		"when it is done":  {func(_ context.CancelFunc, b *bounded) { b.stop() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				request, leave := context.WithCancel(context.WithValue(t.Context(), requestKey{}, "a"))
				defer leave()
				b := &bounded{Context: request}
				before := context.WithValue(b, requestKey{}, "b")
				if b.Value(requestKey{}) != "a" || b.timed != nil {
					t.Error("a look at a value is no wait")
				}
				time.Sleep(2 * HandlerTimeout) // of work
				child, cancel := context.WithCancel(before)
				defer cancel()
				if child.Err() != nil || b.Value(requestKey{}) != "a" {
					t.Errorf("at the first wait: %v", child.Err())
				}
				test.end(leave, b)
				synctest.Wait()
				for _, ctx := range []context.Context{b, before, child} {
					select {
					case <-ctx.Done():
					default:
						t.Error("it goes on")
					}
					if err := ctx.Err(); !errors.Is(err, test.want) {
						t.Errorf("it ends with %v", err)
					}
				}
			})
		})
	}
	// Who is done before it waits has no timer to stop.
	b := &bounded{Context: t.Context()}
	b.stop()
}
