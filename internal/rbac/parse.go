package rbac

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MaxDocument is the most bytes that Parse reads. It leaves room for comments and
// indentation: the policy itself may have 1 MiB as JSON.
const MaxDocument = 2 << 20

// maxDepth is how deep lists and objects may be nested. A policy is 7 deep.
const maxDepth = 16

// Parse reads a policy document and checks it. A document that begins with { is
// JSON, any other YAML, with the same members. Members it does not know are
// refused: a misspelt one must not pass for a missing one. So are anchors,
// aliases, tags and complex keys of YAML, and more than [MaxDocument] bytes. The
// error is a [*Problems].
func Parse(document []byte) (Policy, error) {
	n, fault := read(document)
	if fault != nil {
		return Policy{}, &Problems{List: []Problem{*fault}}
	}
	c := &check{}
	p := c.policy(n)
	if err := c.err(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// node is a value of a document, whichever language that is in.
type node struct {
	line  int // from 1; 0 is a policy that was not read from a document
	kind  kind
	text  string // of text, a number as it is written, true or false
	keys  []node // of an object; text each
	items []node // of a list; of an object the values, as many as keys
}

type kind string

const (
	nothing kind = "" // null, or not there
	text    kind = "text"
	number  kind = "a number"
	truth   kind = "true or false"
	list    kind = "a list"
	object  kind = "an object"
)

func read(document []byte) (node, *Problem) {
	if len(document) > MaxDocument {
		return node{}, &Problem{Message: fmt.Sprintf("the policy is longer than %d bytes", MaxDocument)}
	}
	document = bytes.TrimPrefix(document, []byte("\ufeff"))
	if !utf8.Valid(document) {
		return node{}, &Problem{Message: "the policy is not written in UTF-8"}
	}
	if bytes.HasPrefix(bytes.TrimLeft(document, " \t\r\n"), []byte("{")) {
		return readJSON(document)
	}
	return readYAML(document)
}

func readJSON(document []byte) (node, *Problem) {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(document, new(json.RawMessage)); errors.As(err, &syntax) {
		line := 1 + bytes.Count(document[:min(int(syntax.Offset), len(document))], []byte("\n"))
		return node{}, &Problem{line, "this is not JSON: " + syntax.Error()}
	}
	r := &jsonReader{document: document, dec: json.NewDecoder(bytes.NewReader(document)), line: 1}
	r.dec.UseNumber()
	n := r.value(r.next(), 0)
	return n, r.fault
}

// jsonReader turns the tokens of a document that is known to be JSON into nodes.
type jsonReader struct {
	document []byte
	dec      *json.Decoder
	read     int // bytes whose lines are counted
	line     int
	fault    *Problem
}

func (r *jsonReader) next() json.Token {
	t, err := r.dec.Token()
	if err != nil && r.fault == nil {
		r.fault = &Problem{r.line, "this is not JSON"} // impossible: it was looked through before
	}
	end := int(r.dec.InputOffset())
	r.line += bytes.Count(r.document[r.read:end], []byte("\n"))
	r.read = end
	return t
}

func (r *jsonReader) value(t json.Token, depth int) node {
	n := node{line: r.line}
	if depth > maxDepth && r.fault == nil {
		r.fault = tooDeep(r.line)
	}
	switch t := t.(type) {
	case string:
		n.kind, n.text = text, t
	case json.Number:
		n.kind, n.text = number, t.String()
	case bool:
		n.kind, n.text = truth, strconv.FormatBool(t)
	case json.Delim:
		n.kind = list
		if t == '{' {
			n.kind = object
		}
		for r.fault == nil && r.dec.More() {
			if n.kind == object {
				key, _ := r.next().(string)
				n.keys = append(n.keys, node{line: r.line, kind: text, text: key})
			}
			n.items = append(n.items, r.value(r.next(), depth+1))
		}
		if r.fault == nil {
			r.next()
		}
	}
	return n
}

func tooDeep(line int) *Problem { return &Problem{line, "lists and objects are nested too deeply"} }
