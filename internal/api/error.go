package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/web"
)

// Error is a refusal.
type Error struct {
	Status     int    // HTTP status
	Type       string // for programs, in snake case
	Message    string // for people: what is wrong and what to do
	retryAfter time.Duration
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

func refuse(status int, kind, format string, args ...any) *Error {
	return &Error{Status: status, Type: kind, Message: fmt.Sprintf(format, args...)}
}

// refusal tells package web of an *Error; others pass.
func refusal(err error) error {
	var own *Error
	if !errors.As(err, &own) {
		return err
	}
	return &web.Error{Status: own.Status, Page: web.ErrorPage{What: own.Message}, RetryAfter: own.retryAfter, Cause: own}
}

// errorBody is an error as published SDKs read it. It must have no member named
// body, params or query: they take one for a mistake in the request's form.
type errorBody struct {
	StatusCode   int    `json:"status_code"`
	RequestID    string `json:"request_id"`
	ErrorType    string `json:"error_type"`
	ErrorMessage string `json:"error_message"`
	ErrorURL     string `json:"error_url"`
}

// writeError is the one writer of errors. What is no *Error has a type by its
// status, and of our own trouble nothing is told but where to find it.
func writeError(w http.ResponseWriter, _ *http.Request, e *web.Error) {
	body := errorBody{StatusCode: e.Status, RequestID: e.Page.Trace, ErrorMessage: e.Page.What}
	var own *Error
	switch {
	case errors.As(e, &own):
		body.ErrorType = own.Type
	case e.Status == http.StatusServiceUnavailable:
		body.ErrorType, body.ErrorMessage = "temporarily_unavailable", "The server could not answer just now. Try again in a few seconds."
	case e.Status >= http.StatusInternalServerError:
		body.ErrorType, body.ErrorMessage = "internal_server_error", "Something went wrong on our side, and nothing was changed. The log of the server has the request_id."
	case e.Status == http.StatusRequestEntityTooLarge:
		body.ErrorType = "request_too_large"
	default:
		body.ErrorType = "bad_request"
	}
	h := w.Header()
	h.Del("ETag")
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="postern", charset="UTF-8"`)
	}
	text, err := json.Marshal(body)
	if err != nil {
		text = []byte("{}") // impossible: it is numbers and text
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(text) // a client that went away is no error of ours
}
