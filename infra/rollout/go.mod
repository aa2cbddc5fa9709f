module github.com/loja-veloz/platform/infra/rollout

go 1.26.0
