package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// api is the part of the Kubernetes API that the tests need. It refuses what the real
// API refuses: https://kubernetes.io/docs/reference/using-api/api-concepts/
type api struct {
	t           *testing.T
	server      *httptest.Server
	directory   string // of the service account
	mu          sync.Mutex
	token       string
	namespaces  []string
	secrets     map[string]map[string]any // by namespace/name
	version     int
	writes      int
	beforeWrite func(method, key string) // is called without holding mu
	interfere   func(w http.ResponseWriter, r *http.Request) (handled bool)
	loseAnswers int // number of writes that succeed and whose answer is lost
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{t: t, token: "token-1", namespaces: []string{"shop"}, secrets: map[string]map[string]any{}, directory: t.TempDir()}
	a.server = httptest.NewTLSServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.server.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
	a.write("ca.crt", string(certificate))
	a.write("token", a.token+"\n")
	return a
}

func (a *api) write(file, content string) {
	if err := os.WriteFile(filepath.Join(a.directory, file), []byte(content), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// env returns the variables that a pod has for the API.
func (a *api) env() map[string]string {
	address, err := url.Parse(a.server.URL)
	if err != nil {
		a.t.Fatal(err)
	}
	return map[string]string{
		"KUBERNETES_SERVICE_HOST": address.Hostname(), "KUBERNETES_SERVICE_PORT": address.Port(),
		"SERVICE_ACCOUNT_DIRECTORY": a.directory,
	}
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	if a.interfere != nil && a.interfere(w, r) {
		return
	}
	refuse := func(status int, reason, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status})
	}
	a.mu.Lock()
	authorized := r.Header.Get("Authorization") == "Bearer "+a.token
	a.mu.Unlock()
	if !authorized {
		refuse(http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // api v1 namespaces shop secrets [name]
	if len(parts) < 5 || parts[0] != "api" || parts[1] != "v1" || parts[2] != "namespaces" || parts[4] != "secrets" {
		refuse(http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		return
	}
	namespace, name := parts[3], strings.Join(parts[5:], "/")

	var sent map[string]any
	if r.Method != http.MethodGet {
		if r.Header.Get("Content-Type") != "application/json" {
			refuse(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "the body of the request was in an unknown format")
			return
		}
		var typed secret
		decoder := json.NewDecoder(r.Body)
		if err := decoder.Decode(&sent); err != nil {
			refuse(http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		again, _ := json.Marshal(sent)
		if err := json.Unmarshal(again, &typed); err != nil { // data that is not base64
			refuse(http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		if sent["apiVersion"] != "v1" || sent["kind"] != "Secret" {
			refuse(http.StatusBadRequest, "BadRequest", "no kind Secret is registered for that version")
			return
		}
		inBody, _ := typed.Metadata["name"].(string)
		if r.Method == http.MethodPost {
			name = inBody
		}
		if inBody == "" || inBody != name || typed.Metadata["namespace"] != namespace {
			refuse(http.StatusBadRequest, "BadRequest", "the name or namespace of the object does not match the URL")
			return
		}
		if a.beforeWrite != nil {
			a.beforeWrite(r.Method, namespace+"/"+name)
		}
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	known := false
	for _, candidate := range a.namespaces {
		known = known || candidate == namespace
	}
	key := namespace + "/" + name
	stored, exists := a.secrets[key]
	notFound := func() { refuse(http.StatusNotFound, "NotFound", fmt.Sprintf("secrets %q not found", name)) }
	switch r.Method {
	case http.MethodGet:
		if !exists {
			notFound()
			return
		}
		_ = json.NewEncoder(w).Encode(stored)
		return
	case http.MethodPost:
		switch {
		case !known:
			refuse(http.StatusNotFound, "NotFound", fmt.Sprintf("namespaces %q not found", namespace))
			return
		case exists:
			refuse(http.StatusConflict, "AlreadyExists", fmt.Sprintf("secrets %q already exists", name))
			return
		case sent["metadata"].(map[string]any)["resourceVersion"] != nil:
			refuse(http.StatusBadRequest, "BadRequest", "resourceVersion should not be set on objects to be created")
			return
		}
	case http.MethodPut:
		if !exists {
			notFound()
			return
		}
		// The real API accepts an update without a version. This one refuses it, since the
		// client must always send the version that it read.
		if sent["metadata"].(map[string]any)["resourceVersion"] != stored["metadata"].(map[string]any)["resourceVersion"] {
			refuse(http.StatusConflict, "Conflict", "the object has been modified; please apply your changes to the latest version")
			return
		}
	default:
		refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource")
		return
	}
	a.put(key, sent)
	a.writes++
	if a.loseAnswers > 0 {
		a.loseAnswers--
		panic(http.ErrAbortHandler)
	}
	_ = json.NewEncoder(w).Encode(a.secrets[key])
}

// put stores a Secret. The caller holds mu.
func (a *api) put(key string, content map[string]any) {
	a.version++
	metadata := content["metadata"].(map[string]any)
	metadata["resourceVersion"] = strconv.Itoa(a.version)
	a.secrets[key] = content
}

// set stores a Secret as another client of the API would.
func (a *api) set(key string, data map[string]string) {
	namespace, name, _ := strings.Cut(key, "/")
	encoded := map[string][]byte{}
	for key, value := range data {
		encoded[key] = []byte(value)
	}
	raw, _ := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": encoded,
		"metadata": map[string]any{"name": name, "namespace": namespace, "uid": "1", "labels": map[string]string{"team": "shop"}},
	})
	var content map[string]any
	if err := json.Unmarshal(raw, &content); err != nil {
		a.t.Error(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(key, content)
}

// data returns a Secret's data, or nil.
func (a *api) data(key string) map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	raw, _ := json.Marshal(a.secrets[key])
	var typed secret
	if err := json.Unmarshal(raw, &typed); err != nil {
		a.t.Error(err)
	}
	data := map[string]string{}
	for key, value := range typed.Data {
		data[key] = string(value)
	}
	return data
}

func (a *api) remove(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.secrets, key)
}
