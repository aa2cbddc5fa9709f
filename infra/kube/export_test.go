package kube

// ApplyInstallation is the part of NewChart that a component of any kind could use.
var ApplyInstallation = applyInstallation
