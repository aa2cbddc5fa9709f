package platform

import "context"

// A shipment is one run of up or deploy: what its steps pass on to each other.
type shipment struct {
	w        Workspace
	deploys  bool     // or else only the cluster is wanted
	programs []string // to build; none means all
	group    string   // of the services that this ships; mostly none
	fault    string   // that the first program injects, for a drill; mostly none

	mode    string            // who applies the services' objects; since provideTools
	pull    bool              // controllers' images; since provideTools
	pulumi  Pulumi            // since provideTools
	digests map[string]string // references of the images built, by program; since buildImages
	signer  string            // public key that has signed them; since buildImages
	shipped []string          // programs whose image changes; since configureStack
	members []string          // those of them that are in the group; since configureStack
	outputs outputs           // of the stack's last update; since selectStack
	// configured is the stack file's configuration; since selectStack.
	configured map[string]any
}

// Up brings the whole local environment up.
func Up(ctx context.Context, w Workspace) error {
	if w.bundled() {
		// The minutes are those beside such a build, on 2 processors and from empty caches: 6 min 28 s.
		w.Cache.Meanwhile = "meanwhile, DEV_TELEMETRY=off make dev in another terminal shows the shop without a cluster, after some six minutes"
	}
	s := &shipment{w: w, deploys: true}
	steps := []step{
		{"providing the tools", s.provideTools},
		{"selecting the stack", s.selectStack},
		{"starting the cluster", s.startCluster},
		{"building the images", s.buildImages},
		{"configuring the stack", s.configureStack},
		{"preparing the delivery", s.prepareDelivery},
		{"applying the stack", s.applyStack},
		{"releasing", s.release},
		{"watching the canaries", s.watchRelease},
	}
	if w.bundled() {
		steps = append(steps, step{"waiting for the page", s.awaitPage})
	}
	if err := runSteps(ctx, steps...); err != nil {
		return err
	}
	if !w.bundled() {
		w.Out.Plain("\nThe shop is up. To see it:\n"+
			"  kubectl --context=%s -n gateway port-forward service/traefik 30080:80\n  open http://localhost:30080", w.KubeContext)
		return nil
	}
	url := s.gatewayURL()
	w.Out.Plain(upSummary, url, url, url)
	return nil
}

const upSummary = `
  shop       %s/
  echo       %s/echo
  health     %s/health
  console    http://localhost:9092 (canaries, objectives)
  metrics    http://localhost:9090 (Prometheus, API only)
  traces     http://localhost:16686 (Jaeger, API only)

  make deploy    ship the working tree's services by canary
  make status    how far the canaries are; make cluster-status: what runs, and its memory
  eval "$(make env)"   then pulumi and kubectl work by hand
  make down      stop everything, keep the data

This cluster's network does not enforce NetworkPolicies; the tests prove what they allow.`
