package server_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/servertest"
)

// from makes requests come from an address, as a proxy says it.
type from struct {
	address   string
	transport *http.Transport
}

func (f from) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", f.address)
	return f.transport.RoundTrip(r)
}

// While strangers register clients, name metadata documents, ask for mails and
// guess tokens, far beyond every limit, everybody else signs in.
//
// Row: N10. Minutes of it are a measurement; this is as long as ten sign-ins.
func TestFloodsLetHonestPeopleIn(t *testing.T) {
	w := newTraffic(t, servertest.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	w.Ready(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	const floods, addresses = 6, 4 // at once, and of each
	over := make(chan struct{})
	var all sync.WaitGroup
	var asked, limited atomic.Int64
	for i := range floods {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				client := &http.Client{Timeout: 10 * time.Second, Transport: from{fmt.Sprintf("203.0.113.%d", 1+i*addresses+n%addresses), transport}}
				var response *http.Response
				var err error
				switch n % 4 {
				case 0:
					response, err = client.Post(w.Issuer+oauth.PathRegister, "application/json", strings.NewReader(fmt.Sprintf(`{"redirect_uris":["https://flood.example.test/%d/%d"]}`, i, n)))
				case 1:
					q := w.request()
					q.Set("client_id", fmt.Sprintf("https://192.0.2.%d/%d.json", i, n))
					response, err = client.Get(w.Issuer + oauth.PathAuthorize + "?" + q.Encode())
				case 2:
					response, err = client.PostForm(w.Issuer+oauth.PathToken, url.Values{"grant_type": {"refresh_token"}, "client_id": {w.client.ID}, "refresh_token": {"pst_rt_x"}})
				case 3:
					response, err = flooded(client, w.Issuer, fmt.Sprintf("f%d-%d@example.test", i, n))
				}
				var slow *url.Error // the flood's own trouble
				if errors.As(err, &slow) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body) // the connection is used again
				response.Body.Close()
				asked.Add(1)
				if response.StatusCode == http.StatusTooManyRequests {
					limited.Add(1)
				}
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(over)
		all.Wait()
	})
	defer end()
	for limited.Load() < 100 && !t.Failed() { // until the limits are reached
		time.Sleep(10 * time.Millisecond)
	}
	begun := time.Now()
	for n := range 10 {
		b := w.Browser(t)
		b.Client.Transport = from{fmt.Sprintf("198.51.100.%d", n), transport}
		page := b.SignIn(t, b.Authorize(t, w.request()), fmt.Sprintf("honest%d@example.test", n))
		w.given(b.Allow(t, page))
		w.redeemNewest()
	}
	took := time.Since(begun)
	end()
	t.Logf("10 sign-ins in %s beside %d requests, of which %d were refused for their number", took.Round(time.Millisecond), asked.Load(), limited.Load())
}

// mailForm is the form that asks for a code by mail.
var mailForm = regexp.MustCompile(`(?s)action="(/flow/[^"]+/email)".*?name="csrf" value="([^"]+)"`)

// flooded asks for a code by mail, as far as it is let, and returns the last
// answer.
func flooded(client *http.Client, issuer, email string) (*http.Response, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	client.Jar = jar
	response, err := client.Get(issuer + "/login")
	if err != nil || response.StatusCode != http.StatusOK {
		return response, err
	}
	page, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	form := mailForm.FindSubmatch(page)
	if form == nil {
		return nil, fmt.Errorf("no form on the sign-in page:\n%s", page)
	}
	return client.PostForm(issuer+string(form[1]), url.Values{"csrf": {string(form[2])}, "email": {email}})
}
