//go:build drill

package fault

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
)

func TestFaults(t *testing.T) {
	for text, want := range map[string]map[string]int{
		"errors":             {"GET /": 500, "POST /": 500, "GET /health": 200, "GET /ready": 200, "GET /metrics": 200},
		"errors:method=POST": {"GET /": 200, "POST /": 500},
		"errors:share=0":     {"GET /": 200},
		"errors:after=1h":    {"GET /": 200},
		"unready":            {"GET /": 200, "GET /ready": 503},
		"latency:delay=1ms":  {"GET /": 200},
		"leak":               {"GET /": 200},
		"migration":          {"GET /": 200},
	} {
		f, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		engine := gin.New()
		engine.Use(f.handle)
		engine.NoRoute(func(c *gin.Context) { c.Status(http.StatusOK) })
		for request, status := range want {
			method, path, _ := strings.Cut(request, " ")
			recorder := httptest.NewRecorder()
			began := time.Now()
			engine.ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
			if recorder.Code != status {
				t.Errorf("%s: %s = %d, want %d", text, request, recorder.Code, status)
			}
			if f.kind == "latency" && time.Since(began) < f.delay {
				t.Errorf("%s: %s took %s", text, request, time.Since(began))
			}
		}
		if f.kind == "leak" && len(f.leaked) != 1 {
			t.Errorf("after one request %d blocks are kept", len(f.leaked))
		}
	}
	for kind, fails := range map[string]bool{"": false, "errors": false, "migration": true} {
		text = kind
		if err := Migration(); (err != nil) != fails {
			t.Errorf("the migration of a program with the fault %q: %v", kind, err)
		}
	}
	text = ""
	for _, text := range []string{"", "fire", "errors:share=x", "errors:size=1", "latency:delay=1"} {
		if _, err := parse(text); err == nil {
			t.Errorf("the fault %q is taken", text)
		}
	}
}
