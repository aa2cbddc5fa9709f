// Package apitest checks in tests that a service's handler conforms to its OpenAPI document.
package apitest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// Handler serves with next. It fails the test for every answer that the document does
// not allow: a status, content type or body that it does not have, and success for a
// request that it refuses.
func Handler(t testing.TB, document []byte, next http.Handler) http.Handler {
	t.Helper()
	router := newRouter(t, document)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("apitest: reading the request: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		check(t, router, r, body, recorder)
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes()) // a disconnected client is not the service's error
	})
}

func newRouter(t testing.TB, document []byte) routers.Router {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatalf("apitest: loading the document: %v", err)
	}
	if err := spec.Validate(t.Context()); err != nil {
		t.Fatalf("apitest: the document is invalid: %v", err)
	}
	spec.Servers = nil
	router, err := legacy.NewRouter(spec)
	if err != nil {
		t.Fatalf("apitest: routing the document: %v", err)
	}
	return router
}

func check(t testing.TB, router routers.Router, r *http.Request, body []byte, recorder *httptest.ResponseRecorder) {
	t.Helper()
	route, parameters, err := router.FindRoute(r)
	if err != nil {
		if recorder.Code < 400 {
			t.Errorf("%s %s = %d, and the document has no such operation", r.Method, r.URL.Path, recorder.Code)
		}
		return
	}
	request := r.Clone(r.Context())
	request.Body = io.NopCloser(bytes.NewReader(body))
	input := &openapi3filter.RequestValidationInput{Request: request, PathParams: parameters, Route: route}
	if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil && recorder.Code < 400 {
		t.Errorf("%s %s = %d, but the document refuses the request: %v", r.Method, r.URL.Path, recorder.Code, err)
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 recorder.Code,
		Header:                 recorder.Header(),
		Body:                   io.NopCloser(bytes.NewReader(recorder.Body.Bytes())),
	})
	if err != nil {
		t.Errorf("%s %s = %d %s, which the document does not allow: %v", r.Method, r.URL.Path, recorder.Code, recorder.Body, err)
	}
}
