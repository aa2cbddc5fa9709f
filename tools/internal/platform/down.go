package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/dev"
)

// Down stops the bundled cluster and keeps its data. On another cluster it destroys the
// stack.
func Down(ctx context.Context, w Workspace) error {
	if !w.bundled() {
		p, err := openPulumi(w)
		if err != nil {
			return err
		}
		// Without a stack, as after a make up that has failed early, this creates one, and there is
		// only the registry to remove.
		if err := (&shipment{w: w, pulumi: p}).selectStack(ctx); err != nil {
			return err
		}
		w.Out.Step("pulumi destroy: stack %s", stack)
		if err := p.change(ctx, "destroy"); err != nil {
			return err
		}
		k, err := openKubectl(w)
		if err != nil {
			return err
		}
		if err := uninstallRegistry(ctx, k); err != nil {
			return err
		}
		w.Out.Step("before the next make up in this cluster, restart its API server: until then, it reads the quarantine as it was " +
			"(https://github.com/kubernetes/kubernetes/issues/130887)")
		return nil
	}
	c, err := w.cluster()
	if err != nil {
		return err
	}
	if running, err := c.Running(); err != nil {
		return err
	} else if !running {
		w.Out.Step("the local cluster does not run")
		return nil
	}
	if err := c.Down(ctx); err != nil {
		return err
	}
	left, err := c.Leftovers(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("the local cluster is stopped, but the following is still there; run `make down` again to remove it:\n  %s",
			strings.Join(left, "\n  "))
	}
	w.Out.Step("the local cluster is stopped; its data stays in %s", c.Data)
	return nil
}

// Wipe stops the local environment and deletes its data: the cluster's, make dev's, Pulumi's
// state, the passphrase and the stack file. It keeps the tool cache, and the key that signs images:
// environments elsewhere may run only what this key has signed.
func Wipe(ctx context.Context, w Workspace) error {
	if err := Down(ctx, w); err != nil {
		return err
	}
	c, err := w.cluster()
	if err != nil {
		return err
	}
	if err := c.Wipe(); err != nil {
		return err
	}
	// make dev's data is in the folder that is deleted next.
	if err := dev.Down(w.Local("dev"), w.Out); err != nil {
		return err
	}
	if err := removeAllBut(w.Local(), signingFolder); err != nil {
		return err
	}
	if err := removeFile(stackFile(w)); err != nil {
		return err
	}
	w.Out.Step("the data of the local environment is deleted")
	return nil
}

// removeAllBut empties a folder but for one name. A folder that is missing is empty.
func removeAllBut(folder, kept string) error {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == kept {
			continue
		}
		if err := os.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
