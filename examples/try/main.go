// Try plays an MCP client in the terminal: it connects to a protected MCP
// server, lets you sign in and decide in your browser, lists the tools and adds
// a to-do. It is what "make try" runs, and it prints each step.
//
// The official SDK does the work: the first call is answered with 401, the SDK
// follows the challenge to the metadata, registers, opens the authorization
// page through [browser.authorize], trades the code for a token and repeats the
// call. Run it again and the same happens: it keeps nothing.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "  FAIL", err)
		os.Exit(1)
	}
}

// run takes its settings from the environment: TRY_URL is the MCP server,
// TRY_CLIENT_ID a registered client (without one it registers itself),
// TRY_BROWSER the program that opens pages ("none": it only prints them).
func run(ctx context.Context, getenv func(string) string, out io.Writer) error {
	server := cmp.Or(getenv("TRY_URL"), "http://localhost:"+cmp.Or(getenv("TODO_PORT"), "3000")+"/mcp")
	step := steps{out: out}
	b, err := newBrowser(&step, getenv("TRY_BROWSER"))
	if err != nil {
		return err
	}
	defer b.close()
	handler, err := auth.NewAuthorizationCodeHandler(config(getenv("TRY_CLIENT_ID"), b))
	if err != nil {
		return err
	}
	step.say("Connecting to %s without a token.", server)
	client := mcp.NewClient(&mcp.Implementation{Name: "Terminal client", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: server, OAuthHandler: handler}, nil)
	if err != nil {
		return fmt.Errorf("connect to %s: %w\n       Does it run? Start it with: make dev", server, err)
	}
	defer session.Close()

	tools, err := session.ListTools(ctx, nil)
	if err != nil {
		return fmt.Errorf("list the tools: %w", err)
	}
	var names []string
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
	}
	step.say("Connected. You allowed %d tools: %s", len(names), strings.Join(names, ", "))
	if err := call(ctx, session, &step, "createTodo", map[string]any{"todoText": "Try Postern, at " + time.Now().Format("15:04")}); err != nil {
		return err
	}
	if err := call(ctx, session, &step, "listTodos", nil); err != nil {
		return err
	}
	issuer := "the sign-in server"
	if b.issuer != "" {
		issuer = b.issuer
	}
	step.say("Done. Take it back whenever you like: %s/connected-apps", issuer)
	return nil
}

// config says who we are: a client that somebody registered, or one that
// registers itself.
func config(clientID string, b *browser) *auth.AuthorizationCodeHandlerConfig {
	c := &auth.AuthorizationCodeHandlerConfig{RedirectURL: b.callback, AuthorizationCodeFetcher: b.authorize}
	if clientID != "" {
		c.PreregisteredClient = &oauthex.ClientCredentials{ClientID: clientID}
		return c
	}
	c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{
		Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName:              "Terminal client",
			RedirectURIs:            []string{b.callback},
			GrantTypes:              []string{"authorization_code", "refresh_token"},
			ResponseTypes:           []string{"code"},
			TokenEndpointAuthMethod: "none",
		},
	}
	return c
}

// call calls a tool and prints what it answers.
func call(ctx context.Context, session *mcp.ClientSession, step *steps, tool string, arguments map[string]any) error {
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return fmt.Errorf("call %s: %w", tool, err)
	}
	var texts []string
	for _, content := range result.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			texts = append(texts, text.Text)
		}
	}
	answer := strings.Join(texts, " ")
	if result.IsError {
		return fmt.Errorf("%s: %s", tool, answer)
	}
	step.say("%s answers: %s", tool, answer)
	return nil
}

// steps numbers what happens.
type steps struct {
	out io.Writer
	n   int
}

func (s *steps) say(format string, args ...any) {
	s.n++
	fmt.Fprintf(s.out, "  %d   %s\n", s.n, fmt.Sprintf(format, args...))
}

// browser sends a person to the authorization page and waits at a loopback
// address for the answer (RFC 8252 §7.3).
type browser struct {
	step     *steps
	opener   string
	callback string
	issuer   string // who signed the person in, once it answered
	answers  chan url.Values
	server   *http.Server
}

func newBrowser(step *steps, opener string) (*browser, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once, or not at all
	if err != nil {
		return nil, err
	}
	b := &browser{
		step: step, opener: opener, answers: make(chan url.Values, 1),
		callback: fmt.Sprintf("http://%s/callback", listener.Addr()),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		select {
		case b.answers <- r.URL.Query():
		default: // a page that was loaded twice
		}
		fmt.Fprintln(w, "Thank you. You can close this page and go back to the terminal.")
	})
	b.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = b.server.Serve(listener) }() // ends with close
	return b, nil
}

func (b *browser) close() { b.server.Close() }

// authorize is what the SDK calls when it needs a person. It checks state and
// iss itself.
func (b *browser) authorize(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	b.step.say("A token is needed. Sign in and decide in your browser:\n\n      %s\n", args.URL)
	b.open(args.URL)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case answer := <-b.answers:
		if code := answer.Get("error"); code != "" {
			return nil, errors.New(strings.TrimSpace("you were not let in: " + code + " " + answer.Get("error_description")))
		}
		b.issuer = answer.Get("iss")
		b.step.say("You allowed it.")
		return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"), Iss: answer.Get("iss")}, nil
	}
}

// open opens a page, as far as this computer knows how. The address was
// printed, so a failure is no error.
func (b *browser) open(page string) {
	opener := b.opener
	if opener == "" {
		switch runtime.GOOS {
		case "darwin":
			opener = "open"
		case "windows":
			opener = "explorer"
		default:
			opener = "xdg-open"
		}
	}
	if path, err := exec.LookPath(opener); err == nil {
		if cmd := exec.Command(path, page); cmd.Start() == nil { //nolint:gosec,noctx // it outlives us; the opener of this computer, and an address as one argument
			go func() { _ = cmd.Wait() }()
		}
	}
}
