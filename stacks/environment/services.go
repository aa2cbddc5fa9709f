package main

import (
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// service is what a service declares, the same in every environment.
type service struct {
	name string
	// public are the paths that the edge answers; anything else is a 404 there.
	public []gateway.Path
	// calls names the services that it calls directly.
	calls []string
	// size is the default of the configuration key services.<name>.
	size config.Service
}

// services are all services of the platform. make new-service adds here.
var services = []service{
	{
		name: "sample-web-app",
		public: []gateway.Path{
			{Match: gateway.Exact, Value: "/"},
			{Match: gateway.Prefix, Value: "/echo"},
			{Match: gateway.Prefix, Value: "/static"},
			{Match: gateway.Exact, Value: "/health"},
		},
		size: config.DefaultService(),
	},
}

// sizes are the services' defaults by name.
func sizes(services []service) map[string]config.Service {
	byName := map[string]config.Service{}
	for _, s := range services {
		byName[s.name] = s.size
	}
	return byName
}
