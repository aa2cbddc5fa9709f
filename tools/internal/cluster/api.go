package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// An api asks the API server what the start of the cluster waits for, several times a second. A
// kubectl would take a third of a second of processor time for each question.
type api struct {
	client *http.Client
	server string
}

// api opens the API server as the administrator of the kubeconfig.
func (c *Cluster) api() (api, error) {
	b, err := os.ReadFile(c.Kubeconfig())
	if err != nil {
		return api{}, err
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `yaml:"server"`
				CA     string `yaml:"certificate-authority-data"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
		Users []struct {
			User struct {
				Certificate string `yaml:"client-certificate-data"`
				Key         string `yaml:"client-key-data"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	if err := yaml.Unmarshal(b, &config); err != nil {
		return api{}, fmt.Errorf("%s: %w", c.Kubeconfig(), err)
	}
	if len(config.Clusters) != 1 || len(config.Users) != 1 {
		return api{}, fmt.Errorf("%s has not one cluster and one user", c.Kubeconfig())
	}
	decode := base64.StdEncoding.DecodeString
	ca, err1 := decode(config.Clusters[0].Cluster.CA)
	certificate, err2 := decode(config.Users[0].User.Certificate)
	key, err3 := decode(config.Users[0].User.Key)
	pair, err4 := tls.X509KeyPair(certificate, key)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return api{}, fmt.Errorf("%s: %w", c.Kubeconfig(), err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(ca)
	return api{
		server: config.Clusters[0].Cluster.Server,
		client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{ // never through a proxy
			TLSClientConfig: &tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13},
		}},
	}, nil
}

// get reads the object at a path of the API into v, or only asks for it if v is nil.
func (a api) get(ctx context.Context, path string, v any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", path, response.Status, strings.TrimSpace(string(body)))
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(body, v)
}
