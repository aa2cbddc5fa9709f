package review

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
)

// A Property is a difference. Old is empty if the property is added, New if it is removed.
type Property struct {
	// Path is as in Pulumi, except that an element of a list whose elements have names is found
	// by its name: spec.containers["web"].image.
	Path     string
	Old, New string
	// form is the path with [*] for each index and name of a list.
	form string
	// Drift says that the inputs are equal, and the object differs from them.
	Drift bool
}

const (
	unknown       = "[unknown]"
	secret        = "[secret]" // as Pulumi shows it
	changedSecret = "[secret, changed]"
)

// hiddenPaths are never shown: who reviews them learns nothing.
var hiddenPaths = []string{"__", `metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]`, "metadata.managedFields",
	"status"}

func hidden(path string) bool {
	return slices.ContainsFunc(hiddenPaths, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

// differences lists what differs, by path.
func differences(before, after map[string]any) []Property {
	var found []Property
	compare(place{}, before, after, &found)
	tags := map[string]bool{}
	for _, p := range found {
		tags[p.Path] = true
	}
	return slices.DeleteFunc(found, func(p Property) bool {
		rest, ok := strings.CutPrefix(p.Path, "tagsAll")
		return hidden(p.Path) || ok && tags["tags"+rest] // tagsAll repeats tags
	})
}

func compare(at place, before, after any, found *[]Property) {
	if reflect.DeepEqual(before, after) {
		return
	}
	if a, ok := document(before); ok {
		if b, ok := document(after); ok {
			before, after = a, b
		}
	}
	switch a := before.(type) {
	case map[string]any:
		if b, ok := after.(map[string]any); ok {
			keys := maps.Clone(a)
			maps.Copy(keys, b)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				compare(at.key(key), a[key], b[key], found)
			}
			return
		}
	case []any:
		if b, ok := after.([]any); ok {
			compareLists(at, a, b, found)
			return
		}
	}
	if p := (Property{Path: at.path, form: at.form, Old: text(before), New: text(after)}); p.Old != p.New {
		*found = append(*found, p)
	}
}

// document parses a text that is a JSON object or list, such as an IAM policy.
func document(v any) (any, bool) {
	s, _ := v.(string)
	if len(s) < 2 || s[0] != '{' && s[0] != '[' || strings.HasPrefix(s, secret) {
		return nil, false
	}
	var parsed any
	decoder := json.NewDecoder(strings.NewReader(s))
	decoder.UseNumber()
	return parsed, decoder.Decode(&parsed) == nil && !decoder.More()
}

// compareLists pairs elements by name if all have one, and otherwise leaves out what both lists
// begin and end with, so that an element that is inserted does not change all that follow.
func compareLists(at place, a, b []any, found *[]Property) {
	if x, ok := named(a); ok {
		if y, ok := named(b); ok {
			keys := maps.Clone(x)
			maps.Copy(keys, y)
			before := len(*found)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				compare(at.element(key), x[key], y[key], found)
			}
			if len(*found) == before { // only their order differs
				*found = append(*found, Property{Path: at.path, form: at.form, Old: text(a), New: text(b)})
			}
			return
		}
	}
	start := 0
	for start < len(a) && start < len(b) && reflect.DeepEqual(a[start], b[start]) {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && reflect.DeepEqual(a[len(a)-1-end], b[len(b)-1-end]) {
		end++
	}
	x, y := a[start:len(a)-end], b[start:len(b)-end]
	for i := range max(len(x), len(y)) {
		item := at.element(start + i)
		if len(x) == len(y) {
			compare(item, x[i], y[i], found)
			continue
		}
		if i < len(x) {
			*found = append(*found, Property{Path: item.path, form: item.form, Old: text(x[i])})
		}
		if i < len(y) {
			*found = append(*found, Property{Path: item.path, form: item.form, New: text(y[i])})
		}
	}
}

// named maps elements by their names, if each is an object with a name of its own.
func named(list []any) (map[string]any, bool) {
	by := map[string]any{}
	for _, item := range list {
		object, _ := item.(map[string]any)
		name, ok := object["name"].(string)
		if _, twice := by[name]; !ok || twice {
			return nil, false
		}
		by[name] = item
	}
	return by, len(list) > 0
}

// text is a value on one line, or a text as it is.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if v == "" {
			return `""`
		}
		return v
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}

// A place is the path of a value, and its form.
type place struct{ path, form string }

func (p place) key(key string) place { return place{join(p.path, key), join(p.form, key)} }

func (p place) element(index any) place {
	return place{fmt.Sprintf("%s[%#v]", p.path, index), p.form + "[*]"}
}

// leaves calls visit with every value that contains no other.
func leaves(at place, v any, visit func(place, string)) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			leaves(at.key(key), v[key], visit)
		}
	case []any:
		by, ok := named(v)
		for i, item := range v {
			if ok {
				name := item.(map[string]any)["name"].(string)
				leaves(at.element(name), by[name], visit)
				continue
			}
			leaves(at.element(i), item, visit)
		}
	default:
		visit(at, text(v))
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$-]*$`)

func join(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return fmt.Sprintf("%s[%q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

// root is the first part of a path.
func root(path string) string {
	if i := strings.IndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return path
}

// overlaps says that one path contains the other. The names of list elements count as any index.
func overlaps(a, b string) bool {
	a, b = anyIndex(a), anyIndex(b)
	if len(a) > len(b) {
		a, b = b, a
	}
	rest, ok := strings.CutPrefix(b, a)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

var index = regexp.MustCompile(`\[("(?:[^"\\]|\\.)*"|[0-9]+)\]`)

// anyIndex replaces the indices of a path by *, and keys in quotes too, whose list may have names.
func anyIndex(path string) string { return index.ReplaceAllString(path, "[*]") }

// lookup returns the value at a path, or nil.
func lookup(path resource.PropertyPath, v any) any {
	for _, key := range path {
		switch at := v.(type) {
		case map[string]any:
			name, _ := key.(string)
			v = at[name]
		case []any:
			i, ok := key.(int)
			if !ok || i < 0 || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

// markSecret marks a secret that Pulumi has masked on both sides as changed.
func markSecret(path resource.PropertyPath, before, after map[string]any) {
	if len(path) == 0 || lookup(path, before) != any(secret) || lookup(path, after) != any(secret) {
		return
	}
	switch parent := lookup(path[:len(path)-1], after).(type) {
	case map[string]any:
		parent[path[len(path)-1].(string)] = changedSecret
	case []any:
		parent[path[len(path)-1].(int)] = changedSecret
	}
}

// A masker hides what is secret, and names what is not known yet.
type masker struct {
	kind string // type token of the resource
}

func (m masker) object(before, after map[string]any) (a, b map[string]any) {
	x, y := m.values(anyMap(before), anyMap(after))
	a, _ = x.(map[string]any)
	b, _ = y.(map[string]any)
	return a, b
}

func anyMap(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}

func (m masker) values(before, after any) (any, any) { return m.pair("", "", before, after) }

// pair masks a value before and after. path is "" at the root; key is the name of the property.
func (m masker) pair(path, key string, before, after any) (any, any) {
	if m.isSecret(path, key) && (scalar(before) || scalar(after)) {
		return hide(before, after)
	}
	switch before.(type) {
	case map[string]any:
		return m.objects(path, before, after)
	case []any:
		return m.lists(path, key, before, after)
	}
	switch after.(type) {
	case map[string]any:
		return m.objects(path, before, after)
	case []any:
		return m.lists(path, key, before, after)
	}
	a, aText := before.(string)
	b, bText := after.(string)
	if x, ok := document(a); ok {
		if y, ok := document(b); ok {
			p, q := m.pair("", "", x, y)
			if !reflect.DeepEqual(p, x) || !reflect.DeepEqual(q, y) {
				return text(p), text(q)
			}
		}
	}
	if aText {
		before = m.text(a)
	}
	if bText {
		after = m.text(b)
	}
	if aText && bText && a != b && before == after {
		after = strings.TrimSuffix(after.(string), secret) + changedSecret
	}
	return before, after
}

func (m masker) objects(path string, before, after any) (any, any) {
	a, aObject := before.(map[string]any)
	b, bObject := after.(map[string]any)
	if !aObject && before != nil || !bObject && after != nil { // they differ in kind: each for itself
		x, _ := m.pair(path, "", before, nil)
		_, y := m.pair(path, "", nil, after)
		return x, y
	}
	keys := maps.Clone(a)
	if keys == nil {
		keys = map[string]any{}
	}
	maps.Copy(keys, b)
	x, y := make(map[string]any, len(a)), make(map[string]any, len(b))
	for key := range keys {
		name := key
		if key == "value" && (variable(a) || variable(b)) { // of an environment variable
			name = "password"
		}
		p, q := m.pair(join(path, key), name, a[key], b[key])
		if _, ok := a[key]; ok {
			x[key] = p
		}
		if _, ok := b[key]; ok {
			y[key] = q
		}
	}
	return nilUnless(aObject, x), nilUnless(bObject, y)
}

func nilUnless(there bool, m map[string]any) any {
	if !there {
		return nil
	}
	return m
}

// variable says that an object is an environment variable that holds a secret.
func variable(object map[string]any) bool {
	name, _ := object["name"].(string)
	return secretName.MatchString(name)
}

func (m masker) lists(path, key string, before, after any) (any, any) {
	a, aList := before.([]any)
	b, bList := after.([]any)
	if !aList && before != nil || !bList && after != nil {
		x, _ := m.pair(path, key, before, nil)
		_, y := m.pair(path, key, nil, after)
		return x, y
	}
	var x, y any
	left, right := make([]any, len(a)), make([]any, len(b))
	for i := range max(len(a), len(b)) {
		var p, q any
		if i < len(a) {
			p = a[i]
		}
		if i < len(b) {
			q = b[i]
		}
		p, q = m.pair(fmt.Sprintf("%s[%d]", path, i), key, p, q)
		if i < len(a) {
			left[i] = p
		}
		if i < len(b) {
			right[i] = q
		}
	}
	if aList {
		x = left
	}
	if bList {
		y = right
	}
	return x, y
}

func scalar(v any) bool {
	switch v := v.(type) {
	case string:
		return v != "" && v != secret && !strings.Contains(v, plugin.UnknownStringValue)
	case json.Number:
		return true
	}
	return false
}

func hide(before, after any) (any, any) {
	var x, y any
	if before != nil {
		x = secret
	}
	if after != nil {
		y = secret
		if before != nil && !reflect.DeepEqual(before, after) {
			y = changedSecret
		}
	}
	return x, y
}

// references are kinds whose properties name secrets and never contain them.
var references = regexp.MustCompile(`:(ExternalSecret|SecretStore|ClusterSecretStore|CustomResourceDefinition)$`)

func (m masker) isSecret(path, key string) bool {
	if m.kind == "kubernetes:core/v1:Secret" {
		if where := root(path); (where == "data" || where == "stringData") && path != where {
			return true
		}
	}
	return secretName.MatchString(key) && !references.MatchString(m.kind)
}

// secretName matches the names of properties and environment variables that hold a secret and
// not a secret's name. It is that of infra/policy, which a test compares.
var secretName = regexp.MustCompile(`(?i)(pass(word|wd|phrase)|secret[_-]?(string|binary|access[_-]?key)|` +
	`api[_-]?key|app[_-]?key|private[_-]?key|client[_-]?secret|(auth|access|refresh|bearer|session)[_-]?token|^token|[a-z]Token|[_-]token)$`)

// credentials are texts that are secrets under any name. A form keeps its groups 1 and 2. Only
// texts with one of the hints, in lower case, can match: a plan has a million texts.
var credentials = []struct {
	hints []string
	form  *regexp.Regexp
}{
	{[]string{"akia", "asia"}, regexp.MustCompile(`(\b)(?:AKIA|ASIA)[0-9A-Z]{16}(\b)`)},
	{[]string{"private key"}, regexp.MustCompile(
		`()-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|$)()`)},
	{[]string{"eyj"}, regexp.MustCompile(`(\b)eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}()`)},
	{[]string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"},
		regexp.MustCompile(`(\b)(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})()`)},
	{[]string{"xox"}, regexp.MustCompile(`(\b)xox[abprs]-[A-Za-z0-9-]{10,}()`)},
	{[]string{"sk_", "rk_", "whsec_"}, regexp.MustCompile(`(\b)(?:(?:sk|rk)_(?:live|test)_|whsec_)[A-Za-z0-9+/=]{8,}()`)},
	{[]string{"client-key-data"}, regexp.MustCompile(`(client-key-data["']?\s*:\s*["']?)[A-Za-z0-9+/=]{16,}()`)},
	{[]string{"://"}, regexp.MustCompile(`(\b[a-z][a-z0-9+.-]*://[^/\s:@]*:)[^/\s@]+(@)`)},
	{[]string{"authorization"}, regexp.MustCompile(`(?i)(authorization["']?\s*[:=]\s*["']?(?:bearer|basic)\s+)[^\s"']+()`)},
	// A line or an option of a configuration file. A reference such as ${X} is no secret.
	{[]string{"passw", "passphrase", "secret", "token", "key"}, regexp.MustCompile(
		`(?i)((?:^|[\s,;&?"'{_-])["']?(?:[a-z0-9_.-]*(?:password|passwd|passphrase|client[_-]?secret|secret[_-]?access[_-]?key|` +
			`api[_-]?key|app[_-]?key|private[_-]?key)|(?:[a-z0-9_.-]*[_-])?token)\\?["']?\s*[:=]\s*\\?["']?)[^\s"',;&${}\[\\]{3,}()`)},
}

// text masks the credentials in a text, also in JSON, and names unknown values.
func (m masker) text(s string) string {
	if parsed, ok := document(s); ok {
		if masked, _ := m.pair("", "", parsed, nil); !reflect.DeepEqual(masked, parsed) {
			s = text(masked)
		}
	}
	return readable(s)
}

// readable masks the credentials in a text, and names unknown values.
func readable(s string) string {
	lower := strings.ToLower(s)
	for _, c := range credentials {
		if slices.ContainsFunc(c.hints, func(hint string) bool { return strings.Contains(lower, hint) }) {
			s = c.form.ReplaceAllString(s, "${1}"+secret+"${2}")
		}
	}
	return strings.ReplaceAll(s, plugin.UnknownStringValue, unknown)
}
