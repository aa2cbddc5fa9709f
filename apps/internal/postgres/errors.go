package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATE codes: https://www.postgresql.org/docs/15/errcodes-appendix.html
const (
	readOnlyTransaction = "25006"
	undefinedTable      = "42P01"
	diskFull            = "53100"
	tooManyConnections  = "53300"
	adminShutdown       = "57P01"
	crashShutdown       = "57P02"
	cannotConnectNow    = "57P03"
	connectionException = "08" // the class
)

// Code returns err's SQLSTATE, or "" if err does not come from the server.
func Code(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// Down tells whether err means that the database is unavailable: it cannot be reached,
// no connection became free in time, the connection was lost, or the server is
// starting, stopping or read-only, or its disk is full. If a COMMIT fails with such an error, its outcome
// is unknown.
func Down(err error) bool {
	var (
		connect *pgconn.ConnectError
		answer  *pgconn.PgError
		http    *url.Error
		network net.Error
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &http):
		// The client disconnected, or the error comes from a call to another service.
		return false
	case errors.As(err, &connect):
		return true
	case errors.As(err, &answer):
		switch answer.Code {
		case diskFull, tooManyConnections, adminShutdown, crashShutdown, cannotConnectNow, readOnlyTransaction:
			return true
		}
		return strings.HasPrefix(answer.Code, connectionException)
	}
	return errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network)
}
