package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/postern-id/postern/internal/identity"
)

// newPasskeys says which passkeys are ours: those made at the deployment's own
// address, for which the device asked the person (WebAuthn Level 3 §5.4.4).
func newPasskeys(deployment string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(deployment)
	if err != nil {
		return nil, fmt.Errorf("signin: read URL: %w", err)
	}
	required := true
	w, err := webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: "Postern", RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: &required, ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("signin: passkeys of %s: %w", deployment, err)
	}
	return w, nil
}

// holder is an administrator as the WebAuthn library sees them. The handle that
// the authenticator keeps is their id.
type holder struct {
	id, email string
	keys      []webauthn.Credential
}

func (h holder) WebAuthnID() []byte                         { return []byte(h.id) }
func (h holder) WebAuthnName() string                       { return h.email }
func (h holder) WebAuthnDisplayName() string                { return h.email }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

// newPasskey makes the options of a new passkey. The page puts the address into
// them of somebody who has not named themselves yet: it is a label, and nothing
// rests on it.
func (a *Administrators) newPasskey(id, email string, own []identity.Passkey) (options string, s webauthn.SessionData, err error) {
	if email == "" {
		email = "administrator"
	}
	h := holder{id: id, email: email}
	for _, key := range own {
		c, err := toCredential(key)
		if err != nil {
			return "", s, err
		}
		h.keys = append(h.keys, c)
	}
	creation, session, err := a.passkeys.BeginRegistration(h, webauthn.WithExclusions(webauthn.Credentials(h.keys).CredentialDescriptors()))
	if err != nil {
		return "", s, fmt.Errorf("signin: begin passkey: %w", err)
	}
	text, err := json.Marshal(creation.Response)
	if err != nil {
		return "", s, fmt.Errorf("signin: write passkey options: %w", err)
	}
	return string(text), *session, nil
}

// madePasskey checks what the browser made of newPasskey's options.
func (a *Administrators) madePasskey(c ceremony, text string) (identity.Passkey, error) {
	response, err := protocol.ParseCredentialCreationResponseBytes([]byte(text))
	if err != nil {
		return identity.Passkey{}, fmt.Errorf("signin: read passkey: %w", err)
	}
	made, err := a.passkeys.CreateCredential(holder{id: c.ID, email: c.Email}, c.Passkey, response)
	if err != nil {
		return identity.Passkey{}, fmt.Errorf("signin: check passkey: %w", err)
	}
	return identity.Passkey{ID: passkeyID(made.ID), Credential: toText(made)}, nil
}

// anyPasskey makes the options of a sign-in with whatever passkey the person
// has.
func (a *Administrators) anyPasskey() (options string, s webauthn.SessionData, err error) {
	assertion, session, err := a.passkeys.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return "", s, fmt.Errorf("signin: begin passkey: %w", err)
	}
	text, err := json.Marshal(assertion.Response)
	if err != nil {
		return "", s, fmt.Errorf("signin: write passkey options: %w", err)
	}
	return string(text), *session, nil
}

// usedPasskey checks the answer to anyPasskey: whose passkey it is, as it is to
// be kept from now on, and as it was. Errors: ErrRefused, with a reason.
func (a *Administrators) usedPasskey(ctx context.Context, c ceremony, text string) (used identity.Passkey, who identity.Administrator, before string, err error) {
	response, err := protocol.ParseCredentialRequestResponseBytes([]byte(text))
	if err != nil {
		return used, who, "", refused("passkey answer cannot be read")
	}
	used, who, err = a.Store.AdministratorPasskey(ctx, passkeyID(response.RawID))
	if errors.Is(err, identity.ErrNotFound) {
		return used, who, "", refused("unknown passkey")
	}
	if err != nil {
		return used, who, "", err
	}
	credential, err := toCredential(used)
	if err != nil {
		return used, who, "", err
	}
	// The handle in the answer must be the owner's: the library compares it.
	own := func(_, _ []byte) (webauthn.User, error) {
		return holder{id: who.ID, email: who.Email, keys: []webauthn.Credential{credential}}, nil
	}
	_, now, err := a.passkeys.ValidatePasskeyLogin(own, c.Passkey, response)
	if err != nil {
		return used, who, "", refused("passkey answer is not right")
	}
	if now.Authenticator.CloneWarning {
		// Its counter went back: the key is in two devices (WebAuthn Level 3 §6.1.1).
		return used, who, "", refused("passkey may have been copied")
	}
	before, used.Credential = used.Credential, toText(now)
	return used, who, before, nil
}

func refused(reason string) error { return fmt.Errorf("%w: %s", ErrRefused, reason) }

func passkeyID(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func toCredential(p identity.Passkey) (c webauthn.Credential, err error) {
	if err := json.Unmarshal([]byte(p.Credential), &c); err != nil {
		return c, fmt.Errorf("signin: damaged passkey %s: %w", p.ID, err)
	}
	return c, nil
}

// toText keeps what a later check needs: the attestation was checked and proves
// nothing more.
func toText(c *webauthn.Credential) string {
	kept := *c
	kept.Attestation = webauthn.CredentialAttestation{}
	text, err := json.Marshal(kept)
	if err != nil {
		panic(err) // impossible: a credential has no member that JSON cannot say
	}
	return string(text)
}

// passkeyName is what its owner calls a passkey.
func passkeyName(given string) string {
	const length = 60
	name := []rune(strings.Join(strings.Fields(given), " "))
	if len(name) == 0 {
		return "Passkey"
	}
	return string(name[:min(len(name), length)])
}
