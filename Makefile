# make help lists the targets. The program loja (tools/) does the work of most of them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down wipe status deploy promote abort release publish verify scan load new-service preview outputs record update drift \
	comment render aws-check env \
	cluster-up cluster-down cluster-status dev dev-down dev-status trace audit test check lint shellcheck redis-tools ci chromium drill drill-shop drill-long e2e e2e-full e2e-aws e2e-gitops bench bench-cold bench-shop bench-data slo generate loja

export GOTOOLCHAIN := local
LOJA := .local/loja

loja:
	@[ "$$(id -u)" = 0 ] || [ -z "$$(find .local -maxdepth 2 -path .local/cluster -prune -o ! -user "$$(id -u)" -print -quit 2>/dev/null)" ] || \
		{ echo "files in .local belong to another user, as after a sudo make. This gives them to you, but for the cluster's data:" \
		"sudo find .local -path .local/cluster -prune -o -exec chown -h $$(id -u) {} +" >&2; exit 1; }
	@command -v go >/dev/null || { echo "go is not on PATH: install Go 1.26.3 or newer" >&2; exit 1; }
	@[ -x $(LOJA) ] || echo "compiling the program loja; this happens once" >&2
	@cd tools && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -buildvcs=false -o ../$(LOJA) ./cmd/loja

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Settings: KUBE_CONTEXT and REGISTRY (another cluster), TOOLS=auto|release|build, IMAGES=auto|build|pull, LOJA_CACHE, LOJA_DATA."

up: loja ## start the whole local environment, from nothing: http://localhost:30080
	@$(LOJA) up
down: loja ## stop the local environment and keep its data
	@$(LOJA) down
wipe: loja ## stop the local environment and delete its data
	@$(LOJA) wipe
deploy: loja ## ship the working tree's services by canary [SERVICE=] [WAIT=0] [LOAD=off]
	@$(LOJA) deploy
status: loja ## print the state of the canaries [SERVICE=]
	@$(LOJA) status
promote: loja ## send a canary to 100 % SERVICE=
	@$(LOJA) promote
abort: loja ## end a canary: stable gets all traffic again SERVICE= [REASON=]
	@$(LOJA) abort
release: loja ## let an aborted version be shipped again SERVICE= REASON= [WHAT=]
	@$(LOJA) release
publish: loja ## build, push, attest and sign the images of all programs [REGISTRY=] [SIGNING=keyless]
	@$(LOJA) publish
verify: loja ## check that images, or those of the last make publish, are signed [IMAGE=]
	@$(LOJA) verify
scan: loja ## look for known vulnerabilities in modules and published images, and for secrets and misconfigurations in files
	@$(LOJA) scan
load: loja ## send requests to the gateway [URL_PATH=/] [RATE=20] [REQUESTS=1200]
	@$(LOJA) load
new-service: loja ## create a service NAME=
	@$(LOJA) new-service
dev: loja ## run the shop on the host, without a cluster: http://localhost:8084 (settings: .env) [DEV_TELEMETRY=off]
	@$(LOJA) dev
dev-down: loja ## stop make dev from another terminal
	@$(LOJA) dev-down
dev-status: loja ## print the processes of make dev: port, health, memory
	@$(LOJA) dev-status
trace: loja ## print the spans of an order as a tree, from make dev or the cluster ORDER=
	@$(LOJA) trace
audit: loja ## check the shop's invariants in the databases of make dev, or of the cluster if make dev does not run
	@$(LOJA) audit
preview: loja ## print the plan of an AWS environment, without an account STACK= [DIFF=1] [ONLINE=1] [COMMENT=]
	@$(LOJA) preview
outputs: loja ## print what a stack tells those who deploy, as JSON STACK= [FORMAT=github]
	@$(LOJA) outputs
record: loja ## write the digests of the last make publish into a stack file or its manifests; PUSH=1 commits them to main STACK= [PUSH=1]
	@$(LOJA) record
update: loja ## print the plan of a stack in AWS, with your credentials; YES=1 applies it STACK= [YES=1] [REFRESH=1]
	@$(LOJA) update
drift: loja ## compare the objects of a stack in AWS with git, with your credentials STACK= [COMMENT=]
	@$(LOJA) drift
comment: loja ## put a review on a pull request, or into an issue FILE= [PULL_REQUEST=] [ISSUE=]
	@$(LOJA) comment
aws-check: ## ask an AWS account for what would stop the first update: quotas, names, delegation STACK= [ADDRESS=]
	@cd tools && GOWORK=off CGO_ENABLED=0 go build -o ../.local/aws-check ./cmd/aws-check && ../.local/aws-check -stack "$(STACK)" -address "$(ADDRESS)"
render: ## write what Argo CD applies, from the objects of pulumi up STACK= [OUT=] [DIGESTS=]
	@mkdir -p .local && go build -o .local/environment ./stacks/environment && \
		.local/environment render -stack "$(STACK)" -out "$(OUT)" -digests "$(DIGESTS)"
env: loja ## print the exports that plain pulumi and kubectl need, for eval
	@$(LOJA) env
cluster-up: loja ## start the local cluster alone, without the environment
	@$(LOJA) cluster up
cluster-down: loja ## stop the local cluster and keep its data
	@$(LOJA) cluster down
cluster-status: loja ## print its processes, their memory, node and pods
	@$(LOJA) cluster status

# apps, tools and the modules without dependencies are built, and therefore tested, outside
# the workspace, each with its own go.sum. Pulumi builds infra and stacks in the workspace,
# so they are tested there. All modules run, even after one has failed.
RACE := $(shell command -v gcc >/dev/null && echo CGO_ENABLED=1 || echo CGO_ENABLED=0)
# The cache of go test does not see that a file outside of the module has changed, such as a document or a stack file.
test: loja ## run every test that needs no cluster
	@bin=$$($(LOJA) tool kubernetes) && export LOJA_KUBE_BIN="$$bin" && \
	bin=$$($(LOJA) tool traefik) && export LOJA_TRAEFIK="$$bin/traefik" || exit 1; \
	failed=""; \
	for dir in apps/catalogue infra/rollout infra/slo; do (cd $$dir && GOWORK=off go test ./...) || failed="$$failed $$dir"; done; \
	for dir in tools/slo tools; do (cd $$dir && GOWORK=off go test -count=1 ./...) || failed="$$failed $$dir"; done; \
	(cd apps && GOWORK=off $(RACE) ../$(LOJA) postgres run -- go test $$([ "$(RACE)" = CGO_ENABLED=1 ] && echo -race) ./...) || failed="$$failed apps"; \
	go test ./infra/... || failed="$$failed infra"; \
	go test -count=1 ./stacks/... || failed="$$failed stacks"; \
	[ -z "$$failed" ] || { echo "tests failed in:$$failed" >&2; exit 1; }
check: loja shellcheck ## run before a push: generated files, lint, documents and short tests of what has changed [AGAINST=]
	@$(LOJA) check
drill: loja ## ship bad versions of every kind on the local cluster, and write docs/reliability.md
	@cd tools && E2E_SCOREBOARD=1 GOWORK=off go test -tags e2e -count=1 -v -timeout 90m -run '^Test(UpServesThePage|Scoreboard)$$' ./e2e
drill-shop: loja ## kill the shop's processes at every step of a checkout, on the host, and check the histories of its clients
	@cd tools && GOWORK=off go test -tags e2e -count=1 -v -timeout 20m ./drill
drill-long: loja ## check the history of 100,000 checkouts under faults, and that planted bugs are found
	@cd tools && HISTORY_CHECKOUTS=$${HISTORY_CHECKOUTS:-100000} HISTORY_PLANTED=1 GOWORK=off \
		go test -tags e2e -count=1 -v -timeout 120m -run '^Test(History|PlantedBugs)$$' ./drill
# A package that is missing is installed where there is apt. Another installation is waited for.
redis-tools: PROGRAM := redis-check-rdb
chromium shellcheck redis-tools:
	@apt="apt-get -q -o DPkg::Lock::Timeout=600"; install="$$apt install -y --no-install-recommends $@"; \
		command -v $(or $(PROGRAM),$@) >/dev/null || $$install >/dev/null || { $$apt update >/dev/null && $$install >/dev/null; } || \
		{ echo "$@ is missing: install it" >&2; exit 1; }
e2e: chromium drill-shop ## the drills on the host and on the real cluster, short set; leaves it down
	@cd tools && GOWORK=off go test -tags e2e -count=1 -v -timeout 60m ./e2e
e2e-full: chromium drill-shop ## every drill
	@cd tools && E2E_FULL=1 GOWORK=off go test -tags e2e -count=1 -v -timeout 100m ./e2e
e2e-aws: loja ## deploy the whole environment dev to the stand-in for AWS and the local API server
	@cd tools && E2E_AWS=1 GOWORK=off go test -tags e2e -count=1 -v -timeout 60m -run '^TestAWS$$' ./e2e
e2e-gitops: loja redis-tools ## run the loop of a delivery by git on real programs, without a node: Argo CD, Rollouts, git server, rollback
	@bin=$$($(LOJA) tool gitops) && cd tools && LOJA_GITOPS_BIN="$$bin" GOWORK=off go test -tags e2e -count=1 -v -timeout 15m ./gitops
bench: loja ## measure start, memory, preview and compilation (stops and starts the cluster)
	@$(LOJA) bench
lint: loja shellcheck ## run golangci-lint (gofmt, vet and more), shellcheck, actionlint
	@bin=$$($(LOJA) tool lint) && export PATH="$$bin:$$PATH" && \
	for dir in apps apps/catalogue infra infra/rollout infra/slo tools/slo tools/internal/benchshop/dbos stacks tools; do (cd $$dir && echo "golangci-lint $$dir" && GOWORK=$$(case $$dir in tools/*) echo off;; esac) golangci-lint run --build-tags e2e ./...) || exit 1; done && \
	echo "compiling for macOS and for Linux on arm64" && export GOWORK=off GOARCH=arm64 CGO_ENABLED=0 && \
	(cd tools && GOOS=darwin go build -o /dev/null ./cmd/loja && GOOS=linux go build -o /dev/null ./cmd/loja) && \
	(cd apps && GOOS=linux go build -gcflags=all=-dwarf=false -o /dev/null ./...) && \
	echo "actionlint, shellcheck" && actionlint && shellcheck .ci/run tools/eks/pulumi-resource-eks
ci: ## run everything that a change must pass: lint, test, e2e, e2e-aws, e2e-gitops
	@bash .ci/run
bench-cold: loja ## measure what a first make up compiles, in an empty cache of its own
	@$(LOJA) bench-cold
bench-shop: loja ## measure the shop: orders per second against PostgreSQL's ceiling, DBOS or a commit, latency, CPU, memory [ONLY= AGAINST=]
	@$(LOJA) bench-shop
bench-data: loja ## measure statements, pruning and the audit in a shop of 10 million orders, on 18 GB of disk [ORDERS=10000000]
	@cd apps && GOWORK=off ../$(LOJA) postgres run -- go test ./audit/invariant -run '^$$' -bench Data -benchtime 1x -timeout 180m \
		-orders $(or $(ORDERS),10000000)
slo: ## write what derives from the objectives: OpenSLO, Datadog's objects, Grafana's dashboard [STACK=dev]
	@cd tools/slo && GOWORK=off go run . -openslo ../../.local/openslo -datadog ../../.local/datadog -grafana ../../.local/grafana \
		-environment $(or $(STACK),dev) && echo "wrote .local/openslo, .local/datadog and .local/grafana"
# infra/slo is a module of its own, which infra/... leaves out.
generate: loja ## rewrite what is generated: CRDs, docs/parameters.md, golden files, the services' API and SQL code
	@bin=$$($(LOJA) tool generators) && cd apps && PATH="$$bin:$$PATH" GOWORK=off go generate ./...
	go generate ./infra/... ./infra/slo ./stacks/...
	go test $$(find infra stacks -type d -name testdata -printf './%h\n') -update
