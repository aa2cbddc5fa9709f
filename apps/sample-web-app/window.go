package main

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/money"
)

//go:embed art
var artFiles embed.FS

// reais is an amount of Brazilian money in centavos.
type reais int64

// String writes an amount as Brazilians do, R$ 1.299,90, with a no-break space.
func (r reais) String() string {
	sign := ""
	centavos := uint64(r)
	if r < 0 {
		sign, centavos = "-", -centavos
	}
	whole := strconv.FormatUint(centavos/100, 10)
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "." + whole[i:]
	}
	return fmt.Sprintf("%sR$\u00a0%s,%02d", sign, whole, centavos%100)
}

// price formats an amount for people. Amounts in other currencies than BRL, which the
// shop does not expect, are shown in minor units.
func price(m money.Money) string {
	if m.Currency == "BRL" {
		return reais(m.Amount).String()
	}
	return m.String()
}

// product is an item that the page displays while the shop is closed.
type product struct {
	SKU   string
	Name  string
	Blurb string
	Price reais
	art   string // name of the picture's file
}

// Art is the picture as inline SVG, so that the style sheet applies to it.
func (p product) Art() (template.HTML, error) { return picture(p.art) }

func picture(name string) (template.HTML, error) {
	svg, err := artFiles.ReadFile("art/" + name + ".svg")
	if err != nil {
		return "", fmt.Errorf("reading a picture: %w", err)
	}
	return template.HTML(svg), nil //nolint:gosec // compiled in, not input
}

// onDisplay are the items that the page displays while the shop is closed.
var onDisplay = []product{
	{SKU: "SHOE-VENTO", Name: "Vento running shoes", Blurb: "Light as a tailwind, 212 g each.", Price: 34990, art: "shoe"},
	{SKU: "BIKE-RAPIDA", Name: "Rápida road bike", Blurb: "Aluminium frame, 18 gears, 8.9 kg.", Price: 489900, art: "bike"},
	{SKU: "HELMET-CASCO", Name: "Casco city helmet", Blurb: "Ventilated, with a clip-on rear light.", Price: 18990, art: "helmet"},
	{SKU: "BOTTLE-GOTA-750", Name: "Gota bottle, 750 ml", Blurb: "Steel, cold for 24 hours.", Price: 12990, art: "bottle"},
	{SKU: "PACK-TRILHA-20", Name: "Trilha daypack, 20 L", Blurb: "Rainproof, with room for a laptop.", Price: 25990, art: "backpack"},
	{SKU: "WATCH-CENTESIMO", Name: "Centésimo stopwatch", Blurb: "Counts hundredths, forgets none.", Price: 9990, art: "stopwatch"},
}

// art has the pictures of other items in a local environment's catalogue.
var art = map[string]string{
	"BALL-VARZEA": "ball", "GOGGLES-MARE": "goggles", "JACKET-GAROA": "jacket",
	"MAT-CALMA": "mat", "ROPE-PULO": "rope", "SHIRT-FINAL-93": "shirt",
}

// artOf returns the name of an item's picture, or of a parcel if it has none.
func artOf(sku string) string {
	if known, ok := display(sku); ok {
		return known.art
	}
	if name, ok := art[sku]; ok {
		return name
	}
	return "parcel"
}

// display finds an item in onDisplay.
func display(sku string) (product, bool) {
	for _, p := range onDisplay {
		if p.SKU == sku {
			return p, true
		}
	}
	return product{}, false
}

// showWindow answers with the shop's page: the items and an order form. While the API
// does not answer it displays onDisplay, also with status 200, so that an outage of
// the API does not take the storefront down.
func (p *pages) showWindow(c *gin.Context) error {
	goods, err := p.shop.onSale(c.Request.Context())
	if err != nil {
		return p.render(c, http.StatusOK, "window", windowPage{Display: onDisplay})
	}
	return p.render(c, http.StatusOK, "window", p.newForm(goods, p.till.emptyBasket(), nil))
}
