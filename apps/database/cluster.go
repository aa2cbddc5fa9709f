package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
)

const (
	serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount"
	requestTimeout          = 15 * time.Second
	answerLimit             = 4 << 20 // bytes; a Secret has at most one MiB
	conflictTries           = 10
)

// cluster is a client of the Kubernetes API with the pod's service account.
type cluster struct {
	base      string
	tokenFile string
	client    *http.Client
}

// readCluster reads the settings that Kubernetes gives to every pod:
// KUBERNETES_SERVICE_HOST and _PORT, and the mounted token and certificate. Tests set
// SERVICE_ACCOUNT_DIRECTORY.
func readCluster(env *config.Reader) *cluster {
	host, port := env.Text("KUBERNETES_SERVICE_HOST", ""), env.Text("KUBERNETES_SERVICE_PORT", "")
	if host == "" || port == "" {
		env.Reject("KUBERNETES_SERVICE_HOST", "or KUBERNETES_SERVICE_PORT is not set: Secrets can be written only from a pod")
		return nil
	}
	directory := env.Text("SERVICE_ACCOUNT_DIRECTORY", serviceAccountDirectory)
	certificates, err := os.ReadFile(filepath.Join(directory, "ca.crt"))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(certificates) {
		env.Reject("SERVICE_ACCOUNT_DIRECTORY", "%s has no certificate in ca.crt: set automountServiceAccountToken", directory)
		return nil
	}
	return &cluster{
		base:      "https://" + net.JoinHostPort(host, port),
		tokenFile: filepath.Join(directory, "token"),
		client: &http.Client{
			Timeout: requestTimeout,
			Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			},
			// The API does not redirect, and no other server may get the token.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// secret is the part of a Secret that is read or written; see
// https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/
type secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]any    `json:"metadata"` // a map, so that an update keeps all its fields
	Type       string            `json:"type,omitempty"`
	Immutable  *bool             `json:"immutable,omitempty"`
	Data       map[string][]byte `json:"data,omitempty"`
}

// apiError is an answer of the API with an error status.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("the Kubernetes API answered %d %s: %s", e.status, http.StatusText(e.status), e.message)
}

func hasStatus(err error, status int) bool {
	var answer *apiError
	return errors.As(err, &answer) && answer.status == status
}

// ensure creates or updates a Secret with the data that change returns. change gets the
// present data, or nil if there is no Secret. If it returns nothing, ensure does not
// write. If another client writes in between, ensure reads the Secret and calls change
// again, so that no write is lost. It returns whether it wrote the Secret.
func (c *cluster) ensure(
	ctx context.Context,
	namespace, name string,
	change func(data map[string][]byte) map[string][]byte,
) (written bool, err error) {
	for range conflictTries {
		var found secret
		err = c.do(ctx, http.MethodGet, secretPath(namespace, name), nil, &found)
		missing := hasStatus(err, http.StatusNotFound)
		if err != nil && !missing {
			return false, fmt.Errorf("reading Secret %s/%s: %w", namespace, name, err)
		}
		more := change(found.Data)
		if len(more) == 0 {
			return false, nil
		}
		if missing {
			created := secret{
				APIVersion: "v1", Kind: "Secret", Type: "Opaque", Data: more,
				Metadata: map[string]any{
					"name": name, "namespace": namespace,
					"labels": map[string]string{"app.kubernetes.io/managed-by": "database"},
				},
			}
			err = c.do(ctx, http.MethodPost, secretPath(namespace, ""), created, nil)
		} else {
			if found.Data == nil {
				found.Data = map[string][]byte{}
			}
			maps.Copy(found.Data, more)
			delete(found.Metadata, "managedFields")
			// The metadata has the resourceVersion that was read, so the API answers with a
			// conflict if the Secret has changed since.
			err = c.do(ctx, http.MethodPut, secretPath(namespace, name), found, nil)
		}
		switch {
		case err == nil:
			return true, nil
		case hasStatus(err, http.StatusConflict): // another client wrote it: read it again
		case hasStatus(err, http.StatusNotFound) && !missing: // another client deleted it
		default:
			return false, fmt.Errorf("writing Secret %s/%s: %w", namespace, name, err)
		}
	}
	return false, fmt.Errorf("writing Secret %s/%s: other clients changed it during each of %d tries: %w", namespace, name, conflictTries, err)
}

func secretPath(namespace, name string) string {
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/secrets"
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// do sends a request until the API answers it or ctx is done. It retries on 429, on 500
// and above, and on broken connections, since the API of a cluster restarts from time to
// time. All requests here can safely be sent twice.
func (c *cluster) do(ctx context.Context, method, path string, body, answer any) error {
	pause := 100 * time.Millisecond
	for {
		err := c.doOnce(ctx, method, path, body, answer)
		var refused *apiError
		if err == nil ||
			errors.As(err, &refused) && refused.status != http.StatusTooManyRequests && refused.status < http.StatusInternalServerError {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause = min(2*pause, 5*time.Second)
	}
}

func (c *cluster) doOnce(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return err
	}
	// The kubelet renews the file before the token in it expires.
	token, err := os.ReadFile(c.tokenFile)
	if err != nil {
		return fmt.Errorf("reading the service account's token: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content = io.LimitReader(response.Body, answerLimit)
	if response.StatusCode < 200 || response.StatusCode > 299 {
		var status struct {
			Message string `json:"message"`
		}
		_ = json.NewDecoder(content).Decode(&status) // a proxy's answer may not be JSON
		return &apiError{status: response.StatusCode, message: status.Message}
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(content).Decode(answer); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	return nil
}

// secretStore keeps credentials in Secrets: <database>-database {url},
// <database>-database-owner {url} and auditor-databases {<database>: url}.
type secretStore struct {
	cluster            *cluster
	namespace, auditor string
}

func (s *secretStore) keep(
	ctx context.Context,
	databases []string,
	adopt func(database, role, existing string) string,
) (credentials, error) {
	kept := newCredentials()
	for _, database := range databases {
		var err error
		if kept.Runtime[database], err = s.keepURL(ctx, database+"-database", func(existing string) string {
			return adopt(database, database, existing)
		}); err != nil {
			return credentials{}, err
		}
		if kept.Owner[database], err = s.keepURL(ctx, database+"-database-owner", func(existing string) string {
			return adopt(database, database+ownerSuffix, existing)
		}); err != nil {
			return credentials{}, err
		}
	}
	_, err := s.cluster.ensure(ctx, s.namespace, s.auditor+"-databases", func(data map[string][]byte) map[string][]byte {
		var auditor string // a URL that has its password; there is one auditor for all databases
		for _, database := range databases {
			if passwordOf(auditor) == "" {
				auditor = string(data[database])
			}
		}
		more := map[string][]byte{}
		for _, database := range databases {
			auditor = adopt(database, s.auditor, auditor)
			kept.Auditor[database] = auditor
			if string(data[database]) != auditor {
				more[database] = []byte(auditor)
			}
		}
		return more
	})
	return kept, err
}

// keepURL keeps one URL under the key url.
func (s *secretStore) keepURL(ctx context.Context, name string, adopt func(existing string) string) (string, error) {
	var kept string
	_, err := s.cluster.ensure(ctx, s.namespace, name, func(data map[string][]byte) map[string][]byte {
		kept = adopt(string(data["url"]))
		if string(data["url"]) == kept {
			return nil
		}
		return map[string][]byte{"url": []byte(kept)}
	})
	return kept, err
}
