package platform

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Audit checks the shop's invariants in the cluster's databases, prints what it
// finds, and fails if one is violated. A pod of pedidos does it: it has the
// credentials, which leave the cluster no other way.
func Audit(ctx context.Context, w Workspace) error {
	const selector = "app.kubernetes.io/name=pedidos,loja-veloz.dev/role=stable"
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	pods, err := k.Text(ctx, "-n", namespace, "get", "pods", "-l", selector, "--field-selector=status.phase=Running", "-o", "name")
	if err != nil {
		return fmt.Errorf("looking for pods of pedidos: %w", err)
	}
	pod, _, _ := strings.Cut(strings.TrimSpace(pods), "\n")
	if pod == "" {
		return errors.New("no pod of pedidos runs, and make dev does not run")
	}
	return show(ctx, k.Command("-n", namespace, "exec", pod, "--", "/ko-app/pedidos", "audit"), "audit", w.Out)
}
