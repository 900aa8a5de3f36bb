package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/postern-id/postern/guard"
)

// rest is the REST API. Who calls is in the context: main.go has put a guard
// in front of every route.
type rest struct {
	service   *Service
	ownClient string // our own page's client_id: what it adds, the person added
}

func (a *rest) list(w http.ResponseWriter, r *http.Request) {
	todos, err := a.service.List(r.Context(), guard.FromContext(r.Context()).Subject)
	answer(w, r, http.StatusOK, map[string][]Todo{"todos": todos}, err)
}

func (a *rest) read(w http.ResponseWriter, r *http.Request) {
	todo, err := a.service.Read(r.Context(), guard.FromContext(r.Context()).Subject, r.PathValue("id"))
	answer(w, r, http.StatusOK, map[string]Todo{"todo": todo}, err)
}

func (a *rest) create(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "unsupported_media_type", "Send JSON, with the header Content-Type: application/json.")
		return
	}
	var body struct {
		TodoText string `json:"todoText"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "too_large", "The body is larger than 16 KiB.")
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid_request", `The body is not what is expected here, such as {"todoText": "Water the lemon tree"}.`)
		return
	}
	caller := guard.FromContext(r.Context())
	addedBy := caller.ClientID
	if addedBy == a.ownClient {
		addedBy = ""
	}
	todo, err := a.service.Create(r.Context(), caller.Subject, addedBy, body.TodoText)
	answer(w, r, http.StatusCreated, map[string]Todo{"todo": todo}, err)
}

func (a *rest) complete(w http.ResponseWriter, r *http.Request) {
	todo, err := a.service.Complete(r.Context(), guard.FromContext(r.Context()).Subject, r.PathValue("id"))
	answer(w, r, http.StatusOK, map[string]Todo{"todo": todo}, err)
}

func (a *rest) delete(w http.ResponseWriter, r *http.Request) {
	todo, err := a.service.Delete(r.Context(), guard.FromContext(r.Context()).Subject, r.PathValue("id"))
	answer(w, r, http.StatusOK, map[string]Todo{"todo": todo}, err)
}

func (a *rest) nothingHere(w http.ResponseWriter, r *http.Request) {
	refuse(w, http.StatusNotFound, "not_found", "There is nothing at this path.")
}

// otherMethod answers at a path that is there for these methods alone.
func (a *rest) otherMethod(methods ...string) http.HandlerFunc {
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead) // which a GET pattern answers too
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "This path takes "+allow+".")
	}
}

// answer sends the value, or what went wrong.
func answer(w http.ResponseWriter, r *http.Request, status int, value any, err error) {
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	case errors.Is(err, ErrNotFound):
		refuse(w, http.StatusNotFound, "not_found", sentence(err))
	case errors.Is(err, ErrText):
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
