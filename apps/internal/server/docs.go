package server

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	"github.com/loja-veloz/platform/apps/internal/problem"
)

const docsPath = "/docs"

// docsPolicy lets Swagger UI run, whose page carries a script and styles within
// it. Services show it in local environments only.
const docsPolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"

// addDocs serves the OpenAPI document, and a page that renders it. All links are
// relative, since a gateway may show the page below another path.
func (s *Server) addDocs() {
	page := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: s.settings.Identity.Service, SwaggerJSON: "./openapi.yaml", BasePath: ".", InternalBasePath: docsPath,
	})
	s.Handle("docs", docsPath, func(c *gin.Context) error {
		c.Header("Location", "."+docsPath+"/")
		c.Status(http.StatusTemporaryRedirect)
		c.Writer.WriteHeaderNow()
		return nil
	}, http.MethodGet)
	s.Handle("docs", docsPath+"/*file", func(c *gin.Context) error {
		switch c.Param("file") {
		case "/openapi.yaml":
			c.Data(http.StatusOK, "application/yaml", s.options.Document)
			return nil
		case "/", "/swagger-ui.css", "/swagger-ui-bundle.js", "/swagger-ui-standalone-preset.js",
			"/favicon-16x16.png", "/favicon-32x32.png", "/oauth2-redirect.html":
			c.Header("Content-Security-Policy", docsPolicy)
			page.ServeHTTP(c.Writer, c.Request)
			return nil
		}
		return problem.New(problem.NotFound, "There is nothing at this address.")
	}, http.MethodGet)
}
