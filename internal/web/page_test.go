package web_test

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/web"
)

func get(t *testing.T, h http.Handler, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Result()
}

// links are the addresses of our own files in a page.
func links(page string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?:href|src)="(`+regexp.QuoteMeta(web.AssetsPath)+`[^"]*)"`).FindAllStringSubmatch(page, -1) {
		all = append(all, m[1])
	}
	return all
}

func render(t *testing.T, p *web.Pages, page string, view any) string {
	t.Helper()
	w := httptest.NewRecorder()
	if err := p.Render(w, http.StatusOK, page, view); err != nil {
		t.Fatal(err)
	}
	return w.Body.String()
}

func pagesOf(t *testing.T, files map[string]string) *web.Pages {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys["templates/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	p, err := web.NewPages(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const emptyPage = `{{template "gate" .}}{{define "title"}}T{{end}}{{define "main"}}<h1>H</h1>{{end}}`

func TestAssetsAreKeptForEver(t *testing.T) {
	assets, err := web.Assets()
	if err != nil {
		t.Fatal(err)
	}
	page := render(t, pagesOf(t, map[string]string{"p.html": emptyPage}), "p", struct{ web.Site }{})
	types := map[string]string{}
	for _, link := range links(page) {
		res := get(t, assets, link)
		if res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d, Cache-Control %q", link, res.StatusCode, res.Header.Get("Cache-Control"))
		}
		types[filepath.Ext(link)] = strings.Split(res.Header.Get("Content-Type"), ";")[0]
	}
	want := map[string]string{".css": "text/css", ".svg": "image/svg+xml", ".js": "text/javascript"}
	if d := cmp.Diff(want, types); d != "" {
		t.Errorf("content types (-want +got):\n%s", d)
	}
	for _, path := range []string{web.AssetsPath, web.AssetsPath + "tokens.css", web.AssetsPath + "../page.go", "/"} {
		if res := get(t, assets, path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, res.StatusCode)
		}
	}
}

func TestRenderWritesAllOrNothing(t *testing.T) {
	p := pagesOf(t, map[string]string{
		"p.html":      emptyPage,
		"broken.html": strings.Replace(emptyPage, "<h1>H</h1>", "<h1>{{.Missing}}</h1>", 1),
	})
	for _, page := range []string{"broken", "unknown"} {
		w := httptest.NewRecorder()
		if err := p.Render(w, http.StatusOK, page, struct{ web.Site }{}); err == nil {
			t.Errorf("%s: no error", page)
		}
		if w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("%s: wrote %q with %v", page, w.Body, w.Header())
		}
	}
	w := httptest.NewRecorder()
	if err := p.Render(w, http.StatusTeapot, "p", struct{ web.Site }{}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{"status": strconv.Itoa(w.Code), "type": w.Header().Get("Content-Type"), "cache": w.Header().Get("Cache-Control")}
	if d := cmp.Diff(map[string]string{"status": "418", "type": "text/html; charset=utf-8", "cache": "no-store"}, got); d != "" {
		t.Error(d)
	}
}

func TestSiteDecidesCrownAndFooter(t *testing.T) {
	p := pagesOf(t, map[string]string{"p.html": emptyPage})
	for _, c := range []struct {
		name     string
		site     web.Site
		has, not []string
	}{
		{"postern itself", web.Site{}, []string{`class="mark"`, "Guarded by"}, []string{"Privacy", "Help"}},
		{"a project", web.Site{Name: "Todo", PrivacyURL: "https://todo.example/p", HelpURL: "https://todo.example/h"}, []string{`<bdi>Todo</bdi>`, `href="https://todo.example/p"`, `href="https://todo.example/h"`, "Guarded by"}, []string{`class="mark"`}},
		{"without badge", web.Site{Name: "Todo", HideBadge: true}, []string{`<bdi>Todo</bdi>`}, []string{"Guarded by"}},
		{"a link that is no address", web.Site{Name: "Todo", HelpURL: "javascript:alert(1)"}, nil, []string{"javascript:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := render(t, p, "p", struct{ web.Site }{c.site})
			for _, s := range c.has {
				if !strings.Contains(page, s) {
					t.Errorf("no %q in\n%s", s, page)
				}
			}
			for _, s := range c.not {
				if strings.Contains(page, s) {
					t.Errorf("%q in\n%s", s, page)
				}
			}
		})
	}
}

func TestTilesOfProjectsDiffer(t *testing.T) {
	p := pagesOf(t, map[string]string{"p.html": emptyPage})
	tile := regexp.MustCompile(`class="(tile[^"]*)"`)
	seen := map[string]bool{}
	for i := range 40 {
		view := struct{ web.Site }{web.Site{Name: "Todo", ID: fmt.Sprint("project-test-", i)}}
		first, again := tile.FindStringSubmatch(render(t, p, "p", view))[1], tile.FindStringSubmatch(render(t, p, "p", view))[1]
		if first != again {
			t.Fatalf("the tile of %s changes", view.ID)
		}
		seen[first] = true
	}
	if d := cmp.Diff([]string{"tile", "tile tile-1", "tile tile-2", "tile tile-3"}, slices.Sorted(maps.Keys(seen))); d != "" {
		t.Error(d)
	}
}

func TestClientText(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a plain name stays", "MCP Inspector", "MCP Inspector"},
		{"letters of the world stay", "Zażółć 日本語 עברית", "Zażółć 日本語 עברית"},
		{"markup is text", `<b>"x"</b>`, `<b>"x"</b>`},
		{"lines become one", "Claude\r\n\tis\u2028verified", "Claude is verified"},
		{"direction characters go", "\u202eedualC\u2066\u200f", "edualC"},
		{"zero-width characters go", "Cl\u200ba\u200du\u2060d\ufeffe\u00ad", "Claude"},
		{"invisible letters go", "A\u3164\u115f\uffa0\u2800B", "AB"},
		{"tags and variation selectors go", "A\U000e0041\ufe0f", "A"},
		{"control characters go", "A\x00\x1b[31mB\x7f", "A[31mB"},
		{"piles of marks shrink", "a\u0301\u0302\u0303\u0304b", "a\u0301\u0302b"},
		{"broken UTF-8 goes", "A\xff\xfeB", "AB"},
		{"sixty characters stay", strings.Repeat("é", 60), strings.Repeat("é", 60)},
		{"more are cut", strings.Repeat("é", 61), strings.Repeat("é", 59) + "…"},
		{"nothing has a name", "\u200b \n", "A program without a name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := web.ClientText(c.in); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func FuzzClientText(f *testing.F) {
	f.Add("Claude \u202e\x00")
	f.Add(strings.Repeat("x\u0301", 80))
	f.Fuzz(func(t *testing.T, s string) {
		got := web.ClientText(s)
		if got == "" || utf8.RuneCountInString(got) > 60 || !utf8.ValidString(got) {
			t.Errorf("%q is empty, too long or broken", got)
		}
		for _, r := range got {
			if !unicode.IsGraphic(r) || r != ' ' && unicode.IsSpace(r) {
				t.Errorf("%q has %U", got, r)
			}
		}
		if again := web.ClientText(got); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}

func TestHostsAreASCII(t *testing.T) {
	p := pagesOf(t, map[string]string{"p.html": `{{template "host" .Host}}`})
	for _, c := range []struct{ name, host, want string }{
		{"short", "claude.ai", "claude.ai"},
		{"with a port", "localhost:6274", "localhost:6274"},
		{"an address", "[::1]:6274", "[::1]:6274"},
		{"a scheme", "cursor://", "cursor://"},
		{"long: the owner stands out", "accounts.google.com.evil.example", "accounts.google.com.<b>evil.example</b>"},
		{"long with a port", "login.somewhere-else.co.uk:8443", "login.<b>somewhere-else.co.uk</b>:8443"},
		{"long without a subdomain", "a-rather-long-name.example", "a-rather-long-name.example"},
		{"cyrillic", "сlaude.ai", "xn--laude-0ye.ai"},
		{"direction characters", "a\u202eb.example", "ab.example"},
		{"markup", "<script>.example", "&lt;script&gt;.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := render(t, p, "p", struct{ Host string }{c.host})
			if want := `<code dir="ltr">` + c.want + "</code>"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestErrorPageFillsHolesOnce(t *testing.T) {
	p := pagesOf(t, nil)
	draw := func(e web.ErrorPage) string {
		w := httptest.NewRecorder()
		if err := p.Error(w, e); err != nil {
			t.Fatal(err)
		}
		if w.Code != e.Status {
			t.Errorf("status %d, want %d", w.Code, e.Status)
		}
		return w.Body.String()
	}
	page := draw(web.ErrorPage{
		Status: 400, Turn: web.TheApps, Headline: "{client} asked", What: "It sent {asked} & not {registered}.", Next: "Ask {project} at {host}.",
		Client: "{asked}<b>", Asked: "<i>{client}", Registered: "r", Host: "сlaude.ai",
	})
	for _, want := range []string{
		"<bdi>{asked}&lt;b&gt;</bdi> asked",
		`It sent <code dir="ltr">&lt;i&gt;{client}</code> &amp; not <code dir="ltr">r</code>.`,
		`Ask this server at <code dir="ltr">xn--laude-0ye.ai</code>.`,
		`<li aria-current="step">The app’s</li>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if page := draw(web.ErrorPage{Status: 400, Headline: "{client} asked"}); !strings.Contains(page, "The program that sent you here asked") {
		t.Errorf("a nameless client has no words:\n%s", page)
	}
	if strings.Contains(page, "Trace code") {
		t.Error("a trace code is shown where there is none")
	}
}

// tokens reads the custom properties of one theme out of the style sheet.
func tokens(t *testing.T) (light, dark map[string]string) {
	t.Helper()
	css, err := os.ReadFile("static/tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(css), "@media (prefers-color-scheme: dark)")
	if len(parts) != 2 || strings.Count(string(css), ":root {") != 2 || !strings.Contains(parts[0], "color-scheme: light dark;") {
		t.Fatal("tokens.css is not one :root block and one dark block with color-scheme: light dark")
	}
	property := regexp.MustCompile(`(--[a-z0-9-]+):\s*([^;]+);`)
	light, dark = map[string]string{}, map[string]string{}
	for _, m := range property.FindAllStringSubmatch(parts[0], -1) {
		light[m[1]], dark[m[1]] = m[2], m[2]
	}
	for _, m := range property.FindAllStringSubmatch(parts[1], -1) {
		if _, ok := light[m[1]]; !ok {
			t.Errorf("%s exists in the dark only", m[1])
		}
		dark[m[1]] = m[2]
	}
	return light, dark
}

// contrast is the ratio of WCAG 2.2 between two colours like #F3F5F2.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(hex string) float64 {
		n, err := strconv.ParseUint(strings.TrimPrefix(hex, "#"), 16, 24)
		if err != nil || len(hex) != 7 {
			t.Fatalf("%q is no colour", hex)
		}
		channel := func(shift int) float64 {
			c := float64(n>>shift&255) / 255
			if c <= 0.04045 {
				return c / 12.92
			}
			return math.Pow((c+0.055)/1.055, 2.4)
		}
		return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
	}
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// TestContrast recomputes every pair of colours that stands in the pages: the
// measured value, and what WCAG 2.2 asks (4.5 for text, 3 for controls and
// graphics; 0 for what only decorates).
func TestContrast(t *testing.T) {
	light, dark := tokens(t)
	for _, c := range []struct {
		over, under         string
		wantLight, wantDark float64
		least               float64
	}{
		{"ink", "surface", 17.6, 14.2, 4.5},
		{"ink", "arch", 14.8, 15.4, 4.5},
		{"ink-2", "surface", 8.4, 8.6, 4.5},
		{"ink-2", "sunken", 7.6, 9.3, 4.5},
		{"ink-2", "arch", 7.0, 9.3, 4.5},
		{"ink-3", "surface", 5.8, 5.9, 4.5},
		{"ink-3", "sunken", 5.2, 6.4, 4.5},
		{"ink-3", "arch", 4.8, 6.4, 4.5},
		{"accent-ink", "surface", 8.7, 9.8, 4.5},
		{"accent-ink", "accent-soft", 7.4, 8.0, 4.5},
		{"on-accent", "accent", 7.2, 7.9, 4.5},
		{"on-accent", "accent-h", 9.9, 9.6, 4.5},
		{"line-2", "surface", 3.6, 4.0, 3},
		{"line-2", "bg", 3.3, 4.7, 3},
		{"warn-ink", "warn-soft", 7.2, 9.6, 4.5},
		{"danger-ink", "danger-soft", 7.6, 8.8, 4.5},
		{"danger-ink", "surface", 8.8, 9.2, 4.5},
		{"on-danger", "danger", 6.7, 8.7, 4.5},
		{"focus", "surface", 5.8, 8.0, 3},
		{"focus", "bg", 5.3, 9.4, 3},
		{"focus", "arch", 4.9, 8.7, 3},
		{"chart", "surface", 4.5, 5.6, 3},
		{"chart-bad", "surface", 4.4, 5.6, 3},
		{"lamp", "surface", 2.1, 8.8, 0},
		{"on-tile", "tile-1", 6.8, 6.8, 4.5},
		{"on-tile", "tile-2", 5.9, 5.9, 4.5},
		{"on-tile", "tile-3", 7.1, 7.1, 4.5},
	} {
		for theme, colours := range map[string]map[string]string{"light": light, "dark": dark} {
			want := map[string]float64{"light": c.wantLight, "dark": c.wantDark}[theme]
			got := contrast(t, colours["--"+c.over], colours["--"+c.under])
			if math.Abs(got-want) > 0.051 {
				t.Errorf("%s: %s on %s is %.2f, want %.1f", theme, c.over, c.under, got, want)
			}
			if got < c.least {
				t.Errorf("%s: %s on %s is %.2f, less than %.1f", theme, c.over, c.under, got, c.least)
			}
		}
	}
}

func TestStyleNamesRoles(t *testing.T) {
	light, _ := tokens(t)
	css, err := os.ReadFile("static/components.css")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(string(css), "")
	if raw := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|\b(?:rgb|hsl)a?\(`).FindAllString(text, -1); raw != nil {
		t.Errorf("colours without a role: %q", raw)
	}
	for _, m := range regexp.MustCompile(`var\((--[a-z0-9-]+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := light[m[1]]; !ok {
			t.Errorf("%s is no token", m[1])
		}
	}
	before, _, _ := strings.Cut(text, "@media (prefers-reduced-motion: no-preference)")
	if strings.Contains(before, "transition") || strings.Contains(before, "animation") {
		t.Error("something moves for those who asked for no motion")
	}
	if strings.Contains(text, "url(") || strings.Contains(text, "@import") {
		t.Error("the style sheet loads something")
	}
}

func TestTemplatesKeepTheContentPolicy(t *testing.T) {
	files, err := filepath.Glob("templates/*.html")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bad := regexp.MustCompile(`(?i)\sstyle=|<style|<script[^>]*>[^<]|\son[a-z]+=|javascript:`).FindAllString(string(text), -1); bad != nil {
			t.Errorf("%s: %q", file, bad)
		}
	}
	script, err := os.ReadFile("static/page.js")
	if err != nil {
		t.Fatal(err)
	}
	// Sinks that trusted types refuse, and what the policy refuses.
	if bad := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.style\b|setAttribute\("style|https?:`).FindAllString(string(script), -1); bad != nil {
		t.Errorf("page.js: %q", bad)
	}
}

// TestWriteComponents writes a page with every component in every state into
// the directory that POSTERN_PAGES names, with the assets of all pages.
func TestWriteComponents(t *testing.T) {
	dir := os.Getenv("POSTERN_PAGES")
	if dir == "" {
		t.Skip("POSTERN_PAGES names no directory to write the pages to")
	}
	sheet, err := os.ReadFile("testdata/components.html")
	if err != nil {
		t.Fatal(err)
	}
	assets, err := web.Assets()
	if err != nil {
		t.Fatal(err)
	}
	page := render(t, pagesOf(t, map[string]string{"components.html": string(sheet)}), "components", struct {
		web.Site
		Known, Unverified, Shut map[string]any
	}{
		web.Site{Name: "Todo"},
		map[string]any{"Name": "Claude", "Known": true, "Shut": false},
		map[string]any{"Name": "x", "Known": false, "Shut": false},
		map[string]any{"Name": "Zed", "Known": true, "Shut": true},
	})
	if err := os.MkdirAll(filepath.Join(dir, web.AssetsPath), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "components.html"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, link := range links(page) {
		w := httptest.NewRecorder()
		assets.ServeHTTP(w, httptest.NewRequest(http.MethodGet, link, nil))
		if err := os.WriteFile(filepath.Join(dir, link), w.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
