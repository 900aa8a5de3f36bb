package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/mcpguard"
)

// newMCP builds the MCP server and returns its two transports: Streamable
// HTTP, and the HTTP with Server-Sent Events of 2024-11-05 for old clients.
// Who calls is in each operation's context; guard has judged whether they may
// call the tool.
func newMCP(service *Service, g *guard.Guard) (streamable, sse http.Handler) {
	server := mcp.NewServer(&mcp.Implementation{Name: "OKR Manager", Version: "1.0.0"}, &mcp.ServerOptions{
		Instructions: "Objectives and key results of one organization. Changes take the ids that listObjectives and the resources show.",
		// The tools never change, and nobody is told when a list does.
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}, Resources: &mcp.ResourceCapabilities{}},
	})
	server.AddReceivingMiddleware(mcpguard.Middleware(g), tellCalls, listResources(service))

	type nothing struct{}
	type okr struct {
		OKRID string `json:"okrID" jsonschema:"the id of an objective"`
	}
	type keyResultID struct {
		OKRID       string `json:"okrID" jsonschema:"the id of the key result's objective"`
		KeyResultID string `json:"keyResultID" jsonschema:"the id of a key result"`
	}
	type objectiveText struct {
		ObjectiveText string `json:"objectiveText" jsonschema:"what to reach, on one line"`
	}
	type keyResultText struct {
		OKRID         string `json:"okrID" jsonschema:"the id of the objective"`
		KeyResultText string `json:"keyResultText" jsonschema:"how one sees that it is reached, on one line"`
	}
	type attainment struct {
		OKRID       string `json:"okrID" jsonschema:"the id of the key result's objective"`
		KeyResultID string `json:"keyResultID" jsonschema:"the id of a key result"`
		Attainment  int    `json:"attainment" jsonschema:"per cent, from 0 to 100"`
	}
	type all struct {
		Organization string      `json:"organization"`
		Objectives   []Objective `json:"objectives"`
	}
	type oneObjective struct {
		Message      string    `json:"message"`
		Organization string    `json:"organization"`
		Objective    Objective `json:"objective"`
	}
	type oneKeyResult struct {
		Message      string    `json:"message"`
		Organization string    `json:"organization"`
		KeyResult    KeyResult `json:"keyResult"`
	}
	reads := mcp.ToolAnnotations{ReadOnlyHint: true}
	adds := mcp.ToolAnnotations{DestructiveHint: new(false)}
	changes := mcp.ToolAnnotations{DestructiveHint: new(false), IdempotentHint: true}
	deletes := mcp.ToolAnnotations{DestructiveHint: new(true)}

	addTool(server, listObjectives, "List the objectives and their key results.", reads,
		func(ctx context.Context, c Caller, _ nothing) (all, error) {
			objectives, err := service.List(ctx, c.Organization)
			return all{c.Organization, objectives}, err
		})
	addTool(server, addObjective, "Add an objective.", adds,
		func(ctx context.Context, c Caller, in objectiveText) (oneObjective, error) {
			added, err := service.AddObjective(ctx, c, in.ObjectiveText)
			return oneObjective{"Added the objective.", c.Organization, added}, err
		})
	addTool(server, deleteObjective, "Delete an objective with its key results. They cannot be brought back.", deletes,
		func(ctx context.Context, c Caller, in okr) (oneObjective, error) {
			gone, err := service.DeleteObjective(ctx, c, in.OKRID)
			return oneObjective{"Deleted the objective.", c.Organization, gone}, err
		})
	addTool(server, addKeyResult, "Add a key result to an objective, at 0 %.", adds,
		func(ctx context.Context, c Caller, in keyResultText) (oneKeyResult, error) {
			added, err := service.AddKeyResult(ctx, c, in.OKRID, in.KeyResultText)
			return oneKeyResult{"Added the key result.", c.Organization, added}, err
		})
	addTool(server, setKeyResultAttainment, "Say how far a key result is, in per cent.", changes,
		func(ctx context.Context, c Caller, in attainment) (oneKeyResult, error) {
			set, err := service.SetAttainment(ctx, c, in.OKRID, in.KeyResultID, in.Attainment)
			return oneKeyResult{fmt.Sprintf("The key result is at %d %% now.", set.Attainment), c.Organization, set}, err
		})
	addTool(server, deleteKeyResult, "Delete a key result. It cannot be brought back.", deletes,
		func(ctx context.Context, c Caller, in keyResultID) (oneKeyResult, error) {
			gone, err := service.DeleteKeyResult(ctx, c, in.OKRID, in.KeyResultID)
			return oneKeyResult{"Deleted the key result.", c.Organization, gone}, err
		})

	addResources(server, objectivesAt, "Objectives", "One objective with its key results, by its id.", "objective",
		func(ctx context.Context, organization, id string) (any, error) {
			return service.Objective(ctx, organization, id)
		})
	addResources(server, keyResultsAt, "Key Result", "One key result, by its id.", "key_result",
		func(ctx context.Context, organization, id string) (any, error) {
			return service.KeyResult(ctx, organization, id)
		})

	// main.go checks Host for every route, so the SDK's own check, which would
	// refuse a proxy on this computer, is off.
	get := func(*http.Request) *mcp.Server { return server }
	return mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
			Stateless:                    true,
			DisableLocalhostProtection:   true,
			PropagateRequestCancellation: true,
		}),
		mcp.NewSSEHandler(get, &mcp.SSEOptions{DisableLocalhostProtection: true})
}

// addTool adds a tool that acts for whoever calls it.
func addTool[In, Out any](server *mcp.Server, name, description string, hints mcp.ToolAnnotations, do func(context.Context, Caller, In) (Out, error)) {
	tool := &mcp.Tool{
		Name: name, Description: description, Annotations: &hints,
		InputSchema: schemaOf[In](), OutputSchema: schemaOf[Out](),
	}
	mcp.AddTool(server, tool, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		p := guard.FromContext(ctx)
		out, err := do(ctx, Caller{p.Organization, p.Subject, p.ClientID}, in)
		return nil, out, toolError(ctx, err)
	})
}

// schemaOf is the schema of a struct whose lists are never nil, which cannot be
// told from its type: inferred, a list could be null. What is per cent has its
// bounds.
func schemaOf[T any]() *jsonschema.Schema {
	schema, err := jsonschema.For[T](nil)
	if err != nil {
		panic(err) // found when the program starts, as by mcp.AddTool
	}
	var refine func(name string, s *jsonschema.Schema)
	refine = func(name string, s *jsonschema.Schema) {
		if slices.Contains(s.Types, "array") {
			s.Types, s.Type = nil, "array"
		}
		if name == "attainment" {
			s.Minimum, s.Maximum = new(0.0), new(100.0)
		}
		for name, property := range s.Properties {
			refine(name, property)
		}
		if s.Items != nil {
			refine("", s.Items)
		}
	}
	refine("", schema)
	return schema
}

// Where the resources are.
const (
	objectivesAt = "okrmanager://objectives/"
	keyResultsAt = "okrmanager://key_result/"
)

// addResources adds a kind of resource. Guard has let the operation pass for
// any of the scopes; whether the caller may read this kind is judged here.
func addResources(server *mcp.Server, at, name, description, resource string, read func(ctx context.Context, organization, id string) (any, error)) {
	server.AddResourceTemplate(&mcp.ResourceTemplate{
		Name: name, URITemplate: at + "{id}", MIMEType: "application/json", Description: description,
	}, func(ctx context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		if err := guard.Check(ctx, guard.Permission(resource, "read")); err != nil {
			return nil, toolError(ctx, err)
		}
		found, err := read(ctx, guard.FromContext(ctx).Organization, strings.TrimPrefix(req.Params.URI, at))
		if errors.Is(err, ErrNoObjective) || errors.Is(err, ErrNoKeyResult) {
			return nil, mcp.ResourceNotFoundError(req.Params.URI)
		}
		if err != nil {
			return nil, toolError(ctx, err)
		}
		text, err := json.Marshal(found)
		if err != nil {
			return nil, err
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: string(text)}}}, nil
	})
}

// listResources adds the caller's objectives and key results to the answer of
// resources/list, and leaves out of both lists what the caller may not read.
// The SDK can list only resources that are the same for everybody.
func listResources(service *Service) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			result, err := next(ctx, method, req)
			if err != nil {
				return nil, err
			}
			caller := guard.FromContext(ctx)
			readable := func(uri string) bool {
				return strings.HasPrefix(uri, objectivesAt) && caller.May("objective", "read") ||
					strings.HasPrefix(uri, keyResultsAt) && caller.May("key_result", "read")
			}
			switch r := result.(type) {
			case *mcp.ListResourceTemplatesResult:
				own := *r
				own.ResourceTemplates = slices.DeleteFunc(slices.Clone(r.ResourceTemplates), func(t *mcp.ResourceTemplate) bool {
					return !readable(t.URITemplate)
				})
				return &own, nil
			case *mcp.ListResourcesResult:
				objectives, err := service.List(ctx, caller.Organization)
				if err != nil {
					return nil, toolError(ctx, err)
				}
				own := *r
				add := func(uri, name string) {
					if readable(uri) {
						own.Resources = append(own.Resources, &mcp.Resource{URI: uri, Name: name, MIMEType: "application/json"})
					}
				}
				for _, o := range objectives {
					add(objectivesAt+o.ID, o.Text)
					for _, k := range o.KeyResults {
						add(keyResultsAt+k.ID, k.Text)
					}
				}
				return &own, nil
			}
			return result, nil
		}
	}
}

// tellCalls prints one line for each tool that a client called; "postern dev"
// shows them.
func tellCalls(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		result, err := next(ctx, method, req)
		if call, ok := req.(*mcp.CallToolRequest); ok {
			outcome := "done"
			if answer, ok := result.(*mcp.CallToolResult); err != nil || ok && answer.IsError {
				outcome = "failed"
			}
			fmt.Printf("call %q by %s, %s\n", call.Params.Name, guard.FromContext(ctx).ClientID, outcome)
		}
		return result, err
	}
}

// toolError is what the client is told: refusals in a sentence, and nothing
// about what broke inside.
func toolError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, guard.ErrInsufficientScope):
		return errors.New("The permissions of this connection do not include reading this.")
	case ours(err):
		slog.ErrorContext(ctx, "operation failed", "error", err)
	}
	return errors.New(sentence(err))
}
