// Package client calls the API of a Postern server, for the command line.
//
// [Client] is one project seen with one workspace key. [Client.Policy] and
// [Client.SetPolicy] carry a policy document as the bytes it is, with the [Tag]
// by which a change in between is noticed. What goes wrong comes back as a
// sentence; of a refusal by the server, an [Error], it ends with the code under
// which the server's log tells more.
//
// The key goes to the named server alone: over TLS, or to this computer, and
// never after a redirect. The package reads no configuration, keeps nothing and
// knows nothing of what a policy means.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrChanged says that somebody else changed the document since its Tag.
var ErrChanged = errors.New("somebody changed it since it was read")

// Error is a refusal by the server, in its own words.
type Error struct {
	Status  int // HTTP status
	Message string
	Trace   string // names the request in the server's log, "" if it has no name
}

func (e *Error) Error() string {
	if e.Trace == "" {
		return e.Message
	}
	return e.Message + " (trace " + e.Trace + ")"
}

// Is makes errors.Is find ErrChanged.
func (e *Error) Is(target error) bool {
	return target == ErrChanged && e.Status == http.StatusPreconditionFailed
}

// Config is what New needs; all but Version are required.
type Config struct {
	Server    string // the project's address, such as https://auth.example.com
	ProjectID string
	KeyID     string // of a workspace key
	Secret    string // of the same
	Version   string // of this program, for the server's log
}

// Client calls the API of one project.
type Client struct {
	Config
	http *http.Client
}

const (
	timeout   = 30 * time.Second // of a whole call
	maxAnswer = 4 << 20          // bytes
)

// New checks a configuration, without calling anybody. The error is a sentence.
func New(c Config) (*Client, error) {
	c.Server = strings.TrimSuffix(strings.TrimSpace(c.Server), "/")
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "":
		return nil, fmt.Errorf("the server %q is not a URL; use the project's address, such as https://auth.example.com", c.Server)
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return nil, fmt.Errorf("the server %q must begin with https:// (plain http is for this computer only)", c.Server)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(c.Server, "#"):
		return nil, fmt.Errorf("the server %q must have no user, query or fragment", c.Server)
	case c.ProjectID == "" || c.KeyID == "" || c.Secret == "":
		return nil, errors.New("a project id, the id of a workspace key and its secret are needed")
	case strings.Contains(c.KeyID, ":"):
		return nil, fmt.Errorf("%q is not the id of a workspace key", c.KeyID)
	}
	return &Client{Config: c, http: &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: true, TLSHandshakeTimeout: timeout,
		},
	}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Tag names one version of a document.
type Tag string

// Policy returns the project's policy document, as JSON.
func (c *Client) Policy(ctx context.Context) ([]byte, Tag, error) {
	return c.policy(ctx, http.MethodGet, nil, "")
}

// SetPolicy replaces the document of the given Tag, and returns what stands
// then. The error is an *Error that is ErrChanged when it has another Tag by now.
func (c *Client) SetPolicy(ctx context.Context, document []byte, tag Tag) ([]byte, Tag, error) {
	return c.policy(ctx, http.MethodPut, document, tag)
}

func (c *Client) policy(ctx context.Context, method string, document []byte, tag Tag) ([]byte, Tag, error) {
	address := c.Server + "/v1/projects/" + url.PathEscape(c.ProjectID) + "/policy"
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(document))
	if err != nil {
		return nil, "", err
	}
	r.SetBasicAuth(c.KeyID, c.Secret)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "postern/"+c.Version)
	if document != nil {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("If-Match", string(tag))
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, "", c.unreachable(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return nil, "", c.unreachable(err)
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		return nil, "", fmt.Errorf("%s redirects to another address; name the one where the project is: its issuer", c.Server)
	case len(body) > maxAnswer:
		return nil, "", fmt.Errorf("the answer of %s is longer than %d bytes", c.Server, maxAnswer)
	case kind != "application/json" || !json.Valid(body):
		return nil, "", fmt.Errorf("%s answers %d without JSON, as Postern's API never does; name the project's own address", c.Server, answer.StatusCode)
	case answer.StatusCode != http.StatusOK:
		return nil, "", c.refused(answer.StatusCode, body)
	}
	return body, Tag(answer.Header.Get("ETag")), nil
}

// refused reads an error: of the API, or of a server that found no project.
func (c *Client) refused(status int, body []byte) error {
	var e struct {
		Message     string `json:"error_message"`
		Description string `json:"error_description"`
		Trace       string `json:"request_id"`
	}
	_ = json.Unmarshal(body, &e) // what it does not say stays empty
	if e.Message == "" {
		e.Message = e.Description
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("%s answers %d", c.Server, status)
	}
	return &Error{Status: status, Message: e.Message, Trace: e.Trace}
}

// unreachable makes a sentence of a call that got no answer.
func (c *Client) unreachable(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		if failed.Timeout() {
			return fmt.Errorf("%s did not answer in %s", c.Server, timeout)
		}
		err = failed.Err
	}
	return fmt.Errorf("%s does not answer: %w", c.Server, err)
}
