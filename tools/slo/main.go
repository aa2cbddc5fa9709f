// Command export derives from the services' objectives and from the alarms what other programs read: the
// recording and alerting rules of Prometheus, OpenSLO documents, objects of Datadog, and
// Grafana's dashboard. It is a module of its own, outside the workspace, because Sloth brings
// newer libraries of Kubernetes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/slo"
)

// Outputs are the files and folders to write; an empty one is not written.
type Outputs struct{ Rules, Docs, OpenSLO, Datadog, Grafana string }

func main() {
	var to Outputs
	apps := flag.String("apps", "../../apps", "folder with the services")
	flag.StringVar(&to.Rules, "rules", "", "file for Prometheus's rules")
	flag.StringVar(&to.Docs, "docs", "", "page of the documents whose tables are rewritten")
	flag.StringVar(&to.OpenSLO, "openslo", "", "folder for the OpenSLO documents, one per service")
	flag.StringVar(&to.Datadog, "datadog", "", "folder for the objects of Datadog's operator, one file per service and one for the alarms")
	flag.StringVar(&to.Grafana, "grafana", "", "folder for Grafana's dashboard")
	environment := flag.String("environment", "dev", "environment in AWS whose services Datadog's objects are about")
	flag.Parse()
	if err := run(context.Background(), *apps, *environment, to); err != nil {
		fmt.Fprintln(os.Stderr, "export:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, apps, environment string, to Outputs) error {
	programs, err := catalogue.Load(os.DirFS(apps))
	if err != nil {
		return err
	}
	services := programs.Services()
	if to.Rules != "" {
		content, err := Rules(ctx, services)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to.Rules, content, 0o644); err != nil {
			return err
		}
	}
	if to.Docs != "" {
		if err := writeDocs(to.Docs, services); err != nil {
			return err
		}
	}
	if to.Grafana != "" {
		content, err := Grafana(services)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(to.Grafana, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to.Grafana, "loja-veloz.json"), content, 0o644); err != nil {
			return err
		}
	}
	objects := func(program catalogue.Program) ([]byte, error) { return Datadog(program, environment) }
	if err := errors.Join(writeEach(to.OpenSLO, services, OpenSLO), writeEach(to.Datadog, services, objects)); err != nil || to.Datadog == "" {
		return err
	}
	content, err := DatadogAlarms(environment)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to.Datadog, "alarms.yaml"), content, 0o644)
}

func writeDocs(file string, services []catalogue.Program) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	defaults, err := defaultObjectives()
	if err != nil {
		return err
	}
	written, err := Docs(string(page), defaults, services)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(written), 0o644)
}

// defaultObjectives are those of a service that declares none.
func defaultObjectives() (slo.Objectives, error) {
	programs, err := catalogue.Load(fstest.MapFS{"default/service.yaml": {Data: []byte("port: 1024\n")}})
	if err != nil {
		return slo.Objectives{}, fmt.Errorf("reading the default objectives: %w", err)
	}
	return slo.Objectives(*programs.Services()[0].Objectives), nil
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
