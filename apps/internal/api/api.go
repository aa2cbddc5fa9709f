// Package api holds the functions that servers generated from OpenAPI documents call.
// They read bodies strictly, run each operation in its own span, and pass errors to
// the server, which renders them.
package api

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// Operation runs one operation in a span of that name. It leaves the error in c, where
// the server finds it.
func Operation(c *gin.Context, name string, run func(ctx context.Context) error) {
	ctx, span := telemetry.Span(c.Request.Context(), name)
	defer span.End()
	if err := run(ctx); err != nil {
		telemetry.Failed(ctx, err)
		_ = c.Error(err) // returns its argument
	}
}

// Decode reads a JSON body into v. It refuses unknown and repeated members, members in
// another case, wrong types, invalid UTF-8 and anything after the document. The error
// is a *problem.Error that names the member, if one is wrong.
func Decode(r *http.Request, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return problem.New(problem.UnsupportedMedia, "The Content-Type of the body must be application/json.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return problem.FromBody(err)
	}
	if len(body) == 0 {
		return problem.New(problem.Invalid, "The request has no body.")
	}
	err = json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	pointer, detail := explain(err)
	if pointer == "" {
		return problem.Wrap(problem.Invalid, "The body is not valid: it "+detail+".", err)
	}
	e := problem.At(problem.Invalid, problem.Field{Name: fieldOf(pointer), Detail: detail})
	e.Cause = err
	return e
}

// explain returns which member is wrong, and why. It does not use the decoder's text,
// which names Go types.
func explain(err error) (jsontext.Pointer, string) {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, json.ErrUnknownName):
		errors.As(err, &semantic)
		return semantic.JSONPointer, "is not known here"
	case errors.As(err, &syntactic) && errors.Is(err, jsontext.ErrDuplicateName):
		return syntactic.JSONPointer, "is repeated"
	case errors.As(err, &syntactic):
		return "", "is malformed JSON at byte " + strconv.FormatInt(syntactic.ByteOffset, 10)
	case errors.As(err, &semantic):
		return semantic.JSONPointer, "has the wrong type or range: " + kind(semantic.JSONKind) + " is not accepted"
	}
	return "", "cannot be read"
}

func kind(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "this boolean"
	case '"':
		return "this string"
	case '0':
		return "this number"
	case '{':
		return "this object"
	case '[':
		return "this array"
	}
	return "this value"
}

// fieldOf writes /lines/0/quantity as lines[0].quantity.
func fieldOf(pointer jsontext.Pointer) string {
	var path strings.Builder
	for token := range pointer.Tokens() {
		if _, err := strconv.ParseUint(token, 10, 32); err == nil && path.Len() > 0 {
			path.WriteString("[" + token + "]")
			continue
		}
		if path.Len() > 0 {
			path.WriteByte('.')
		}
		// The name may be any text of the client's, so limit its length.
		path.WriteString(strings.ToValidUTF8(token[:min(len(token), 64)], ""))
	}
	return path.String()
}

// ParameterError handles the errors of the generated parameter binding. Their text
// names the parameter after the word parameter or argument.
func ParameterError(c *gin.Context, err error, _ int) {
	name, detail := "", "has the wrong form"
	words := strings.Fields(err.Error())
	for i, word := range words[:max(len(words)-1, 0)] {
		if word == "parameter" || word == "argument" {
			name = strings.Trim(words[i+1], ":,'")
			break
		}
	}
	if strings.Contains(err.Error(), "required") {
		detail = "is missing"
	}
	e := problem.At(problem.Invalid, problem.Field{Name: name, Detail: detail})
	e.Cause = err
	_ = c.Error(e)
}
