package stock

import (
	"context"
	"fmt"

	"github.com/loja-veloz/platform/apps/estoque/store"
	"github.com/loja-veloz/platform/apps/internal/money"
)

// plenty is more units of an item than tests and benchmarks order between two top-ups.
const plenty = 10_000

// catalogue has the items that Seed adds. sample-web-app displays the first six while
// the shop is closed.
var catalogue = []Item{
	{"SHOE-VENTO", "Vento running shoes", "Light as a tailwind, 212 g each.", money.BRL(34990), plenty},
	{"BIKE-RAPIDA", "Rápida road bike", "Aluminium frame, 18 gears, 8.9 kg.", money.BRL(489900), plenty},
	{"HELMET-CASCO", "Casco city helmet", "Ventilated, with a clip-on rear light.", money.BRL(18990), plenty},
	{"BOTTLE-GOTA-750", "Gota bottle, 750 ml", "Steel, cold for 24 hours.", money.BRL(12990), plenty},
	{"PACK-TRILHA-20", "Trilha daypack, 20 L", "Rainproof, with room for a laptop.", money.BRL(25990), plenty},
	{"WATCH-CENTESIMO", "Centésimo stopwatch", "Counts hundredths, forgets none.", money.BRL(9990), plenty},
	{"BALL-VARZEA", "Várzea football", "Size 5, stitched by hand.", money.BRL(14990), plenty},
	{"GOGGLES-MARE", "Maré swimming goggles", "Anti-fog, with a nose piece in three sizes.", money.BRL(7990), plenty},
	{"JACKET-GAROA", "Garoa rain jacket", "Folds into its own pocket.", money.BRL(29990), plenty},
	{"MAT-CALMA", "Calma yoga mat", "Cork on natural rubber, 4 mm.", money.BRL(16990), plenty},
	{"ROPE-PULO", "Pulo skipping rope", "Steel cable, adjustable to 3 m.", money.BRL(4990), plenty},
	{"SHIRT-FINAL-93", "Final of '93 shirt", "Signed by the whole team. The last ten.", money.BRL(99990), 10},
}

// Seed adds the catalogue if there are no items, and returns how many items it added.
func (s *Stock) Seed(ctx context.Context) (int64, error) {
	var seed store.SeedParams
	for _, item := range catalogue {
		seed.SKUs = append(seed.SKUs, string(item.SKU))
		seed.Names = append(seed.Names, item.Name)
		seed.Descriptions = append(seed.Descriptions, item.Description)
		seed.Amounts = append(seed.Amounts, item.Price.Amount)
		seed.Currencies = append(seed.Currencies, item.Price.Currency)
		seed.Quantities = append(seed.Quantities, item.Available)
	}
	added, err := s.queries.Seed(ctx, seed)
	if err != nil {
		return 0, fmt.Errorf("seeding the catalogue: %w", err)
	}
	return added, nil
}
