// Package gateway is the contract of the API's one entry, as clients see it: its
// OpenAPI document. Nothing is generated from it.
package gateway

import _ "embed" // the document

// Document is the OpenAPI document.
//
//go:embed openapi.yaml
var Document []byte
