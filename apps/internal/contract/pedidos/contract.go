// Package pedidos is the contract of the service pedidos: its OpenAPI document, and
// the code generated from it.
package pedidos

import _ "embed" // the document

//go:generate oapi-codegen -config oapi-codegen.yaml openapi.yaml

// Document is the OpenAPI document.
//
//go:embed openapi.yaml
var Document []byte
