package main

import (
	"bytes"
	"embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// contentSecurityPolicy lets a page load only what this service serves, and no scripts.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// policyOf returns the Content-Security-Policy of a page. That of an order may run the script that
// follows it. Stripe's script may run only where the shopper pays.
func (p *pages) policyOf(page any) string {
	pays, follows := false, false
	switch page := page.(type) {
	case windowPage:
		pays = page.Pay.Element != nil
	case orderPage:
		follows = true
		pays = page.Stripe != nil
	}
	switch {
	case pays:
		return contentSecurityPolicy + p.till.sources
	case follows:
		return contentSecurityPolicy + "; script-src 'self'; connect-src 'self'"
	}
	return contentSecurityPolicy
}

//go:embed templates
var templateFiles embed.FS

// pages renders the templates in the common layout.
type pages struct {
	templates map[string]*template.Template
	identity  config.Identity
	shop      *shop
	proxies   int // of ours in front of this service
	till      till
	fromHere  *http.CrossOriginProtection // refuses other sites' forms, by Sec-Fetch-Site or Origin
}

// view is the data of the layout and of the page in it.
type view struct {
	Name     string // the page's template
	Identity config.Identity
	Hue      uint32 // degrees; each version has its own colour, which shows a canary's arrival
	Page     any
}

func loadPages(static assets, identity config.Identity, shop *shop, settings settings) (*pages, error) {
	functions := template.FuncMap{"asset": static.url}
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(templateFiles, "templates/layout.html")
	if err != nil {
		return nil, fmt.Errorf("parsing the layout: %w", err)
	}
	p := &pages{
		templates: map[string]*template.Template{}, identity: identity, shop: shop, proxies: settings.proxies,
		till: settings.till, fromHere: http.NewCrossOriginProtection(),
	}
	for _, name := range []string{"window", "order", "echo", "error"} {
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(templateFiles, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("parsing page %s: %w", name, err)
		}
		p.templates[name] = page
	}
	return p, nil
}

// render answers with a page. It sends nothing before the template has succeeded, so
// that a failure leads to an error page and not to half a page.
func (p *pages) render(c *gin.Context, status int, name string, content any) error {
	_, span := telemetry.Span(c.Request.Context(), "render "+name)
	defer span.End()

	hash := fnv.New32a()
	_, _ = hash.Write([]byte(p.identity.Version)) // a hash's Write never fails
	var page bytes.Buffer
	err := p.templates[name].Execute(&page, view{
		Name:     name,
		Identity: p.identity,
		Hue:      hash.Sum32() % 360,
		Page:     content,
	})
	if err != nil {
		return fmt.Errorf("rendering page %s: %w", name, err)
	}
	c.Header("Content-Security-Policy", p.policyOf(content))
	c.Header("Cache-Control", "no-store") // the page names the pod that served this request
	c.Data(status, "text/html; charset=utf-8", page.Bytes())
	return nil
}

type errorPage struct {
	Status    int
	Title     string
	Message   string
	RequestID string
}

// renderError answers people with a page and programs with problem details.
func (p *pages) renderError(c *gin.Context, e *problem.Error) error {
	c.Header("Vary", "Accept")
	if prefersJSON(c.GetHeader("Accept")) {
		return problem.Write(c.Writer, e)
	}
	return p.render(c, e.Status(), "error", errorPage{
		Status:    e.Status(),
		Title:     http.StatusText(e.Status()),
		Message:   e.Message,
		RequestID: c.Writer.Header().Get("X-Request-Id"),
	})
}

// prefersJSON tells whether an Accept header ranks JSON above HTML. At equal quality,
// a type that is named outranks one that only matches a wildcard. HTML wins if both
// are equal, because this service is for people.
func prefersJSON(accept string) bool {
	var htmlRank, jsonRank float64
	for media := range strings.SplitSeq(accept, ",") {
		kind, parameters, err := mime.ParseMediaType(media)
		if err != nil {
			continue
		}
		quality := 1.0
		if raw, ok := parameters["q"]; ok {
			if quality, err = strconv.ParseFloat(raw, 64); err != nil || quality > 1 {
				continue
			}
		}
		// Qualities have three decimals, so this bonus only decides ties.
		const named = 0.0001
		switch kind {
		case "text/html", "application/xhtml+xml":
			htmlRank = max(htmlRank, quality+named)
		case "text/*", "*/*":
			htmlRank = max(htmlRank, quality)
		case "application/json", "application/problem+json":
			jsonRank = max(jsonRank, quality+named)
		case "application/*":
			jsonRank = max(jsonRank, quality)
		}
	}
	return jsonRank > htmlRank
}
