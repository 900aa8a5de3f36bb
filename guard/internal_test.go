package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"
)

// FuzzMembers proves that whatever members accepts, encoding/json reads with
// the same names and values.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 , "b":[1,{"c":"}"}],"d":"\"\\" } `, `{"a":1,"a":2}`, `{"Name":1}`, `[]`, `1`, `{"\u0061":"\ud800"}`,
		`{"a":{"b":{"c":null}},"e":-1.5e+3,"f":true}`, "{\"a\":\t\n1\r}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		if !json.Valid(object) {
			return
		}
		got := map[string]json.RawMessage{}
		err := members(object, []string{"name"}, func(name, value []byte) error {
			var decoded string
			if err := json.Unmarshal([]byte(quoted(name)), &decoded); err != nil {
				t.Fatal(err)
			}
			got[decoded] = json.RawMessage(value)
			return nil
		})
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(object, &want); err != nil {
			t.Fatalf("accepted %q: %v", object, err)
		}
		if !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Fatalf("members of %q: %q, want %q", object, got, want)
		}
	})
}

// quoted brings a name into the form in which encoding/json hands it out.
func quoted(name []byte) string {
	b, _ := json.Marshal(string(name))
	return string(b)
}

// FuzzVerify proves that no text makes the verifier panic.
func FuzzVerify(f *testing.F) {
	g, err := New(Config{Issuer: "https://issuer.example.com", Resource: "https://notes.example.com/mcp"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"alg":"ES256"}`), []byte(`{"iss":"https://issuer.example.com","aud":[1],"exp":1}`))
	f.Fuzz(func(t *testing.T, head, claims []byte) {
		_, _ = parseHeader(segment.EncodeToString(head))
		if json.Valid(claims) {
			if c, err := parseClaims(claims, "organization_id"); err == nil {
				_ = g.judgeClaims(c, time.Unix(1, 0))
				_ = g.judgeKind(header{typ: "JWT"}, c)
			}
			_, _ = parseOperations(claims)
		}
	})
}

// TestCacheBounds proves that remembered tokens are bounded in number, that
// those in use survive, and that none outlives its end.
func TestCacheBounds(t *testing.T) {
	c := newCache[int](100)
	now := time.Unix(1000, 0)
	hash := func(n int) (h tokenHash) { copy(h[:], fmt.Sprint(n)); return h }
	c.set(hash(0), 0, now.Add(time.Hour))
	for n := 1; n < 10_000; n++ {
		c.set(hash(n), n, now.Add(time.Hour))
		if _, ok := c.get(hash(0), now); !ok {
			t.Fatalf("a value in constant use is forgotten after %d others", n)
		}
		if size := len(c.young) + len(c.old); size > 100 {
			t.Fatalf("%d values are kept", size)
		}
	}
	if _, ok := c.get(hash(0), now.Add(time.Hour)); ok {
		t.Error("a value outlives its end")
	}
}

// TestStreamBounds proves that sessions are bounded and that old ones are
// forgotten.
func TestStreamBounds(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	ss := &streams{now: func() time.Time { return now }, poll: time.Minute, bound: map[handle]*stream{}, own: map[caller][]handle{}}
	for n := range 2000 {
		if err := ss.bind(handle{true, fmt.Sprint(n)}, newStream(&Principal{Subject: fmt.Sprint(n), Expires: now.Add(time.Hour)})); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(26 * time.Hour)
	for n := range 2000 {
		if err := ss.bind(handle{true, fmt.Sprint("new", n)}, newStream(&Principal{Subject: fmt.Sprint(n), Expires: now.Add(time.Hour)})); err != nil {
			t.Fatal(err)
		}
	}
	if len(ss.bound) > 2000+1 {
		t.Errorf("%d sessions are kept, half of which ended a day ago", len(ss.bound))
	}
	var err error
	for n := 0; err == nil && n < maxStreams+1; n++ {
		err = ss.bind(handle{true, fmt.Sprint("more", n)}, newStream(&Principal{Subject: fmt.Sprint(n), Expires: now.Add(time.Hour)}))
	}
	if !errors.Is(err, errTooMany) || len(ss.bound) != maxStreams {
		t.Errorf("%v with %d sessions", err, len(ss.bound))
	}
	now = now.Add(26 * time.Hour)
	if err := ss.bind(handle{true, "the next day"}, newStream(&Principal{Expires: now.Add(time.Hour)})); err != nil {
		t.Errorf("all sessions have ended a day ago, and yet: %v", err)
	}
	if len(ss.own) != len(ss.bound) {
		t.Errorf("%d callers are kept with %d sessions", len(ss.own), len(ss.bound))
	}
}

// TestStreamsOfOneCaller proves that a caller has at most maxOwn handles, that
// an event stream never loses its own, and that nothing is kept of who has none.
func TestStreamsOfOneCaller(t *testing.T) {
	ss := &streams{now: time.Now, poll: time.Minute, bound: map[handle]*stream{}, own: map[caller][]handle{}}
	bind := func(who string, h handle) error { return ss.bind(h, newStream(&Principal{Subject: who})) }
	for n := range maxStreams + 1 {
		if err := bind("a", handle{true, fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(ss.bound) != maxOwn {
		t.Errorf("%d sessions of one caller are kept", len(ss.bound))
	}
	for n := range maxOwn {
		if err := bind("a", handle{false, fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if ss.events != maxOwn || len(ss.bound) != maxOwn {
		t.Errorf("%d handles, %d of event streams", len(ss.bound), ss.events)
	}
	for _, session := range []bool{true, false} {
		if err := bind("a", handle{session, "one more"}); !errors.Is(err, errTooMany) {
			t.Errorf("one more than the event streams that are open: %v", err)
		}
	}
	if err := bind("b", handle{false, "another's"}); err != nil {
		t.Errorf("another caller: %v", err)
	}
	ss.release(handle{false, "another's"})
	for n := range maxOwn {
		ss.release(handle{false, fmt.Sprint(n)})
	}
	if ss.events != 0 || len(ss.bound) != 0 || len(ss.own) != 0 {
		t.Errorf("when all is over %d handles of %d callers are kept, %d of event streams", len(ss.bound), len(ss.own), ss.events)
	}
}

// TestParseKeys proves which keys of a set are used (RFC 7517 §4): signing
// keys of the three algorithms, strong enough and sound.
func TestParseKeys(t *testing.T) {
	const (
		ec  = `"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
		okp = `"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	)
	for _, c := range []struct {
		name, key string
		used      bool
	}{
		{"EC", `{` + ec + `,"kid":"1"}`, true},
		{"EC with alg and use", `{` + ec + `,"alg":"ES256","use":"sig","key_ops":["verify"]}`, true},
		{"EC for encryption", `{` + ec + `,"use":"enc"}`, false},
		{"EC for another operation", `{` + ec + `,"key_ops":["deriveKey"]}`, false},
		{"EC for another algorithm", `{` + ec + `,"alg":"ECDH-ES"}`, false},
		{"EC off the curve", `{` + `"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"` + `}`, false},
		{"EC at infinity", `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, false},
		{"another curve", `{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}`, false},
		{"Ed25519", `{` + okp + `}`, true},
		{"Ed25519 that claims to be ES256", `{` + okp + `,"alg":"ES256"}`, false},
		{"X25519", `{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, false},
		{"RSA too short", `{"kty":"RSA","n":"AQAB","e":"AQAB"}`, false},
		{"RSA with a large exponent", `{"kty":"RSA","n":"AQAB","e":"AQABAQAB"}`, false},
		{"symmetric", `{"kty":"oct","k":"AAAA","alg":"HS256"}`, false},
		{"not an object", `7`, false},
		{"of the wrong types", `{"kty":1}`, false},
	} {
		list, err := parseKeys([]byte(`{"keys":[` + c.key + `]}`))
		if err != nil || (len(list) == 1) != c.used {
			t.Errorf("%s: %d keys, %v", c.name, len(list), err)
		}
	}
	if _, err := parseKeys([]byte(`{"keys":7}`)); err == nil {
		t.Error("a set that is not a list is accepted")
	}
}

// TestFindKey proves that a token without a kid needs an unambiguous key.
func TestFindKey(t *testing.T) {
	list, err := parseKeys([]byte(`{"keys":[
		{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"},
		{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"b"},
		{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"c"}]}`))
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	set := &keys{list: list}
	for _, c := range []struct {
		id, alg string
		want    *key
	}{
		{"a", "EdDSA", list[0]}, {"", "EdDSA", list[0]}, {"a", "ES256", nil}, {"b", "ES256", list[1]}, {"", "ES256", nil}, {"d", "ES256", nil},
	} {
		if got := set.find(c.id, c.alg); got != c.want {
			t.Errorf("find(%q, %q) = %v", c.id, c.alg, got)
		}
	}
}
