// Package form knows the forms of identifiers that components of AWS take. It imports
// nothing of AWS, so that a component without resources there stays cheap to compile.
package form

import "regexp"

var (
	accountForm  = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm   = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	boundaryForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:policy/.+$`)
)

// ValidAccount reports whether id has the form of the number of an AWS account.
func ValidAccount(id string) bool { return accountForm.MatchString(id) }

// ValidRegion reports whether name has the form of the name of an AWS region.
func ValidRegion(name string) bool { return regionForm.MatchString(name) }

// ValidBoundary reports whether arn has the form of the ARN of an account's own policy.
func ValidBoundary(arn string) bool { return boundaryForm.MatchString(arn) }
