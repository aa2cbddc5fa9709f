package main

import (
	"encoding/base64"
	"regexp"
	"strings"
)

// A SKU, as the document and the table say.
var skuForm = regexp.MustCompile(`^[A-Z0-9][A-Z0-9-]{0,31}$`)

// cursorKind tells the cursor of this list from those of others.
const cursorKind = "estoque:"

// cursorAfter is the cursor of the page that begins after an item.
func cursorAfter(sku string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorKind + sku))
}

// readCursor returns the SKU of a cursor, or false for what is none of ours.
func readCursor(cursor string) (sku string, ok bool) {
	plain, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return "", false
	}
	sku, ok = strings.CutPrefix(string(plain), cursorKind)
	return sku, ok && skuForm.MatchString(sku) && cursorAfter(sku) == cursor
}
