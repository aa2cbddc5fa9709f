package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// corsSettings tell which pages of other origins may use the API from a browser.
// Without origins the gateway sends no CORS headers, so browsers refuse all of them.
type corsSettings struct {
	any         bool     // CORS_ORIGINS=*
	origins     []string // CORS_ORIGINS, each exactly as a browser sends it
	credentials bool     // CORS_CREDENTIALS: also allow cookies and HTTP authentication
}

const (
	corsRequestHeaders = "Authorization, Content-Type, Idempotency-Key, Traceparent, Tracestate, X-Api-Key, X-Request-Id"
	corsAnswerHeaders  = "Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id"
	corsMaxAge         = "600" // seconds for which a browser may cache a preflight's response
)

func readCORS(env *config.Reader) corsSettings {
	origins := words(env, "CORS_ORIGINS")
	s := corsSettings{credentials: env.Choice("CORS_CREDENTIALS", "false", "true") == "true"}
	for _, origin := range origins {
		if origin == "*" {
			s.any = true
			continue
		}
		parsed, err := url.Parse(origin)
		if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" ||
			origin != strings.ToLower(parsed.Scheme+"://"+parsed.Host) {
			env.Reject("CORS_ORIGINS", "%q is not an origin in the form that browsers send, such as https://loja.example", origin)
		}
		s.origins = append(s.origins, origin)
	}
	if s.any && len(s.origins) > 0 {
		env.Reject("CORS_ORIGINS", "* allows every origin: remove either * or the other origins")
	}
	if s.any && s.credentials {
		env.Reject("CORS_CREDENTIALS", "must be false if CORS_ORIGINS is *: any site could send requests with its visitors' credentials")
	}
	return s
}

func (s corsSettings) enabled() bool { return s.any || len(s.origins) > 0 }

// apply sets the CORS headers of an answer. It returns whether the request's origin
// is allowed.
func (s corsSettings) apply(answer, request http.Header) bool {
	if !s.enabled() {
		return false
	}
	if s.any {
		answer.Set("Access-Control-Allow-Origin", "*")
		answer.Set("Access-Control-Expose-Headers", corsAnswerHeaders)
		return true
	}
	answer.Add("Vary", "Origin") // even if the origin is refused, so that a cache keeps the answers apart
	origin := request.Get("Origin")
	if origin == "" || !slices.Contains(s.origins, origin) {
		return false
	}
	answer.Set("Access-Control-Allow-Origin", origin)
	answer.Set("Access-Control-Expose-Headers", corsAnswerHeaders)
	if s.credentials {
		answer.Set("Access-Control-Allow-Credentials", "true")
	}
	return true
}

// preflight answers the OPTIONS request of an address that accepts the given methods.
func (s corsSettings) preflight(answer, request http.Header, methods string) {
	answer.Set("Allow", methods)
	if s.apply(answer, request) && request.Get("Access-Control-Request-Method") != "" {
		answer.Set("Access-Control-Allow-Methods", methods)
		answer.Set("Access-Control-Allow-Headers", corsRequestHeaders)
		answer.Set("Access-Control-Max-Age", corsMaxAge)
	}
}
