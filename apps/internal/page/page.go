// Package page reads and writes the parameters of paged lists: a limit, and a cursor
// that holds the key of the last entry on the previous page.
package page

import (
	"encoding/base64"
	"errors"

	"github.com/loja-veloz/platform/apps/internal/problem"
)

// Limits of a page in entries, as in the OpenAPI documents.
const (
	DefaultLimit = 20
	MaxLimit     = 100
)

// maxCursor is the greatest length of a cursor in the OpenAPI documents.
const maxCursor = 200

var errCursor = errors.New("is not a cursor returned by this endpoint")

// List is a list in the order of a key of type K.
type List[K any] struct {
	// First is a key that comes before all entries.
	First K
	// Format writes a key as the bytes of a cursor, and Parse reads them. Parse should
	// refuse the cursors of other lists.
	Format func(K) string
	Parse  func(string) (K, error)
}

// Request is one page that a client asks for: Limit entries whose keys come after
// After, in the order of the list.
type Request[K any] struct {
	After K
	Limit int32
}

// Request reads the parameters limit and cursor; nil means that the client gave
// none. It fails with a *problem.Error that names the wrong ones.
func (l List[K]) Request(limit *int32, cursor *string) (Request[K], error) {
	asked := Request[K]{After: l.First, Limit: DefaultLimit}
	var errs problem.Fields
	if limit != nil {
		asked.Limit = *limit
		errs.Range("limit", int64(asked.Limit), 1, MaxLimit)
	}
	if cursor != nil {
		var err error
		if asked.After, err = l.read(*cursor); err != nil {
			errs.Add("cursor", err.Error())
		}
	}
	return asked, errs.Err(problem.InvalidValue)
}

// Cursor is the cursor of the page after the entry with this key.
func (l List[K]) Cursor(key K) string {
	return base64.RawURLEncoding.EncodeToString([]byte(l.Format(key)))
}

// read accepts a cursor only in the form that Cursor writes.
func (l List[K]) read(cursor string) (K, error) {
	var none K
	if len(cursor) > maxCursor {
		return none, errCursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return none, errCursor
	}
	key, err := l.Parse(string(raw))
	if err != nil || l.Cursor(key) != cursor {
		return none, errCursor
	}
	return key, nil
}

// Cut returns the entries of the requested page, and the cursor of the next page or
// nil. The caller reads one row more than the limit: if rows has it, there is a next
// page.
func Cut[K, Row any](l List[K], asked Request[K], rows []Row, key func(Row) K) (shown []Row, next *string) {
	if len(rows) <= int(asked.Limit) {
		return rows, nil
	}
	shown = rows[:asked.Limit]
	return shown, new(l.Cursor(key(shown[len(shown)-1])))
}
