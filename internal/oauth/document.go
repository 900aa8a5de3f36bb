package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/wire"
)

// Bounds of a client ID metadata document
// (draft-ietf-oauth-client-id-metadata-document-00 §4.4, §6.6).
const (
	documentLimit   = 5 << 10         // bytes
	documentTimeout = 5 * time.Second // with the logo
	// How long a document counts as fresh: what its headers say, between these
	// two, and documentDefault where they say nothing.
	documentMin     = time.Minute
	documentMax     = 24 * time.Hour
	documentDefault = 5 * time.Minute
	// documentGrace is how long past that the last good document is used while it
	// cannot be read.
	documentGrace = 24 * time.Hour
)

// errUnread is the cause when a document could not be read, as opposed to read
// and found wrong. Two kinds of it are told apart: its host says that there is
// none, and our limits kept us from asking.
var (
	errUnread   = errors.New("oauth: the client's document could not be read")
	errGone     = fmt.Errorf("%w: its host has none", errUnread)
	errNotAsked = fmt.Errorf("%w: its host was asked too often", errUnread)
)

// documentClient finds the client whose client_id is the address of a document
// about itself (draft-ietf-oauth-client-id-metadata-document-00 §4): from
// what we keep while it is fresh, else by reading the document, which happens
// only for somebody who signed in. What cannot be read is never kept (§4.4);
// then what was read last serves for a day, since hosts of documents refuse
// servers now and then, and behind that a stored copy, if there is one. What was
// read and is wrong counts at once: its owner said it.
func (s *Server) documentClient(ctx context.Context, p *project.Project, id string, signedIn bool) (Client, error) {
	u, err := checkDocumentURL(p, id)
	if err != nil {
		return Client{}, err
	}
	if !p.Settings.MetadataDocuments {
		return Client{}, invalidClient("Client ID metadata documents are off here. Use a client_id from the operator, who can also turn them on: postern project set cimd on")
	}
	known, fresh, err := s.knownDocument(ctx, p, id)
	switch {
	case err != nil || fresh:
		return known, err
	case !signedIn:
		return Client{}, ErrSignInFirst
	}
	return s.renewDocument(ctx, p, id, u.Host, false)
}

// knownDocument returns the client of a document as it was read last, and whether
// that is enough. A client that was never read has no ID.
func (s *Server) knownDocument(ctx context.Context, p *project.Project, id string) (known Client, fresh bool, err error) {
	known, err = s.store.ClientByURL(ctx, p.ID, id)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return Client{}, false, err
	case known.Blocked:
		return Client{}, false, invalidClient("This client is blocked here. Ask the operator.")
	}
	return known, s.now().Before(known.FreshUntil) && (known.CopiedAt.IsZero() || p.Settings.DocumentCopies), nil
}

// checkDocumentURL refuses what cannot be the address of a client's document
// (draft-ietf-oauth-client-id-metadata-document-00 §3): nothing is sent
// anywhere before this. Own addresses are refused so that the server never asks
// itself (§6.5).
func checkDocumentURL(p *project.Project, id string) (*url.URL, error) {
	for i := range len(id) {
		if id[i] <= 0x20 || id[i] >= 0x7f || id[i] == '\\' {
			return nil, invalidClient("A client_id that is a URL must have no blank, control or non-ASCII character.")
		}
	}
	u, err := url.Parse(id)
	switch {
	case err != nil || len(id) > maxURI || !strings.HasPrefix(id, "https://") || u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return nil, invalidClient("A client_id that is a URL must be the https address of the client's metadata document.")
	case u.User != nil || strings.Contains(id, "#"):
		return nil, invalidClient("A client_id that is a URL must have no user and no fragment.")
	case u.Path == "":
		return nil, invalidClient("A client_id that is a URL must have a path.")
	case slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return nil, invalidClient("A client_id that is a URL must have no segment of dots in its path.")
	}
	if ownHost(p, u) {
		return nil, invalidClient("A client_id that is a URL must not be an address of this server.")
	}
	return u, nil
}

// documents is what a Server remembers of the documents it reads: the stored
// copies, which are being read, and how many readings began in the current
// minute. The counts are bounded by their own limits.
type documents struct {
	readings
	copies  map[string]storedCopy // by client_id
	logos   logos
	reading singleflight.Group
}

// readings counts how many readings of one kind began in the current minute.
type readings struct {
	now func() time.Time

	mu     sync.Mutex
	minute time.Time
	begun  map[string]int
}

// begin counts a reading, or reports that one of the limits is reached: for a
// project, for the host that is asked, for the address on whose behalf ("" when
// unknown).
func (d *readings) begin(projectID, host, address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if minute := d.now().Truncate(time.Minute); !minute.Equal(d.minute) {
		d.minute, d.begun = minute, map[string]int{}
	}
	limits := map[string]int{projectID: 60, projectID + " at " + host: 5}
	if address != "" {
		limits[projectID+" for "+address] = 10
	}
	for key, limit := range limits {
		if d.begun[key] >= limit {
			return false
		}
	}
	for key := range limits {
		d.begun[key]++
	}
	return true
}

// documentTime bounds what others may wait for: reading a document, and the
// database before and after it.
const documentTime = 15 * time.Second

// renewDocument reads a document and keeps what it says, or what a stored copy
// of it says; with again also one that is fresh. Any number of callers at once
// cause one reading; it does not end because one of them went away.
func (s *Server) renewDocument(ctx context.Context, p *project.Project, id, host string, again bool) (Client, error) {
	result, err, _ := s.documents.reading.Do(p.ID+" "+id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), documentTime)
		defer cancel()
		// Another reading may have ended since this one was found due.
		known, fresh, err := s.knownDocument(ctx, p, id)
		if err != nil || fresh && !again {
			return known, err
		}
		kind := audit.ClientRegistered
		read, err := s.readDocument(ctx, p, id, host)
		if errors.Is(err, errUnread) {
			if known.CopiedAt.IsZero() && s.now().Before(known.FreshUntil.Add(documentGrace)) {
				return known, nil
			}
			if stored, ok := s.copyOf(p, id, known, err); ok {
				s.note(ctx, slog.String("copied", id), slog.String("cause", err.Error()))
				read, err, kind = stored, nil, audit.ClientCopied
			}
		}
		if err != nil {
			return Client{}, err
		}
		now := s.now()
		client := known
		if known.ID == "" {
			client = Client{ID: s.newID(p, "connected-app"), ProjectID: p.ID, URL: id, Creation: Document, CreatedAt: now}
		}
		if client.Type = ThirdPartyPublic; read.metadata.TokenEndpointAuthMethod == authKey {
			client.Type = ThirdParty
		}
		client.Metadata, client.MetadataHash = read.metadata, read.metadata.Hash()
		client.LastRegisteredAt, client.FreshUntil, client.CopiedAt = now, now.Add(read.fresh), read.copied
		if read.copied.IsZero() {
			client.FetchedAt = now
		}
		e := s.event(ctx, p, kind)
		e.Actor, e.ClientID, e.Object = client.ID, client.ID, client.ID
		return s.store.SaveDocumentClient(ctx, client, read.logo, e)
	})
	client, _ := result.(Client)
	return client, err
}

// reading is what there is to keep of a document.
type reading struct {
	metadata Metadata
	fresh    time.Duration // how long it is
	logo     []byte        // PNG, nil without one
	copied   time.Time     // of a stored copy: its day
}

// readDocument reads a document with its logo. A logo that cannot be had is
// absent, and only the log says why.
func (s *Server) readDocument(ctx context.Context, p *project.Project, id, host string) (reading, error) {
	address, _ := ctx.Value(addressKey{}).(string)
	if !s.documents.begin(p.ID, strings.ToLower(host), network(address)) {
		return reading{}, &Error{Code: "too_many_requests", Description: "Too many client documents were read in this minute. Try again in a minute.", cause: errNotAsked}
	}
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	client := s.fetch(p)
	body, fresh, err := fetchJSON(ctx, client, id, documentLimit)
	if err != nil {
		return reading{}, &Error{Code: "invalid_client", Description: "The client's metadata document at " + printable(host) + " could not be read. Try again later, or tell the client's makers.", cause: err}
	}
	metadata, err := acceptDocument(p, id, body)
	if err != nil {
		return reading{}, err
	}
	logo, err := s.documents.logos.read(ctx, client, id, metadata.LogoURI)
	if err != nil {
		s.note(ctx, slog.String("logo", err.Error()))
	}
	return reading{metadata: metadata, fresh: fresh, logo: logo}, nil
}

// fetchJSON reads a client's document or key set, of limit bytes at most, and says
// how long it is fresh. Only a 200 with JSON counts; no redirect is followed, for
// the address of a document is the client's name
// (draft-ietf-oauth-client-id-metadata-document-01 §4). Every failure is
// errUnread.
func fetchJSON(ctx context.Context, client *http.Client, id string, limit int64) ([]byte, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, id, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errUnread, err)
	}
	r.Header.Set("Accept", "application/json")
	answer, err := inPlace(client).Do(r)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errUnread, err)
	}
	defer answer.Body.Close()
	mediaType, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	switch {
	case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusGone:
		return nil, 0, fmt.Errorf("%w: status %d", errGone, answer.StatusCode)
	case answer.StatusCode != http.StatusOK:
		return nil, 0, fmt.Errorf("%w: status %d", errUnread, answer.StatusCode)
	case err != nil || mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json"):
		return nil, 0, fmt.Errorf("%w: media type %q", errUnread, mediaType)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("%w: %w", errUnread, err)
	case int64(len(body)) > limit:
		return nil, 0, fmt.Errorf("%w: more than %d bytes", errUnread, limit)
	}
	return body, freshness(answer.Header), nil
}

// freshness reads how long an answer may be kept (RFC 9111 §4.2.1), within our
// bounds. Of several ages the shortest counts; an unreadable one is zero.
func freshness(h http.Header) time.Duration {
	life := time.Duration(-1)
	for _, directive := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		var named time.Duration
		switch strings.ToLower(name) {
		case "no-store", "no-cache", "private":
		case "max-age", "s-maxage":
			named = seconds(strings.Trim(value, `"`))
		default:
			continue
		}
		if life < 0 || named < life {
			life = named
		}
	}
	if life < 0 {
		life = documentDefault
	}
	return min(max(life-seconds(h.Get("Age")), documentMin), documentMax)
}

// seconds reads a number of seconds; longer than we keep anything is as long.
func seconds(text string) time.Duration {
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), n > uint64(2*documentMax/time.Second):
		return 2 * documentMax
	case err != nil:
		return 0
	}
	return time.Duration(n) * time.Second
}

// document is a client ID metadata document
// (draft-ietf-oauth-client-id-metadata-document-00 §4.1).
type document struct {
	declared
	ClientID              string          `json:"client_id"`
	AuthMethods           []string        `json:"token_endpoint_auth_methods_supported"`
	ClientSecret          json.RawMessage `json:"client_secret"`
	ClientSecretExpiresAt json.RawMessage `json:"client_secret_expires_at"`
}

// acceptDocument reads the document found at id and turns it into what we keep
// (draft-ietf-oauth-client-id-metadata-document-00 §4.1; MCP 2026-07-28
// asks for the name too).
func acceptDocument(p *project.Project, id string, body []byte) (Metadata, error) {
	var d document
	if err := wire.JSON(body, &d); err != nil {
		var bad *wire.Error
		errors.As(err, &bad)
		return Metadata{}, &Error{Code: "invalid_client", Description: "The client's metadata document is not valid: " + bad.Message, cause: err}
	}
	switch {
	case d.ClientID != id: // simple string comparison, RFC 3986 §6.2.1
		return Metadata{}, invalidClient("The client's metadata document is of another client: its client_id is not the document's address.")
	case strings.TrimSpace(d.ClientName) == "":
		return Metadata{}, invalidClient("The client's metadata document has no client_name.")
	case len(d.ClientSecret) > 0 || len(d.ClientSecretExpiresAt) > 0 || strings.HasPrefix(d.TokenEndpointAuthMethod, "client_secret"):
		return Metadata{}, invalidClient("The client's metadata document names a shared secret. Anybody can read it, so it must not.")
	case !d.public() && !d.byKey():
		return Metadata{}, invalidClient("The client's metadata document names no way to authenticate that there is here: none or private_key_jwt.")
	}
	// One that prefers a key but can do without may do either; one that names the key
	// alone is never taken for a public client
	// (draft-ietf-oauth-client-id-metadata-document-00 §6.2).
	method := authKey
	if d.public() {
		method, d.keysOptional = authNone, d.byKey()
	}
	d.TokenEndpointAuthMethod = method
	metadata, err := d.accept(p)
	var refusal *Error
	if errors.As(err, &refusal) {
		return Metadata{}, invalidClient("The client's metadata document is not valid: %s", refusal.Description)
	}
	return metadata, err
}

// public reports whether the client may come without authenticating. Some that
// prefer a key say in the plural member that they can do without
// (MCP-AS-35); one that says neither is public, for nobody shares a secret with
// it.
func (d document) public() bool {
	switch {
	case contains(d.AuthMethods, authNone), d.TokenEndpointAuthMethod == authNone:
		return true
	default:
		return d.TokenEndpointAuthMethod == "" && len(d.AuthMethods) == 0
	}
}

// byKey reports whether the client may authenticate with a key.
func (d document) byKey() bool {
	return d.TokenEndpointAuthMethod == authKey || contains(d.AuthMethods, authKey)
}
