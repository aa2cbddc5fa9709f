// Command export derives from the services' objectives what other programs read: the
// recording and alerting rules of Prometheus, and OpenSLO documents. It is a module of its
// own, outside the workspace, because Sloth brings newer libraries of Kubernetes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loja-veloz/platform/apps/catalogue"
)

func main() {
	apps := flag.String("apps", "../../apps", "folder with the services")
	rules := flag.String("rules", "", "file for Prometheus's rules; none if empty")
	documents := flag.String("openslo", "", "folder for the OpenSLO documents, one per service; none if empty")
	flag.Parse()
	if err := run(context.Background(), *apps, *rules, *documents); err != nil {
		fmt.Fprintln(os.Stderr, "export:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, apps, rules, documents string) error {
	programs, err := catalogue.Load(os.DirFS(apps))
	if err != nil {
		return err
	}
	if rules != "" {
		content, err := Rules(ctx, programs.Services())
		if err != nil {
			return err
		}
		if err := os.WriteFile(rules, content, 0o644); err != nil {
			return err
		}
	}
	if documents == "" {
		return nil
	}
	if err := os.MkdirAll(documents, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, service := range programs.Services() {
		content, err := OpenSLO(service)
		if err == nil {
			err = os.WriteFile(filepath.Join(documents, service.Name+".yaml"), content, 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
