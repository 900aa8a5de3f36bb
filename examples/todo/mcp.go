package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/mcpguard"
)

// newMCP builds the MCP server and returns its two transports: Streamable
// HTTP, and the HTTP with Server-Sent Events of 2024-11-05 for old clients.
// Who calls is in each operation's context; guard has judged whether they may.
func newMCP(service *Service, g *guard.Guard) (streamable, sse http.Handler) {
	server := mcp.NewServer(&mcp.Implementation{Name: "TODO Service", Version: "1.0.0"}, &mcp.ServerOptions{
		Instructions: "One person's to-do list. Changes take the id that listTodos shows.",
		// The tools never change, and nobody is told when a list does.
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}, Resources: &mcp.ResourceCapabilities{}},
	})
	server.AddReceivingMiddleware(mcpguard.Middleware(g), tellCalls, listResources(service))

	type nothing struct{}
	type todoText struct {
		TodoText string `json:"todoText" jsonschema:"what needs doing, on one line"`
	}
	type todoID struct {
		TodoID string `json:"todoID" jsonschema:"an id from listTodos"`
	}
	type one struct {
		Message string `json:"message,omitempty"`
		Todo    Todo   `json:"todo"`
	}
	type all struct {
		Todos []Todo `json:"todos"`
	}
	tool := func(name, description string, hints mcp.ToolAnnotations) *mcp.Tool {
		return &mcp.Tool{Name: name, Description: description, Annotations: &hints}
	}
	reads := mcp.ToolAnnotations{ReadOnlyHint: true}
	adds := mcp.ToolAnnotations{DestructiveHint: new(false)}
	changes := mcp.ToolAnnotations{DestructiveHint: new(false), IdempotentHint: true}
	deletes := mcp.ToolAnnotations{DestructiveHint: new(true)}

	list := tool("listTodos", "List the to-dos: open ones first, then by age.", reads)
	list.OutputSchema = listSchema[all]("todos")
	mcp.AddTool(server, list,
		func(ctx context.Context, _ *mcp.CallToolRequest, _ nothing) (*mcp.CallToolResult, all, error) {
			todos, err := service.List(ctx, guard.FromContext(ctx).Subject)
			return nil, all{todos}, toolError(ctx, err)
		})
	mcp.AddTool(server, tool("readTodo", "Read one to-do.", reads),
		func(ctx context.Context, _ *mcp.CallToolRequest, in todoID) (*mcp.CallToolResult, one, error) {
			todo, err := service.Read(ctx, guard.FromContext(ctx).Subject, in.TodoID)
			return nil, one{"", todo}, toolError(ctx, err)
		})
	mcp.AddTool(server, tool("createTodo", "Add a to-do.", adds),
		func(ctx context.Context, _ *mcp.CallToolRequest, in todoText) (*mcp.CallToolResult, one, error) {
			caller := guard.FromContext(ctx)
			todo, err := service.Create(ctx, caller.Subject, caller.ClientID, in.TodoText)
			return nil, one{"Added.", todo}, toolError(ctx, err)
		})
	mcp.AddTool(server, tool("markTodoComplete", "Mark a to-do as done.", changes),
		func(ctx context.Context, _ *mcp.CallToolRequest, in todoID) (*mcp.CallToolResult, one, error) {
			todo, err := service.Complete(ctx, guard.FromContext(ctx).Subject, in.TodoID)
			return nil, one{"Marked as done.", todo}, toolError(ctx, err)
		})
	mcp.AddTool(server, tool("deleteTodo", "Delete a to-do. It cannot be brought back.", deletes),
		func(ctx context.Context, _ *mcp.CallToolRequest, in todoID) (*mcp.CallToolResult, one, error) {
			todo, err := service.Delete(ctx, guard.FromContext(ctx).Subject, in.TodoID)
			return nil, one{"Deleted.", todo}, toolError(ctx, err)
		})

	server.AddResourceTemplate(&mcp.ResourceTemplate{
		Name: "Todos", URITemplate: resourcePrefix + "{id}", MIMEType: "application/json",
		Description: "One to-do, by its id.",
	}, func(ctx context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		id := strings.TrimPrefix(req.Params.URI, resourcePrefix)
		todo, err := service.Read(ctx, guard.FromContext(ctx).Subject, id)
		if errors.Is(err, ErrNotFound) {
			return nil, mcp.ResourceNotFoundError(req.Params.URI)
		}
		if err != nil {
			return nil, toolError(ctx, err)
		}
		text, err := json.Marshal(todo)
		if err != nil {
			return nil, err
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: string(text)}}}, nil
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

// listSchema is the schema of a struct whose field of that name is never nil,
// which cannot be told from its type: inferred, the list could be null.
func listSchema[T any](field string) *jsonschema.Schema {
	schema, err := jsonschema.For[T](nil)
	if err != nil {
		panic(err) // found when the program starts, as by mcp.AddTool
	}
	schema.Properties[field].Types, schema.Properties[field].Type = nil, "array"
	return schema
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

const resourcePrefix = "todoapp://todos/"

// listResources adds the caller's to-dos to the answer of resources/list. The
// SDK can list only resources that are the same for everybody.
func listResources(service *Service) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			result, err := next(ctx, method, req)
			list, ok := result.(*mcp.ListResourcesResult)
			if err != nil || !ok {
				return result, err
			}
			todos, err := service.List(ctx, guard.FromContext(ctx).Subject)
			if err != nil {
				return nil, toolError(ctx, err)
			}
			for _, todo := range todos {
				list.Resources = append(list.Resources, &mcp.Resource{
					URI: resourcePrefix + todo.ID, Name: todo.Text, MIMEType: "application/json",
				})
			}
			return list, nil
		}
	}
}

// toolError is what the client is told: our own refusals in a sentence, and
// nothing about what broke inside.
func toolError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrText) && !errors.Is(err, ErrFull) {
		slog.ErrorContext(ctx, "operation failed", "error", err)
	}
	return errors.New(sentence(err))
}
