package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
)

// certify writes a self-signed certificate for localhost with this serial
// number.
func certify(t *testing.T, dir string, serial int64) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	chain, key = filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{chain: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: sec1}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return chain, key
}

// secured is a server that speaks TLS itself.
type secured struct {
	issuer string
	dir    string // of its certificate
	chain  string
	clock  *servertest.Clock
}

// newSecured starts a server with a certificate of its own, which ends with the
// test.
func newSecured(t *testing.T) secured {
	t.Helper()
	dir, clock := t.TempDir(), servertest.NewClock()
	chain, key := certify(t, dir, 1)
	storage, err := server.Data{Folder: t.TempDir(), Now: clock.Now}.Open(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { storage.Close() })
	listeners, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := fmt.Sprintf("https://localhost:%d", listeners[0].Addr().(*net.TCPAddr).Port)
	if _, _, err := project.NewSetup(storage.DB, clock.Now).Create(t.Context(), project.New{Name: "Notes", Issuer: issuer, Environment: project.Test}); err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(t.Context(), server.Config{
		Storage: storage, URL: "https://localhost:4000", Mail: mail.NewRecorder(1, clock.Now), Log: slog.New(slog.DiscardHandler), Now: clock.Now, Version: "test",
		Certificate: chain, Key: key, Drain: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listeners) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return secured{issuer, dir, chain, clock}
}

// Row: K08. Proves: RFC6749-1.6-a, RFC7592-5-f, RFC8414-6.1-a
func TestTLS(t *testing.T) {
	s := newSecured(t)
	// get returns the serial number of the certificate that was shown.
	get := func(version uint16) (int64, *http.Response, error) {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version}, // the test compares the certificate itself
		}}
		response, err := client.Get(s.issuer + oauth.PathMetadata)
		if err != nil {
			return 0, nil, err
		}
		response.Body.Close()
		return response.TLS.PeerCertificates[0].SerialNumber.Int64(), response, nil
	}
	serial, response, err := get(0)
	if err != nil || serial != 1 || response.StatusCode != 200 || response.Header.Get("Strict-Transport-Security") == "" {
		t.Fatalf("got certificate %d, %+v, %v", serial, response, err)
	}
	if _, _, err := get(tls.VersionTLS12); err != nil {
		t.Errorf("TLS 1.2 is not spoken: %v", err)
	}
	if _, _, err := get(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was spoken")
	}

	certify(t, s.dir, 2)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(s.chain, later, later); err != nil {
		t.Fatal(err)
	}
	if serial, _, _ := get(0); serial != 1 {
		t.Errorf("within a minute the files are not looked at, got certificate %d", serial)
	}
	s.clock.Advance(2 * time.Minute)
	if serial, _, _ := get(0); serial != 2 {
		t.Errorf("the renewed certificate is not served, got %d", serial)
	}

	if err := os.WriteFile(s.chain, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(2 * time.Minute)
	if serial, _, err := get(0); serial != 2 {
		t.Errorf("with a broken file the old one stays, got %d, %v", serial, err)
	}
}

// The addresses that clients and people are sent to are https, whatever a request
// says of itself, and the listener answers none without TLS. That a project has
// no other issuer, but on this computer, is TestCheckIssuer's.
//
// Proves: RFC6749-3.1-f, RFC6749-3.2-d, RFC6749-10.9-a, RFC6750-5.2-d, RFC7592-2-c, RFC8414-2-j, RFC8414-3-b, OIDC-3.1.2-a,
// OIDC-5.3-b, OIDC-16.17-a, OIDCDISC-3-d, OIDCDISC-7.1-a, OIDC-3.1.3-a
func TestEndpointsAreReachedOverTLS(t *testing.T) {
	s := newSecured(t)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the certificate is TestTLS's
	}}
	read := func(t *testing.T, method, address, body string, want int) map[string]any {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Forwarded-Proto", "http")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var members map[string]any
		if err := json.NewDecoder(response.Body).Decode(&members); err != nil || response.StatusCode != want {
			t.Fatalf("%s %s: %d, %v", method, address, response.StatusCode, err)
		}
		return members
	}
	metadata := read(t, http.MethodGet, s.issuer+oauth.PathMetadata, "", http.StatusOK)
	made := read(t, http.MethodPost, s.issuer+oauth.PathRegister, `{"redirect_uris":["https://client.example.test/cb"],"token_endpoint_auth_method":"client_secret_basic"}`, http.StatusCreated)
	for name, at := range map[string]any{
		"authorization_endpoint": metadata["authorization_endpoint"], "registration_endpoint": metadata["registration_endpoint"],
		"userinfo_endpoint": metadata["userinfo_endpoint"], "jwks_uri": metadata["jwks_uri"], "end_session_endpoint": metadata["end_session_endpoint"],
		"introspection_endpoint": metadata["introspection_endpoint"], "revocation_endpoint": metadata["revocation_endpoint"],
		"the metadata": s.issuer + oauth.PathMetadata, "the metadata of OpenID Connect": s.issuer + oauth.PathDiscovery,
		"token_endpoint": metadata["token_endpoint"], "registration_client_uri": made["registration_client_uri"],
	} {
		address, _ := at.(string)
		if !strings.HasPrefix(address, s.issuer+"/") {
			t.Errorf("%s is %v", name, at)
			continue
		}
		response, err := client.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode == http.StatusNotFound || response.TLS == nil {
			t.Errorf("%s over TLS: %d", name, response.StatusCode)
		}
		plain, err := client.Get("http" + strings.TrimPrefix(address, "https"))
		if err != nil {
			continue
		}
		plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("%s without TLS: %d", name, plain.StatusCode)
		}
	}
}

func TestBrokenCertificateIsRefusedAtStart(t *testing.T) {
	if err := server.CheckCertificate("nowhere.pem", "nowhere.pem"); err == nil {
		t.Error("the check found nothing")
	}
}
