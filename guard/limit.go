package guard

import (
	"sync"
	"time"
)

// limiter counts the tool calls of every caller in the current minute
// (MCP, Tools, Security Considerations: rate limit tool invocations). It
// forgets everything when the minute is over, which is what bounds it.
type limiter struct {
	now       func() time.Time
	perMinute int // 0: no limit

	mu     sync.Mutex
	minute int64
	calls  map[caller]int
}

// rateError is a refusal because of too many calls, with the seconds to wait.
type rateError struct{ wait int64 }

func (e *rateError) Error() string { return "guard: too many tool calls in a minute" }

// take counts the tool calls among ops.
func (l *limiter) take(p *Principal, ops []operation) error {
	calls := 0
	for _, op := range ops {
		if op.method == "tools/call" {
			calls++
		}
	}
	if calls == 0 || l.perMinute == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now().Unix()
	if minute := now / 60; l.calls == nil || minute != l.minute {
		l.minute, l.calls = minute, map[caller]int{}
	}
	who := p.caller()
	if l.calls[who]+calls > l.perMinute {
		return &rateError{60 - now%60}
	}
	l.calls[who] += calls
	return nil
}
