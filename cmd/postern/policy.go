package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/client"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/rbac"
)

func (p *program) policyCommand() *cobra.Command {
	c := group("policy", "Keep a project's roles, resources and scopes in a file", p.policyPlan(), p.policyApply(), p.policyExport())
	c.Long = `Keep a project's roles, resources and scopes in a file.

Without --server these commands work on the data. With it they work over the
network, on the project --project-id, with the workspace key --key-id and its
secret ("postern workspace-key create" makes one). Each of the four is also read
from the environment: POSTERN_SERVER, POSTERN_PROJECT_ID, POSTERN_KEY_ID and
POSTERN_SECRET.`
	f := c.PersistentFlags()
	f.Bool("json", false, "print JSON")
	f.String("project", "", "which project of the data, by id or issuer; not needed when there is one")
	f.String("server", "", "address of the project, such as https://auth.example.com, to work over the network")
	f.String("project-id", "", "id of the project at the server")
	f.String("key-id", "", "id of a workspace key of the server")
	f.String("secret", "", "its secret; other users of this computer can see it here: better POSTERN_SECRET or --secret-file")
	f.String("secret-file", "", "file with the secret")
	c.MarkFlagsMutuallyExclusive("secret", "secret-file")
	return c
}

func (p *program) policyPlan() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Show what a file would change, and change nothing",
		Args:  needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			change, place, err := p.compare(cmd, file)
			if err != nil {
				return err
			}
			defer place.close()
			if place.json {
				return p.out.json(change.describe(place))
			}
			p.show(change, place)
			if len(change.list) > 0 {
				p.out.line("")
				p.out.line("%s   %s", p.out.dim("Next"), p.out.green("postern policy apply -f "+file))
			}
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the policy file, YAML or JSON; - for standard input")
	return c
}

func (p *program) policyApply() *cobra.Command {
	var file string
	var yes bool
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Show what a file changes, and make it so",
		Args:  needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			change, place, err := p.compare(cmd, file)
			if err != nil {
				return err
			}
			defer place.close()
			if !place.json {
				p.show(change, place)
			}
			if len(change.list) > 0 {
				if !yes {
					if err := p.ask(cmd, !place.json); err != nil {
						return err
					}
				}
				change.next.Version = change.standing.Version
				if change.standing.Version, err = place.write(cmd.Context(), change.next); err != nil {
					return policyFault(err, "postern policy plan -f "+file)
				}
				change.applied = true
			}
			switch {
			case place.json:
				return p.out.json(change.describe(place))
			case change.applied:
				p.out.line("")
				p.out.line("%s version %d stands in %s", p.out.ok(), change.standing.Version, p.out.bright(place.name))
			}
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the policy file, YAML or JSON; - for standard input")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (p *program) policyExport() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "export",
		Short: "Print the policy that stands, as a file for the other two",
		Args:  needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := p.policyPlace(cmd)
			if err != nil {
				return err
			}
			defer place.close()
			policy, err := place.read(cmd.Context())
			if err != nil {
				return policyFault(err, "postern policy export")
			}
			text := rbac.Format(policy)
			if place.json {
				if text, err = json.MarshalIndent(policy, "", "  "); err != nil {
					return err
				}
				text = append(text, '\n')
			}
			if file == "" {
				_, err = p.out.Write(text)
				return err
			}
			// A file that is there may have comments that no export has.
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return wrong("postern policy export", "%s", plain(err))
			}
			_, err = f.Write(text)
			if err = errors.Join(err, f.Close()); err != nil {
				return wrong("postern policy export", "%s", plain(err))
			}
			p.err.line("%s wrote %s", p.err.ok(), file)
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "write it there, if there is no such file yet")
	return c
}

// policyPlace is where a policy stands: in the data, or at a server.
type policyPlace struct {
	name  string // of the project, as people read it
	id    string
	json  bool
	read  func(ctx context.Context) (rbac.Policy, error)
	write func(ctx context.Context, policy rbac.Policy) (version int64, err error)
	close func()
}

// policyPlace finds the project that the flags and the environment name.
func (p *program) policyPlace(cmd *cobra.Command) (policyPlace, error) {
	given := func(flag string) string {
		f := cmd.Flags().Lookup(flag)
		if f.Changed {
			return f.Value.String()
		}
		return os.Getenv("POSTERN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")))
	}
	if given("server") == "" {
		for _, flag := range []string{"project-id", "key-id", "secret", "secret-file"} {
			if cmd.Flags().Changed(flag) {
				return policyPlace{}, misused(cmd, "--%s is for a server, and none is named; add --server", flag)
			}
		}
		return p.dataPlace(cmd)
	}
	if cmd.Flags().Changed("project") {
		return policyPlace{}, misused(cmd, "--project is for the data; a server's project is named by --project-id")
	}
	secret := given("secret")
	if file := given("secret-file"); file != "" && !cmd.Flags().Changed("secret") {
		text, err := os.ReadFile(file)
		if err != nil {
			return policyPlace{}, wrong("postern policy --help", "the secret file: %s", plain(err))
		}
		secret = string(text)
	}
	c, err := client.New(client.Config{
		Server: given("server"), ProjectID: given("project-id"), KeyID: given("key-id"), Secret: strings.TrimSpace(secret), Version: version(),
	})
	if err != nil {
		return policyPlace{}, wrong("postern policy --help", "%s", err)
	}
	asJSON, err := cmd.Flags().GetBool("json")
	return serverPlace(c, asJSON), err
}

func (p *program) dataPlace(cmd *cobra.Command) (policyPlace, error) {
	d, err := p.newDesk(cmd, false)
	if err != nil {
		return policyPlace{}, err
	}
	ref, err := cmd.Flags().GetString("project")
	if err != nil {
		d.close()
		return policyPlace{}, err
	}
	one, err := d.project(cmd.Context(), ref)
	if err != nil {
		d.close()
		return policyPlace{}, err
	}
	return policyPlace{
		name: one.Name, id: one.ID, json: d.json, close: d.close,
		read: func(ctx context.Context) (rbac.Policy, error) { return d.people.Policy(ctx, one.ID) },
		write: func(ctx context.Context, policy rbac.Policy) (int64, error) {
			return d.people.ApplyPolicy(ctx, one.ID, policy, d.event(one, audit.PolicyApplied, strconv.FormatInt(policy.Version+1, 10)))
		},
	}, nil
}

func serverPlace(c *client.Client, asJSON bool) policyPlace {
	var tag client.Tag
	parse := func(document []byte, next client.Tag, err error) (rbac.Policy, error) {
		if err != nil {
			return rbac.Policy{}, err
		}
		tag = next
		policy, err := rbac.Parse(document)
		if err != nil {
			return rbac.Policy{}, fmt.Errorf("%s has a policy that this postern cannot read; install the one that the server has", c.Server)
		}
		return policy, nil
	}
	return policyPlace{
		name: c.Server, id: c.ProjectID, json: asJSON, close: func() {},
		read: func(ctx context.Context) (rbac.Policy, error) { return parse(c.Policy(ctx)) },
		write: func(ctx context.Context, policy rbac.Policy) (int64, error) {
			document, err := json.Marshal(policy)
			if err != nil {
				return 0, err
			}
			policy, err = parse(c.SetPolicy(ctx, document, tag))
			return policy.Version, err
		},
	}
}

// policyChange is what a file changes.
type policyChange struct {
	standing, next rbac.Policy
	list           []rbac.Change
	applied        bool
}

// compare reads a file and what stands. A file that was exported from an older
// version than the one that stands is refused: it would undo what came between.
func (p *program) compare(cmd *cobra.Command, file string) (policyChange, policyPlace, error) {
	if file == "" {
		return policyChange{}, policyPlace{}, misused(cmd, "%s needs a policy file: -f policy.yaml", cmd.CommandPath())
	}
	next, err := readPolicy(cmd.InOrStdin(), file)
	if err != nil {
		return policyChange{}, policyPlace{}, err
	}
	place, err := p.policyPlace(cmd)
	if err != nil {
		return policyChange{}, policyPlace{}, err
	}
	standing, err := place.read(cmd.Context())
	switch {
	case err != nil:
		err = policyFault(err, "postern policy --help")
	case next.Version != 0 && next.Version != standing.Version:
		err = wrong("postern policy export", "%s is made from version %d, and version %d stands in %s: somebody changed the policy since; make your change in that one, or take the line \"version\" out to replace it",
			file, next.Version, standing.Version, place.name)
	}
	if err != nil {
		place.close()
		return policyChange{}, policyPlace{}, err
	}
	return policyChange{standing: standing, next: next, list: rbac.Diff(standing, next)}, place, nil
}

// readPolicy reads a policy file. Its problems are told one by one, each with
// its line as editors and compilers write it.
func readPolicy(stdin io.Reader, file string) (rbac.Policy, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return rbac.Policy{}, wrong("postern policy export -f "+file, "%s", plain(err))
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, rbac.MaxDocument+1))
	if err != nil {
		return rbac.Policy{}, wrong("postern policy plan --help", "%s", plain(err))
	}
	policy, err := rbac.Parse(text)
	return policy, linesOf(file, err)
}

// linesOf tells the problems of a file one by one.
func linesOf(file string, err error) error {
	var bad *rbac.Problems
	if !errors.As(err, &bad) {
		return err
	}
	f := &fault{next: "correct the file; nothing was changed"}
	for _, problem := range bad.List {
		where := file
		if problem.Line > 0 {
			where += ":" + strconv.Itoa(problem.Line)
		}
		f.problems = append(f.problems, where+": "+problem.Message)
	}
	return f
}

// show prints what changes.
func (p *program) show(c policyChange, place policyPlace) {
	if len(c.list) == 0 {
		p.out.line("%s nothing to change in %s: version %d says the same", p.out.ok(), p.out.bright(place.name), c.standing.Version)
		return
	}
	p.out.line("Changes to version %d of %s", c.standing.Version, p.out.bright(place.name))
	p.out.line("")
	paint := map[string]func(string) string{"+": p.out.green, "-": p.out.red, "~": p.out.amber}
	for _, change := range c.list {
		p.out.line("%s %s", paint[change.Sign](change.Sign), printable(change.Text))
	}
}

// ask returns nil when a person agrees to what was shown to them.
func (p *program) ask(cmd *cobra.Command, shown bool) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !shown || !ok || !term.IsTerminal(int(in.Fd())) {
		typed := append(strings.Fields(cmd.CommandPath()), cmd.Flags().Args()...)
		return wrong(strings.Join(append(typed, "--yes"), " "), "nobody can be asked here, so nothing was changed")
	}
	fmt.Fprint(p.err, "\n  Go on? [y/N] ")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	p.err.line("Nothing was changed.")
	return errReported
}

// policyFault says what went wrong with a policy that could be read.
func policyFault(err error, next string) error {
	var bad *rbac.Problems
	switch {
	case errors.Is(err, identity.ErrStale), errors.Is(err, client.ErrChanged):
		return wrong(next, "somebody else changed the policy at the same moment; nothing was changed now")
	case errors.As(err, &bad):
		f := &fault{next: next}
		for _, problem := range bad.List {
			f.problems = append(f.problems, problem.String())
		}
		return f
	}
	return advise(err, next)
}

// policyJSON is a comparison for programs.
type policyJSON struct {
	ProjectID string             `json:"project_id"`
	Version   int64              `json:"version"` // that stands now
	Applied   bool               `json:"applied"`
	Changes   []policyChangeJSON `json:"changes"`
}

type policyChangeJSON struct {
	Kind string `json:"kind"` // added, removed or changed
	Text string `json:"text"`
}

func (c policyChange) describe(place policyPlace) policyJSON {
	j := policyJSON{ProjectID: place.id, Version: c.standing.Version, Applied: c.applied, Changes: []policyChangeJSON{}}
	for _, change := range c.list {
		kind := cmp.Or(map[string]string{"+": "added", "-": "removed"}[change.Sign], "changed")
		j.Changes = append(j.Changes, policyChangeJSON{kind, change.Text})
	}
	return j
}
