package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/problem"
)

//go:embed static
var staticFiles embed.FS

type asset struct {
	content []byte
	hash    string // 16 hex digits of the content's SHA-256
}

// assets are the files under /static, by name.
type assets map[string]asset

func loadAssets() (assets, error) {
	entries, err := fs.ReadDir(staticFiles, "static")
	if err != nil {
		return nil, fmt.Errorf("listing the static files: %w", err)
	}
	all := assets{}
	for _, entry := range entries {
		content, err := fs.ReadFile(staticFiles, "static/"+entry.Name())
		if err != nil {
			return nil, fmt.Errorf("reading a static file: %w", err)
		}
		sum := sha256.Sum256(content)
		all[entry.Name()] = asset{content, hex.EncodeToString(sum[:8])}
	}
	return all, nil
}

// url returns a file's address, which changes with its content.
func (a assets) url(name string) (string, error) {
	file, ok := a[name]
	if !ok {
		return "", fmt.Errorf("no static file %q", name)
	}
	return "/static/" + name + "?v=" + file.hash, nil
}

// serve sends a file. The hash is in the query and not in the path, because during a
// canary a page of one version may request its style sheet from the other version,
// whose own style sheet is better than a 404. Caches must not keep that answer, so
// an answer is cacheable forever only if the hash in the query is the file's.
func (a assets) serve(c *gin.Context) error {
	name := c.Param("file")
	file, ok := a[name]
	if !ok {
		return problem.New(problem.NotFound, "There is no such file.")
	}
	caching := "no-cache"
	if c.Query("v") == file.hash {
		caching = "public, max-age=31536000, immutable"
	}
	c.Header("Cache-Control", caching)
	c.Header("ETag", `"`+file.hash+`"`)
	http.ServeContent(c.Writer, c.Request, name, time.Time{}, bytes.NewReader(file.content))
	return nil
}
