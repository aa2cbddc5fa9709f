package review

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A grant allows an action, or with deny forbids it.
type grant struct {
	deny                        bool
	principal, action, resource string
	condition                   map[string]map[string][]string
	// whole is a statement that is compared as a text: it has NotAction and the like.
	whole string
}

// grants returns what the policies of a change newly allow: documents of AWS, and the rules of
// Kubernetes roles.
func grants(c *Change) []Finding {
	if c.New == nil || c.Op == "delete" {
		return nil
	}
	var found []Finding
	add := func(path string, old, current []grant) {
		if gained := gained(old, current); len(gained) > 0 {
			what := " allows more"
			if c.Old == nil {
				what = " allows"
			}
			found = append(found, Finding{Class: IAM, Change: c, What: code(path) + what, Details: sentences(gained)})
		}
	}
	if strings.HasPrefix(c.Type, "kubernetes:rbac.authorization.k8s.io/") {
		if old, current := kubernetesGrants(c.Old), kubernetesGrants(c.New); len(current) > 0 {
			add("rules", old, current)
		}
		return found
	}
	if !strings.HasPrefix(c.Type, "aws:") {
		return nil
	}
	leaves(place{}, c.New, func(at place, text string) {
		if strings.HasPrefix(text, unknown) && strings.Contains(strings.ToLower(at.path), "policy") && c.Old != nil && c.Op != "create" {
			found = append(found, Finding{Class: IAM, Change: c, What: code(at.path) + " is " + later})
			return
		}
		current, isPolicy := documentGrants(text)
		if !isPolicy {
			return
		}
		var old []grant
		if c.Old != nil {
			leaves(place{}, c.Old, func(before place, text string) {
				if before == at {
					old, _ = documentGrants(text)
				}
			})
		}
		add(at.path, old, current)
	})
	return found
}

// gained are the grants that are not covered by an old one, and the denials that are gone.
func gained(old, current []grant) []grant {
	var found []grant
	for _, g := range current {
		if !g.deny && !covered(g, old) {
			found = append(found, g)
		}
	}
	for _, g := range old {
		if g.deny && !slices.ContainsFunc(current, func(x grant) bool { return x.deny && x.covers(g) }) {
			found = append(found, g)
		}
	}
	return found
}

// documentGrants parses a policy document. Every text with a Statement is one.
func documentGrants(s string) ([]grant, bool) {
	if !strings.HasPrefix(s, "{") || !strings.Contains(s, `"Statement"`) {
		return nil, false
	}
	var document struct{ Statement list[json.RawMessage] }
	if err := json.Unmarshal([]byte(s), &document); err != nil {
		return []grant{{whole: "the document, which is not a policy: " + err.Error()}}, true
	}
	var all []grant
	for _, raw := range document.Statement {
		all = append(all, statementGrants(raw)...)
	}
	return all, true
}

func statementGrants(raw json.RawMessage) []grant {
	var s struct {
		Effect, Sid                          string
		Action, Resource                     list[string]
		NotAction, NotResource, NotPrincipal json.RawMessage
		Principal                            json.RawMessage
		Condition                            map[string]map[string]list[string]
	}
	opaque := grant{whole: string(raw)}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) == nil {
		opaque.whole = compact.String()
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return []grant{opaque}
	}
	opaque.deny = s.Effect == "Deny"
	principals, ok := principals(s.Principal)
	if len(s.NotAction)+len(s.NotResource)+len(s.NotPrincipal) > 0 || !ok {
		return []grant{opaque}
	}
	condition := map[string]map[string][]string{}
	for operator, keys := range s.Condition {
		condition[operator] = map[string][]string{}
		for key, values := range keys {
			condition[operator][key] = values
		}
	}
	resources := s.Resource
	if len(resources) == 0 {
		resources = list[string]{""} // of a trust policy
	}
	var all []grant
	for _, principal := range principals {
		for _, resource := range resources {
			for _, action := range s.Action {
				all = append(all, grant{deny: opaque.deny, principal: principal, action: action, resource: resource, condition: condition})
			}
		}
	}
	return all
}

// principals are texts such as AWS arn:aws:iam::111122223333:root. A policy of an identity has
// none, which is one empty text.
func principals(raw json.RawMessage) ([]string, bool) {
	if len(raw) == 0 {
		return []string{""}, true
	}
	var all string
	if json.Unmarshal(raw, &all) == nil {
		return []string{all}, true
	}
	var by map[string]list[string]
	if json.Unmarshal(raw, &by) != nil {
		return nil, false
	}
	var found []string
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		for _, name := range by[kind] {
			found = append(found, kind+" "+name)
		}
	}
	return found, true
}

// list is a JSON list, or one element in place of a list.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(raw []byte) error {
	var many []T
	if err := json.Unmarshal(raw, &many); err == nil {
		*l = many
		return nil
	}
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*l = list[T]{one}
	return nil
}

func covered(g grant, by []grant) bool {
	return slices.ContainsFunc(by, func(old grant) bool { return !old.deny && old.covers(g) })
}

// covers says that whatever other allows, g allows too.
func (g grant) covers(other grant) bool {
	if g.whole != "" || other.whole != "" {
		return g.whole == other.whole
	}
	samePrincipal := g.principal == other.principal || g.principal == "*" || g.principal == "AWS *" && strings.HasPrefix(other.principal,
		"AWS ")
	return samePrincipal && wildcard(strings.ToLower(g.action), strings.ToLower(other.action)) && wildcard(g.resource, other.resource) &&
		g.narrows(other)
}

// narrows says that the conditions of g hold whenever those of other do: other has them all, with
// no more values, and operators that a list of values widens.
func (g grant) narrows(other grant) bool {
	for operator, keys := range g.condition {
		for key, values := range keys {
			has, ok := other.condition[operator][key]
			if !ok || len(has) == 0 {
				return false
			}
			if strings.Contains(operator, "Not") || strings.HasPrefix(operator, "ForAllValues") {
				if !slices.Equal(values, has) {
					return false
				}
				continue
			}
			for _, v := range has {
				if !slices.Contains(values, v) {
					return false
				}
			}
		}
	}
	return true
}

// wildcard says that a pattern of IAM matches a text, or every text that another pattern matches.
func wildcard(form, s string) bool {
	if !strings.ContainsAny(form, "*?") {
		return form == s
	}
	if form == "*" {
		return true
	}
	quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(form))
	return regexp.MustCompile("^" + quoted + "$").MatchString(s)
}

// sentences lists grants, those that differ in their action alone in one line.
func sentences(all []grant) []string {
	var order []string
	actions := map[string][]string{}
	for _, g := range all {
		rest := ""
		switch {
		case g.whole != "" && g.deny:
			rest = "no longer denies " + code(g.whole)
		case g.whole != "":
			rest = "allows " + code(g.whole)
		default:
			rest = g.rest()
		}
		if _, ok := actions[rest]; !ok {
			order = append(order, rest)
		}
		actions[rest] = append(actions[rest], code(g.action))
	}
	lines := make([]string, 0, len(order))
	for _, rest := range order {
		lines = append(lines, strings.Replace(rest, "\x00", strings.Join(slices.Compact(slices.Sorted(slices.Values(actions[rest]))), ", "), 1))
	}
	return lines
}

// rest is the sentence about a grant, with \x00 in place of its action.
func (g grant) rest() string {
	s := "may \x00"
	if g.deny {
		s = "is no longer denied \x00"
	}
	if g.principal != "" {
		s = code(g.principal) + " " + s
	}
	if g.resource != "" {
		s += " on " + code(g.resource)
	}
	if len(g.condition) > 0 {
		s += " if " + code(text(g.condition))
	}
	return s
}

// kubernetesGrants are the rules of a Role or ClusterRole.
func kubernetesGrants(object map[string]any) []grant {
	var all []grant
	rules, _ := object["rules"].([]any)
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		names := strings.Join(texts(rule["resourceNames"]), ", ")
		for _, verb := range texts(rule["verbs"]) {
			for _, url := range texts(rule["nonResourceURLs"]) {
				all = append(all, grant{action: verb, resource: url})
			}
			for _, group := range texts(rule["apiGroups"]) {
				for _, resource := range texts(rule["resources"]) {
					g := grant{action: verb, resource: strings.TrimPrefix(group+"/"+resource, "/")}
					if names != "" {
						g.condition = map[string]map[string][]string{"name": {"is": texts(rule["resourceNames"])}}
					}
					all = append(all, g)
				}
			}
		}
	}
	return all
}

func texts(v any) []string {
	items, _ := v.([]any)
	var all []string
	for _, item := range items {
		all = append(all, text(item))
	}
	for i, s := range all {
		if s == `""` {
			all[i] = ""
		}
	}
	return all
}
