package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// corsSettings say which pages of other origins may use the API from a browser.
// Without origins there are no CORS headers at all, and browsers allow nothing.
type corsSettings struct {
	any         bool     // CORS_ORIGINS=*
	origins     []string // CORS_ORIGINS, each exactly as a browser sends it
	credentials bool     // CORS_CREDENTIALS: cookies and the browser's own credentials too
}

const (
	corsRequestHeaders = "Authorization, Content-Type, Idempotency-Key, Traceparent, Tracestate, X-Api-Key, X-Request-Id"
	corsAnswerHeaders  = "Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id"
	corsMaxAge         = "600" // seconds that a browser may remember a preflight's answer
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
			env.Reject("CORS_ORIGINS", "%q is not an origin as browsers send it, such as https://loja.example", origin)
		}
		s.origins = append(s.origins, origin)
	}
	if s.any && len(s.origins) > 0 {
		env.Reject("CORS_ORIGINS", "* already allows every origin: remove it, or remove the others")
	}
	if s.any && s.credentials {
		env.Reject("CORS_CREDENTIALS", "true would hand every site its visitors' credentials when CORS_ORIGINS is *")
	}
	return s
}

func (s corsSettings) enabled() bool { return s.any || len(s.origins) > 0 }

// apply sets what a browser wants to see on an answer; it tells whether the
// request's origin is allowed.
func (s corsSettings) apply(answer, request http.Header) bool {
	if !s.enabled() {
		return false
	}
	if s.any {
		answer.Set("Access-Control-Allow-Origin", "*")
		answer.Set("Access-Control-Expose-Headers", corsAnswerHeaders)
		return true
	}
	answer.Add("Vary", "Origin") // also where the origin is not allowed: a cache must not mix them up
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

// preflight answers OPTIONS of an address that takes the given methods.
func (s corsSettings) preflight(answer, request http.Header, methods string) {
	answer.Set("Allow", methods)
	if s.apply(answer, request) && request.Get("Access-Control-Request-Method") != "" {
		answer.Set("Access-Control-Allow-Methods", methods)
		answer.Set("Access-Control-Allow-Headers", corsRequestHeaders)
		answer.Set("Access-Control-Max-Age", corsMaxAge)
	}
}
