package guardtest

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A Wrong names the one way in which a token is wrong.
type Wrong string

// The ways in which a token can be wrong.
const (
	Expired            Wrong = "expired"
	NoExpiry           Wrong = "no expiry"
	NotYetValid        Wrong = "not yet valid"
	IssuedInFuture     Wrong = "issued in the future"
	OtherAudience      Wrong = "other audience"
	LongerAudience     Wrong = "audience below ours"
	NoAudience         Wrong = "no audience"
	EmptyAudience      Wrong = "empty audience"
	OtherIssuer        Wrong = "other issuer"
	IssuerWithSlash    Wrong = "issuer with a slash"
	NoSubject          Wrong = "no subject"
	AlgNone            Wrong = "alg none"
	HS256WithPublicKey Wrong = "HS256 with the public key"
	OtherAlgorithm     Wrong = "algorithm of another key"
	UnknownKey         Wrong = "unknown key"
	KeyInHeader        Wrong = "key in the header"
	BadSignature       Wrong = "bad signature"
	NoSignature        Wrong = "no signature"
	IDToken            Wrong = "id token"
	SessionToken       Wrong = "session token"
	WrongType          Wrong = "wrong type"
	DuplicateClaim     Wrong = "duplicate claim"
	CaseVariant        Wrong = "claim in another case"
	CriticalHeader     Wrong = "unknown critical header"
	MissingScope       Wrong = "no scope"
	NoClient           Wrong = "no client"

	// These two are wrong only where a rule names an organization (guard.Rule.In).
	OtherOrganization Wrong = "other organization"
	NoOrganization    Wrong = "no organization"
)

// Wrongs returns all that every resource server must refuse: not the two about
// organizations.
func Wrongs() []Wrong {
	return []Wrong{
		Expired, NoExpiry, NotYetValid, IssuedInFuture, OtherAudience, LongerAudience, NoAudience, EmptyAudience,
		OtherIssuer, IssuerWithSlash, NoSubject, AlgNone, HS256WithPublicKey, OtherAlgorithm, UnknownKey,
		KeyInHeader, BadSignature, NoSignature, IDToken, SessionToken, WrongType, DuplicateClaim, CaseVariant,
		CriticalHeader, MissingScope, NoClient,
	}
}

// Status is the HTTP status that a resource server must answer with: 403 for
// a good token that permits nothing here, otherwise 401.
func (w Wrong) Status() int {
	switch w {
	case MissingScope, NoClient, OtherOrganization, NoOrganization:
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

// MintWrong returns a token that differs from Mint(t) in the named way only.
func (i *Issuer) MintWrong(w Wrong, t Token) string {
	head, claims := i.describe(t)
	k, now := i.key(or(t.Alg, "ES256")), i.Now()
	switch w {
	case Expired:
		claims["iat"], claims["exp"] = now.Add(-time.Hour).Unix(), now.Add(-31*time.Second).Unix()
	case NoExpiry:
		delete(claims, "exp")
	case NotYetValid:
		claims["nbf"] = now.Add(31 * time.Second).Unix()
	case IssuedInFuture:
		claims["iat"] = now.Add(31 * time.Second).Unix()
	case OtherAudience:
		claims["aud"] = []string{"https://other.example.com/mcp", "project-test-1"}
	case LongerAudience:
		claims["aud"] = t.Resource + "/more"
	case NoAudience:
		delete(claims, "aud")
	case EmptyAudience:
		claims["aud"] = []string{}
	case OtherIssuer:
		claims["iss"] = "https://issuer.example.com"
	case IssuerWithSlash:
		claims["iss"] = i.URL + "/"
	case NoSubject:
		delete(claims, "sub")
	case AlgNone:
		head["alg"] = "none"
		return segment(encode(head)) + "." + segment(encode(claims)) + "."
	case HS256WithPublicKey:
		head["alg"] = "HS256"
		text := segment(encode(head)) + "." + segment(encode(claims))
		signature, err := jwt.SigningMethodHS256.Sign(text, encode(k.jwk()))
		if err != nil {
			panic(err) // HMAC takes any key
		}
		return text + "." + segment(signature)
	case OtherAlgorithm:
		other := "EdDSA"
		if k.method.Alg() == other {
			other = "ES256"
		}
		foreign := i.key(other)
		head["alg"] = foreign.method.Alg() // with the kid of the first
		return i.sign(head, claims, foreign)
	case UnknownKey:
		k = newKey(k.method.Alg(), i.id("unknown"))
		head["kid"] = k.id
	case KeyInHeader:
		foreign := newKey(k.method.Alg(), k.id)
		head["jwk"], head["jku"], head["x5u"] = foreign.jwk(), i.URL+"/evil", i.URL+"/evil"
		k = foreign
	case BadSignature:
		return signJSON(encode(head), encode(claims), newKey(k.method.Alg(), k.id))
	case NoSignature:
		token := i.sign(head, claims, k)
		return token[:strings.LastIndexByte(token, '.')+1]
	case IDToken:
		head["typ"] = "JWT"
		delete(claims, "token_use")
		delete(claims, "scope")
		claims["nonce"], claims["at_hash"], claims["auth_time"] = "n", "h", now.Unix()
	case SessionToken:
		head["typ"] = "JWT"
		for _, name := range []string{"token_use", "scope", "client_id"} {
			delete(claims, name)
		}
		claims["session"] = map[string]any{"id": "session-test-1"}
	case WrongType:
		head["typ"] = "JWT"
		delete(claims, "token_use")
	case DuplicateClaim:
		twice := bytes.Replace(encode(claims), []byte("{"), []byte(`{"sub":"user-test-other",`), 1)
		return signJSON(encode(head), twice, k)
	case CaseVariant:
		claims["Aud"] = claims["aud"]
	case CriticalHeader:
		head["crit"], head["b64"] = []string{"b64"}, false
	case MissingScope:
		delete(claims, "scope")
	case NoClient:
		delete(claims, "client_id")
	case OtherOrganization:
		claims["organization_id"] = "organization-test-other"
	case NoOrganization:
		delete(claims, "organization_id")
	}
	return i.sign(head, claims, k)
}
