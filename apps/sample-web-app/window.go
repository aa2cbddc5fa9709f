package main

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
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

// product is an article on display. There is nothing to buy here: the shop has
// a catalogue of its own.
type product struct {
	Name  string
	Blurb string
	Price reais
	art   string // name of the picture's file
}

// Art is the picture as inline SVG, which the style sheet reaches.
func (p product) Art() (template.HTML, error) {
	svg, err := artFiles.ReadFile("art/" + p.art + ".svg")
	if err != nil {
		return "", fmt.Errorf("reading the picture of %q: %w", p.Name, err)
	}
	return template.HTML(svg), nil //nolint:gosec // compiled in, not input
}

// onDisplay is what lies in the window.
var onDisplay = []product{
	{Name: "Vento running shoes", Blurb: "Light as a tailwind, 212 g each.", Price: 34990, art: "shoe"},
	{Name: "Rápida road bike", Blurb: "Aluminium frame, 18 gears, 8.9 kg.", Price: 489900, art: "bike"},
	{Name: "Casco city helmet", Blurb: "Ventilated, with a clip-on rear light.", Price: 18990, art: "helmet"},
	{Name: "Gota bottle, 750 ml", Blurb: "Steel, cold for 24 hours.", Price: 12990, art: "bottle"},
	{Name: "Trilha daypack, 20 L", Blurb: "Rainproof, with room for a laptop.", Price: 25990, art: "backpack"},
	{Name: "Centésimo stopwatch", Blurb: "Counts hundredths, forgets none.", Price: 9990, art: "stopwatch"},
}

// showWindow is the page at the shop's front door.
func (p *pages) showWindow(c *gin.Context) error {
	return p.render(c, http.StatusOK, "window", onDisplay)
}
