package identity

import "regexp"

// Forms of what every component of AWS is told.
var (
	accountForm  = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm   = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	boundaryForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:policy/.+$`)
)

// ValidAccount tells whether id has the form of an AWS account's.
func ValidAccount(id string) bool { return accountForm.MatchString(id) }

// ValidRegion tells whether name has the form of an AWS region's.
func ValidRegion(name string) bool { return regionForm.MatchString(name) }

// ValidBoundary tells whether arn has the form of an account's own policy's.
func ValidBoundary(arn string) bool { return boundaryForm.MatchString(arn) }
