# make help lists what there is. Long work is done by the program loja (tools/).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down wipe status deploy promote abort load new-service env \
	cluster-up cluster-down cluster-status test lint e2e e2e-full bench generate loja

export GOTOOLCHAIN := local
LOJA := .local/loja

loja:
	@command -v go >/dev/null || { echo "go is not on PATH: install Go 1.26 or newer" >&2; exit 1; }
	@[ -x $(LOJA) ] || echo "compiling the program loja, once"
	@cd tools && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -buildvcs=false -o ../$(LOJA) ./cmd/loja

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Settings: KUBE_CONTEXT and REGISTRY (another cluster), IMAGES=auto|build|pull, LOJA_CACHE, LOJA_DATA."

up: loja ## the whole local environment, from nothing: http://localhost:30080
	@$(LOJA) up
down: loja ## stop it and keep its data
	@$(LOJA) down
wipe: loja ## stop it and delete its data
	@$(LOJA) wipe
deploy: loja ## ship the working tree's services by canary [SERVICE=] [WAIT=0] [LOAD=off]
	@$(LOJA) deploy
status: loja ## where the canaries stand [SERVICE=]
	@$(LOJA) status
promote: loja ## send a canary to 100 % SERVICE=
	@$(LOJA) promote
abort: loja ## take a canary back SERVICE=
	@$(LOJA) abort
load: loja ## drive requests at the gateway [URL_PATH=/] [RATE=20] [REQUESTS=1200]
	@$(LOJA) load
new-service: loja ## scaffold a service NAME=
	@$(LOJA) new-service
env: loja ## exports for plain pulumi and kubectl: eval "$$(make env)"
	@$(LOJA) env
cluster-up: loja ## the local Kubernetes alone
	@$(LOJA) cluster up
cluster-down: loja ## stop it and keep its data
	@$(LOJA) cluster down
cluster-status: loja ## its components, their memory, node and pods
	@$(LOJA) cluster status
