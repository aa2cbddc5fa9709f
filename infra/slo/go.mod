module github.com/loja-veloz/platform/infra/slo

go 1.26.0
