// Package api is what the servers generated from OpenAPI documents call: it
// reads bodies strictly, runs an operation in a span of its own, and hands every
// error on to the server, which renders it.
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

// Operation runs one operation in a span named after it. Its error goes to the
// server, by way of the request.
func Operation(c *gin.Context, name string, run func(ctx context.Context) error) {
	ctx, span := telemetry.Span(c.Request.Context(), name)
	defer span.End()
	if err := run(ctx); err != nil {
		telemetry.Failed(ctx, err)
		_ = c.Error(err) // returns what it was given
	}
}

// Decode reads a JSON body into v. Unknown and repeated members, members in
// another case, wrong types, invalid UTF-8 and anything after the document are
// refused with a *problem.Error that names the member.
func Decode(r *http.Request, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return problem.New(problem.UnsupportedMedia, "The body has to be sent as application/json.")
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
		return problem.Wrap(problem.Invalid, "The body is not the JSON that is expected here: it "+detail+".", err)
	}
	e := problem.At(problem.Invalid, problem.Field{Name: fieldOf(pointer), Detail: detail})
	e.Cause = err
	return e
}

// explain says in our words where and why a document was refused: the decoder's
// text names Go types.
func explain(err error) (jsontext.Pointer, string) {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, json.ErrUnknownName):
		errors.As(err, &semantic)
		return semantic.JSONPointer, "is not known here"
	case errors.As(err, &syntactic) && errors.Is(err, jsontext.ErrDuplicateName):
		return syntactic.JSONPointer, "is there twice"
	case errors.As(err, &syntactic):
		return "", "is malformed at byte " + strconv.FormatInt(syntactic.ByteOffset, 10)
	case errors.As(err, &semantic):
		return semantic.JSONPointer, "is a " + kind(semantic.JSONKind) + " that does not fit here"
	}
	return "", "cannot be read"
}

func kind(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "text"
	case '0':
		return "number"
	case '{':
		return "object"
	case '[':
		return "list"
	}
	return "value"
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
		// The answer repeats an unknown member's name, cut to a limit.
		path.WriteString(strings.ToValidUTF8(token[:min(len(token), 64)], ""))
	}
	return path.String()
}

// ParameterError is the error handler of the generated parameter binding, whose
// errors begin with a sentence that names the parameter.
func ParameterError(c *gin.Context, err error, _ int) {
	name, detail := "", "has no acceptable form"
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
