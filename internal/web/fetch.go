package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Errors of the client that NewFetcher makes. Every failure to get an answer is
// ErrFetch, whatever was in the way, so that nobody can map a network by asking
// us to fetch from it; the reason is wrapped for the log.
var (
	ErrFetch    = errors.New("web: the address could not be fetched")
	ErrTooLarge = errors.New("web: the fetched document is too large")
)

const (
	fetchConnect = 3 * time.Second // also for the TLS handshake and the header
	fetchTotal   = 5 * time.Second // where FetchConfig names none
)

// FetchConfig says what a fetching client may do beyond https on port 443 of
// public addresses.
type FetchConfig struct {
	UserAgent string        // sent with every request; required
	MaxBytes  int64         // of a body; required
	Timeout   time.Duration // of a whole request with its body; zero is 5 s
	Ports     []uint16      // allowed besides 443
	// Loopback allows https on any port of loopback addresses: for development
	// only.
	Loopback bool
	Roots    *x509.CertPool // whom to trust; nil for the system's roots
	// Credentials lets an Authorization header through: for servers that an
	// administrator named and gave us a secret of.
	Credentials bool
	// Lookup finds the addresses of a host; nil asks the system.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// NewFetcher makes the client for addresses that strangers name: metadata
// documents, key sets, logos. It connects only to public addresses, decided by
// the address that it then dials; a name with any other address is refused
// whole. It follows no redirect (one comes back as the answer it is), asks no
// proxy, keeps no connection and no cookie, undoes no compression, and gives up
// after Timeout. Reading more than MaxBytes of a body fails with ErrTooLarge.
//
// The special addresses are those of the IANA registries (RFC 6890), checked by
// code.dny.dev/ssrf.
func NewFetcher(config FetchConfig) (*http.Client, error) {
	if config.UserAgent == "" || config.MaxBytes <= 0 {
		return nil, errors.New("web: UserAgent and MaxBytes are required")
	}
	if config.Timeout == 0 {
		config.Timeout = fetchTotal
	}
	if config.Lookup == nil {
		config.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	f := &fetcher{config: config, guard: ssrf.New(ssrf.WithPorts(append(slices.Clone(config.Ports), 443)...))}
	f.transport = &http.Transport{
		Proxy:                  nil, // not even the environment's
		DialContext:            f.dial,
		TLSClientConfig:        &tls.Config{RootCAs: config.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    fetchConnect,
		ResponseHeaderTimeout:  fetchConnect,
		MaxResponseHeaderBytes: 16 << 10,
		DisableKeepAlives:      true, // so that every request is checked
		DisableCompression:     true, // so that MaxBytes counts what is unpacked
	}
	return &http.Client{
		Transport: f,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}, nil
}

type fetcher struct {
	config    FetchConfig
	guard     *ssrf.Guardian
	transport *http.Transport
}

// numericHost is a host whose last label is a number in some notation: to a
// browser or a C library an IPv4 address, however it is written
// (WHATWG URL §3.5, "ends in a number").
var numericHost = regexp.MustCompile(`(?i)(^|\.)([0-9]+|0x[0-9a-f]*)\.?$`)

// RoundTrip sends one request by the rules of NewFetcher.
func (f *fetcher) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Hostname()
	switch _, err := netip.ParseAddr(host); {
	case r.URL.Scheme != "https":
		return nil, failed(errors.New("not https"))
	case r.URL.User != nil:
		return nil, failed(errors.New("a password in the address"))
	case err != nil && numericHost.MatchString(host):
		return nil, failed(errors.New("an address in another notation"))
	}
	// Not the client's own Timeout: its error would hide ErrFetch.
	ctx, cancel := context.WithTimeout(r.Context(), f.config.Timeout)
	r = r.Clone(ctx)
	r.Header.Set("User-Agent", f.config.UserAgent)
	r.Header.Del("Cookie") // a stranger's server gets nothing of ours
	r.Header.Del("Referer")
	if !f.config.Credentials {
		r.Header.Del("Authorization")
	}
	answer, err := f.transport.RoundTrip(r)
	if err != nil {
		cancel()
		return nil, failed(err)
	}
	answer.Body = &cappedBody{body: answer.Body, left: f.config.MaxBytes, ctx: ctx, cancel: cancel}
	return answer, nil
}

func failed(err error) error { return fmt.Errorf("%w: %w", ErrFetch, err) }

// dial resolves the host once, checks every address, and connects to one of
// those it checked.
func (f *fetcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchConnect)
	defer cancel()
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{literal}
	} else if addrs, err = f.config.Lookup(ctx, host); err != nil {
		return nil, err
	}
	for i, addr := range addrs {
		addrs[i] = addr.Unmap()
		if err := f.check(netip.AddrPortFrom(addrs[i], uint16(port))); err != nil {
			return nil, err
		}
	}
	// The control function sees the address that the system connects to: a
	// second look, should the first one ever be gone round.
	dialer := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return f.check(at)
	}}
	err = errors.New("the host has no address")
	for _, addr := range addrs {
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, network, netip.AddrPortFrom(addr, uint16(port)).String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (f *fetcher) check(at netip.AddrPort) error {
	if at.Addr().Zone() != "" {
		return errors.New("an address with a zone")
	}
	if f.config.Loopback && at.Addr().Unmap().IsLoopback() {
		return nil
	}
	return f.guard.SafeAddrPort(at)
}

// cappedBody fails, rather than ends, where more comes than it lets through.
type cappedBody struct {
	body   io.ReadCloser
	left   int64 // below zero once too much came
	ctx    context.Context
	cancel context.CancelFunc
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, ErrTooLarge
	}
	// A server may answer our hanging up with a proper end.
	if errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = b.ctx.Err()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, failed(err)
	}
	return n, err
}

func (b *cappedBody) Close() error {
	defer b.cancel()
	return b.body.Close()
}
