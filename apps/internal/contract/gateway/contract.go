// Package gateway is the contract of the API as clients see it: an OpenAPI document. No
// code is generated from it.
package gateway

import _ "embed" // the document

// Document is the OpenAPI document.
//
//go:embed openapi.yaml
var Document []byte
