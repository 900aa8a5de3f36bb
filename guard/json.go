package guard

import (
	"bytes"
	"encoding/json"
	"errors"
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
// only in case, which encoding/json would take for it.
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
		ascii := isASCII(name)
		for _, k := range known {
			// Only letters outside ASCII are equal to shorter ones.
			if ascii && len(name) != len(k) || string(name) == k {
				continue
			}
			if strings.EqualFold(string(name), k) {
				return errAmbiguous
			}
		}
		names[count] = name
		count++
		if err := each(name, object[i:end]); err != nil {
			return err
		}
		i = end
	}
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
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
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r': // only inside an object or array
			i++
		default: // number, true, false, null
			for i < len(b) && !strings.ContainsRune(",:]} \t\n\r", rune(b[i])) {
				i++
			}
		}
		if depth == 0 {
			return i
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
