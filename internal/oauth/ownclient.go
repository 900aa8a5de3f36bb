package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// The client configuration endpoint (RFC 7592): a client that registered itself
// and has a secret or keys of its own reads, replaces or deletes its registration,
// at an address of its own and with a token that it got for that. A client that
// others may share has neither (decision 9), and to the endpoint it is unknown.

// ownClientLimits bound how often registrations are replaced: each writes an
// event. They are those of registrations, counted apart.
func ownClientLimits(address string) []Counter {
	limits := registrationLimits(address)
	limits[0].Kind, limits[1].Kind = "reregister_address", "reregister_project"
	return limits
}

// failedOwnClient bounds wrong registration access tokens per address. As with
// failedClientAuth a right one always works.
func failedOwnClient(address string) Counter {
	return Counter{Kind: "registration_token", Key: network(address), Limit: 60, Window: time.Minute}
}

// giveSecret gives a client a new secret and returns its text.
func (c *Client) giveSecret(now time.Time) string {
	key := secret.New(secret.ClientSecret, now)
	c.SecretID, c.SecretHash, c.SecretLast4 = key.ID, key.Hash[:], key.Text[len(key.Text)-4:]
	return key.Text
}

// giveToken gives a client a new registration access token and returns its text.
func (c *Client) giveToken(now time.Time) string {
	token := secret.New(secret.Registration, now)
	c.TokenID, c.TokenHash = token.ID, token.Hash[:]
	return token.Text
}

// replacement is what a client sends to replace its registration (RFC 7592 §2.2).
type replacement struct {
	declared
	ClientID     string  `json:"client_id"`
	ClientSecret *string `json:"client_secret"`
	// Those that it must not send, in whatever form.
	Token         json.RawMessage `json:"registration_access_token"`
	URI           json.RawMessage `json:"registration_client_uri"`
	SecretExpires json.RawMessage `json:"client_secret_expires_at"`
	IssuedAt      json.RawMessage `json:"client_id_issued_at"`
}

// ReadRegistration tells a client what is kept of it (RFC 7592 §2.1). Of its secret
// only a hash is kept, so that is not told again; the token is the one it sent.
func (s *Server) ReadRegistration(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	client, err := s.ownClient(ctx, r, p)
	if err != nil {
		return err
	}
	token, _ := bearer(r)
	writeJSON(w, http.StatusOK, answerRegistered(p, client, "", token))
	return nil
}

// ReplaceRegistration replaces all that a client registered (RFC 7592 §2.2), by the
// rules of a registration of today. Every time there is another token: of any
// number of calls with one token, one succeeds.
func (s *Server) ReplaceRegistration(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	var sent *replacement
	return s.changeOwnClient(ctx, r, p, func(before Client) error {
		if sent == nil { // the body can be read once
			sent = &replacement{}
			if err := readRegistration(r, sent); err != nil {
				return err
			}
		}
		client, key, token, err := sent.replace(p, before, s.now())
		if err != nil {
			return err
		}
		e := s.event(ctx, p, audit.ClientChanged)
		e.Actor, e.ClientID, e.Object = client.ID, client.ID, client.ID
		err = s.store.ReplaceOwnClient(ctx, client, before, ownClientLimits(s.address(r)), e)
		switch {
		case errors.Is(err, ErrLimited):
			return refuse("too_many_requests", "Too many registrations were changed from this address or in this project. Try again later.")
		case err != nil:
			return err
		}
		writeJSON(w, http.StatusOK, answerRegistered(p, client, key, token))
		return nil
	})
}

// DeleteRegistration deletes a client with all that people allowed it (RFC 7592
// §2.3).
func (s *Server) DeleteRegistration(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	return s.changeOwnClient(ctx, r, p, func(before Client) error {
		e := s.event(ctx, p, audit.ClientDeleted)
		e.Actor, e.ClientID, e.Object = before.ID, before.ID, before.ID
		if err := s.store.DeleteOwnClient(ctx, before, e); err != nil {
			return err
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Pragma", "no-cache")
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

// changeOwnClient has a client that may be changed by who asks changed, and again
// from what it is by then when it changed in between. A refusal is kept.
func (s *Server) changeOwnClient(ctx context.Context, r *http.Request, p *project.Project, change func(before Client) error) error {
	for range 5 {
		client, err := s.ownClient(ctx, r, p)
		if err != nil {
			return err
		}
		if client.Blocked { // it could shed the block with its registration
			err = refuse("access_denied", "The operator has blocked this client; nothing about it can be changed.")
		} else {
			err = change(client)
		}
		if errors.Is(err, ErrConflict) {
			continue
		}
		return s.keepRegisterRefusal(ctx, p, client.ID, err)
	}
	return ErrConflict
}

// ownClient finds the client that a request is to and from. Whatever is not right
// is the same to whoever asks: nobody learns which clients there are.
func (s *Server) ownClient(ctx context.Context, r *http.Request, p *project.Project) (Client, error) {
	id := r.PathValue("client_id")
	text, sent := bearer(r)
	token, formed := secret.Parse(secret.Registration, text)
	if !sent || !formed {
		return Client{}, s.refuseOwnClient(ctx, r, p, id, "no registration access token")
	}
	client, err := s.findClient(ctx, p, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Client{}, s.refuseOwnClient(ctx, r, p, id, "unknown client")
	case err != nil:
		return Client{}, err
	case !client.ChangesItself() || token.ID != client.TokenID || !token.Matches(client.TokenHash):
		return Client{}, s.refuseOwnClient(ctx, r, p, client.ID, "wrong registration access token")
	}
	return client, nil
}

// refuseOwnClient counts and records why nobody may see a registration, and answers
// with one sentence for every case (RFC 7592 §2).
func (s *Server) refuseOwnClient(ctx context.Context, r *http.Request, p *project.Project, clientID, reason string) error {
	err := s.store.Count(ctx, p.ID, failedOwnClient(s.address(r)), s.now())
	if errors.Is(err, ErrLimited) {
		return refuse("too_many_requests", "Too many wrong registration access tokens from this address. Wait a minute.")
	}
	if err != nil {
		return err
	}
	if err := s.recordClient(ctx, p, nil, clientID, reason); err != nil {
		return err
	}
	return refuse("invalid_token", "The client is not known here, or the registration access token is not its own or not any more.")
}

// replace makes of a client what it says now, with its new secret, "" where none
// was made, and its new registration access token.
func (n *replacement) replace(p *project.Project, before Client, now time.Time) (c Client, key, token string, err error) {
	switch {
	case !p.Settings.DynamicRegistration:
		return c, "", "", refuse("access_denied", "Dynamic client registration is off here, so registrations cannot be changed. This one can be read and deleted.")
	case n.ClientID != before.ID:
		return c, "", "", invalidClientMetadata("client_id must be there, and be this client's.")
	case len(n.Token)+len(n.URI)+len(n.SecretExpires)+len(n.IssuedAt) > 0:
		return c, "", "", invalidClientMetadata("registration_access_token, registration_client_uri, client_secret_expires_at and client_id_issued_at must not be sent (RFC 7592 section 2.2).")
	case n.ClientSecret != nil && !before.hasSecret(*n.ClientSecret):
		return c, "", "", invalidClientMetadata("client_secret is not this client's. Leave it out; a client does not choose its secret.")
	}
	c = before
	if c.Metadata, err = n.accept(p); err != nil {
		return c, "", "", err
	}
	c.MetadataHash, c.LastRegisteredAt = c.Metadata.Hash(), now
	switch {
	case c.Metadata.TokenEndpointAuthMethod == authNone:
		// What people allowed it would pass to whoever knows its client_id, and a
		// public client cannot be changed (decision 9).
		return c, "", "", invalidClientMetadata("A client that authenticates cannot become one that does not. Register another client.")
	case c.Metadata.TokenEndpointAuthMethod == authKey:
		c.SecretID, c.SecretHash, c.SecretLast4 = "", nil, ""
	case c.SecretID == "":
		key = c.giveSecret(now)
	}
	return c, key, c.giveToken(now), nil
}

// hasSecret reports whether text is the client's secret.
func (c Client) hasSecret(text string) bool {
	given, ok := secret.Parse(secret.ClientSecret, text)
	return ok && given.ID == c.SecretID && given.Matches(c.SecretHash)
}
