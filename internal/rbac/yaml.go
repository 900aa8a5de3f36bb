package rbac

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// readYAML reads the part of YAML 1.2 that configuration is written in: block and
// flow lists and objects, and scalars of every style. The library splits the text
// into tokens; what they mean together is read here, because the library's parser
// follows aliases, nests without end and takes time in the square of some
// documents.
func readYAML(document []byte) (node, *Problem) {
	if at := tabForm.FindIndex(document); at != nil {
		return node{}, &Problem{1 + bytes.Count(document[:at[1]], []byte("\n")), "a tab is no indentation in YAML; write spaces"}
	}
	r := &yamlReader{}
	for _, t := range lexer.Tokenize(string(document)) {
		switch t.Type {
		case token.CommentType:
		case token.InvalidType:
			return node{}, &Problem{t.Position.Line, "this is not YAML: " + t.Error}
		default:
			r.tokens = append(r.tokens, t)
		}
	}
	if t := r.peek(); t != nil && t.Type == token.DocumentHeaderType {
		r.at++
	}
	n := node{line: 1}
	if t := r.peek(); t != nil && t.Type != token.DocumentEndType {
		n = r.value(0)
	}
	if t := r.peek(); t != nil && t.Type == token.DocumentEndType {
		r.at++
	}
	if t := r.peek(); t != nil {
		r.unexpected(t)
	}
	return n, r.fault
}

var tabForm = regexp.MustCompile(`(?m)^ *\t`)

// yamlReader reads tokens one after another. After a fault there are no more.
type yamlReader struct {
	tokens []*token.Token
	at     int
	fault  *Problem
}

func (r *yamlReader) peek() *token.Token {
	if r.fault != nil || r.at >= len(r.tokens) {
		return nil
	}
	return r.tokens[r.at]
}

func (r *yamlReader) fail(line int, format string, args ...any) {
	if r.fault == nil {
		r.fault = &Problem{line, fmt.Sprintf(format, args...)}
	}
}

func (r *yamlReader) unexpected(t *token.Token) {
	switch t.Type {
	case token.AliasType:
		r.fail(t.Position.Line, `YAML takes * for an alias; write "*" with its quotes`)
	case token.AnchorType, token.TagType, token.MergeKeyType, token.MappingKeyType, token.DirectiveType:
		r.fail(t.Position.Line, "a policy has none of YAML's anchors, tags, directives and complex keys")
	case token.DocumentHeaderType, token.DocumentEndType:
		r.fail(t.Position.Line, "there is another document behind the policy")
	default:
		r.fail(t.Position.Line, "%.60q is not expected here; look at the indentation, and at what needs quotes", t.Value)
	}
}

// value reads a value that may have lines of its own.
func (r *yamlReader) value(depth int) node {
	t := r.peek()
	switch {
	case t == nil:
		return node{}
	case depth > maxDepth:
		r.fault = tooDeep(t.Position.Line)
		return node{}
	case t.Type == token.SequenceEntryType:
		return r.blockList(t.Position.Column, depth)
	case r.atKey():
		return r.blockObject(t.Position.Column, depth)
	}
	return r.inline(depth)
}

// atKey tells whether a scalar comes with a colon behind it.
func (r *yamlReader) atKey() bool {
	if r.at+1 >= len(r.tokens) {
		return false
	}
	key, colon := r.tokens[r.at], r.tokens[r.at+1]
	return scalarKind(key) != "" && colon.Type == token.MappingValueType && colon.Position.Line == key.Position.Line
}

func (r *yamlReader) blockList(column, depth int) node {
	n := node{line: r.peek().Position.Line, kind: list}
	for t := r.peek(); t != nil && t.Position.Column >= column; t = r.peek() {
		if t.Position.Column > column {
			r.unexpected(t)
			break
		}
		if t.Type != token.SequenceEntryType {
			break // the next key of the object that the list is in
		}
		r.at++
		item := node{line: t.Position.Line}
		if v := r.peek(); v != nil && (v.Position.Line == t.Position.Line || v.Position.Column > column) {
			item = r.value(depth + 1)
		}
		n.items = append(n.items, item)
	}
	return n
}

func (r *yamlReader) blockObject(column, depth int) node {
	n := node{line: r.peek().Position.Line, kind: object}
	for t := r.peek(); t != nil && t.Position.Column >= column; t = r.peek() {
		if t.Type == token.DocumentHeaderType || t.Type == token.DocumentEndType {
			break
		}
		if t.Position.Column > column || !r.atKey() {
			r.unexpected(t)
			break
		}
		r.at += 2
		item := node{line: t.Position.Line}
		switch v := r.peek(); {
		case v == nil:
		case v.Position.Line == t.Position.Line:
			item = r.inline(depth + 1)
		case v.Position.Column > column || v.Position.Column == column && v.Type == token.SequenceEntryType:
			item = r.value(depth + 1)
		}
		n.keys = append(n.keys, node{line: t.Position.Line, kind: text, text: t.Value})
		n.items = append(n.items, item)
	}
	return n
}

// inline reads a scalar, or a list or an object in brackets.
func (r *yamlReader) inline(depth int) node {
	t := r.peek()
	if t == nil {
		return node{}
	}
	if depth > maxDepth {
		r.fault = tooDeep(t.Position.Line)
		return node{}
	}
	n := node{line: t.Position.Line}
	r.at++
	switch t.Type {
	case token.SequenceStartType:
		return r.flow(n, list, token.SequenceEndType, depth)
	case token.MappingStartType:
		return r.flow(n, object, token.MappingEndType, depth)
	case token.LiteralType, token.FoldedType:
		n.kind = text
		if v := r.peek(); v != nil && v.Type == token.StringType {
			n.text = strings.TrimRight(v.Value, "\n") // the end of the last line is no part of the sentence
			r.at++
		}
	case token.NullType:
	default:
		n.kind, n.text = scalarKind(t), t.Value
		if n.kind == truth {
			n.text = strings.ToLower(t.Value)
		}
		if n.kind == nothing {
			r.unexpected(t)
		}
	}
	return n
}

// flow reads on behind the [ of a list or the { of an object.
func (r *yamlReader) flow(n node, kind kind, end token.Type, depth int) node {
	n.kind = kind
	for t := r.peek(); t != nil && t.Type != end; t = r.peek() {
		if kind == object {
			if !r.atKey() {
				r.unexpected(t)
				break
			}
			r.at += 2
			n.keys = append(n.keys, node{line: t.Position.Line, kind: text, text: t.Value})
		}
		item := node{line: t.Position.Line}
		if v := r.peek(); kind == list || v != nil && v.Type != token.CollectEntryType && v.Type != end {
			item = r.inline(depth + 1)
		}
		n.items = append(n.items, item)
		if v := r.peek(); v != nil && v.Type == token.CollectEntryType {
			r.at++
		} else if v != nil && v.Type != end {
			r.unexpected(v)
		}
	}
	if r.peek() == nil {
		r.fail(n.line, "the bracket that is opened here is not closed")
	}
	r.at++
	return n
}

// scalarKind is nothing for a token that is no scalar, and for null.
func scalarKind(t *token.Token) kind {
	switch t.Type {
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType:
		return text
	case token.BoolType:
		return truth
	case token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType,
		token.FloatType, token.InfinityType, token.NanType:
		return number
	}
	return nothing
}
