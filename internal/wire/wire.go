// Package wire reads what strangers send: forms, query strings and JSON.
//
// [Form], [Query] and [Body] read a request, [JSON] reads bytes that came from
// elsewhere. They accept one spelling of everything and refuse what two readers
// could understand differently: a parameter given twice, a member whose name
// differs in case, text that is not UTF-8. A refusal is an [*Error] with a
// sentence for the sender; nothing the sender wrote is repeated in it but the
// name of a parameter.
//
// The package checks form, never meaning: which parameters there are and what
// they may hold is for the endpoint that asks.
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is a refusal.
type Error struct {
	Status    int    // 400, 413 or 415
	Parameter string // the parameter or member at fault, "" for the whole
	// Message says what is wrong and what to do, in the characters that an
	// error_description may have (RFC 6749 §5.2).
	Message string
}

func (e *Error) Error() string { return "wire: " + e.Message }

// usual is the length of a body up to which its sender is believed before it
// came.
const usual = 4 << 10

// maxPairs is the number of parameters that one request may have.
const maxPairs = 100

// Form reads the parameters of a POST from its body, at most max bytes of
// application/x-www-form-urlencoded (RFC 6749 appendix B). A query string
// beside the body is refused. A parameter may come once, the repeatable ones
// more often; one without a value counts as absent (RFC 6749 §3.2).
func Form(r *http.Request, max int64, repeatable ...string) (url.Values, error) {
	if r.URL.RawQuery != "" {
		return nil, refuse("", "Send the parameters in the body alone, not in the address.")
	}
	raw, err := body(r, max, "application/x-www-form-urlencoded")
	if err != nil {
		return nil, err
	}
	return pairs(string(raw), repeatable)
}

// Query reads the parameters of a GET from its query string, by the rules of
// Form (RFC 6749 §3.1).
func Query(r *http.Request, repeatable ...string) (url.Values, error) {
	return pairs(r.URL.RawQuery, repeatable)
}

// Body reads a request body, at most max bytes of application/json, into dst by
// the rules of JSON.
func Body(r *http.Request, max int64, dst any) error {
	raw, err := body(r, max, "application/json")
	if err != nil {
		return err
	}
	return JSON(raw, dst)
}

func body(r *http.Request, max int64, want string) ([]byte, error) {
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return nil, wrongType(want)
	}
	got, params, err := mime.ParseMediaType(types[0])
	if err != nil || got != want {
		return nil, wrongType(want)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, wrongType(want + " in UTF-8")
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, &Error{Status: http.StatusUnsupportedMediaType, Message: "Send the body without Content-Encoding."}
	}
	var raw bytes.Buffer
	raw.Grow(int(min(max, r.ContentLength, usual)) + bytes.MinRead) // one read for what most send; -1 where none is named
	_, err = raw.ReadFrom(io.LimitReader(r.Body, max+1))
	var tooLong *http.MaxBytesError
	if int64(raw.Len()) > max || errors.As(err, &tooLong) {
		return nil, &Error{
			Status:  http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("The body is too long: at most %d bytes are read here.", max),
		}
	}
	if err != nil {
		return nil, refuse("", "The body could not be read to its end.")
	}
	return raw.Bytes(), nil
}

func wrongType(want string) *Error {
	return &Error{Status: http.StatusUnsupportedMediaType, Message: "Send the body as " + want + "."}
}

func pairs(raw string, repeatable []string) (url.Values, error) {
	if strings.Count(raw, "&") >= maxPairs {
		return nil, refuse("", fmt.Sprintf("There are too many parameters: at most %d are read.", maxPairs))
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refuse("", "The parameters are not form-encoded: check percent signs and semicolons.")
	}
	for name, all := range values {
		if !clean(name) {
			return nil, refuse("", "The name of a parameter is not clean UTF-8 text.")
		}
		if len(all) > 1 && !slices.Contains(repeatable, name) {
			return nil, refuse(name, "%s was given more than once; send it once.")
		}
		for _, value := range all {
			if !clean(value) {
				return nil, refuse(name, "%s is not clean UTF-8 text.")
			}
		}
		if all = slices.DeleteFunc(all, func(value string) bool { return value == "" }); len(all) == 0 {
			delete(values, name)
		} else {
			values[name] = all
		}
	}
	return values, nil
}

// clean tells whether text is UTF-8 without NUL, which no database column of
// text takes.
func clean(text string) bool {
	return utf8.ValidString(text) && !strings.Contains(text, "\x00")
}

// plainName is a name that may stand in a message to its sender.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.#-]{1,64}$`)

// refuse makes an Error; "%s" in the message becomes the parameter.
func refuse(name, message string) *Error {
	subject := "A parameter"
	if plainName.MatchString(name) {
		subject = "The parameter " + name
	}
	return &Error{
		Status:    http.StatusBadRequest,
		Parameter: name,
		Message:   strings.Replace(message, "%s", subject, 1),
	}
}
