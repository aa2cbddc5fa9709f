package platform

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/loja-veloz/platform/tools/internal/load"
)

const (
	// pagesPerSecond and visitsPerSecond give every canary the requests that its verdict
	// needs, about 1000, within its steps.
	pagesPerSecond, visitsPerSecond = 20, 5
	// loadMinutes bounds the load.
	loadMinutes = 30
)

// canaryLoad sends requests to services while they have a canary.
type canaryLoad struct {
	w       Workspace
	urls    map[string]string // of services with a page
	started map[string]bool   // by URL; the whole shop is ""
	loads   sync.WaitGroup
}

// loadCanaries sends requests to each service from the moment when it has a canary, until
// stop is called, which waits for the last answers: to the service's page if it has one,
// and otherwise through the whole shop.
func loadCanaries(ctx context.Context, w Workspace, last outputs, services []string) (stop func(), err error) {
	var deployed map[string]struct {
		URL string `json:"url"` // empty without a public path
	}
	if err := last.read("services", &deployed); err != nil {
		return nil, err
	}
	c, err := openRollouts(w)
	if err != nil {
		return nil, err
	}
	l := &canaryLoad{w: w, urls: map[string]string{}, started: map[string]bool{}}
	for name, service := range deployed {
		if isPage(service.URL) {
			l.urls[name] = service.URL
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	l.loads.Go(func() {
		for ctx.Err() == nil {
			for _, service := range services {
				// What cannot be read now can be in a moment, and the watch says so.
				r, err := c.Rollout(ctx, namespace, service)
				if err == nil && r != nil && r.Status.StableRS != "" && r.UnderWay() {
					l.start(ctx, service)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
		}
	})
	return func() {
		cancel()
		l.loads.Wait()
	}, nil
}

// isPage reports whether GET requests to a service's URL are evidence for a canary: probes do not
// count, and a webhook refuses what its sender has not signed.
func isPage(url string) bool {
	return url != "" && !strings.HasSuffix(url, "/health") && !strings.Contains(url, "/webhooks/")
}

// start sends requests that reach a service, unless there are some already.
func (l *canaryLoad) start(ctx context.Context, service string) {
	url := l.urls[service]
	if l.started[url] {
		return
	}
	l.started[url] = true
	if url == "" {
		l.w.Out.Step("load on the shop: %d orders/s with a test card while there are canaries, for at most %d min", visitsPerSecond, loadMinutes)
		l.loads.Go(func() {
			shoppers := load.Shoppers{URL: URL, PerSecond: visitsPerSecond, Max: loadMinutes * 60 * visitsPerSecond, Order: load.TestOrder}
			l.w.Out.Step("load on the shop: %s", shoppers.Run(ctx))
		})
		return
	}
	l.w.Out.Step("load on %s: %d requests/s at %s while there are canaries, for at most %d min", service, pagesPerSecond, url, loadMinutes)
	l.loads.Go(func() {
		r := load.Run(ctx, load.Target{URL: url, PerSecond: pagesPerSecond, Max: loadMinutes * 60 * pagesPerSecond})
		l.w.Out.Step("load on %s: %s", service, r)
	})
}
