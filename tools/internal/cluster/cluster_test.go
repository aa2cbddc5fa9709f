package cluster

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
)

func testCluster(t *testing.T) *Cluster {
	t.Helper()
	return &Cluster{Data: filepath.Join(t.TempDir(), "data"), Out: console.New(io.Discard)}
}

func TestForeignFolderIsNeitherClaimedNorDeleted(t *testing.T) {
	c := testCluster(t)
	if err := os.MkdirAll(c.Data, 0o755); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(c.Data, "precious")
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.claimData(); err == nil || !strings.Contains(err.Error(), "LOJA_DATA") {
		t.Errorf("claimData = %v, want an error that names LOJA_DATA", err)
	}
	if _, err := os.Stat(ownerFile()); err == nil {
		t.Skip("a cluster runs on this machine; wipe refuses before it looks at the folder")
	}
	if err := c.Wipe(); err == nil {
		t.Error("Wipe accepts a folder that is not the cluster's")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("the file in it is gone: %v", err)
	}
}

func TestDataFolderIsClaimedAgain(t *testing.T) {
	c := testCluster(t)
	for range 2 {
		if err := c.claimData(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRenewalKeepsTheAuthorities(t *testing.T) {
	c := testCluster(t)
	keep := []string{
		"pki/ca.crt", "pki/ca.key", "pki/front-proxy-ca.crt", "pki/front-proxy-ca.key",
		"pki/etcd/ca.crt", "pki/etcd/ca.key", "pki/sa.key", "pki/sa.pub",
	}
	leaves := []string{"pki/apiserver.crt", "pki/apiserver.key", "pki/etcd/server.crt", "pki/etcd/server.key", "kubelet.conf"}
	for _, f := range append(keep, leaves...) {
		path := filepath.Join(c.Data, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.removeLeaves(); err != nil {
		t.Fatal(err)
	}
	for _, f := range keep {
		if _, err := os.Stat(filepath.Join(c.Data, f)); err != nil {
			t.Errorf("%s is gone", f)
		}
	}
	for _, f := range leaves {
		if _, err := os.Stat(filepath.Join(c.Data, f)); err == nil {
			t.Errorf("%s is still there", f)
		}
	}
}
