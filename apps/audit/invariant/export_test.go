package invariant

import (
	"fmt"
	"time"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
)

// Quick returns options with which a suspect is read again at once.
func (o Options) Quick() Options {
	o.recheckAfter = time.Nanosecond
	return o
}

// Discarded returns options with which a whole audit leaves the checkpoint as it is.
func (o Options) Discarded() Options {
	o.discard = true
	return o
}

// Statement is a statement of the audit that reads all rows.
type Statement struct {
	Database, SQL string
	Args          []string // in SQL
}

// Statements are those of one audit.
func Statements() map[string]Statement {
	return map[string]Statement{
		"orders": {"pedidos", fmt.Sprintf(ordersSQL, "pedidos AS o", "pedido_refunds AS r"), []string{"'5 minutes'"}},
		"payments": {
			"pagamentos", fmt.Sprintf(paymentsSQL, "pagamentos AS p", "pagamento_refunds AS r", "simulator_charges AS c", "simulator_refunds AS r"),
			[]string{quote(acquirer.Captured), quote(simulator.StateRefunded)},
		},
		"reservations": {"estoque", fmt.Sprintf(reservationsSQL, "estoque_reservations AS r", "estoque_reservation_lines AS l"), nil},
		"items":        {"estoque", fmt.Sprintf(itemsSQL, settledUnits), []string{quote(stock.Reserved), quote(stock.Confirmed)}},
	}
}
