package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays may be nested.
const maxDepth = 16

// JSON reads one JSON object into dst. Unlike encoding/json it refuses duplicate
// members, members whose name differs from a field's only in case, more than 16
// levels, text that is not UTF-8 or has a NUL, and anything behind the value.
// Members that dst has no field for are left out. dst is a pointer to a struct
// or map.
func JSON(data []byte, dst any) error {
	if !utf8.Valid(data) {
		return refuse("", "The JSON is not UTF-8 text.")
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return refuse("", "The body is not a JSON object.")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkValue(dec, reflect.TypeOf(dst), 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return refuse("", "There is something behind the JSON object.")
	}
	if err := json.Unmarshal(data, dst); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return refuse(wrong.Field, "%s has a JSON value of the wrong type.")
		}
		return refuse("", "The JSON has a value of the wrong form.")
	}
	return nil
}

// checkValue reads the next value from dec, to be decoded into t. t is nil
// where nothing is known about it.
func checkValue(dec *json.Decoder, t reflect.Type, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return refuse("", "The body is not JSON.")
	}
	if text, ok := token.(string); ok && !clean(text) {
		return refuse("", "The JSON has a NUL in a text.")
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return refuse("", "The JSON is nested too deeply.")
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if delim == '{' {
		if err := checkMembers(dec, t, depth); err != nil {
			return err
		}
	} else {
		var element reflect.Type
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			element = t.Elem()
		}
		for dec.More() {
			if err := checkValue(dec, element, depth+1); err != nil {
				return err
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		return refuse("", "The body is not JSON.")
	}
	return nil
}

func checkMembers(dec *json.Decoder, t reflect.Type, depth int) error {
	seen := map[string]bool{}
	known, other := memberTypes(t)
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return refuse("", "The body is not JSON.")
		}
		if !clean(name) {
			return refuse("", "The JSON has a NUL in a name.")
		}
		if seen[name] {
			return refuse(name, "%s was given more than once; send it once.")
		}
		seen[name] = true
		member, exact := known[name]
		if !exact {
			for field := range known {
				if strings.EqualFold(field, name) {
					return refuse(name, "%s is not written as expected: names are compared by case.")
				}
			}
			member = other
		}
		if err := checkValue(dec, member, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// memberTypes returns the types that encoding/json would decode the members of an
// object into: of a struct those that it has fields for, by name, of a map all
// others. It is nil for what would be dropped.
func memberTypes(t reflect.Type) (known map[string]reflect.Type, other reflect.Type) {
	switch {
	case t == nil:
		return nil, nil
	case t.Kind() == reflect.Map:
		return nil, t.Elem()
	case t.Kind() != reflect.Struct:
		return nil, nil
	}
	known = map[string]reflect.Type{}
	for _, field := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || field.Anonymous && tag == "" || tag == "-" {
			continue
		}
		if tag == "" {
			tag = field.Name
		}
		known[tag] = field.Type
	}
	return known, nil
}
