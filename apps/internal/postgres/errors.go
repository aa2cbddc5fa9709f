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

// The conditions told apart, by their SQLSTATE:
// https://www.postgresql.org/docs/15/errcodes-appendix.html
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
	checkViolation      = "23514"
	serializationFailed = "40001"
	deadlockDetected    = "40P01"
	readOnlyTransaction = "25006"
	undefinedTable      = "42P01"
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

// Unique tells whether err says that a row would have broken the unique or
// primary key constraint, or unique index, of that name.
func Unique(err error, constraint string) bool { return violates(err, uniqueViolation, constraint) }

// Foreign tells whether err says that a row would have broken the foreign key of that name.
func Foreign(err error, constraint string) bool {
	return violates(err, foreignKeyViolation, constraint)
}

// Check tells whether err says that a row would have broken the check of that name.
func Check(err error, constraint string) bool { return violates(err, checkViolation, constraint) }

func violates(err error, code, constraint string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == code && answer.ConstraintName == constraint
}

// Down tells whether err says that the database could not be used at all, now:
// not reached, no connection to be had in time, the connection lost, the server
// starting, stopping or only good for reading. What a lost COMMIT did is unknown.
func Down(err error) bool {
	var (
		connect *pgconn.ConnectError
		answer  *pgconn.PgError
		http    *url.Error
		network net.Error
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &http):
		// The client went away, or it was another service that could not be reached.
		return false
	case errors.As(err, &connect):
		return true
	case errors.As(err, &answer):
		switch answer.Code {
		case tooManyConnections, adminShutdown, crashShutdown, cannotConnectNow, readOnlyTransaction:
			return true
		}
		return strings.HasPrefix(answer.Code, connectionException)
	}
	return errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network)
}
