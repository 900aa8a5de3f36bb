package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// maxMembers bounds the members of an object whose names are compared with
// each other.
const maxMembers = 100

var errAmbiguous = errors.New("ambiguous JSON object")

// members calls each with the name and the raw value of every member of an
// object, which must be valid JSON. It refuses objects that two parsers may
// read differently (RFC 8725 §2.4 is one way to be fooled by that): a name
// that stands there twice, and a name that differs from one of the known ones
// only in case, which encoding/json would take for it. No two known names differ
// only in that.
func members(object []byte, known []string, each func(name, value []byte) error) error {
	i := skipSpace(object, 0)
	if i == len(object) || object[i] != '{' {
		return errors.New("not a JSON object")
	}
	var names [maxMembers][]byte
	count := 0
	for i++; ; {
		i = skipSpace(object, i)
		switch object[i] {
		case '}':
			return nil
		case ',':
			i++
			continue
		}
		end := skipValue(object, i)
		name, err := unquote(object[i:end])
		if err != nil {
			return err
		}
		i = skipSpace(object, end) + 1 // the colon
		i = skipSpace(object, i)
		end = skipValue(object, i)

		if count == maxMembers {
			return errAmbiguous
		}
		for _, other := range names[:count] {
			if bytes.Equal(name, other) {
				return errAmbiguous
			}
		}
		text := string(name)
		if !slices.Contains(known, text) && slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(text, k) }) {
			return errAmbiguous
		}
		names[count] = name
		count++
		if err := each(name, object[i:end]); err != nil {
			return err
		}
		i = end
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the index after the value that begins at i in valid JSON.
func skipValue(b []byte, i int) int {
	depth := 0
	for {
		switch b[i] {
		case '"':
			i += stringLen(b[i:])
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r': // only inside an object or array
			i++
		default: // number, true, false, null
			for i < len(b) && !endsValue(b[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

// endsValue reports whether no number or word goes on with c.
func endsValue(c byte) bool {
	switch c {
	case ',', ':', ']', '}', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// stringLen is the length of the string that b begins with, quotes included.
func stringLen(b []byte) int {
	end := 1 + bytes.IndexByte(b[1:], '"')
	if bytes.IndexByte(b[:end], '\\') < 0 {
		return end + 1
	}
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// unquote decodes a JSON string.
func unquote(s []byte) ([]byte, error) {
	if len(s) < 2 || s[0] != '"' {
		return nil, errors.New("not a JSON string")
	}
	if bytes.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1], nil
	}
	var decoded string
	err := json.Unmarshal(s, &decoded)
	return []byte(decoded), err
}

// unquoteInto decodes a JSON string into a Go string.
func unquoteInto(to *string, s []byte) error {
	b, err := unquote(s)
	*to = string(b)
	return err
}
