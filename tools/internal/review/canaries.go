package review

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const rollout = "kubernetes:argoproj.io/v1alpha1:Rollout"

// canaries say which Rollouts get a new version, and through which steps it goes.
func (w *writer) canaries() []block {
	names := map[string][]string{}
	var order []string
	for _, c := range w.plan.Changes {
		if c.Type != rollout || c.Old == nil || c.New == nil {
			continue
		}
		before, after := steps(c.Old), steps(c.New)
		said := "the next version goes "
		if slices.ContainsFunc(c.Properties, func(p Property) bool { return strings.HasPrefix(p.Path, "spec.template") }) {
			said = "a new version goes now "
		} else if before == after {
			continue
		}
		said += code(after)
		if before != after {
			said += ", before this change " + code(before)
		}
		service := strings.ReplaceAll(text(at(c.New, "metadata", "name")), "`", "'")
		said = strings.ReplaceAll(said, service+"-", "SERVICE-") // whose templates have its name
		if names[said] == nil {
			order = append(order, said)
		}
		names[said] = append(names[said], service)
	}
	var found []block
	for _, said := range order {
		found = append(found, block{text: fmt.Sprintf("- %s: %s\n", inline(names[said]), said)})
	}
	return found
}

// toleratedPath is the argument of an analysis that says what a canary may do, as infra/workload
// writes it.
var toleratedPath = regexp.MustCompile(`^spec\.args\["(.+)-tolerated"\]\.value$`)

// objectives say which objectives change, from the texts that infra/slo writes for people: in
// what an analysis tolerates, and in Datadog's description of an objective.
func (w *writer) objectives() []block {
	var found []block
	add := func(c *Change, what string, p Property) {
		found = append(found, block{text: fmt.Sprintf("- %s%s: %s\n", code(text(at(c.New, "metadata", "name"))), what, change(p))})
	}
	for _, c := range w.plan.Changes {
		for _, p := range c.Properties {
			tolerated := toleratedPath.FindStringSubmatch(p.Path)
			switch {
			case strings.HasSuffix(c.Type, ":AnalysisTemplate") && tolerated != nil:
				add(c, ", tolerated "+code(tolerated[1]), p)
			case strings.HasSuffix(c.Type, ":DatadogGenericResource") && p.Path == "spec.jsonSpec.description" && text(at(c.New, "spec",
				"type")) == "slo":
				add(c, "", p)
			}
		}
	}
	return found
}

// steps are those of a canary in words: 20 %, 30 s, gate pagamentos-gate, 100 %.
func steps(object map[string]any) string {
	canary, _ := at(object, "spec", "strategy", "canary").(map[string]any)
	list, _ := canary["steps"].([]any)
	var words []string
	for _, item := range list {
		step, _ := item.(map[string]any)
		switch {
		case step["setWeight"] != nil:
			words = append(words, text(step["setWeight"])+" %")
		case step["pause"] != nil:
			words = append(words, pause(at(step, "pause", "duration")))
		case step["analysis"] != nil:
			words = append(words, "analysis"+templates(step["analysis"]))
		default:
			words = append(words, text(step))
		}
	}
	said := strings.Join(append(words, "100 %"), " → ")
	if background := templates(canary["analysis"]); background != "" {
		said += "; watched by" + background
	}
	return said
}

func pause(duration any) string {
	switch s := text(duration); {
	case s == "":
		return "until somebody promotes it"
	case strings.Trim(s, "0123456789") == "":
		return s + " s"
	default:
		return s
	}
}

func templates(analysis any) string {
	list, _ := at(analysis, "templates").([]any)
	said := ""
	for _, template := range list {
		said += " " + text(at(template, "templateName"))
	}
	return said
}

// at returns the value below the keys, or nil.
func at(v any, keys ...string) any {
	for _, key := range keys {
		object, _ := v.(map[string]any)
		v = object[key]
	}
	return v
}
