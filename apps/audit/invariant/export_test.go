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

// Statement is a statement of the audit that reads all rows, or finds what has changed.
type Statement struct {
	Database, Of, SQL string
	Args              []string // in SQL
}

// Statements are those of one audit.
func Statements() map[string]Statement {
	nothing := []string{"'9000000000000:9000000000000:'", "9000000000000"} // as of an audit that has seen everything
	return map[string]Statement{
		"changes in pedidos":    {"pedidos", "what has changed", changes["pedidos"], append(nothing[:2:2], "'5 minutes'")},
		"changes in pagamentos": {"pagamentos", "what has changed", changes["pagamentos"], nothing},
		"changes in estoque":    {"estoque", "what has changed", changes["estoque"], nothing},
		"stock":                 {"estoque", "what has changed", stockSQL, nil},
		"orders":                {"pedidos", "all", fmt.Sprintf(ordersSQL, "pedidos AS o", "pedido_refunds AS r"), []string{"'5 minutes'"}},
		"payments": {
			"pagamentos", "all",
			fmt.Sprintf(paymentsSQL, "pagamentos AS p", "pagamento_refunds AS r", "simulator_charges AS c", "simulator_refunds AS r"),
			[]string{quote(acquirer.Captured), quote(simulator.StateRefunded)},
		},
		"reservations": {"estoque", "all", fmt.Sprintf(reservationsSQL, "estoque_reservations AS r", "estoque_reservation_lines AS l"), nil},
		"items":        {"estoque", "all", fmt.Sprintf(itemsSQL, settledUnits), []string{quote(stock.Reserved), quote(stock.Confirmed)}},
	}
}
