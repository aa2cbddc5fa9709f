package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// contentSecurityPolicy lets a page load only what this service serves. Nothing is inline: the
// plots use attributes of SVG and the style sheet.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed templates static
var files embed.FS

// pages renders the templates in the common layout, and serves the files that they load.
type pages struct {
	services  []string
	templates map[string]*template.Template
	static    map[string]asset
}

type asset struct {
	content []byte
	hash    string
}

// view is the data of the layout and of the page in it.
type view struct {
	Name     string // the page's template
	Services []string
	// Outages are the sources that did not answer for this page.
	Outages []*sources.OutageError
	Page    any
}

func loadPages(services []string) (*pages, error) {
	p := &pages{services: services, templates: map[string]*template.Template{}, static: map[string]asset{}}
	entries, err := fs.ReadDir(files, "static")
	if err != nil {
		return nil, fmt.Errorf("listing the static files: %w", err)
	}
	for _, entry := range entries {
		content, err := fs.ReadFile(files, "static/"+entry.Name())
		if err != nil {
			return nil, fmt.Errorf("reading a static file: %w", err)
		}
		sum := sha256.Sum256(content)
		p.static[entry.Name()] = asset{content, hex.EncodeToString(sum[:8])}
	}
	layout, err := template.New("layout.html").Funcs(template.FuncMap{
		"clock": clock, "machine": machine, "percent": percent, "count": count, "plural": plural,
		"odd": func(i int) bool { return i%2 == 1 },
	}).ParseFS(files, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("parsing the layout: %w", err)
	}
	for _, name := range []string{"services", "service", "payments", "order", "error"} {
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(files, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("parsing page %s: %w", name, err)
		}
		p.templates[name] = page
	}
	return p, nil
}

// render answers with a page. It sends nothing before the template has succeeded, so that a
// failure leads to an error page and not to half a page.
func (p *pages) render(c *gin.Context, status int, name string, outages outages, content any) error {
	_, span := telemetry.Span(c.Request.Context(), "render "+name)
	defer span.End()
	var page bytes.Buffer
	if err := p.templates[name].Execute(&page, view{name, p.services, outages.list, content}); err != nil {
		return fmt.Errorf("rendering page %s: %w", name, err)
	}
	c.Header("Cache-Control", "no-store")
	c.Data(status, "text/html; charset=utf-8", page.Bytes())
	return nil
}

type errorPage struct {
	Status         int
	Title, Message string
	RequestID      string
}

// renderError answers with a page that says what was wrong.
func (p *pages) renderError(c *gin.Context, e *problem.Error) error {
	return p.render(c, e.Status(), "error", outages{}, errorPage{
		e.Status(), http.StatusText(e.Status()), e.Message, c.Writer.Header().Get("X-Request-Id"),
	})
}

// serveStatic sends a file. Browsers ask again with its hash, so that an update is seen at once.
func (p *pages) serveStatic(c *gin.Context) error {
	file, ok := p.static[c.Param("file")]
	if !ok {
		return problem.New(problem.NotFound, "There is no such file.")
	}
	c.Header("Cache-Control", "no-cache")
	c.Header("ETag", `"`+file.hash+`"`)
	http.ServeContent(c.Writer, c.Request, c.Param("file"), time.Time{}, bytes.NewReader(file.content))
	return nil
}

// outages collects the sources that do not answer: each once, since its first failure.
type outages struct{ list []*sources.OutageError }

// add records the error of a read, if it is one, and reports whether the read succeeded.
func (o *outages) add(err error) bool {
	outage, ok := err.(*sources.OutageError) //nolint:errorlint // the sources do not wrap it
	if !ok {
		return err == nil
	}
	i := slices.IndexFunc(o.list, func(known *sources.OutageError) bool { return known.Source == outage.Source })
	switch {
	case i < 0:
		o.list = append(o.list, outage)
	case outage.Since.Before(o.list[i].Since):
		o.list[i] = outage
	}
	return false
}
