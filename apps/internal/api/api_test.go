package api_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/apps/internal/api"
	"github.com/loja-veloz/platform/apps/internal/problem"
)

type order struct {
	Lines []struct {
		SKU      string `json:"sku"`
		Quantity int32  `json:"quantity"`
	} `json:"lines"`
	Token *string `json:"token,omitempty"`
}

func decode(body string) *problem.Error {
	request := httptest.NewRequest("POST", "/", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	var into order
	var known *problem.Error
	if err := api.Decode(request, &into); err != nil && !errors.As(err, &known) {
		panic("not a *problem.Error: " + err.Error())
	}
	return known
}

func TestDecodeAcceptsValidBodies(t *testing.T) {
	for _, body := range []string{`{}`, `{"lines":[{"sku":"a","quantity":1}],"token":"t"}`, "\n{\"lines\":null}\n"} {
		if err := decode(body); err != nil {
			t.Errorf("%s = %v", body, err)
		}
	}
}

func TestDecodeNamesTheField(t *testing.T) {
	for body, field := range map[string]string{
		`{"lines":[{"sku":"a","quantity":"1"}]}`:                  "lines[0].quantity",
		`{"lines":[{"sku":"a","quantity":1},{"quantity":1.5}]}`:   "lines[1].quantity",
		`{"lines":[{"sku":"a","quantity":99999999999999999999}]}`: "lines[0].quantity",
		`{"lines":[{"sku":"a","quantity":1e3}]}`:                  "lines[0].quantity",
		`{"lines":[{"sku":7}]}`:                                   "lines[0].sku",
		`{"lines":{}}`:                                            "lines",
		`{"price":1}`:                                             "price",
		`{"Lines":[]}`:                                            "Lines",
		`{"token":"a","token":"b"}`:                               "token",
		`{"` + strings.Repeat("x", 300) + `":1}`:                  strings.Repeat("x", 64),
	} {
		err := decode(body)
		if err == nil || err.Code != problem.Invalid || len(err.Fields) != 1 || err.Fields[0].Name != field {
			t.Errorf("%s = %+v, want field %s", body, err, field)
		}
	}
}

func TestDecodeRefusesAnythingButOneDocument(t *testing.T) {
	for _, body := range []string{``, ` `, `{`, `{"lines":[]}x`, `{"lines":[]}{}`, "{\"token\":\"\xff\"}", `[]`, `"x"`, `nul`, "{\"token\":\"a\x00\"}"} {
		err := decode(body)
		if err == nil || err.Code != problem.Invalid {
			t.Errorf("%q = %+v, want invalid_request", body, err)
		}
		if err != nil && strings.Contains(err.Message, "api_test") {
			t.Errorf("%q: the message names a Go type: %s", body, err.Message)
		}
	}
}

func TestDecodeRequiresJSON(t *testing.T) {
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", ";"} {
		request := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		request.Header.Set("Content-Type", media)
		var known *problem.Error
		if err := api.Decode(request, &order{}); !errors.As(err, &known) || known.Code != problem.UnsupportedMedia {
			t.Errorf("Content-Type %q = %v", media, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"lines":[{"sku":"a","quantity":1}]}`, `{"token":"\ud800"}`, `{"a":{"b":[1]}}`, "\xff", `{"lines":[[[[`} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, body string) { _ = decode(body) })
}
