package guard

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrState is the error of [Guard.OpenState]: the state was changed, is too
// old, or belongs to another caller or request.
var ErrState = errors.New("guard: request state is not valid")

// SealState encrypts what a server wants to find again when the client
// repeats a request with its answers (requestState of MCP 2026-07-28, Multi
// Round-Trip Requests). The client keeps it and could change or swap it, so it
// opens only for the caller in ctx, with the same request, for as long as ttl.
//
// request is anything that marshals to JSON and is the same in both rounds,
// for example the tool's name and arguments. To use a state only once is the
// server's own task.
func (g *Guard) SealState(ctx context.Context, request any, data []byte, ttl time.Duration) (string, error) {
	bound, err := boundTo(ctx, request)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, g.state.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(g.cfg.Now().Add(ttl).Unix()))
	sealed := g.state.Seal(nonce, nonce, append(plain, data...), bound)
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// OpenState returns the data of [Guard.SealState], or [ErrState], or
// [ErrNoToken] when there is no caller in ctx.
func (g *Guard) OpenState(ctx context.Context, request any, state string) ([]byte, error) {
	bound, err := boundTo(ctx, request)
	if err != nil {
		return nil, err
	}
	sealed, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil || len(sealed) < g.state.NonceSize() {
		return nil, ErrState
	}
	nonce, sealed := sealed[:g.state.NonceSize()], sealed[g.state.NonceSize():]
	plain, err := g.state.Open(nil, nonce, sealed, bound)
	if err != nil || len(plain) < 8 {
		return nil, ErrState
	}
	if until := int64(binary.BigEndian.Uint64(plain)); g.cfg.Now().Unix() > until {
		return nil, ErrState
	}
	return plain[8:], nil
}

// boundTo is a digest of the caller and the request.
func boundTo(ctx context.Context, request any) ([]byte, error) {
	p := current(ctx)
	if p == nil {
		return nil, ErrNoToken
	}
	who := p.caller()
	text, err := json.Marshal([]any{who.issuer, who.subject, who.client, who.organization, request})
	if err != nil {
		return nil, fmt.Errorf("guard: request state: %w", err)
	}
	sum := sha256.Sum256(text)
	return sum[:], nil
}

// newSealer takes 32 bytes, or makes a key that lives as long as the process.
func newSealer(key []byte) (cipher.AEAD, error) {
	if key == nil {
		key = make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("StateKey: %d bytes, want 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
