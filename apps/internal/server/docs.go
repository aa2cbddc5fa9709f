package server

import (
	"compress/gzip"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui/v5/static"

	"github.com/loja-veloz/platform/apps/internal/problem"
)

const docsPath = "/docs"

// docsPolicy allows what Swagger UI needs, including inline styles. Services show it in
// local environments only.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"

// The page does not use html/template, which enlarges a program by half: with it the
// linker cannot remove unused methods.
const (
	docsPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="icon" href="favicon-32x32.png">
<link rel="stylesheet" href="swagger-ui.css">
<div id="api"></div>
<script src="swagger-ui-bundle.js"></script>
<script src="start.js"></script>
`
	docsStart = `SwaggerUIBundle({url: "openapi.yaml", dom_id: "#api", deepLinking: true});
`
)

// addDocs serves the OpenAPI document, and a page that renders it. All links are
// relative, since a gateway may serve the page below another path.
func (s *Server) addDocs() {
	s.Handle("docs", docsPath, func(c *gin.Context) error {
		c.Header("Location", "."+docsPath+"/")
		c.Status(http.StatusTemporaryRedirect)
		c.Writer.WriteHeaderNow()
		return nil
	}, http.MethodGet)
	s.Handle("docs", docsPath+"/*file", func(c *gin.Context) error {
		c.Header("Content-Security-Policy", docsPolicy)
		switch file := c.Param("file"); file {
		case "/":
			c.Data(http.StatusOK, "text/html; charset=utf-8", []byte(docsPage))
		case "/start.js":
			c.Data(http.StatusOK, "text/javascript; charset=utf-8", []byte(docsStart))
		case "/openapi.yaml":
			c.Data(http.StatusOK, "application/yaml", s.options.Document)
		case "/swagger-ui.css":
			return packed(c, file, "text/css; charset=utf-8")
		case "/swagger-ui-bundle.js":
			return packed(c, file, "text/javascript; charset=utf-8")
		case "/favicon-32x32.png":
			c.FileFromFS(file, http.FS(static.FS))
		default:
			return problem.New(problem.NotFound, "There is nothing at this address.")
		}
		return nil
	}, http.MethodGet)
}

// packed decompresses a file of Swagger UI and sends it.
func packed(c *gin.Context, name, contentType string) error {
	file, err := static.FS.Open(name[1:] + ".gz")
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // compiled in
	content, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	c.Header("Content-Type", contentType)
	c.Status(http.StatusOK)
	_, err = io.Copy(c.Writer, content) // #nosec G110 -- our own embedded files
	return err
}
