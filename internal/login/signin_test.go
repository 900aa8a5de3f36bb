package login_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// Row: D17. A network that asks for too many mails is in the trail once an hour,
// however often it asks.
func TestTooManyMailsFromOneNetwork(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.browser()
		b.peer = "198.51.100.23"
		asks := func(hour, n int) (refused page) {
			t.Helper()
			form, sent := b.get("/login"), 0
			for i := range n {
				if p := b.submit(form, "email", fmt.Sprintf("p%d-%d@example.test", hour, i)); p.status == http.StatusTooManyRequests {
					refused = p
				} else {
					sent++
				}
			}
			if sent != 20 {
				t.Errorf("%d mails, want 20", sent)
			}
			return refused
		}
		kept := func(n int, last page) {
			t.Helper()
			found, err := w.Store.Events(t.Context(), audit.Query{ProjectID: w.Project.ID, Kinds: []audit.Kind{audit.SignInRefused}, Limit: 100})
			if err != nil || len(found.Events) != n {
				t.Fatalf("%d events, %v, want %d", len(found.Events), err, n)
			}
			if e := found.Events[0]; e.Address != b.peer || e.Reason != "too many mails from this network" || !e.Refused || e.TraceID == "" || last.status == 0 {
				t.Errorf("%+v", e)
			}
		}
		kept(1, asks(1, 60))
		w.Clock.Advance(time.Hour)
		kept(2, asks(2, 22))

		// A second code for the same sign-in is a mail too.
		w.Clock.Advance(time.Hour)
		form := b.get("/login")
		waiting := b.follow(b.submit(form, "email", ada))
		for i := range 19 {
			b.submit(form, "email", fmt.Sprintf("q%d@example.test", i))
		}
		w.Clock.Advance(30 * time.Second)
		kept(3, b.submit(waiting, "action", "resend"))
	})
}

func TestSignInByCode(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.browser()
		p := b.get("/login")
		wantText(t, p, 200, "Sign in to Notes", "We send a six-digit code. No password needed.")
		p = b.follow(b.submit(p, "email", " "+ada+" "))
		wantText(t, p, 200, "Check your mail", "We sent a code to "+ada, "Works until "+w.Clock.Now().Add(10*time.Minute).Format("15:04")+" UTC")
		_, code := w.mailed(ada, 1)

		p = b.submit(p, "code", wrong(code))
		wantText(t, p, 422, "That code does not match. You have 4 tries left.")
		p = b.submit(p, "code", "no digits")
		wantText(t, p, 422, "You have 3 tries left.")
		p = b.submit(p, "code", "\u00a0"+code[:3]+" - "+code[3:]+"\t") // pasted as the mail shows it
		if p.status != http.StatusSeeOther || b.given == nil {
			t.Fatalf("the right code: %d %s", p.status, p.text())
		}
		p = b.follow(p)
		wantText(t, p, 200, "My connected apps")
		if !strings.Contains(p.body, ada) {
			t.Error("the page does not say who is signed in")
		}
		wantText(t, w.browser().get("/connected-apps"), 200, "Sign in to Notes")
	})
}

func TestOneCode(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		// ask is a browser that was sent its code.
		n := 0
		ask := func(w *world) (b *browser, p page, code string) {
			w.Clock.Advance(time.Hour)
			n++
			to := fmt.Sprintf("person%d@example.test", n)
			b = w.browser()
			p = b.follow(b.submit(b.get("/login"), "email", to))
			_, code = w.mailed(to, 1)
			return b, p, code
		}
		t.Run("P12: the sixth try is too late, right or wrong", func(t *testing.T) {
			b, p, code := ask(w.on(t))
			for left := 4; left >= 1; left-- {
				want := fmt.Sprintf("You have %d tries left.", left)
				if left == 1 {
					want = "You have 1 try left."
				}
				wantText(t, b.submit(p, "code", wrong(code)), 422, want)
			}
			dead := b.submit(p, "code", wrong(code))
			wantText(t, dead, 422, "Too many tries. Ask for a new code.", "Send another code")
			for range 2 { // and a new one has to wait
				dead = b.submit(dead, "action", "resend")
				wantText(t, dead, 429, "A code went out a moment ago. Wait 20 seconds and try again.", "Send another code")
				if strings.Contains(dead.text(), "Works until") || strings.Contains(dead.body, `name="code"`) {
					t.Errorf("the page asks for a code that works no more: %s", dead.text())
				}
			}
			wantText(t, b.submit(p, "code", code), 422, "This code has run out.")
		})
		t.Run("P05 it works until its time and not longer", func(t *testing.T) {
			b, p, code := ask(w.on(t))
			w.Clock.Advance(10*time.Minute - time.Second)
			if got := b.submit(p, "code", code); got.status != http.StatusSeeOther {
				t.Errorf("a second before the end: %d %s", got.status, got.text())
			}
			b, p, code = ask(w.on(t))
			w.Clock.Advance(10 * time.Minute)
			wantText(t, b.submit(p, "code", code), 422, "This code has run out.", "Send another code", "Use a different address")
		})
		t.Run("it works no longer than its flow, and page and mail say so", func(t *testing.T) {
			w := w.on(t)
			w.Clock.Advance(time.Hour)
			b := w.browser()
			p := b.get("/login")
			until := "until " + w.Clock.Now().Add(15*time.Minute).Format("15:04") + " UTC"
			w.Clock.Advance(8 * time.Minute)
			wantText(t, b.follow(b.submit(p, "email", "slow@example.test")), 200, "Works "+until)
			if text, _ := w.mailed("slow@example.test", 1); !strings.Contains(text, "It works "+until) {
				t.Errorf("the mail says:\n%s", text)
			}
		})
		t.Run("P03 it works once", func(t *testing.T) {
			b, p, code := ask(w.on(t))
			again := *b
			again.cookies = map[string]string{}
			for name, value := range b.cookies {
				again.cookies[name] = value
			}
			if got := b.submit(p, "code", code); got.status != http.StatusSeeOther {
				t.Fatalf("%d %s", got.status, got.text())
			}
			wantText(t, again.submit(p, "code", code), 422, "This code has run out.")
			if strings.Contains(fmt.Sprint(again.given), "session") {
				t.Error("the second use started a session")
			}
		})
		t.Run("P07 a new one ends the old one", func(t *testing.T) {
			b, p, old := ask(w.on(t))
			wantText(t, b.submit(p, "action", "resend"), 429, "A code went out a moment ago. Wait 20 seconds and try again.", "Works until "+w.Clock.Now().Add(10*time.Minute).Format("15:04"))
			w.Clock.Advance(time.Minute)
			p = b.follow(b.submit(p, "action", "resend"))
			wantText(t, p, 200, "New code sent. The old one no longer works.", "Works until "+w.Clock.Now().Add(10*time.Minute).Format("15:04"))
			_, code := w.mailed(fmt.Sprintf("person%d@example.test", n), 2)
			if old == code {
				t.Skip("the same six digits by chance")
			}
			wantText(t, b.submit(p, "code", old), 422, "That code does not match.")
			if got := b.submit(p, "code", code); got.status != http.StatusSeeOther {
				t.Errorf("the new code: %d %s", got.status, got.text())
			}
		})
		t.Run("another address forgets the first", func(t *testing.T) {
			b, p, code := ask(w.on(t))
			code2 := p
			p = b.follow(b.submit(p, "action", "other_address"))
			wantText(t, p, 200, "E-mail address")
			got := b.submit(code2, "code", code)
			if got.status != http.StatusSeeOther || got.header.Get("Location") != "/flow/"+strings.Split(code2.at, "/")[2] {
				t.Errorf("the code of the first address: %d to %q", got.status, got.header.Get("Location"))
			}
			wantText(t, b.follow(got), 200, "E-mail address")
			if page := b.signIn(p, ada); !strings.Contains(page.text(), "My connected apps") {
				t.Errorf("the other address: %s", page.text())
			}
		})
		t.Run("P06 it is the flow's own", func(t *testing.T) {
			_, _, code := ask(w.on(t))
			other, p, own := ask(w.on(t))
			if code != own {
				wantText(t, other.submit(p, "code", code), 422, "That code does not match.")
			}
		})
	})
}

// Row: P14.
func TestParallelGuesses(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.browser()
		p := b.follow(b.submit(b.get("/login"), "email", ada))
		_, code := w.mailed(ada, 1)
		action, csrf := b.form(p)
		var mu sync.Mutex
		answers := map[string]int{}
		var all sync.WaitGroup
		for range 40 {
			one := *b
			one.cookies = map[string]string{}
			for name, value := range b.cookies {
				one.cookies[name] = value
			}
			all.Add(1)
			go func() {
				defer all.Done()
				got := one.send(http.MethodPost, action, fill(csrf, "code", wrong(code)))
				mu.Lock()
				defer mu.Unlock()
				switch text := got.text(); {
				case strings.Contains(text, "does not match"), strings.Contains(text, "Too many tries"):
					answers["compared"]++
				case strings.Contains(text, "has run out"), strings.Contains(text, "Too many wrong codes"):
					answers["not compared"]++
				default:
					answers[fmt.Sprint(got.status, text)]++
				}
			}()
		}
		all.Wait()
		if answers["compared"] != 5 || answers["not compared"] != 35 {
			t.Errorf("of 40 guesses: %v, want 5 compared", answers)
		}
		wantText(t, b.submit(p, "code", code), 422, "This code has run out.")
	})
}

// Row: P09.
func TestAddresses(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.browser()
	p := b.get("/login")
	for _, address := range []string{
		"", "ada", "ada@", "@example.test", "a@b@example.test", "ada@example.test,bea@example.test", "ada@example.test;bea@example.test",
		"ada@example.test\r\nBcc: bea@example.test", "ada@example.test\nBcc: x", "Ada <ada@example.test>", "ada(comment)@example.test",
		`"ada"@example.test`, "ada@[127.0.0.1]", "ada @example.test", "ada@exam ple.test", "\u0430da@example.test", "ada@ex\u0430mple.test",
		"<script>@example.test", strings.Repeat("a", 10<<10) + "@example.test",
	} {
		got := b.submit(p, "email", address)
		wantText(t, got, 422, "Enter an e-mail address, such as you@company.com.")
		if address != "" && len(address) < 100 && strings.Contains(got.body, "<script>@") {
			t.Error("the address is not escaped")
		}
	}
	if n := len(w.Mail.Mails()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
	t.Run("blanks around it do not count", func(t *testing.T) {
		if got := b.submit(p, "email", "\t"+ada+"\u00a0\n"); got.status != http.StatusSeeOther {
			t.Errorf("%d %s", got.status, got.text())
		}
	})
}

// Row: P10. A mail can be sent to anybody by anybody, with a name that its
// sender chose: it must carry nothing but words.
func TestMailBody(t *testing.T) {
	w := newWorld(t, configOf(nil))
	name := "Win https://evil.example/x evil.example/y mailto:x@evil.example <b>now</b>\u202e \\\\evil"
	client := w.register(map[string]any{"client_name": name, "redirect_uris": []string{loopback}})
	b := w.browser()
	b.submit(b.authorize(request(client, loopback)), "email", ada)
	text, code := w.mailed(ada, 1)
	if bad := regexp.MustCompile(`(?i)https?:|www\.|[a-z]\.[a-z]|@|mailto:|\\|\x{202e}`).FindAllString(text, -1); bad != nil {
		t.Errorf("the mail holds %q:\n%s", bad, text)
	}
	if !strings.Contains(text, "an unverified app") || !strings.Contains(text, "ignore this message") || code == "" {
		t.Errorf("the mail does not say what it is about:\n%s", text)
	}
	if strings.Count(text, code) != 1 || strings.Contains(text, "/flow/") {
		t.Errorf("the mail holds more than its code:\n%s", text)
	}
	for _, m := range w.Mail.Mails() {
		if m.Subject != code[:3]+" "+code[3:]+" is your code for Notes" || m.HTML != "" {
			t.Errorf("subject %q, HTML %q", m.Subject, m.HTML)
		}
	}
	t.Run("a vouched name stays as it is", func(t *testing.T) {
		w.Clock.Advance(time.Minute)
		w := w.on(t)
		w.AddClient(t, oauthClient("node.js runner"))
		c, _ := w.AddClient(t, oauthClient("node.js runner"))
		w.browser().submit(w.browser().get("/login")) // nobody's flow changes nothing
		b := w.browser()
		b.submit(b.authorize(request(c.ID, callback)), "email", ada)
		if text, _ := w.mailed(ada, 2); !strings.Contains(text, "to connect node.js runner.") {
			t.Errorf("got:\n%s", text)
		}
	})
}

// Row: P11.
func TestMailLimits(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		for i := range 100 {
			b := w.browser()
			got := b.submit(b.get("/login"), "email", []string{ada, "ADA@example.test", " Ada@Example.Test "}[i%3])
			if i%20 == 0 && got.status != http.StatusSeeOther {
				t.Errorf("mail %d: %d %s", i, got.status, got.text())
			}
			if i%20 == 1 {
				wantText(t, got, 429, map[bool]string{false: "A code went out a moment ago. Wait", true: "Too many codes went to this address. Wait"}[i > 80])
			}
			w.Clock.Advance(time.Second)
		}
		if w.mailed(ada, 5); w.sent(ada) != 5 {
			t.Errorf("%d mails in 100 seconds, want 5", w.sent(ada))
		}
		for range 40 { // the rest of the hour
			w.Clock.Advance(time.Minute)
			b := w.browser()
			wantText(t, b.submit(b.get("/login"), "email", ada), 429, "Too many codes went to this address. Wait ")
		}
		wantText(t, func() page { b := w.browser(); return b.submit(b.get("/login"), "email", bea) }(), 303)
		w.Clock.Advance(time.Hour)
		b := w.browser()
		wantText(t, b.submit(b.get("/login"), "email", ada), 303)
	})
}

// A stranger cannot make us a mailer: twenty an hour from one network, however
// many addresses and flows.
func TestMailLimitOfANetwork(t *testing.T) {
	w := newWorld(t, configOf(nil))
	sent := 0
	for i := range 30 {
		b := w.browser()
		b.peer = fmt.Sprintf("2001:db8:1:2::%x", i+1)
		if got := b.submit(b.get("/login"), "email", fmt.Sprintf("person%d@example.test", i)); got.status == http.StatusSeeOther {
			sent++
		} else {
			wantText(t, got, 429, "Too many codes went out to your network. Wait ", "Send me a code")
			if n, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || n < 1 {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
		}
		w.Clock.Advance(2 * time.Second)
	}
	if sent != 20 {
		t.Errorf("%d of 30 mails were sent, want 20", sent)
	}
	other := w.browser()
	other.peer = "2001:db8:1:3::1"
	wantText(t, other.submit(other.get("/login"), "email", ada), 303)
}

// Row: P13, P21, P26.
func TestDailyTries(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		home := w.signedIn(ada)
		home.follow(home.submit(home.get("/sign-out"), "action", "sign_out"))

		// A stranger asks for codes and guesses, each time in another browser.
		attack := func(spelling string) page {
			w.Clock.Advance(15 * time.Minute)
			n := w.sent(ada)
			b := w.browser()
			p := b.follow(b.submit(b.get("/login"), "email", spelling))
			_, code := w.mailed(ada, n+1)
			var last page
			for range 5 {
				last = b.submit(p, "code", wrong(code))
			}
			return last
		}
		attack(ada)
		wantText(t, attack("ADA@Example.TEST"), 422, "Too many tries")
		t.Run("P13, P21: ten wrong ones a day, over all codes and spellings", func(t *testing.T) {
			w := w.on(t)
			w.Clock.Advance(15 * time.Minute)
			n := w.sent(ada)
			b := w.browser()
			p := b.follow(b.submit(b.get("/login"), "email", " aDa@example.test"))
			_, code := w.mailed(ada, n+1)
			wantText(t, b.submit(p, "code", code), 422, "Too many wrong codes for this address today.")
		})
		t.Run("P26: the person signs in where they did before", func(t *testing.T) {
			home.w = w.on(t)
			p := home.get("/login")
			if p = home.signIn(p, "Ada@example.test"); !strings.Contains(p.text(), "My connected apps") {
				t.Errorf("locked out: %s", p.text())
			}
		})
		t.Run("that browser has ten of its own", func(t *testing.T) {
			w := w.on(t)
			home.w = w
			for i := range 3 {
				w.Clock.Advance(15 * time.Minute)
				n := w.sent(ada)
				p := home.follow(home.submit(home.get("/oauth/authorize?"+request(w.dynamic, loopback, "prompt", "login").Encode()), "email", ada))
				_, code := w.mailed(ada, n+1)
				for range 5 {
					p = home.submit(p, "code", wrong(code))
					if i == 2 {
						wantText(t, p, 422, "Too many wrong codes")
						break
					}
				}
			}
		})
		t.Run("the mark is one address's", func(t *testing.T) {
			w := w.on(t)
			other := w.signedIn(bea)
			stolen := w.browser()
			for name, value := range other.cookies {
				if strings.HasSuffix(name, "-known") {
					stolen.cookies[name] = value
				}
			}
			if len(stolen.cookies) != 1 {
				t.Fatalf("cookies %v", other.cookies)
			}
			w.Clock.Advance(15 * time.Minute)
			n := w.sent(ada)
			p := stolen.follow(stolen.submit(stolen.get("/login"), "email", ada))
			_, code := w.mailed(ada, n+1)
			wantText(t, stolen.submit(p, "code", code), 422, "Too many wrong codes")
		})
		t.Run("a mark signs nobody in", func(t *testing.T) {
			b := w.on(t).browser()
			for name, value := range home.cookies {
				if strings.HasSuffix(name, "-known") {
					b.cookies[name] = value
				}
			}
			wantText(t, b.get("/connected-apps"), 200, "Sign in to Notes")
		})
		t.Run("a day later everybody may try again", func(t *testing.T) {
			w := w.on(t)
			w.Clock.Advance(24 * time.Hour)
			w.signedIn(ada)
		})
	})
}

// A stranger who uses up the mails of an address does not keep the person
// from getting one where they signed in before.
func TestMailsOfAKnownBrowser(t *testing.T) {
	w := newWorld(t, configOf(nil))
	home := w.signedIn(ada)
	home.follow(home.submit(home.get("/sign-out"), "action", "sign_out"))
	for range 10 {
		w.Clock.Advance(time.Minute)
		stranger := w.browser()
		stranger.submit(stranger.get("/login"), "email", ada)
	}
	stranger := w.browser()
	wantText(t, stranger.submit(stranger.get("/login"), "email", ada), 429)
	wantText(t, home.signIn(home.get("/login"), ada), 200, "My connected apps")
}

// Row: P20.
func TestNobodyLearnsWhoExists(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		w.signedIn(ada)
		w.Clock.Advance(time.Hour)
		hide := regexp.MustCompile(`/flow/[0-9a-f-]+|value="[A-Za-z0-9_-]{43}"|\b(ada|eve)@example\.test`)
		var bodies []string
		for _, address := range []string{ada, "eve@example.test"} {
			b := w.browser()
			sent := b.submit(b.get("/login"), "email", address)
			p := b.follow(sent)
			failed := b.submit(p, "code", "000000x")
			again := b.submit(p, "action", "resend")
			bodies = append(bodies, fmt.Sprint(sent.status, p.status, failed.status, again.status)+hide.ReplaceAllString(sent.body+p.body+failed.body+again.body, "~"))
		}
		if bodies[0] != bodies[1] {
			t.Errorf("a known address:\n%s\nan unknown one:\n%s", bodies[0], bodies[1])
		}
	})
}

// Row: P33.
func TestInactivePerson(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	deactivate(t, w, ada)
	wantText(t, b.get("/connected-apps"), 200, "Sign in to Notes")
	w.Clock.Advance(time.Hour)
	p := b.follow(b.submit(b.get("/login"), "email", ada))
	_, code := w.mailed(ada, 2)
	got := b.submit(p, "code", code)
	wantText(t, got, 422, "You are locked out of Notes", "Ask the people who run Notes.")
	if strings.Contains(got.text(), "Too many wrong codes") || strings.Contains(got.body, `name="code"`) {
		t.Errorf("%s", got.text())
	}
	wantText(t, b.follow(b.submit(got, "action", "other_address")), 200, "Send me a code")
	wantText(t, b.get("/connected-apps"), 200, "Sign in to Notes")
}

// Row: B07, P04.
func TestFlowOfAnotherBrowser(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		attacker := w.signedIn("eve@example.test")
		consent := attacker.authorize(request(w.operator.ID, callback))
		wantText(t, consent, 200, "Notebook wants to act for you")
		victim := w.signedIn(ada)

		t.Run("its address opens nothing", func(t *testing.T) {
			wantText(t, victim.send(http.MethodGet, consent.at, ""), 400, "This link is too old", "opened in another browser", "This time nothing was shared.")
		})
		t.Run("its form is refused", func(t *testing.T) {
			action, csrf := attacker.form(consent)
			for _, step := range []string{"/consent", "/email", "/code"} {
				got := victim.send(http.MethodPost, strings.TrimSuffix(action, "/consent")+step, fill(csrf, "action", "allow", "allow", "read:notes", "email", ada))
				if got.status != 400 || got.answer() != nil {
					t.Errorf("%s: %d to %v", step, got.status, got.answer())
				}
			}
		})
		t.Run("nor with the cookie of a flow of one's own", func(t *testing.T) {
			own := victim.authorize(request(w.operator.ID, callback))
			flow := func(p page) string { return strings.Split(p.at, "/")[2] }
			for name, value := range victim.cookies {
				if strings.HasSuffix(name, flow(own)) {
					victim.cookies[strings.Replace(name, flow(own), flow(consent), 1)] = value
				}
			}
			wantText(t, victim.send(http.MethodGet, consent.at, ""), 400, "This link is too old")
		})
		t.Run("and nothing was used up", func(t *testing.T) {
			if got := attacker.allow(consent); got.answer() == nil {
				t.Errorf("the flow's own browser: %d %s", got.status, got.text())
			}
		})
	})
}

func TestAtMostEightFlows(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.browser()
	var pages []page
	for range 10 {
		w.Clock.Advance(time.Second)
		pages = append(pages, b.get("/login"))
	}
	flows := 0
	for name := range b.cookies {
		if strings.Contains(name, "-txn-") {
			flows++
		}
	}
	if flows != 8 {
		t.Errorf("%d flow cookies, want 8", flows)
	}
	for i, p := range pages {
		want := 200
		if i < 2 {
			want = 400 // the oldest went
		}
		if got := b.send(http.MethodGet, p.at, ""); got.status != want {
			t.Errorf("flow %d: %d, want %d", i, got.status, want)
		}
	}
}

func TestFlowRunsOut(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	p := b.authorize(request(w.operator.ID, callback))
	w.Clock.Advance(15 * time.Minute)
	for _, got := range []page{b.send(http.MethodGet, p.at, ""), b.allow(p)} {
		wantText(t, got, 400, "This link is too old", "go back to", "Trace code")
	}
}

// Row: B21, B22.
func TestStepsCannotBeSkipped(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.browser()
		p := b.authorize(request(w.operator.ID, callback))
		action, csrf := b.form(p)
		flow := strings.TrimSuffix(action, "/email")
		for name, body := range map[string]string{
			"/consent": fill(csrf, "action", "allow", "allow", "read:notes"),
			"/code":    fill(csrf, "code", "123456"),
		} {
			got := b.send(http.MethodPost, flow+name, body)
			if got.status != http.StatusSeeOther || got.header.Get("Location") != flow {
				t.Errorf("B22: POST %s: %d to %q, want back to the flow", name, got.status, got.header.Get("Location"))
			}
		}
		wantText(t, b.submit(p), 422, "Enter an e-mail address")
		p = b.follow(b.submit(p, "email", ada))
		wantText(t, b.submit(p), 422, "does not match")
		got := b.send(http.MethodPost, flow+"/consent", fill(csrf, "action", "allow", "allow", "read:notes"))
		if got.status != http.StatusSeeOther || got.answer() != nil {
			t.Errorf("B22: consent before the code: %d", got.status)
		}
		// A proof that the request does not accept is none.
		home := w.signedIn(bea)
		w.Clock.Advance(time.Minute)
		p = home.authorize(request(w.operator.ID, callback, "prompt", "login"))
		wantText(t, p, 200, "E-mail address")
		action, csrf = home.form(p)
		got = home.send(http.MethodPost, strings.TrimSuffix(action, "/email")+"/consent", fill(csrf, "action", "allow", "allow", "read:notes"))
		if got.status != http.StatusSeeOther || got.answer() != nil || !strings.HasPrefix(got.header.Get("Location"), "/flow/") {
			t.Errorf("B22: consent without the new proof: %d to %q", got.status, got.header.Get("Location"))
		}
		t.Run("B21: nobody chooses where sign-in leads", func(t *testing.T) {
			for _, to := range []string{"//evil.example", `/\evil.example`, "https:evil.example", "https://evil.example", "/x%0d%0aX: y"} {
				b := w.on(t).browser()
				p := b.get("/login?return_to=" + url.QueryEscape(to) + "&next=" + url.QueryEscape(to) + "&redirect=" + url.QueryEscape(to))
				if p = b.signIn(p, "return@example.test"); p.at != "/connected-apps" {
					t.Errorf("%s led to %s", to, p.at)
				}
				w.Clock.Advance(time.Hour)
			}
		})
	})
}

func TestSessionsEnd(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		isIn := func(b *browser) bool { return strings.Contains(b.get("/connected-apps").text(), "My connected apps") }
		t.Run("unused for twelve hours", func(t *testing.T) {
			b := w.on(t).signedIn(ada)
			for range 3 { // use keeps it
				w.Clock.Advance(12*time.Hour - time.Second)
				if !isIn(b) {
					t.Fatal("it ended while it was used")
				}
			}
			w.Clock.Advance(12 * time.Hour)
			if isIn(b) {
				t.Error("it lives after twelve hours without use")
			}
		})
		t.Run("after seven days in any case", func(t *testing.T) {
			b := w.on(t).signedIn(ada)
			for range 14 {
				if !isIn(b) {
					t.Fatal("it ended early")
				}
				w.Clock.Advance(12*time.Hour - time.Second)
			}
			w.Clock.Advance(14 * time.Second)
			if isIn(b) {
				t.Error("it lives after seven days")
			}
		})
		t.Run("B08: a planted cookie is replaced", func(t *testing.T) {
			w := w.on(t)
			victim, attacker := w.browser(), w.signedIn("eve@example.test")
			var name string
			for n, value := range attacker.cookies {
				if strings.HasSuffix(n, "-session") {
					name = n
					victim.cookies[n] = value // planted
				}
			}
			planted := victim.cookies[name]
			w.Clock.Advance(time.Minute)
			victim.signIn(victim.authorize(request(w.operator.ID, callback, "prompt", "login")), ada)
			if victim.cookies[name] == planted || victim.cookies[name] == "" {
				t.Error("the session's cookie is the planted one")
			}
			if isIn(attacker) {
				t.Error("the planted session lives, and whoever planted it holds it")
			}
			if !strings.Contains(victim.get("/connected-apps").body, ada) {
				t.Error("the person is not signed in as themselves")
			}
			victim.cookies[name] = "pst_hs_" + strings.Repeat("0", 70)
			if isIn(victim) {
				t.Error("an invented session opens the door")
			}
		})
		t.Run("a new proof replaces the session", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			old := w.browser()
			for n, v := range b.cookies {
				old.cookies[n] = v
			}
			w.Clock.Advance(time.Minute)
			b.signIn(b.authorize(request(w.operator.ID, callback, "prompt", "login")), ada)
			if isIn(old) {
				t.Error("the session before the new proof lives")
			}
		})
		t.Run("signed out here", func(t *testing.T) {
			w := w.on(t)
			b, other := w.signedIn(ada), w.signedIn(ada)
			kept := w.browser()
			for n, v := range b.cookies {
				kept.cookies[n] = v
			}
			wantText(t, b.submit(b.get("/sign-out"), "action", "stay"), 303)
			if !isIn(b) {
				t.Error("staying signed out")
			}
			wantText(t, b.submit(b.get("/sign-out"), "action", "sign_out"), 200, "You are signed out")
			if isIn(b) || isIn(kept) {
				t.Error("the session lives")
			}
			if !isIn(other) {
				t.Error("the other browser is signed out too")
			}
		})
		t.Run("signed out everywhere, while grants stay", func(t *testing.T) {
			w := w.on(t)
			b, other, bea := w.signedIn(ada), w.signedIn(ada), w.signedIn(bea)
			b.w, other.w = w, w
			held := b.connect(w.operator.ID, callback)
			got := b.submit2(b.get("/connected-apps"), "sign_out_everywhere")
			wantText(t, got, 200, "You are signed out", "Every browser that was signed in to Notes is signed out.")
			if isIn(b) || isIn(other) {
				t.Error("a session lives")
			}
			if !isIn(bea) {
				t.Error("another person is signed out")
			}
			if !w.active(held) || w.refresh(w.operator.ID, held).AccessToken == "" {
				t.Error("the grant ended with the sessions")
			}
		})
	})
}

// submit2 presses the button of another form than the first one of a page.
func (b *browser) submit2(p page, action string, fields ...string) page {
	b.w.t.Helper()
	for _, f := range formTag.FindAllStringSubmatch(p.body, -1) {
		if strings.Contains(f[2], `value="`+action+`"`) || strings.Contains(f[0], `id="`+action+`"`) {
			return b.send(http.MethodPost, f[1], fill(hiddenIn(f[2]), append(fields, "action", action)...))
		}
	}
	b.w.t.Fatalf("%s has no form with %q", p.at, action)
	return page{}
}

// A project may set its lifetimes.
func TestCodeLifetimeIsTheProjects(t *testing.T) {
	w := newWorld(t, configOf(func(s *project.Settings) { s.Lifetimes.EmailCode = 60 }))
	b := w.browser()
	p := b.follow(b.submit(b.get("/login"), "email", ada))
	_, code := w.mailed(ada, 1)
	w.Clock.Advance(time.Minute)
	wantText(t, b.submit(p, "code", code), 422, "This code has run out.")
}
