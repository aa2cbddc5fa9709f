package main

import "strings"

// pathLimit in bytes is far more than the longest address of the API.
const pathLimit = 512

// plainPath tells a path that means the same to everyone who reads it: only
// unreserved characters of RFC 3986 between single slashes, and no segment that
// is empty, "." or "..". Nothing of the API needs more, and what is not plain is
// where one parser's /estoque/x is another's /reservations/y.
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
