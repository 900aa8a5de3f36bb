package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"

	"github.com/postern-id/postern/guard"
)

// rest is the REST API. Who calls is in the context: main.go has put a guard
// in front of every route, so the caller may do it and has an organization.
//
// A change answers with what it changed and not with all objectives: who may
// change a key result need not be allowed to read them.
type rest struct {
	service   *Service
	ownClient string // our own page's client_id: what it does, the person does
}

func (a *rest) list(w http.ResponseWriter, r *http.Request) {
	objectives, err := a.service.List(r.Context(), guard.FromContext(r.Context()).Organization)
	answer(w, r, http.StatusOK, map[string][]Objective{"objectives": objectives}, err)
}

func (a *rest) addObjective(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Text string `json:"objectiveText"`
	}
	if !decode(w, r, &body, `{"objectiveText": "Know what our customers need"}`) {
		return
	}
	added, err := a.service.AddObjective(r.Context(), a.caller(r), body.Text)
	answer(w, r, http.StatusCreated, map[string]Objective{"objective": added}, err)
}

func (a *rest) deleteObjective(w http.ResponseWriter, r *http.Request) {
	gone, err := a.service.DeleteObjective(r.Context(), a.caller(r), r.PathValue("okrID"))
	answer(w, r, http.StatusOK, map[string]Objective{"objective": gone}, err)
}

func (a *rest) addKeyResult(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Text string `json:"keyResultText"`
	}
	if !decode(w, r, &body, `{"keyResultText": "Talk to 20 customers"}`) {
		return
	}
	added, err := a.service.AddKeyResult(r.Context(), a.caller(r), r.PathValue("okrID"), body.Text)
	answer(w, r, http.StatusCreated, map[string]KeyResult{"keyResult": added}, err)
}

func (a *rest) setAttainment(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Attainment *int `json:"attainment"` // a body without it must not mean 0
	}
	const example = `{"attainment": 40}`
	if !decode(w, r, &body, example) {
		return
	}
	if body.Attainment == nil {
		notExpected(w, example)
		return
	}
	set, err := a.service.SetAttainment(r.Context(), a.caller(r), r.PathValue("okrID"), r.PathValue("keyResultID"), *body.Attainment)
	answer(w, r, http.StatusOK, map[string]KeyResult{"keyResult": set}, err)
}

func (a *rest) deleteKeyResult(w http.ResponseWriter, r *http.Request) {
	gone, err := a.service.DeleteKeyResult(r.Context(), a.caller(r), r.PathValue("okrID"), r.PathValue("keyResultID"))
	answer(w, r, http.StatusOK, map[string]KeyResult{"keyResult": gone}, err)
}

func (a *rest) nothingHere(w http.ResponseWriter, r *http.Request) {
	refuse(w, http.StatusNotFound, "not_found", "There is nothing at this path.")
}

// caller is who the request acts for.
func (a *rest) caller(r *http.Request) Caller {
	p := guard.FromContext(r.Context())
	c := Caller{p.Organization, p.Subject, p.ClientID}
	if c.Client == a.ownClient {
		c.Client = ""
	}
	return c
}

// decode reads a JSON body into a struct, or answers what was expected.
func decode(w http.ResponseWriter, r *http.Request, into any, example string) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "unsupported_media_type", "Send JSON, with the header Content-Type: application/json.")
		return false
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(into)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "too_large", "The body is larger than 16 KiB.")
		return false
	}
	if err != nil {
		notExpected(w, example)
		return false
	}
	return true
}

func notExpected(w http.ResponseWriter, example string) {
	refuse(w, http.StatusBadRequest, "invalid_request", "The body is not what is expected here, such as "+example+".")
}

// answer sends the value, or what went wrong.
func answer(w http.ResponseWriter, r *http.Request, status int, value any, err error) {
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	case errors.Is(err, ErrNoObjective), errors.Is(err, ErrNoKeyResult):
		refuse(w, http.StatusNotFound, "not_found", sentence(err))
	case errors.Is(err, ErrText), errors.Is(err, ErrAttainment):
		refuse(w, http.StatusBadRequest, "invalid_request", sentence(err))
	case errors.Is(err, ErrFull):
		refuse(w, http.StatusConflict, "list_full", sentence(err))
	default:
		slog.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		refuse(w, http.StatusInternalServerError, "server_error", sentence(err))
	}
}

func refuse(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description})
}
