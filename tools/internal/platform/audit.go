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
func (p *Platform) Audit(ctx context.Context) error {
	const selector = "app.kubernetes.io/name=pedidos,loja-veloz.dev/role=stable"
	pods, err := p.kubectl(ctx, "-n", namespace, "get", "pods", "-l", selector, "--field-selector=status.phase=Running", "-o", "name")
	if err != nil {
		return fmt.Errorf("looking for pods of pedidos: %w", err)
	}
	pod, _, _ := strings.Cut(strings.TrimSpace(pods), "\n")
	if pod == "" {
		return errors.New("no pod of pedidos runs, and make dev does not run")
	}
	c, err := p.kubectlCommand("-n", namespace, "exec", pod, "--", "/ko-app/pedidos", "audit")
	if err != nil {
		return err
	}
	return p.showing(ctx, c, "")
}
