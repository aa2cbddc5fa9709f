package chartstest

// The CRDs that the real charts install, for validating our objects of those kinds. They come
// from the Go modules of the projects, so that no chart has to be downloaded. The newest version of
// External Secrets that is a Go module is 1.3.2: in 2.9.0 the fields of ExternalSecret and of AWS's
// stores are the same and a few more, and the defaults are in the controller.
//
//go:generate go run ../../internal/crdgen -module github.com/kong/kubernetes-configuration@v1.0.0 -path config/crd/ingress-controller/configuration.konghq.com_kongclusterplugins.yaml -license Apache-2.0 -out ../testcharts/kong/crds/kongclusterplugins
//go:generate go run ../../internal/crdgen -module github.com/kong/kubernetes-configuration@v1.0.0 -path config/crd/gateway-operator/configuration.konghq.com_kongplugins.yaml -license Apache-2.0 -out ../testcharts/kong/crds/kongplugins
//go:generate go run ../../internal/crdgen -module github.com/external-secrets/external-secrets@v1.3.2 -path config/crds/bases/external-secrets.io_clustersecretstores.yaml -license Apache-2.0 -out ../testcharts/external-secrets/crds/clustersecretstores
//go:generate go run ../../internal/crdgen -module github.com/external-secrets/external-secrets@v1.3.2 -path config/crds/bases/external-secrets.io_externalsecrets.yaml -license Apache-2.0 -out ../testcharts/external-secrets/crds/externalsecrets
//go:generate go run ../../internal/crdgen -module github.com/argoproj-labs/argocd-image-updater@v1.3.0 -path config/crd/bases/argocd-image-updater.argoproj.io_imageupdaters.yaml -license Apache-2.0 -out ../testcharts/argocd-image-updater/crds
//go:generate go run ../../internal/crdgen -module github.com/DataDog/datadog-operator@v1.29.0 -path config/crd/bases/v1/datadoghq.com_datadoggenericresources.yaml -license Apache-2.0 -out ../testcharts/datadog/crds
