package kube

// ApplyInstallation is the part of NewChart without the component.
var ApplyInstallation = applyInstallation
