package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/secret"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)

func TestSecretRoundTrip(t *testing.T) {
	kinds := []secret.Kind{
		secret.AuthorizationCode, secret.RefreshToken, secret.ClientSecret, secret.HostedSession,
		secret.ResourceServer, secret.Registration, secret.WorkspaceKey, secret.Setup, secret.SSOState,
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			made := secret.New(kind, now)
			if want := regexp.MustCompile(`^pst_` + string(kind) + `_[0-9a-zA-Z]{70}$`); !want.MatchString(made.Text) {
				t.Errorf("text %q does not match %v", made.Text, want)
			}
			parsed, ok := secret.Parse(kind, made.Text)
			if !ok || parsed != made {
				t.Fatalf("Parse = %+v, %v; want what New made", parsed, ok)
			}
			if !parsed.Matches(made.Hash[:]) {
				t.Error("a secret does not match its own hash")
			}
		})
	}
}

// Row: R14, R15, I07, T06.
func TestParseRefusesEveryOtherSpelling(t *testing.T) {
	text := secret.New(secret.RefreshToken, now).Text
	refuse := func(name, text string) {
		t.Helper()
		if _, ok := secret.Parse(secret.RefreshToken, text); ok {
			t.Errorf("%s: %q accepted", name, text)
		}
	}
	for i := range text {
		refuse("cut", text[:i])
		refuse("tail only", text[i+1:])
		if c := text[i]; c >= 'a' && c <= 'z' {
			refuse("upper case", text[:i]+string(c-32)+text[i+1:])
		} else if c >= 'A' && c <= 'Z' {
			refuse("lower case", text[:i]+string(c+32)+text[i+1:])
		}
		refuse("doubled character", text[:i]+text[i:i+1]+text[i:])
	}
	for _, extra := range []string{" ", "\n", "0", "_", "=", "\x00", "+"} {
		refuse("extended", text+extra)
		refuse("preceded", extra+text)
	}
	refuse("all lower case", strings.ToLower(text))
	refuse("all upper case", strings.ToUpper(text))
	refuse("sign for a digit", "pst_rt_+"+strings.Repeat("0", 69))
	refuse("largest digits", "pst_rt_"+strings.Repeat("Z", 70))
	refuse("empty", "")
	refuse("relabelled", strings.Replace(secret.New(secret.AuthorizationCode, now).Text, "_ac_", "_rt_", 1))
	refuse("another kind", secret.New(secret.AuthorizationCode, now).Text)
}

func TestMatchesOnlyItsOwnHash(t *testing.T) {
	a, b := secret.New(secret.ClientSecret, now), secret.New(secret.ClientSecret, now)
	for name, hash := range map[string][]byte{"other": b.Hash[:], "cut": a.Hash[:31], "empty": nil} {
		if a.Matches(hash) {
			t.Errorf("%s hash matches", name)
		}
	}
}

// What takes the place of a secret is known as one of its series,
// as are all before it, and nothing else is.
func TestSeries(t *testing.T) {
	first := secret.New(secret.RefreshToken, now)
	second := first.Next()
	third := second.Next()
	texts := map[string]bool{}
	for _, s := range []secret.Secret{first, second, third} {
		parsed, ok := secret.Parse(secret.RefreshToken, s.Text)
		if !ok || parsed != s || s.ID != first.ID {
			t.Errorf("Parse = %+v, %v; want %+v", parsed, ok, s)
		}
		if !parsed.InSeries(first.Series()) || !first.InSeries(parsed.Series()) {
			t.Errorf("%s is not in its series", s.Text)
		}
		texts[s.Text] = true
	}
	if len(texts) != 3 || first.Matches(second.Hash[:]) || third.Matches(second.Hash[:]) || second.Matches(third.Hash[:]) {
		t.Error("two are the same")
	}
	stranger := secret.New(secret.RefreshToken, now)
	if stranger.InSeries(first.Series()) || stranger.InSeries(nil) || first.InSeries(first.Series()[:31]) || first.InSeries(first.Hash[:]) {
		t.Error("something else is in the series")
	}
}

// Row: D11.
func TestPrintingShowsNoText(t *testing.T) {
	s := secret.New(secret.RefreshToken, now)
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x\n", s, s, s, s, s, s)
	fmt.Fprintf(&out, "%+v\n", struct{ S secret.Secret }{s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s)
	if err := json.NewEncoder(&out).Encode(s); err != nil {
		t.Fatal(err)
	}
	random := s.Text[len(s.Text)-30:]
	if strings.Contains(out.String(), random) || strings.Contains(out.String(), fmt.Sprintf("%x", random)) {
		t.Errorf("the text leaks:\n%s", out.String())
	}
	if !strings.Contains(out.String(), s.ID) {
		t.Errorf("the id is missing:\n%s", out.String())
	}
}

// Row: D11. Secrets in the wrong place, whole, cut, and among other words, are cut
// out; what only looks a little like one stays.
func TestMask(t *testing.T) {
	for _, kind := range []secret.Kind{secret.ClientSecret, secret.Setup, secret.Registration, secret.AuthorizationCode} {
		text := secret.New(kind, now).Text
		for _, form := range []string{"%s", "a %s, b", "/x/%s?y", "%.40s", "%[1]s %[1]s"} {
			got := secret.Mask(fmt.Sprintf(form, text))
			if strings.Contains(got, text[len(text)-60:len(text)-50]) || !strings.Contains(got, "pst_"+string(kind)+"_…") {
				t.Errorf(form+" becomes %q", text, got)
			}
		}
	}
	const token = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl"
	if got := secret.Mask("Bearer " + token); got != "Bearer eyJ…" {
		t.Errorf("a token becomes %q", got)
	}
	for _, plain := range []string{"", "Robot", "pst_wk_ begins a key", "connected-app-test-019a", "https://client.example.test/cb", "eyJ"} {
		if got := secret.Mask(plain); got != plain {
			t.Errorf("%q becomes %q", plain, got)
		}
	}
}

func TestIdentifiersAscendWithTime(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	last := ""
	for _, step := range []time.Duration{0, time.Microsecond, time.Millisecond, time.Second, time.Hour, 24 * 365 * time.Hour} {
		id := secret.NewUUID(now.Add(step))
		if !form.MatchString(id) {
			t.Errorf("%q is not a UUIDv7", id)
		}
		if id <= last {
			t.Errorf("%q, made %v later, does not sort after %q", id, step, last)
		}
		last = id
	}
	if got, want := secret.NewUUID(time.UnixMilli(0x0193_4567_89ab)), "01934567-89ab-7000-"; !strings.HasPrefix(got, want) {
		t.Errorf("NewUUID = %q, want prefix %q", got, want)
	}
	if got := secret.NewID(now, "user", "test"); !form.MatchString(strings.TrimPrefix(got, "user-test-")) {
		t.Errorf("NewID = %q", got)
	}
}

// Row: K07.
func TestCodesUseTheirWholeAlphabetEvenly(t *testing.T) {
	tests := map[string]struct {
		make     func() string
		form     string
		alphabet string
	}{
		"code":  {secret.NewCode, `^[0-9]{6}$`, "0123456789"},
		"trace": {secret.NewTrace, `^[2-9A-HJ-KM-NP-TV-Z]{3}(-[2-9A-HJ-KM-NP-TV-Z]{3}){2}$`, "23456789ABCDEFGHJKMNPQRSTVWXYZ"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			form := regexp.MustCompile(test.form)
			var count [128]int
			total := 0
			for range 400_000 {
				text := test.make()
				if total < 9000 && !form.MatchString(text) {
					t.Fatalf("%q does not match %v", text, form)
				}
				for _, c := range strings.ReplaceAll(text, "-", "") {
					count[c]++
					total++
				}
			}
			mean := float64(total) / float64(len(test.alphabet))
			for _, c := range test.alphabet {
				// Six standard deviations: never by chance, always for digits taken modulo ten.
				if d := float64(count[c]) - mean; d*d > 36*mean {
					t.Errorf("%q came %d times, about %.0f expected", c, count[c], mean)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(secret.New(secret.RefreshToken, now).Text)
	f.Add("pst_rt_" + strings.Repeat("0", 70))
	f.Add("pst_rt_" + strings.Repeat("Z", 70))
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := secret.Parse(secret.RefreshToken, text)
		if !ok {
			return
		}
		if s.Text != text || len(text) != len("pst_rt_")+70 || len(s.ID) != 36 {
			t.Errorf("Parse(%q) = %+v", text, s)
		}
	})
}

// A moment parts the identifiers that were made before it from the others.
func TestFirstUUID(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	first := secret.FirstUUID(at)
	for range 100 {
		if before := secret.NewUUID(at.Add(-time.Microsecond)); before >= first {
			t.Errorf("%s of the microsecond before is not before %s", before, first)
		}
		if id := secret.NewUUID(at); id <= first {
			t.Errorf("%s of the moment is not after %s", id, first)
		}
	}
	if got := secret.TimeOf(first); !got.Equal(at.Truncate(time.Millisecond)) {
		t.Error(got)
	}
	for _, id := range []string{"", "user", "zzzzzzzz-zzzz-7000-8000-000000000000"} {
		if got := secret.TimeOf(id); !got.IsZero() {
			t.Errorf("%q is of %v", id, got)
		}
	}
}
