package web_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"

	"github.com/postern-id/postern/internal/web"
)

// outside is a server that a stranger could run, its certificate good for
// example.com, and counts what reaches it.
type outside struct {
	*httptest.Server
	requests, connections atomic.Int64
}

func newOutside(t *testing.T, h http.HandlerFunc) *outside {
	t.Helper()
	o := &outside{}
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		h(w, r)
	}))
	o.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			o.connections.Add(1)
		}
	}
	o.Config.ErrorLog = quiet
	o.StartTLS()
	t.Cleanup(o.Close)
	return o
}

func (o *outside) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(o.Certificate())
	return pool
}

// at returns a URL of the server under another host name.
func (o *outside) at(host, path string) string {
	u, _ := url.Parse(o.URL)
	return "https://" + net.JoinHostPort(host, u.Port()) + path
}

func fetcher(t *testing.T, change func(*web.FetchConfig)) *http.Client {
	t.Helper()
	config := web.FetchConfig{
		UserAgent: "postern-test",
		MaxBytes:  5120,
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
	}
	if change != nil {
		change(&config)
	}
	client, err := web.NewFetcher(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func development(o *outside) func(*web.FetchConfig) {
	return func(c *web.FetchConfig) { c.Loopback, c.Roots = true, o.roots() }
}

// wantRefused asks for an address that must be refused before any packet.
func wantRefused(t *testing.T, client *http.Client, address string, reason error) {
	t.Helper()
	start := time.Now()
	answer, err := client.Get(address)
	if err == nil {
		answer.Body.Close()
	}
	if !errors.Is(err, web.ErrFetch) || (reason != nil && !errors.Is(err, reason)) {
		t.Errorf("%s: %v, want ErrFetch because of %v", address, err, reason)
	}
	if spent := time.Since(start); spent > time.Second {
		t.Errorf("%s: refused after %v", address, spent)
	}
}

func TestFetchInDevelopment(t *testing.T) {
	o := newOutside(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "document") })
	client := fetcher(t, development(o))
	for _, host := range []string{"example.com", "127.0.0.1"} {
		answer, err := client.Get(o.at(host, "/doc"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || string(body) != "document" {
			t.Errorf("%s: %q, %v", host, body, err)
		}
	}
	t.Run("plain http is refused", func(t *testing.T) {
		wantRefused(t, client, strings.Replace(o.URL, "https:", "http:", 1), nil)
	})
	t.Run("only loopback is added", func(t *testing.T) {
		wantRefused(t, client, "https://10.0.0.1/", ssrf.ErrProhibitedIP)
		wantRefused(t, client, "https://8.8.8.8:8443/", ssrf.ErrProhibitedPort)
	})
	t.Run("an unknown certificate is refused", func(t *testing.T) {
		stranger := fetcher(t, func(c *web.FetchConfig) { c.Loopback, c.Roots = true, x509.NewCertPool() })
		wantRefused(t, stranger, o.at("example.com", "/doc"), nil)
	})
}

// Row: S01, S03. Proves: MCP-AS-33.
func TestFetchRefusesSpecialAddresses(t *testing.T) {
	client := fetcher(t, nil)
	for _, host := range []string{
		"127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.0.0.1",
		"[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd12:3456::1]", "[fec0::1]", "[ff02::1]",
		"[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]",
		"[64:ff9b::7f00:1]", "[64:ff9b:1::1]", "[2002:7f00:1::1]", "[2001::1]", "[2001:db8::1]", "[100::1]", "[5f00::1]",
	} {
		wantRefused(t, client, "https://"+host+"/", ssrf.ErrProhibitedIP)
		t.Run(host+" behind a name", func(t *testing.T) {
			addr := netip.MustParseAddr(strings.Trim(host, "[]"))
			named := fetcher(t, func(c *web.FetchConfig) {
				c.Lookup = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{addr}, nil }
			})
			wantRefused(t, named, "https://client.example/", ssrf.ErrProhibitedIP)
		})
	}
	for _, host := range []string{"[fe80::1%25eth0]", "[2606:4700::1%251]"} {
		wantRefused(t, client, "https://"+host+"/", nil)
	}
}

// Row: S02.
func TestFetchRefusesOtherNotationsOfAddresses(t *testing.T) {
	asked := false
	client := fetcher(t, func(c *web.FetchConfig) {
		c.Loopback = true // or else they would be refused as loopback
		c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			asked = true
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
	})
	for _, host := range []string{
		"0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "127.0.0.1.", "127.0.1", "0", "00.0x0", "0x", "1.2.3.4.5", "a.0X7F",
	} {
		wantRefused(t, client, "https://"+host+"/", nil)
		if asked {
			t.Fatalf("%s was looked up", host)
		}
	}
}

// Row: S04.
func TestFetchRefusesANameWithOnePrivateAddress(t *testing.T) {
	for _, addrs := range [][]string{{"8.8.8.8", "127.0.0.1"}, {"127.0.0.1", "8.8.8.8"}, {"8.8.8.8", "127.0.0.1", "8.8.4.4"}, {"2606:4700::1", "8.8.8.8", "::1"}} {
		client := fetcher(t, func(c *web.FetchConfig) {
			c.Lookup = func(context.Context, string) (out []netip.Addr, _ error) {
				for _, a := range addrs {
					out = append(out, netip.MustParseAddr(a))
				}
				return out, nil
			}
		})
		wantRefused(t, client, "https://client.example/", ssrf.ErrProhibitedIP)
	}
}

// Row: S05. A second lookup would find a private address and be refused.
func TestFetchConnectsToTheAddressItChecked(t *testing.T) {
	o := newOutside(t, func(http.ResponseWriter, *http.Request) {})
	lookups := 0
	client := fetcher(t, func(c *web.FetchConfig) {
		development(o)(c)
		c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			lookups++
			if lookups == 1 {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("192.168.0.1")}, nil
		}
	})
	answer, err := client.Get(o.at("example.com", "/"))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if lookups != 1 || o.requests.Load() != 1 {
		t.Errorf("%d lookups, %d requests; want one of each", lookups, o.requests.Load())
	}
	wantRefused(t, client, o.at("example.com", "/"), nil) // Row: S10: checked again
}

// Row: S06, M03.
func TestFetchFollowsNoRedirect(t *testing.T) {
	var o *outside
	o = newOutside(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", o.at("127.0.0.1", "/internal"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	answer, err := fetcher(t, development(o)).Get(o.at("example.com", "/"))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusTemporaryRedirect || o.requests.Load() != 1 {
		t.Errorf("status %d after %d requests, want 307 after one", answer.StatusCode, o.requests.Load())
	}
}

// Row: S07.
func TestFetchRefusesOtherPorts(t *testing.T) {
	for _, port := range []string{"22", "25", "80", "6379", "8443", "65535"} {
		wantRefused(t, fetcher(t, nil), "https://8.8.8.8:"+port+"/", ssrf.ErrProhibitedPort)
	}
	o := newOutside(t, func(http.ResponseWriter, *http.Request) {})
	addr := netip.MustParseAddrPort(o.Listener.Addr().String())
	client := fetcher(t, func(c *web.FetchConfig) { c.Ports, c.Roots = []uint16{addr.Port()}, o.roots() })
	wantRefused(t, client, o.URL, ssrf.ErrProhibitedIP) // the port is allowed, the address is not
	if n := o.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// Row: S08.
func TestFetchAsksNoProxy(t *testing.T) {
	proxy := newOutside(t, func(http.ResponseWriter, *http.Request) {})
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	o := newOutside(t, func(http.ResponseWriter, *http.Request) {})
	answer, err := fetcher(t, development(o)).Get(o.at("example.com", "/"))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if proxy.connections.Load() != 0 || o.requests.Load() != 1 {
		t.Error("the request went to the proxy of the environment")
	}
}

// Row: S09.
func TestFetchFailsInOneWay(t *testing.T) {
	o := newOutside(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	closed := newOutside(t, nil)
	closed.Close()
	client := fetcher(t, func(c *web.FetchConfig) {
		development(o)(c)
		c.Timeout = 100 * time.Millisecond
	})
	nowhere := fetcher(t, func(c *web.FetchConfig) {
		c.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, &net.DNSError{IsNotFound: true} }
	})
	empty := fetcher(t, func(c *web.FetchConfig) {
		c.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
	})
	wantRefused(t, client, closed.at("example.com", "/"), nil)
	wantRefused(t, client, o.at("other.example", "/"), nil) // not the name in the certificate
	wantRefused(t, client, o.at("example.com", "/"), nil)   // no answer in time; Row: M07
	wantRefused(t, client, "https://user:secret@example.com/", nil)
	wantRefused(t, nowhere, "https://example.com/", nil)
	wantRefused(t, empty, "https://example.com/", nil)
}

// Row: M07.
func TestFetchGivesUpOnASlowBody(t *testing.T) {
	o := newOutside(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	client := fetcher(t, func(c *web.FetchConfig) {
		development(o)(c)
		c.Timeout = 200 * time.Millisecond
	})
	start := time.Now()
	answer, err := client.Get(o.at("example.com", "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.ReadAll(answer.Body); !errors.Is(err, web.ErrFetch) || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v, want ErrFetch after 200ms", err, time.Since(start))
	}
}

// Row: S10.
func TestFetchKeepsNoConnection(t *testing.T) {
	o := newOutside(t, func(http.ResponseWriter, *http.Request) {})
	client := fetcher(t, development(o))
	for range 3 {
		answer, err := client.Get(o.at("example.com", "/"))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	if n := o.connections.Load(); n != 3 {
		t.Errorf("%d connections for three requests", n)
	}
}

// Row: M06.
func TestFetchReadsNoMoreThanItsCap(t *testing.T) {
	o := newOutside(t, func(w http.ResponseWriter, r *http.Request) {
		size := map[string]int{"/fits": 5120, "/over": 5121, "/endless": 10 << 20}[r.URL.Path]
		io.WriteString(w, strings.Repeat("x", size))
	})
	client := fetcher(t, development(o))
	for path, want := range map[string]struct {
		bytes int
		err   error
	}{"/fits": {5120, nil}, "/over": {5120, web.ErrTooLarge}, "/endless": {5120, web.ErrTooLarge}} {
		answer, err := client.Get(o.at("example.com", path))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if len(body) != want.bytes || !errors.Is(err, want.err) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", path, len(body), err, want.bytes, want.err)
		}
	}
}

// Row: M16, S13.
func TestFetchSendsNothingOfOurs(t *testing.T) {
	var got http.Header
	o := newOutside(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	request, err := http.NewRequest(http.MethodGet, o.at("example.com", "/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Authorization", "Cookie", "Referer", "User-Agent"} {
		request.Header.Set(name, "canary")
	}
	request.Header.Set("Accept", "application/json")
	answer, err := fetcher(t, development(o)).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	got.Del("Connection")
	if len(got) != 2 || got.Get("User-Agent") != "postern-test" || got.Get("Accept") != "application/json" {
		t.Errorf("sent headers %v", got)
	}
	if request.Header.Get("Cookie") == "" {
		t.Error("the caller's request was changed")
	}
}

// A server that an administrator gave us a secret of hears it, and nothing else
// of ours.
func TestFetchSendsCredentialsWhereItIsTold(t *testing.T) {
	var got http.Header
	o := newOutside(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	client := fetcher(t, func(c *web.FetchConfig) {
		development(o)(c)
		c.Credentials = true
	})
	request, err := http.NewRequest(http.MethodGet, o.at("example.com", "/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Authorization", "Cookie", "Referer"} {
		request.Header.Set(name, "canary")
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if got.Get("Authorization") != "canary" || got.Get("Cookie") != "" || got.Get("Referer") != "" {
		t.Errorf("sent headers %v", got)
	}
}

func TestNewFetcherChecksItsConfig(t *testing.T) {
	for _, config := range []web.FetchConfig{{UserAgent: "x"}, {MaxBytes: 1}, {UserAgent: "x", MaxBytes: -1}} {
		if _, err := web.NewFetcher(config); err == nil {
			t.Errorf("%+v accepted", config)
		}
	}
}
