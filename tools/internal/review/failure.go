package review

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// advice says what a person can do about a failure. The first that matches counts.
var advice = []struct {
	form *regexp.Regexp
	do   string
}{
	{regexp.MustCompile(`(?i)ExpiredToken|token.{0,40}expired|credentials? (has|have) expired`),
		"The credentials have expired: get new ones and run the preview again."},
	{regexp.MustCompile(`(?i)no valid credential|NoCredentialProviders|unable to locate credentials|` +
		`failed to refresh cached credentials|InvalidClientTokenId`),
		"There are no valid credentials for the cloud: a pull request from a fork has none, and gets the plan against an empty state instead."},
	{regexp.MustCompile(`(?i)AccessDenied|UnauthorizedOperation|not authorized to perform|is forbidden`),
		"The role of the preview may not read something: give it the permission that the message names."},
	{regexp.MustCompile(`(?is)marked for protection|cannot be deleted\s+because it is protected`),
		"The plan replaces or deletes a protected resource. If that is wanted, name it in `cloud.allowReplace` (`allowReplace` in bootstrap), " +
			"in a change that says where its data go."},
	{regexp.MustCompile(`(?i)the stack is currently locked|ConcurrentUpdateError`),
		"Another update holds the lock of the stack: wait for its end, or run `pulumi cancel` if it was killed."},
	{regexp.MustCompile(`(?i)incorrect passphrase|secrets? ?(provider|manager).{0,60}(error|failed|denied)|constructing secrets manager`),
		"The key of the stack's secrets cannot be used: check the role's permission for the key, and the stack file's `secretsprovider`."},
	{regexp.MustCompile(`(?i)exited prematurely|error reading from server: EOF`),
		"A plugin of Pulumi crashed. Run the preview again; if it crashes again, report its message to the plugin's project."},
	{regexp.MustCompile(`(?i)not a valid chart repository|failed to download|could not (find|download) (the )?chart`),
		"A Helm chart cannot be fetched: check the network and the chart's version, and run the preview again."},
	{regexp.MustCompile(`(?i)no (such )?(stack named|output)|` +
		`(has no|lacks? the|missing( the)?|required( stack)?) output|failed to get (the )?output|unknown stack`),
		"A stack that this one reads has not been brought up, or lacks an output: bring up bootstrap first."},
	{regexp.MustCompile(`(?i)unreachable|connection refused|no such host|failed to initialize discovery client|i/o timeout`),
		"The cluster or the cloud cannot be reached from here: check that it runs and that this machine's address is admitted."},
	{regexp.MustCompile(`policy [a-z-]+: `),
		"A rule of infra/policy refuses the plan: the message names the property."},
	{regexp.MustCompile(`(?i)printed no plan|cut off or no JSON`),
		"The preview ended before it had a plan: read its log, and run it again."},
}

// Advice returns what a person can do about a failure of Pulumi, a sentence, by what was said; empty if no
// rule knows it.
func Advice(said string) string {
	for _, a := range advice {
		if a.form.MatchString(said) {
			return a.do
		}
	}
	return ""
}

func (w *writer) failed() bool {
	return w.Failure != "" || slices.ContainsFunc(w.plan.Diagnostics, func(d Diagnostic) bool { return d.Severity == "error" })
}

// failure says that the plan is incomplete, what can be done, and what Pulumi said.
func (w *writer) failure() string {
	if !w.failed() {
		return ""
	}
	var messages []string
	for _, d := range w.plan.Diagnostics {
		// A program that gives up says why in a message without severity.
		if d.Severity == "error" || d.Resource == "" && d.Severity == "info" || strings.HasPrefix(d.Severity, "info#err") {
			messages = append(messages, d.Message)
		}
	}
	if len(messages) == 0 {
		messages = append(messages, readable(w.Failure))
	}
	said := strings.Join(slices.Compact(messages), "\n")
	do := cmp.Or(Advice(said+"\n"+w.Failure), "Read the message, mend what it names, and run the preview again.")
	what := "There is no plan."
	if len(w.plan.Changes) > 0 {
		what = "**This plan is incomplete**: resources that the preview did not reach are missing below, " +
			"and some of them may be replaced or deleted."
	}
	return fmt.Sprintf("\nThe preview failed. %s %s\n\n%s", do, what, fenced("", clipLines(said, 40, 300)))
}
