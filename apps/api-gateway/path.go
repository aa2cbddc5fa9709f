package main

import "strings"

// pathLimit in bytes is more than the longest path of the API has.
const pathLimit = 512

// plainPath tells whether every parser reads the path in the same way: it has only
// unreserved characters of RFC 3986 between single slashes, and no segment that is
// empty, "." or "..". The API needs no other paths. Any other path might be
// /estoque/x to the gateway and /reservations/y to the upstream.
func plainPath(path string) bool {
	if len(path) == 0 || len(path) > pathLimit || path[0] != '/' {
		return false
	}
	if path == "/" {
		return true
	}
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		for i := range len(segment) {
			if !unreserved[segment[i]] {
				return false
			}
		}
	}
	return true
}

var unreserved = func() (table [256]bool) {
	for c := range 256 {
		b := byte(c)
		table[c] = 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("-._~", b) >= 0
	}
	return table
}()
