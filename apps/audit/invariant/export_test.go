package invariant

import (
	"fmt"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
)

// Statement is a statement of the audit that reads all rows.
type Statement struct {
	Database, SQL string
	Args          []string // in SQL
}

// Statements are those of one audit.
func Statements() map[string]Statement {
	return map[string]Statement{
		"orders":       {"pedidos", fmt.Sprintf(ordersSQL, "true"), []string{"'5 minutes'"}},
		"payments":     {"pagamentos", fmt.Sprintf(paymentsSQL, "true"), []string{quote(acquirer.Captured), quote(simulator.StateRefunded)}},
		"reservations": {"estoque", fmt.Sprintf(reservationsSQL, "true"), nil},
		"items":        {"estoque", fmt.Sprintf(itemsSQL, settledUnits), []string{quote(stock.Reserved), quote(stock.Confirmed)}},
	}
}

func quote[T ~string](text T) string { return "'" + string(text) + "'" }
