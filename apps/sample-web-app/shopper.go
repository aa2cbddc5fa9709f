package main

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"net/http"
	"regexp"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/clientip"
)

const (
	// shopperCookie holds the secret by which the shop knows a browser again. Only the browser
	// that placed an order has it, so that a forwarded address shows nobody the order.
	shopperCookie = "shopper"
	// shopperAge is longer than anybody needs to look at an order.
	shopperAge = 365 * 24 * time.Hour
)

// secretForm has 130 bits in base32.
var secretForm = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// shopper is who uses the shop, as the API knows it.
type shopper struct {
	id      string // "" if the browser has not ordered yet
	address string
}

// shopperOf returns who sent a request.
func (p *pages) shopperOf(c *gin.Context) shopper {
	who := shopper{address: clientip.Of(c.Request, p.proxies).String()}
	if secret := secretOf(c); secret != "" {
		who.id = digest(secret)
	}
	return who
}

// secretOf returns what the browser's cookie holds, or "".
func secretOf(c *gin.Context) string {
	secret, err := c.Cookie(shopperCookie)
	if err != nil || !secretForm.MatchString(secret) {
		return ""
	}
	return secret
}

// greet returns who sent the order form with the idempotency key, and gives the browser the
// cookie. Without one, the secret follows from the key, so that a form that is sent twice,
// before the first answer arrives, is of the same shopper.
func (p *pages) greet(c *gin.Context, key string) shopper {
	secret := secretOf(c)
	if secret == "" {
		sum := sha256.Sum256([]byte("shopper of the form " + key))
		secret = base32.StdEncoding.EncodeToString(sum[:])[:26]
	}
	//nolint:gosec // Secure behind HTTPS; the local shop and a port-forward have none
	http.SetCookie(c.Writer, &http.Cookie{
		Name: shopperCookie, Value: secret, Path: "/", MaxAge: int(shopperAge / time.Second), HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: byHTTPS(c),
	})
	return shopper{digest(secret), clientip.Of(c.Request, p.proxies).String()}
}

// byHTTPS reports whether the browser sent the request by HTTPS. Behind a load balancer that ends
// TLS and sends no headers, as in AWS, a gateway names HTTP, and the port that the browser called.
func byHTTPS(c *gin.Context) bool {
	return c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https" || c.GetHeader("X-Forwarded-Port") == "443"
}

// name adds the shopper's address to a request, for the limit that the API applies to each.
func (s shopper) name(_ context.Context, r *http.Request) error {
	r.Header.Set(clientip.Header, s.address)
	return nil
}

// digest is what the API and its database get of the secret.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
