package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fetchTimeout   = 5 * time.Second
	maxDocument    = 64 << 10
	metadataMaxAge = time.Hour
	metadataRetry  = 30 * time.Second // after a renewal that failed
	metadataWait   = time.Second      // the same where there is none to go on with; short, for the issuer may just be starting
)

// IssuerMetadata is the part of an authorization server's metadata
// (RFC 8414 §2) that a resource server and its web pages need. Fields have
// the names of the document.
type IssuerMetadata struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	JWKSURI               string `json:"jwks_uri"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	EndSessionEndpoint    string `json:"end_session_endpoint"`
	RegistrationEndpoint  string `json:"registration_endpoint"`
	// RBACPolicyEndpoint is Postern's: where the policy is that says which acts
	// each scope permits. Only projects with organizations have one.
	RBACPolicyEndpoint string `json:"rbac_policy_endpoint"`
	// IssParameter says that authorization responses carry "iss" (RFC 9207).
	IssParameter bool `json:"authorization_response_iss_parameter_supported"`
}

// IssuerMetadata returns the issuer's metadata, fetched at the first call and
// then kept, or [ErrUnavailable].
func (g *Guard) IssuerMetadata(ctx context.Context) (*IssuerMetadata, error) {
	doc, err := g.issuer.document(ctx)
	if err != nil {
		return nil, g.unavailable("metadata", err)
	}
	parsed := doc.parsed
	return &parsed, nil
}

// unavailable logs why the issuer could not be asked.
func (g *Guard) unavailable(what string, err error) error {
	g.cfg.Logger.Warn("guard: issuer is not available", "issuer", g.cfg.Issuer, "asked_for", what, "reason", err)
	return ErrUnavailable
}

// issuer knows the metadata of the one trusted issuer.
type issuer struct {
	url    string
	client *http.Client
	now    func() time.Time

	latest  atomic.Pointer[document]
	fetches flights[struct{}, *document]

	mu     sync.Mutex
	failed time.Time // when a fetch last failed
}

type document struct {
	parsed  IssuerMetadata
	raw     []byte
	fetched time.Time
}

// document returns the metadata. It is fetched when it is first needed and
// when it has become old; an old one is better than none, and while the issuer
// is down nobody who could have it waits for more. Where there is none, anybody
// at all can make us ask, so a failure is believed for a moment.
func (i *issuer) document(ctx context.Context) (*document, error) {
	latest := i.latest.Load()
	if latest == nil && i.rests(metadataWait) {
		return nil, errors.New("the issuer failed to answer a moment ago")
	}
	if latest != nil && (i.now().Sub(latest.fetched) < metadataMaxAge || i.rests(metadataRetry)) {
		return latest, nil
	}
	doc, err := i.fetches.do(ctx, struct{}{}, i.discover)
	if err != nil && latest != nil {
		return latest, nil
	}
	return doc, err
}

// rests reports whether a fetch failed less than wait ago.
func (i *issuer) rests(wait time.Duration) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now().Sub(i.failed) < wait
}

// discover tries the three places where metadata may be (RFC 8414 §3.1 and §5,
// OpenID Connect Discovery §4) and takes the first document that names this
// very issuer.
func (i *issuer) discover(ctx context.Context) (*document, error) {
	u, err := url.Parse(i.url)
	if err != nil {
		return nil, err
	}
	origin, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	places := []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + "/.well-known/openid-configuration" + path,
	}
	if path != "" {
		places = append(places, origin+path+"/.well-known/openid-configuration")
	}
	var problems []error
	for _, place := range places {
		doc, err := i.read(ctx, place)
		if err == nil {
			i.latest.Store(doc)
			return doc, nil
		}
		problems = append(problems, err)
	}
	i.mu.Lock()
	i.failed = i.now()
	i.mu.Unlock()
	return nil, errors.Join(problems...)
}

func (i *issuer) read(ctx context.Context, place string) (*document, error) {
	raw, err := fetch(ctx, i.client, place)
	if err != nil {
		return nil, err
	}
	doc := &document{raw: raw, fetched: i.now()}
	if err := json.Unmarshal(raw, &doc.parsed); err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	// RFC 8414 §3.3: byte for byte, or the document is somebody else's.
	if doc.parsed.Issuer != i.url {
		return nil, fmt.Errorf("%s: the document is of issuer %q", place, doc.parsed.Issuer)
	}
	for _, endpoint := range []string{doc.parsed.JWKSURI, doc.parsed.IntrospectionEndpoint} {
		if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || !secure(u)) {
			return nil, fmt.Errorf("%s: %q is not an https URL", place, endpoint)
		}
	}
	return doc, nil
}

// fetch gets a JSON document of a bounded size.
func fetch(ctx context.Context, client *http.Client, place string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	return send(client, req)
}

// send makes a request whose only good answer is 200 with bounded JSON.
func send(client *http.Client, req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readJSON(resp, req.URL, maxDocument)
}

// readJSON reads an answer of at most limit bytes.
func readJSON(resp *http.Response, place *url.URL, limit int64) ([]byte, error) {
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", place, resp.StatusCode)
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return nil, fmt.Errorf("%s: the answer is not JSON", place)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", place, limit)
	case !json.Valid(body):
		return nil, fmt.Errorf("%s: the answer is not JSON", place)
	}
	return body, nil
}
