// Package estoque is the contract of the service estoque: its OpenAPI document, and
// the code generated from it.
package estoque

import _ "embed" // the document

//go:generate oapi-codegen -config oapi-codegen.yaml openapi.yaml

// Document is the OpenAPI document.
//
//go:embed openapi.yaml
var Document []byte
