package postgres_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/postgres"
)

// authorities are those that the programs embed.
func authorities(t *testing.T) []*x509.Certificate {
	t.Helper()
	rest, err := os.ReadFile("rds-authorities.pem")
	if err != nil {
		t.Fatal(err)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, certificate)
	}
}

func TestTheAuthoritiesOfRDSAreValidForAnotherYear(t *testing.T) {
	all := authorities(t)
	if len(all) < 27 {
		t.Errorf("there are %d authorities, want one for each of 27 regions", len(all))
	}
	named := regexp.MustCompile(`^Amazon RDS [a-z0-9-]+ Root CA RSA2048 G1$`)
	for _, authority := range all {
		name := authority.Subject.CommonName
		if err := authority.CheckSignatureFrom(authority); err != nil || !named.MatchString(name) {
			t.Errorf("%s is not an authority of RDS (%v)", name, err)
		}
		if left := time.Until(authority.NotAfter); left < 365*24*time.Hour {
			t.Errorf("%s ends on %s: take its successor into tools/rds, and let instances have a certificate of it",
				name, authority.NotAfter.Format(time.DateOnly))
		}
	}
}

func TestOnlyInstancesOfRDSAreVerifiedByItsAuthorities(t *testing.T) {
	rds := x509.NewCertPool()
	for _, authority := range authorities(t) {
		rds.AddCert(authority)
	}
	const instance = "postgres://a:b@shop.c1.us-east-1.rds.amazonaws.com:5432/d"
	for url, want := range map[string]bool{
		instance + "?sslmode=verify-full":                                                     true,
		instance + "?sslmode=verify-ca":                                                       true,
		instance + "?sslmode=verify-full&sslrootcert=rds-authorities.pem&sslsni=0":            true, // the file has the same
		instance + "?sslmode=verify-full&sslrootcert=system":                                  false,
		"postgres://a:b@db.example/d?sslmode=verify-full":                                     false,
		"postgres://a:b@rds.amazonaws.com.evil.example/d?sslmode=verify-full":                 false,
		"postgres://a:b@evilrds.amazonaws.com/d?sslmode=verify-full":                          false,
		"postgres://a:b@db.example,SHOP.C1.us-east-1.RDS.amazonaws.com/d?sslmode=verify-full": false,
	} {
		connConfig, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		postgres.TrustRDS(connConfig)
		if roots := connConfig.TLSConfig.RootCAs; roots.Equal(rds) != want {
			t.Errorf("%s is verified by RDS's authorities: %v, want %v", url, !want, want)
		}
		for _, fallback := range connConfig.Fallbacks {
			if fallback.Host != connConfig.Host && !fallback.TLSConfig.RootCAs.Equal(rds) {
				t.Errorf("%s: its second host is not verified by RDS's authorities", url)
			}
		}
	}
	plain, err := pgx.ParseConfig(instance + "?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	if postgres.TrustRDS(plain); plain.TLSConfig != nil {
		t.Error("sslmode disable uses TLS")
	}
}
