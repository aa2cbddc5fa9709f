package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
)

// Webhook accepts an acquirer's notices. read reads one from a request's body and the header
// with its signature. The answer is 204 to a notice that is carried out or that is about nothing
// of this service's, 400 to one that is not genuine, and 409 or 503 where the acquirer should repeat it.
func Webhook(
	payments *charging.Payments, header string, read func(ctx context.Context, body []byte, signature string) (acquirer.Notice, error),
) server.Handler {
	return func(c *gin.Context) error {
		ctx := c.Request.Context()
		body, err := io.ReadAll(c.Request.Body)
		if err != nil {
			return problem.FromBody(err)
		}
		notice, err := read(ctx, body, c.GetHeader(header))
		switch {
		case errors.Is(err, acquirer.ErrNotGenuine):
			return problem.Wrap(problem.Invalid, "The header "+header+" is not a signature of this body, or is older than five minutes.", err)
		case err == nil:
			err = payments.Noticed(ctx, notice)
		}
		if err != nil {
			return err
		}
		c.Status(http.StatusNoContent)
		return nil
	}
}
