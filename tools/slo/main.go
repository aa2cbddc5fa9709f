// Command export derives from the services' objectives what other programs read: the
// recording and alerting rules of Prometheus, OpenSLO documents, and objects of Datadog. It is
// a module of its own, outside the workspace, because Sloth brings newer libraries of Kubernetes.
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
	datadog := flag.String("datadog", "", "folder for the objects of Datadog's operator, one file per service; none if empty")
	environment := flag.String("environment", "dev", "environment in AWS whose services Datadog's objects are about")
	flag.Parse()
	if err := run(context.Background(), *apps, *rules, *documents, *datadog, *environment); err != nil {
		fmt.Fprintln(os.Stderr, "export:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, apps, rules, documents, datadog, environment string) error {
	programs, err := catalogue.Load(os.DirFS(apps))
	if err != nil {
		return err
	}
	services := programs.Services()
	if rules != "" {
		content, err := Rules(ctx, services)
		if err != nil {
			return err
		}
		if err := os.WriteFile(rules, content, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(writeEach(documents, services, OpenSLO), writeEach(datadog, services, func(program catalogue.Program) ([]byte, error) {
		return Datadog(program, environment)
	}))
}

// writeEach writes a file for each service to a folder; it does nothing without one.
func writeEach(folder string, services []catalogue.Program, render func(catalogue.Program) ([]byte, error)) error {
	if folder == "" {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, service := range services {
		content, err := render(service)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, service.Name+".yaml"), content, 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
