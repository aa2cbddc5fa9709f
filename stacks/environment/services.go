package main

import (
	"strconv"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// service is what a service declares, the same in every environment.
type service struct {
	name string
	// public are the paths that the edge answers; anything else is a 404 there.
	public []gateway.Path
	// calls are the services that it calls, through the internal gateway.
	calls []call
	// database gives it one of its own name.
	database bool
	// schedule makes it a program that runs at these times and ends, in cron's five
	// fields; "" runs it all the time.
	schedule string
	// reads are databases of other services that it reads as auditor.
	reads []read
	// env is further configuration; what services.<name>.env says counts before it.
	env func(*config.Config) map[string]string
	// internet says whether it calls somebody else's API; nil never does.
	internet func(*config.Config) bool
	// secrets are further variables from Secrets.
	secrets func(*config.Config) map[string]workload.SecretKey
	// size is the default of the configuration key services.<name>.
	size config.Service
}

// call is a service and the variable that its address is given in.
type call struct{ service, variable string }

// read is a database and the variable that its URL is given in.
type read struct{ database, variable string }

// Secrets that External Secrets brings for services, and their keys, in the
// cluster and in AWS Secrets Manager.
const (
	stripeSecret  = "stripe"
	stripeKey     = "api-key"
	apiKeysSecret = "api-keys"
	apiKeysKey    = "api-keys"   // names and hashes of keys, for api-gateway
	storefrontKey = "storefront" // the one of these keys that sample-web-app has
)

// apiPrefix is what the edge strips before api-gateway.
const apiPrefix = "/api"

// services are all services of the platform. make new-service adds here.
var services = []service{
	{
		name: "sample-web-app",
		public: []gateway.Path{
			{Match: gateway.Exact, Value: "/"},
			{Match: gateway.Prefix, Value: "/echo"},
			{Match: gateway.Prefix, Value: "/static"},
			{Match: gateway.Prefix, Value: "/checkout"},
			{Match: gateway.Prefix, Value: "/orders"},
		},
		calls: []call{{"api-gateway", "API_URL"}},
		secrets: func(c *config.Config) map[string]workload.SecretKey {
			if c.Shop.Auth != "api-key" {
				return nil
			}
			return map[string]workload.SecretKey{"API_KEY": {Secret: apiKeysSecret, Key: storefrontKey}}
		},
		size: config.DefaultService(),
	},
	{
		name: "api-gateway",
		// Each resource by itself: /api as a whole would show /api/metrics.
		public: []gateway.Path{
			{Match: gateway.Exact, Value: "/health"},
			{Match: gateway.Prefix, Value: apiPrefix + "/pedidos", Strip: apiPrefix},
			{Match: gateway.Prefix, Value: apiPrefix + "/pagamentos", Strip: apiPrefix},
			{Match: gateway.Prefix, Value: apiPrefix + "/estoque", Strip: apiPrefix},
			{Match: gateway.Prefix, Value: apiPrefix + "/docs", Strip: apiPrefix}, // where shop.docs has them
		},
		calls: []call{{"pedidos", "PEDIDOS_URL"}, {"pagamentos", "PAGAMENTOS_URL"}, {"estoque", "ESTOQUE_URL"}},
		env: func(c *config.Config) map[string]string {
			// Either gateway is the one proxy in front of it.
			return map[string]string{"AUTH": c.Shop.Auth, "PUBLIC_PATH": apiPrefix, "TRUSTED_PROXIES": "1", "ENABLE_DOCS": docs(c)}
		},
		secrets: func(c *config.Config) map[string]workload.SecretKey {
			if c.Shop.Auth != "api-key" {
				return nil
			}
			return map[string]workload.SecretKey{"API_KEYS": {Secret: apiKeysSecret, Key: apiKeysKey}}
		},
		size: sized(10),
	},
	{
		name:     "pedidos",
		calls:    []call{{"pagamentos", "PAGAMENTOS_URL"}, {"estoque", "ESTOQUE_URL"}},
		database: true,
		env: func(c *config.Config) map[string]string {
			return map[string]string{"ENABLE_DOCS": docs(c)}
		},
		size: sized(8),
	},
	{
		name:     "pagamentos",
		database: true,
		env: func(c *config.Config) map[string]string {
			return map[string]string{"ACQUIRER": c.Shop.Acquirer, "ENABLE_DOCS": docs(c)}
		},
		internet: func(c *config.Config) bool { return c.Shop.Acquirer == "stripe" },
		secrets: func(c *config.Config) map[string]workload.SecretKey {
			if c.Shop.Acquirer != "stripe" {
				return nil
			}
			return map[string]workload.SecretKey{"STRIPE_API_KEY": {Secret: stripeSecret, Key: stripeKey}}
		},
		size: sized(6),
	},
	{
		name:     "estoque",
		database: true,
		env: func(c *config.Config) map[string]string {
			return map[string]string{"SEED_CATALOGUE": strconv.FormatBool(c.Shop.SeedCatalogue), "ENABLE_DOCS": docs(c)}
		},
		size: sized(6),
	},
	{
		name:     "audit",
		schedule: "* * * * *",
		reads: []read{
			{"estoque", "AUDIT_ESTOQUE_DATABASE_URL"}, {"pagamentos", "AUDIT_PAGAMENTOS_DATABASE_URL"}, {"pedidos", "AUDIT_PEDIDOS_DATABASE_URL"},
		},
		// One run at a time, of a process that holds some 20 MiB.
		size: config.Service{MinReplicas: 1, MaxReplicas: 1, MilliCPU: 20, MemoryMiB: 24, MemoryLimitMiB: 128, LogFormat: "json"},
	},
}

func docs(c *config.Config) string { return strconv.FormatBool(c.Shop.Docs) }

// sized is the usual size with another limit for the autoscaler.
func sized(most int32) config.Service {
	size := config.DefaultService()
	size.MaxReplicas = most
	return size
}

// sizes are the services' defaults by name.
func sizes(services []service) map[string]config.Service {
	byName := map[string]config.Service{}
	for _, s := range services {
		byName[s.name] = s.size
	}
	return byName
}

// databases are the names of the services that have one.
func databases(services []service) []string {
	var names []string
	for _, s := range services {
		if s.database {
			names = append(names, s.name)
		}
	}
	return names
}
