package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
)

// memory is a Store that keeps the promises of the interface in a slice.
type memory struct {
	mu   sync.Mutex
	keys []signing.Key
}

func (m *memory) Keys(_ context.Context, projectID string) ([]signing.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []signing.Key
	for _, k := range m.keys {
		if k.ProjectID == projectID {
			out = append(out, k)
		}
	}
	return out, nil
}

func (m *memory) AddKey(_ context.Context, k signing.Key, previousRetireAt time.Time, _ audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.add(k, previousRetireAt)
}

func (m *memory) add(k signing.Key, previousRetireAt time.Time) error {
	for i, old := range m.keys {
		if old.ProjectID != k.ProjectID || old.Algorithm != k.Algorithm {
			continue
		}
		if old.Generation == k.Generation {
			return signing.ErrConflict
		}
		if old.RetireAt.IsZero() || old.RetireAt.After(previousRetireAt) {
			m.keys[i].RetireAt = previousRetireAt
		}
	}
	m.keys = slices.DeleteFunc(m.keys, func(old signing.Key) bool {
		return old.ProjectID == k.ProjectID && !old.RetireAt.IsZero() && !old.RetireAt.After(k.CreatedAt)
	})
	m.keys = append(m.keys, k)
	return nil
}

func (m *memory) RemoveKey(_ context.Context, projectID, id string, next *signing.Key, previousRetireAt time.Time, _ audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	mine := func(k signing.Key) bool { return k.ProjectID == projectID && k.ID == id }
	if !slices.ContainsFunc(m.keys, mine) {
		return signing.ErrNotFound
	}
	if next != nil {
		if err := m.add(*next, previousRetireAt); err != nil {
			return err
		}
	}
	m.keys = slices.DeleteFunc(m.keys, mine)
	return nil
}

// bench is a deployment with a clock that the test moves.
type bench struct {
	*signing.Keys
	store *memory
	now   time.Time
}

const project = "project-test-1"

// skewed is how far a server's clock may be behind.
const skewed = 10 * time.Second

func newBench(t *testing.T, algs ...signing.Algorithm) *bench {
	t.Helper()
	b := &bench{store: &memory{}, now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	b.Keys = b.node(t)
	for _, alg := range algs {
		if err := b.Ensure(t.Context(), project, alg); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// node is another server on the same store and clock.
func (b *bench) node(t *testing.T) *signing.Keys {
	t.Helper()
	keys, err := signing.New(signing.Config{
		Store:        b.store,
		Sealer:       newSealer(t, masterKey(1)),
		Now:          func() time.Time { return b.now },
		MaxTokenLife: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (b *bench) ring(t *testing.T) *signing.Ring {
	t.Helper()
	r, err := b.Ring(t.Context(), project)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type claims struct {
	Issuer string `json:"iss"`
}

func sign(t *testing.T, r *signing.Ring, alg signing.Algorithm, typ string) string {
	t.Helper()
	text, err := r.Sign(alg, typ, claims{"https://issuer.example"})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func kids(t *testing.T, r *signing.Ring) []string {
	t.Helper()
	body, _ := r.JWKS()
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range set.Keys {
		out = append(out, k.Kid)
	}
	return out
}

func TestSignThenVerify(t *testing.T) {
	b := newBench(t, signing.ES256, signing.RS256)
	for _, alg := range signing.Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			text := sign(t, b.ring(t), alg, "at+jwt")
			got, err := b.ring(t).Verify(text, "JWT", "at+jwt")
			if err != nil {
				t.Fatal(err)
			}
			want := signing.Token{
				Claims:    []byte(`{"iss":"https://issuer.example"}`),
				Type:      "at+jwt",
				KeyID:     got.KeyID,
				Algorithm: alg,
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(signing.Token{})); diff != "" {
				t.Error(diff)
			}
			header, _, _ := strings.Cut(text, ".")
			raw, _ := base64.RawURLEncoding.DecodeString(header)
			var members map[string]string
			if err := json.Unmarshal(raw, &members); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{"alg": string(alg), "kid": got.KeyID, "typ": "at+jwt"}, members); diff != "" {
				t.Error(diff)
			}
			if !slices.Contains(kids(t, b.ring(t)), got.KeyID) {
				t.Error("the key that signed is not published")
			}
		})
	}
}

// A stranger with nothing but the key set can verify: the signature is computed
// here with the standard library alone.
func TestKeySetVerifiesTokens(t *testing.T) {
	b := newBench(t, signing.ES256, signing.RS256)
	body, _ := b.ring(t).JWKS()
	var set struct {
		Keys []struct{ Kid, Alg, N, E, X, Y string }
	}
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	number := func(text string) *big.Int {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).SetBytes(raw)
	}
	for _, key := range set.Keys {
		text := sign(t, b.ring(t), signing.Algorithm(key.Alg), "JWT")
		cut := strings.LastIndex(text, ".")
		hash := sha256.Sum256([]byte(text[:cut]))
		signature, _ := base64.RawURLEncoding.DecodeString(text[cut+1:])
		var ok bool
		switch key.Alg {
		case "ES256":
			raw := append([]byte{4}, append(number(key.X).FillBytes(make([]byte, 32)), number(key.Y).FillBytes(make([]byte, 32))...)...)
			public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
			if err != nil {
				t.Fatal(err)
			}
			ok = ecdsa.Verify(public, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		case "RS256":
			public := &rsa.PublicKey{N: number(key.N), E: int(number(key.E).Int64())}
			if public.N.BitLen() != 2048 {
				t.Errorf("RSA key of %d bits", public.N.BitLen())
			}
			ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], signature) == nil
		}
		if !ok {
			t.Errorf("%s: signature does not verify with the published key", key.Alg)
		}
	}
}

// Row: I14.
// Proves: RFC7517-4.3-b, RFC7517-4.5-a, RFC7517-5-a
func TestKeySetHasPublicMembersOnly(t *testing.T) {
	b := newBench(t, signing.ES256, signing.RS256)
	body, etag := b.ring(t).JWKS()
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"ES256": {"alg", "crv", "key_ops", "kid", "kty", "use", "x", "y"},
		"RS256": {"alg", "e", "key_ops", "kid", "kty", "n", "use"},
	}
	seen := map[string]bool{}
	for _, key := range set.Keys {
		alg := key["alg"].(string)
		var names []string
		for name := range key {
			names = append(names, name)
		}
		slices.Sort(names)
		if diff := cmp.Diff(want[alg], names); diff != "" {
			t.Errorf("%s members: %s", alg, diff)
		}
		if key["use"] != "sig" || fmt.Sprint(key["key_ops"]) != "[verify]" {
			t.Errorf("%s: use %v, key_ops %v", alg, key["use"], key["key_ops"])
		}
		if seen[key["kid"].(string)] {
			t.Errorf("kid %v twice", key["kid"])
		}
		seen[key["kid"].(string)] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d keys published, want 2", len(seen))
	}
	if again, tag := b.ring(t).JWKS(); !bytes.Equal(again, body) || tag != etag || !strings.HasPrefix(etag, `"`) {
		t.Errorf("the key set changes by itself, or its tag %s is not strong", etag)
	}
}

// Row: J01, J02, J03, J04, J05, J13, J14, J15, J17, I07.
// Proves: RFC7515-4.1.11-a, RFC8725-3.1-a, RFC8725-3.1-b, RFC8725-3.2-a, RFC8725-3.10-a
func TestVerifyRefuses(t *testing.T) {
	b := newBench(t, signing.ES256, signing.RS256)
	ring := b.ring(t)
	es, rs := sign(t, ring, signing.ES256, "at+jwt"), sign(t, ring, signing.RS256, "at+jwt")
	token, err := ring.Verify(es, "at+jwt")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(es, ".")
	header := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	with := func(text string) string { return header(text) + "." + parts[1] + "." + parts[2] }
	foreign := newBench(t, signing.ES256)
	jwks, _ := ring.JWKS()

	tests := map[string]string{
		"empty":                     "",
		"dots only":                 "..",
		"header alone":              parts[0],
		"header and payload":        parts[0] + "." + parts[1],
		"no signature":              parts[0] + "." + parts[1] + ".",
		"no payload":                parts[0] + ".." + parts[2],
		"alg none":                  with(`{"alg":"none","kid":"` + token.KeyID + `","typ":"at+jwt"}`),
		"alg none, unsigned":        header(`{"alg":"none","typ":"at+jwt"}`) + "." + parts[1] + ".",
		"alg empty":                 with(`{"alg":"","kid":"` + token.KeyID + `","typ":"at+jwt"}`),
		"alg of the other key":      with(`{"alg":"RS256","kid":"` + token.KeyID + `","typ":"at+jwt"}`),
		"PS512":                     with(`{"alg":"PS512","kid":"` + token.KeyID + `","typ":"at+jwt"}`),
		"HS256 with the public key": hs256(header(`{"alg":"HS256","kid":"`+token.KeyID+`","typ":"at+jwt"}`)+"."+parts[1], jwks),
		"unknown kid":               with(`{"alg":"ES256","kid":"nobody","typ":"at+jwt"}`),
		"no kid":                    with(`{"alg":"ES256","typ":"at+jwt"}`),
		"kid is a path":             with(`{"alg":"ES256","kid":"../../etc/passwd","typ":"at+jwt"}`),
		"unknown crit":              with(`{"alg":"ES256","kid":"` + token.KeyID + `","typ":"at+jwt","crit":["x"],"x":1}`),
		"b64 false":                 with(`{"alg":"ES256","kid":"` + token.KeyID + `","typ":"at+jwt","crit":["b64"],"b64":false}`),
		"duplicate member":          with(`{"alg":"ES256","kid":"` + token.KeyID + `","typ":"at+jwt","typ":"at+jwt"}`),
		"key in the token":          bringsItsOwnKey(t, `{"alg":"ES256","kid":"`+token.KeyID+`","typ":"at+jwt","jwk":%s,"jku":"https://evil.example/jwks"}`, parts[1]),
		"key in the token, no kid":  bringsItsOwnKey(t, `{"alg":"ES256","typ":"at+jwt","jwk":%s}`, parts[1]),
		"five parts":                es + ".a.b",
		"a million dots":            strings.Repeat(".", 1_000_000),
		"too long":                  parts[0] + "." + strings.Repeat("A", 9000) + "." + parts[2],
		"JSON serialization":        `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
		"signature of another":      strings.Join(parts[:2], ".") + "." + strings.Split(rs, ".")[2],
		"mirrored signature":        mirrored(t, es),
		"zero signature":            strings.Join(parts[:2], ".") + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"other claims":              parts[0] + "." + header(`{"iss":"https://other.example"}`) + "." + parts[2],
		"other order of members":    with(`{"kid":"` + token.KeyID + `","alg":"ES256","typ":"at+jwt"}`),
		"longer signature":          es + "AAAA",
		"number in front":           strings.Join(parts[:2], ".") + ".AAAA" + parts[2],
		"new line in the payload":   parts[0] + "." + parts[1][:4] + "\r\n" + parts[1][4:] + "." + parts[2],
		"cut":                       es[:len(es)-1],
		"extended":                  es + "A",
		"blank behind":              es + " ",
		"new line inside":           es[:len(es)-5] + "\n" + es[len(es)-5:],
		"padded":                    es + "==",
		"another project's":         sign(t, foreign.ring(t), signing.ES256, "at+jwt"),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ring.Verify(text, "at+jwt"); !errors.Is(err, signing.ErrInvalid) {
				t.Errorf("Verify = %v, want ErrInvalid", err)
			}
		})
	}
	t.Run("every other last character", func(t *testing.T) {
		const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		for _, c := range digits {
			other := es[:len(es)-1] + string(c)
			if _, err := ring.Verify(other, "at+jwt"); (err == nil) != (other == es) {
				t.Errorf("ending in %c: %v", c, err)
			}
		}
	})
}

// Row: J08.
// Proves: RFC8725-3.11-a
func TestVerifyRefusesAnotherType(t *testing.T) {
	ring := newBench(t, signing.ES256).ring(t)
	for _, typ := range []string{"at+jwt", "JWT", ""} {
		text := sign(t, ring, signing.ES256, typ)
		if _, err := ring.Verify(text, "logout+jwt", "AT+JWT"); !errors.Is(err, signing.ErrInvalid) {
			t.Errorf("typ %q: %v, want ErrInvalid", typ, err)
		}
		if _, err := ring.Verify(text); !errors.Is(err, signing.ErrInvalid) {
			t.Errorf("typ %q, none wanted: %v, want ErrInvalid", typ, err)
		}
	}
}

// Row: O13.
// Proves: RFC8725-3.8-a
func TestProjectsHaveTheirOwnKeys(t *testing.T) {
	b := newBench(t, signing.ES256)
	if err := b.Ensure(t.Context(), "project-test-2", signing.ES256); err != nil {
		t.Fatal(err)
	}
	other, err := b.Ring(t.Context(), "project-test-2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.ring(t).Verify(sign(t, other, signing.ES256, "JWT"), "JWT"); !errors.Is(err, signing.ErrInvalid) {
		t.Errorf("another project's token: %v, want ErrInvalid", err)
	}
}

func TestReadyOnceBothKeysExist(t *testing.T) {
	b := newBench(t)
	ring := b.ring(t)
	if _, err := ring.Sign(signing.ES256, "JWT", claims{}); !errors.Is(err, signing.ErrNoKey) {
		t.Errorf("without keys: %v, want ErrNoKey", err)
	}
	if body, _ := ring.JWKS(); string(body) != `{"keys":[]}` {
		t.Errorf("without keys the set is %s", body)
	}
	for i, alg := range signing.Algorithms() {
		if ring.Ready() {
			t.Errorf("ready with %d keys", i)
		}
		if err := b.Ensure(t.Context(), project, alg); err != nil {
			t.Fatal(err)
		}
	}
	if !ring.Ready() {
		t.Error("not ready with both keys")
	}
}

func TestEnsureMakesOneKeyForAllServers(t *testing.T) {
	b := newBench(t)
	nodes := make([]*signing.Keys, 20)
	var wait sync.WaitGroup
	for i := range nodes {
		nodes[i] = b.node(t)
		wait.Go(func() {
			if err := nodes[i].Ensure(context.Background(), project, signing.ES256); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if len(b.store.keys) != 1 {
		t.Fatalf("%d keys, want 1", len(b.store.keys))
	}
	text := sign(t, b.ring(t), signing.ES256, "JWT")
	for i, node := range nodes {
		ring, err := node.Ring(t.Context(), project)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Verify(text, "JWT"); err != nil {
			t.Errorf("node %d refuses a token of another: %v", i, err)
		}
	}
}

func TestAKeyIsOne(t *testing.T) {
	b, foreign := newBench(t, signing.ES256), newBench(t, signing.ES256)
	b.ring(t)
	own, other := b.store.keys[0], foreign.store.keys[0]
	b.store.keys[0].Public = bytes.ReplaceAll(other.Public, []byte(other.ID), []byte(own.ID))
	if err := b.Reload(t.Context(), project); err == nil {
		t.Error("a key with the public part of another is loaded")
	}
}

func TestPrivateKeysAreSealed(t *testing.T) {
	b := newBench(t, signing.ES256)
	keys, err := signing.New(signing.Config{
		Store: b.store, Sealer: newSealer(t, masterKey(2)), Now: func() time.Time { return b.now }, MaxTokenLife: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Ring(t.Context(), project); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("under another master key: %v, want ErrSealed", err)
	}
	b.store.keys[0].ID = "another row" // Row: K05
	if err := b.Reload(t.Context(), project); err == nil {
		t.Error("a key moved to another row is loaded")
	}
	b.store.keys[0].Private = []byte("x")
	if err := b.Reload(t.Context(), project); err == nil {
		t.Error("a damaged key is loaded")
	}
}

// Row: K02.
//
// Proves: OIDC-10.1.1-a
func TestRotationRefusesNoToken(t *testing.T) {
	b := newBench(t, signing.ES256)
	ring, node := b.ring(t), b.node(t)
	slow, err := node.Ring(t.Context(), project) // a server that reloads a minute late
	if err != nil {
		t.Fatal(err)
	}
	type issued struct {
		text string
		end  time.Time
	}
	var tokens []issued
	cache := kids(t, ring) // what a resource server remembers, up to KeySetMaxAge
	var fetched time.Time
	signers := map[string]bool{}
	for minute := range 60 * 72 {
		b.now = b.now.Add(time.Minute)
		if minute%(60*6) == 0 {
			if _, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, signing.KeySetMaxAge); err != nil {
				t.Fatal(err)
			}
		} else if minute%(60*6) == 1 {
			if err := node.Reload(t.Context(), project); err != nil {
				t.Fatal(err)
			}
		}
		if b.now.Sub(fetched) >= signing.KeySetMaxAge {
			cache, fetched = kids(t, ring), b.now
		}
		if minute%17 == 0 {
			signer := ring
			if minute%2 == 0 {
				signer = slow
			}
			text := sign(t, signer, signing.ES256, "JWT")
			token, err := ring.Verify(text, "JWT")
			if err != nil {
				t.Fatalf("minute %d: own token refused: %v", minute, err)
			}
			if !slices.Contains(cache, token.KeyID) {
				t.Fatalf("minute %d: signed with a key that others have not seen", minute)
			}
			signers[token.KeyID] = true
			tokens = append(tokens, issued{text, b.now.Add(24 * time.Hour)})
		}
		if minute%97 == 0 {
			for _, token := range tokens {
				if !b.now.Before(token.end) {
					continue
				}
				for _, r := range []*signing.Ring{ring, slow} {
					if _, err := r.Verify(token.text, "JWT"); err != nil {
						t.Fatalf("minute %d: a living token is refused: %v", minute, err)
					}
				}
			}
		}
	}
	if len(signers) < 10 {
		t.Errorf("%d keys signed in twelve rotations", len(signers))
	}
	b.now = b.now.Add(25 * time.Hour)
	if _, err := ring.Verify(tokens[0].text, "JWT"); !errors.Is(err, signing.ErrInvalid) {
		t.Errorf("a token of a retired key: %v, want ErrInvalid", err)
	}
	if got := kids(t, ring); len(got) != 1 {
		t.Errorf("%d keys published after all but the last retired, want 1", len(got))
	}
	if _, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, 0); err != nil {
		t.Fatal(err)
	}
	if len(b.store.keys) != 2 {
		t.Errorf("%d keys kept, want 2: retired ones go at the next rotation", len(b.store.keys))
	}
}

func TestTheSetWithoutARetiredKeyHasAnotherTag(t *testing.T) {
	b := newBench(t, signing.ES256)
	if _, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, 0); err != nil {
		t.Fatal(err)
	}
	ring := b.ring(t)
	_, before := ring.JWKS()
	b.now = b.now.Add(72 * time.Hour)
	if _, after := ring.JWKS(); after == before || len(kids(t, ring)) != 1 {
		t.Errorf("tag %s stays %s after a key retired", before, after)
	}
}

func TestNextKeyIsPublishedBeforeItSigns(t *testing.T) {
	b := newBench(t, signing.ES256)
	ring := b.ring(t)
	next, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(kids(t, ring), next.ID) {
		t.Error("the next key is not published at once")
	}
	signer := func() string {
		token, err := ring.Verify(sign(t, ring, signing.ES256, "JWT"), "JWT")
		if err != nil {
			t.Fatal(err)
		}
		return token.KeyID
	}
	b.now = b.now.Add(24*time.Hour - time.Microsecond)
	if signer() == next.ID {
		t.Error("the next key signs before its time")
	}
	b.now = b.now.Add(time.Microsecond)
	if signer() != next.ID {
		t.Error("the next key does not sign when its time has come")
	}
}

func TestAHurriedRotationOvertakesAWaitingOne(t *testing.T) {
	b := newBench(t, signing.ES256)
	waiting, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	hurried, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, signing.KeySetMaxAge)
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{signing.KeySetMaxAge, 24 * time.Hour} {
		b.now = b.now.Add(after)
		token, err := b.ring(t).Verify(sign(t, b.ring(t), signing.ES256, "JWT"), "JWT")
		if err != nil || token.KeyID != hurried.ID || token.KeyID == waiting.ID {
			t.Errorf("%v later: signed by %s, %v; want the newest key %s", after, token.KeyID, err, hurried.ID)
		}
	}
}

// A compromised key verifies and signs nothing from that moment on, whichever
// part of its life it is in, and the project can sign as before.
//
// Row: K01.
func TestCompromise(t *testing.T) {
	operator := audit.Origin{Actor: audit.Operator}
	newest := func(t *testing.T, b *bench, alg signing.Algorithm) (last signing.Key) {
		t.Helper()
		rows, err := b.All(t.Context(), project)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.Algorithm == alg && row.Generation > last.Generation {
				last = row
			}
		}
		return last
	}
	verifies := func(t *testing.T, r *signing.Ring, text string, want bool) {
		t.Helper()
		if _, err := r.Verify(text, "at+jwt"); (err == nil) != want {
			t.Errorf("Verify = %v, good is %t", err, want)
		}
	}
	for _, alg := range signing.Algorithms() {
		t.Run(string(alg)+", the one that signs", func(t *testing.T) {
			b := newBench(t, signing.ES256, signing.RS256)
			ring, bad := b.ring(t), newest(t, b, alg)
			old := sign(t, ring, alg, "at+jwt")
			_, before := ring.JWKS()
			other := b.node(t)
			late, err := other.Ring(t.Context(), project)
			if err != nil {
				t.Fatal(err)
			}
			next, err := b.Compromise(t.Context(), operator, project, bad.ID)
			if err != nil || next.Algorithm != alg || next.Generation != 2 || next.NotBefore.After(b.now) {
				t.Fatalf("next %+v, %v", next, err)
			}
			verifies(t, ring, old, false)
			if set := kids(t, ring); len(set) != 2 || slices.Contains(set, bad.ID) || !slices.Contains(set, next.ID) {
				t.Errorf("published are %v", set)
			}
			if _, after := ring.JWKS(); after == before {
				t.Error("the key set has the tag of before")
			}
			now := sign(t, ring, alg, "at+jwt")
			verifies(t, ring, now, true)

			verifies(t, late, old, true) // it has not heard of it
			if err := other.Reload(t.Context(), project); err != nil {
				t.Fatal(err)
			}
			verifies(t, late, old, false)
			b.now = b.now.Add(-skewed) // of a server whose clock is behind
			verifies(t, late, now, true)
			verifies(t, ring, sign(t, late, alg, "at+jwt"), true)
		})
	}
	t.Run("the next one, whose successor signs when it would have", func(t *testing.T) {
		b := newBench(t, signing.ES256)
		ring, first := b.ring(t), newest(t, b, signing.ES256)
		rotated, err := b.Rotate(t.Context(), operator, project, signing.ES256, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Hour)
		next, err := b.Compromise(t.Context(), operator, project, rotated.ID)
		if err != nil || !next.NotBefore.Equal(rotated.NotBefore) || next.Generation != 3 {
			t.Fatalf("next %+v, %v", next, err)
		}
		last := sign(t, ring, signing.ES256, "at+jwt")
		b.now = next.NotBefore
		if set := kids(t, ring); !slices.Equal(set, []string{next.ID, first.ID}) {
			t.Errorf("published are %v", set)
		}
		verifies(t, ring, last, true)
		b.now = next.NotBefore.Add(24 * time.Hour) // when the last token of the first key ends
		verifies(t, ring, last, true)
	})
	t.Run("the one that signs, while the next one waits", func(t *testing.T) {
		b := newBench(t, signing.ES256)
		ring, first := b.ring(t), newest(t, b, signing.ES256)
		if _, err := b.Rotate(t.Context(), operator, project, signing.ES256, 0); err != nil {
			t.Fatal(err)
		}
		next, err := b.Compromise(t.Context(), operator, project, first.ID)
		if err != nil || next.Generation != 3 || next.NotBefore.After(b.now) {
			t.Fatalf("next %+v, %v", next, err)
		}
		for range 3 { // until long after the next one would have signed
			text := sign(t, ring, signing.ES256, "at+jwt")
			if token, err := ring.Verify(text, "at+jwt"); err != nil || token.KeyID != next.ID {
				t.Errorf("signed with %+v, %v", token, err)
			}
			b.now = b.now.Add(24 * time.Hour)
		}
	})
	t.Run("one that has a successor already gets no other", func(t *testing.T) {
		b := newBench(t, signing.ES256)
		ring, first := b.ring(t), newest(t, b, signing.ES256)
		old := sign(t, ring, signing.ES256, "at+jwt")
		second, err := b.Rotate(t.Context(), operator, project, signing.ES256, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.now = second.NotBefore.Add(time.Minute)
		verifies(t, ring, old, true)
		next, err := b.Compromise(t.Context(), operator, project, first.ID)
		if err != nil || next.ID != "" {
			t.Fatalf("next %+v, %v", next, err)
		}
		verifies(t, ring, old, false)
		if set := kids(t, ring); !slices.Equal(set, []string{second.ID}) {
			t.Errorf("published are %v", set)
		}
	})
	t.Run("no key of the project", func(t *testing.T) {
		b := newBench(t, signing.ES256)
		if err := b.Ensure(t.Context(), "project-test-2", signing.ES256); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"", "x"} {
			if _, err := b.Compromise(t.Context(), operator, project, id); !errors.Is(err, signing.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
		if _, err := b.Compromise(t.Context(), operator, "project-test-2", newest(t, b, signing.ES256).ID); !errors.Is(err, signing.ErrNotFound) {
			t.Errorf("another project's: %v", err)
		}
	})
	t.Run("many at once are one, and it goes on beside a rotation", func(t *testing.T) {
		b := newBench(t, signing.ES256)
		bad := newest(t, b, signing.ES256)
		var all sync.WaitGroup
		var mu sync.Mutex
		done := 0
		for range 8 {
			all.Go(func() {
				_, err := b.Compromise(t.Context(), operator, project, bad.ID)
				if err != nil && !errors.Is(err, signing.ErrNotFound) && !errors.Is(err, signing.ErrConflict) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					done++
				}
			})
		}
		all.Wait()
		if rows, err := b.All(t.Context(), project); done != 1 || err != nil || len(rows) != 1 || rows[0].ID == bad.ID {
			t.Errorf("%d done, keys %v, %v", done, rows, err)
		}
	})
}

func TestRotateRefuses(t *testing.T) {
	b := newBench(t)
	if _, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, 0); !errors.Is(err, signing.ErrNoKey) {
		t.Errorf("without a first key: %v, want ErrNoKey", err)
	}
	if err := b.Ensure(t.Context(), project, signing.ES256); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, signing.KeySetMaxAge-1); err == nil {
		t.Error("a key may sign before others can have seen it")
	}
	if err := b.Ensure(t.Context(), project, "HS256"); err == nil {
		t.Error("a key for HS256 is made")
	}
}

func TestRotateDueRotatesOnTimeAndOnce(t *testing.T) {
	b := newBench(t, signing.ES256)
	other := b.node(t)
	first := kids(t, b.ring(t))[0]
	rotate := func() int {
		for _, keys := range []*signing.Keys{b.Keys, other} {
			if err := keys.RotateDue(t.Context(), project); err != nil {
				t.Fatal(err)
			}
		}
		return len(kids(t, b.ring(t)))
	}
	b.now = b.now.Add(88 * 24 * time.Hour)
	if n := rotate(); n != 1 {
		t.Errorf("rotated too early: %d keys", n)
	}
	b.now = b.now.Add(25 * time.Hour)
	if n := rotate(); n != 2 {
		t.Errorf("%d keys the day before the change, want 2", n)
	}
	b.now = b.now.Add(24 * time.Hour)
	token, err := b.ring(t).Verify(sign(t, b.ring(t), signing.ES256, "JWT"), "JWT")
	if err != nil || token.KeyID == first {
		t.Errorf("after 90 days: %v, signed by the first key: %v", err, token.KeyID == first)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	whole := signing.Config{Store: &memory{}, Sealer: newSealer(t, masterKey(1)), Now: time.Now, MaxTokenLife: time.Hour}
	for name, spoil := range map[string]func(*signing.Config){
		"no store":            func(c *signing.Config) { c.Store = nil },
		"no sealer":           func(c *signing.Config) { c.Sealer = nil },
		"no clock":            func(c *signing.Config) { c.Now = nil },
		"no token life":       func(c *signing.Config) { c.MaxTokenLife = 0 },
		"lead too short":      func(c *signing.Config) { c.Lead = time.Minute },
		"rotates before lead": func(c *signing.Config) { c.RotateEvery = time.Hour },
	} {
		config := whole
		spoil(&config)
		if _, err := signing.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := signing.New(whole); err != nil {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	sealer, err := signing.NewSealer(masterKey(1))
	if err != nil {
		f.Fatal(err)
	}
	keys, err := signing.New(signing.Config{Store: &memory{}, Sealer: sealer, Now: func() time.Time { return now }, MaxTokenLife: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	if err := keys.Ensure(f.Context(), project, signing.ES256); err != nil {
		f.Fatal(err)
	}
	ring, err := keys.Ring(f.Context(), project)
	if err != nil {
		f.Fatal(err)
	}
	text, err := ring.Sign(signing.ES256, "JWT", claims{"x"})
	if err != nil {
		f.Fatal(err)
	}
	parts := strings.Split(text, ".")
	f.Add(parts[0], parts[1], parts[2])
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		other := header + "." + payload + "." + signature
		if _, err := ring.Verify(other, "JWT"); (err == nil) != (other == text) {
			t.Errorf("Verify(%q) = %v", other, err)
		}
	})
}

// bringsItsOwnKey signs payload with a key of its own and shows that key in the
// header, where "%s" stands in it.
func bringsItsOwnKey(t *testing.T, header, payload string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	jwk := fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, encode(point[1:33]), encode(point[33:]))
	input := encode(fmt.Appendf(nil, header, jwk)) + "." + payload
	hash := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + encode(signature)
}

// mirrored returns a token with the other ECDSA signature that its key's public
// part takes: the second half is the group's order less what it was.
func mirrored(t *testing.T, text string) string {
	t.Helper()
	cut := strings.LastIndex(text, ".") + 1
	signature, err := base64.RawURLEncoding.DecodeString(text[cut:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(signature[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(signature[32:])
	return text[:cut] + base64.RawURLEncoding.EncodeToString(signature)
}

func hs256(input string, key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
