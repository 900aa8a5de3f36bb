package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// finding is a part of what "postern doctor --json" prints.
type finding struct {
	Check string
	OK    bool
	Seen  string
	Turn  string
}

// doctor looks at an MCP server. An error means that something is wrong.
func (p *postern) doctor(t *testing.T, args ...string) ([]finding, error) {
	t.Helper()
	out, err := p.command(t, append([]string{"doctor", "--json"}, args...)...)
	var d []finding
	if syntax := json.Unmarshal([]byte(out), &d); syntax != nil {
		t.Fatalf("doctor printed no JSON: %v, %v\n%s", syntax, err, out)
	}
	if err == nil && strings.Contains(out, `"notes"`) {
		t.Errorf("doctor has reservations:\n%s", out)
	}
	return d, err
}

// The doctor finds nothing wrong with the real server and the real example,
// without a token and with one, and names a token of somebody else.
func TestDoctorAtTheExample(t *testing.T) {
	p := serveProject(t, database{name: "sqlite"})
	address := p.todo(t)
	p.addTodo(t, address+"/mcp")
	if d, err := p.doctor(t, "--mcp-url", address+"/mcp", "--register"); err != nil || len(d) != 10 {
		t.Errorf("without a token: %v\n%+v", err, d)
	}

	a := newApp(t, newPerson(t, p, "ada@example.test"), byPreregistered, nil)
	a.mustConnect(address + "/mcp")
	token, err := a.wallet.now()
	if err != nil {
		t.Fatal(err)
	}
	keep := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	d, err := p.doctor(t, "--mcp-url", address+"/mcp", "--token-file", keep("token", token.AccessToken+"\n"))
	if err != nil || d[len(d)-1].Check != "tools/list" || !strings.HasPrefix(d[len(d)-1].Seen, "the token opens ") {
		t.Errorf("with a token: %v\n%+v", err, d)
	}
	spoiled := token.AccessToken[:len(token.AccessToken)-8] + "AAAAAAAA"
	d, err = p.doctor(t, "--mcp-url", address+"/mcp", "--token-file", keep("spoiled", spoiled))
	if last := d[len(d)-1]; err == nil || last.OK || last.Check != "initialize" || last.Turn != "MCP server" {
		t.Errorf("with a spoiled token: %v\n%+v", err, d)
	}
}
