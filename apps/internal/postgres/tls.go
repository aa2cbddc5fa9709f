package postgres

import (
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// rdsAuthorities are the roots of rds-ca-rsa2048-g1 in every region of AWS that the file names;
// no system trusts them. tools/internal/postgres writes the file.
//
//go:embed rds-authorities.pem
var rdsAuthorities []byte

var rdsRoots = sync.OnceValue(func() *x509.CertPool {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(rdsAuthorities) {
		panic("rds-authorities.pem has no certificate")
	}
	return roots
})

// rdsDomain is the end of the names of all RDS instances.
const rdsDomain = ".rds.amazonaws.com"

// TrustRDS lets a connection to an instance of RDS verify the server by RDS's authorities, and by no
// others. It changes nothing for other hosts, for a URL with sslrootcert, and for an sslmode that does
// not verify.
func TrustRDS(connConfig *pgx.ConnConfig) {
	trust := func(host string, config *tls.Config) {
		if config != nil && config.RootCAs == nil && strings.HasSuffix(strings.ToLower(host), rdsDomain) {
			config.RootCAs = rdsRoots()
		}
	}
	trust(connConfig.Host, connConfig.TLSConfig)
	for _, fallback := range connConfig.Fallbacks {
		trust(fallback.Host, fallback.TLSConfig)
	}
}

// ExplainTLS adds to an error that the server's certificate, or the lack of one, caused what the
// sslmode of the URL has to do with it. It returns other errors as they are.
func ExplainTLS(err error) error {
	const setting = "sslmode (database.sslMode in the stack file) asks for "
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &name):
		return fmt.Errorf(setting+"a certificate with the name %s, and the server's is for others: connect by the name that it has: %w",
			name.Host, err)
	case errors.As(err, &authority):
		return fmt.Errorf(setting+"a certificate of a known authority, and %q, which signed the server's, is none: "+
			"name its file as sslrootcert, or check that this is the right server: %w", issuer(authority), err)
	case errors.As(err, &invalid):
		return fmt.Errorf(setting+"a valid certificate, and the server's is not: renew it: %w", err)
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgconn has no error of its own for it
		return fmt.Errorf(setting+"TLS, and the server has none: turn its TLS on, or use disable if nobody can listen: %w", err)
	}
	return err
}

// issuer is who signed the certificate that nobody knows.
func issuer(err x509.UnknownAuthorityError) string {
	if err.Cert == nil {
		return ""
	}
	return err.Cert.Issuer.CommonName
}
