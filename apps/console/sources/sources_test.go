package sources

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAnswerIsReusedForTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cache[int]
		s := newSource("Kubernetes", "", nil)
		reads := 0
		get := func() int {
			value, err := c.get(t.Context(), &s, "", func(context.Context) (int, error) { reads++; return reads, nil })
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
		for at, want := range []int{1, 1, 2, 2, 3} { // a second apart
			if got := get(); got != want {
				t.Errorf("after %d s the answer is of read %d, want %d", at, got, want)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestAnOutageKeepsItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cache[int]
		s := newSource("Prometheus", "", nil)
		fails := true
		get := func() error {
			_, err := c.get(t.Context(), &s, "", func(ctx context.Context) (int, error) {
				if fails {
					<-ctx.Done() // the deadline of the read
					return 0, ctx.Err()
				}
				return 1, nil
			})
			return err
		}
		began := time.Now()
		for range 3 {
			var outage *OutageError
			if err := get(); !errors.As(err, &outage) || !outage.Since.Equal(began) || outage.Reason != "no answer within 1s" {
				t.Errorf("the outage is %+v, want since %s", err, began)
			}
			time.Sleep(5 * time.Second)
		}
		fails = false
		if err := get(); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		time.Sleep(5 * time.Second)
		fails, began = true, time.Now()
		var outage *OutageError
		if err := get(); !errors.As(err, &outage) || !outage.Since.Equal(began) {
			t.Errorf("a second outage is %+v, want since %s", err, began)
		}
	})
}

func TestAReaderThatGoesAwayFailsNobody(t *testing.T) {
	var c cache[int]
	s := newSource("Jaeger", "", nil)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := c.get(gone, &s, "", func(ctx context.Context) (int, error) { return 1, ctx.Err() }); err != nil {
		t.Errorf("the read ended with its reader: %v", err)
	}
}

func TestKeysOfRequestsDoNotFillTheMemory(t *testing.T) {
	var c cache[int]
	s := newSource("Jaeger", "", nil)
	for i := range 1000 {
		_, _ = c.get(t.Context(), &s, strings.Repeat("x", i), func(context.Context) (int, error) { return 1, nil })
		if len(c.entries) > maxEntries {
			t.Fatalf("%d answers are kept, want at most %d", len(c.entries), maxEntries)
		}
	}
}

// TestKubernetesIsReadWithTheServiceAccount uses a server that accepts one token, and whose
// certificate only the folder's ca.crt vouches for.
func TestKubernetesIsReadWithTheServiceAccount(t *testing.T) {
	token := "first"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"items":[{"metadata":{"name":"web"}}]}`))
	}))
	defer server.Close()
	folder := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	save := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("ca.crt", authority)
	save("token", []byte(token+"\n"))
	k, err := NewKubernetes(server.URL, folder, "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := k.Read(t.Context())
	if err != nil || cluster.Service("web").Rollout == nil {
		t.Fatalf("the Rollout is not read: %v", err)
	}

	token = "second" // the kubelet has renewed the token
	save("token", []byte(token))
	k.cache = cache[*Cluster]{}
	if _, err := k.Read(t.Context()); err != nil {
		t.Errorf("the new token is not used: %v", err)
	}
	token = "third"
	k.cache = cache[*Cluster]{}
	if _, err := k.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with an expired token: %v", err)
	}

	save("ca.crt", []byte("nothing"))
	if _, err := NewKubernetes(server.URL, folder, "shop", nil); err == nil {
		t.Error("a file without a certificate is taken")
	}
	stranger, err := NewKubernetes(server.URL, "", "shop", &http.Client{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
}
