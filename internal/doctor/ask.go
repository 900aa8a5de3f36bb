package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxDocument bounds what is read of an answer, in bytes.
const maxDocument = 1 << 20

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	from   string // where it came from, after redirects
}

// send asks once. Whether a redirect is followed is the client's to say. Of an
// event stream the first answer to a POST is read; one that a GET opened may
// say nothing for ever, so nothing of it is.
func (v *visit) send(ctx context.Context, method, address string, header http.Header, body string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for name := range header {
		request.Header.Set(name, header.Get(name))
	}
	request.Header.Set("User-Agent", "postern-doctor")
	response, err := v.Client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header, from: response.Request.URL.String()}
	switch {
	case a.kind() != eventStream:
		a.body, err = io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	case method == http.MethodPost:
		a.body, err = firstAnswer(io.LimitReader(response.Body, maxDocument+1))
	}
	if err == nil && len(a.body) > maxDocument {
		err = errors.New("answers with more than 1 MiB")
	}
	return a, err
}

const eventStream = "text/event-stream"

// kind is the media type of an answer, without parameters.
func (a answer) kind() string {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return kind
}

// firstAnswer reads an event stream up to the first message that answers a
// request: notifications may come before it.
func firstAnswer(stream io.Reader) ([]byte, error) {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxDocument)
	var data []byte
	for lines.Scan() {
		if more, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")); ok {
			data = append(append(data, bytes.TrimPrefix(more, []byte(" "))...), '\n')
		}
		if len(lines.Bytes()) > 0 {
			continue
		}
		if m, ok := readMessage(data); ok && (m.Result != nil || m.Error != nil) {
			return data, nil
		}
		data = nil
	}
	return data, lines.Err()
}

// fetch reads one JSON object.
func (v *visit) fetch(ctx context.Context, address string, header http.Header) (map[string]any, answer, error) {
	ask := http.Header{"Accept": {"application/json"}}
	for name := range header {
		ask.Set(name, header.Get(name))
	}
	a, err := v.send(ctx, http.MethodGet, address, ask, "")
	if err != nil {
		return nil, a, err
	}
	if a.status != http.StatusOK {
		return nil, a, statusError(a.status)
	}
	if kind := a.kind(); kind != "application/json" && kind != "application/jwk-set+json" { // RFC 7517 §8.5.2
		return nil, a, fmt.Errorf("answers with %s instead of application/json", strconv.Quote(kind))
	}
	var doc map[string]any
	if err := json.Unmarshal(a.body, &doc); err != nil || doc == nil {
		return nil, a, errors.New("the answer is not a JSON object")
	}
	return doc, a, nil
}

type statusError int

func (e statusError) Error() string {
	return strings.TrimRight(fmt.Sprintf("answers %d %s", int(e), http.StatusText(int(e))), " ")
}

// reason is a network error in few words.
func reason(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	return err.Error()
}

// wireFix says what to do when an address does not lead to its server; nothing
// when it does.
func wireFix(host string, err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return "make a DNS record for " + host
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "give " + host + " a certificate that this computer trusts"
	}
	return ""
}

func reachFix(issuer string, err error) string {
	host := issuer
	if u, parseErr := url.Parse(issuer); parseErr == nil {
		host = u.Host
	}
	if status, ok := errors.AsType[statusError](err); ok {
		switch status {
		case http.StatusMisdirectedRequest:
			return "the server does not know " + host + "; a proxy in front must pass the Host header on, and its network must stand in behind_proxy"
		case http.StatusServiceUnavailable:
			return "the server is not ready; /readyz names what is missing"
		}
		return "route every path of " + host + " to postern"
	}
	if fix := wireFix(host, err); fix != "" {
		return fix
	}
	return "start the server (postern serve), or the proxy in front of it"
}
