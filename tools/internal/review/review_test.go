package review

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files and the table of rules in docs")

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, output []byte) *Plan {
	t.Helper()
	p, err := Read(output)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs: run go test ./internal/review -update, and read the difference", path)
	}
}

// options are those of the recorded previews.
var options = Options{Stack: "dev", Rest: "comment.full.md"}

// TestComments compares the comments on recorded previews; testdata/README.md says what they are.
func TestComments(t *testing.T) {
	for _, name := range []string{"change", "objective", "replace", "delete", "iam", "failed-plugin", "failed-program"} {
		output := recorded(t, name)
		c := Write(read(t, output), options)
		golden(t, filepath.Join("testdata", name+".md"), c.Text)
		if len(c.Text) > Limit || c.Left {
			t.Errorf("%s: the comment has %d bytes, and leaves out names: %t", name, len(c.Text), c.Left)
		}
		everyRemoval(t, output, c.Text)
		if strings.Contains(c.Text+c.Full, "04da6b54-80e4") {
			t.Errorf("%s shows Pulumi's mark of an unknown value", name)
		}
	}
}

// everyRemoval fails unless the risks name every object that the plan takes away, and those that
// hold data under the class for it. It reads the plan by itself.
func everyRemoval(t *testing.T, output []byte, text string) {
	t.Helper()
	var plan struct {
		Steps []struct {
			Op, URN  string
			OldState struct{ Custom bool }
		}
	}
	if err := json.Unmarshal(output, &plan); err != nil {
		t.Fatal(err)
	}
	risks, _, _ := strings.Cut(text, "<details>")
	words := func(class Class) map[string]bool {
		_, section, _ := strings.Cut(risks, "#### "+string(class))
		section, _, _ = strings.Cut(section, "####")
		found := map[string]bool{}
		for _, word := range strings.FieldsFunc(section, func(r rune) bool { return strings.ContainsRune("` ,\n", r) }) {
			found[word] = true
		}
		return found
	}
	data, gone := words(Data), words(Gone)
	for _, s := range plan.Steps {
		if s.OldState.Custom && (strings.Contains(s.Op, "delete") || strings.Contains(s.Op, "replace")) {
			parts := strings.Split(s.URN, "::")
			name, kinds := parts[len(parts)-1], strings.Split(parts[len(parts)-2], "$")
			where := gone
			if stateful[kinds[len(kinds)-1]] != "" {
				where = data
			}
			if !where[name] {
				t.Errorf("%s of %s is not among the risks", s.Op, s.URN)
			}
		}
	}
}

// TestHalfOfPulumisOwn compares with what pulumi preview --diff printed when the plans were
// recorded, in bytes, and what is computed for other plans with it.
func TestHalfOfPulumisOwn(t *testing.T) {
	for name, printed := range map[string]int{"change": 66507, "replace": 83440} {
		if least := printedAtLeast(t, recorded(t, name)); least > printed {
			t.Errorf("%s: Pulumi is said to print %d characters at least, and has printed %d", name, least, printed)
		} else {
			t.Logf("%s: Pulumi is said to print %d characters at least, and has printed %d", name, least, printed)
		}
		if got := len(Write(read(t, recorded(t, name)), options).Text); got > printed/2 {
			t.Errorf("the comment on %s has %d bytes, more than half of %d", name, got, printed)
		}
	}
}

// printedAtLeast is how many characters pulumi preview --diff of Pulumi 3.258.0 prints for a plan at least:
// three lines for each resource, and below them each property that changes, with a line for every object that
// holds it. Of resources that are new or go, it prints all properties.
func printedAtLeast(t testing.TB, output []byte) int {
	t.Helper()
	n := 0
	for _, c := range read(t, output).Changes {
		n += utf8.RuneCountInString(fmt.Sprintf("    ~ %s: (%s)\n        [urn=%s]\n", c.Type, c.Op, c.URN))
		if c.ID != "" {
			n += utf8.RuneCountInString(fmt.Sprintf("        [id=%s]\n", c.ID))
		}
		for _, p := range c.Properties {
			parts := strings.FieldsFunc(p.Path, func(r rune) bool { return strings.ContainsRune(".[]", r) })
			for depth, name := range parts {
				n += 6 + 4*depth + len("~ : ") + len(name) + 1
				if depth < len(parts)-1 {
					n += len("{") + 8 + 4*depth + len("}\n")
				}
			}
			if !strings.Contains(p.Old+p.New, "\n") { // of texts with several lines, it prints a difference
				n += utf8.RuneCountInString(p.Old) + utf8.RuneCountInString(p.New)
			}
		}
		if c.Op == "create" || c.Op == "delete" {
			leaves(place{}, anyMap(firstOf(c.New, c.Old)), func(at place, text string) {
				n += 8 + utf8.RuneCountInString(at.path[strings.LastIndex(at.path, ".")+1:]+": "+text) + 1
			})
		}
	}
	return n
}

func firstOf(maps ...map[string]any) map[string]any {
	for _, m := range maps {
		if m != nil {
			return m
		}
	}
	return nil
}

// TestHalfOfPulumisOwnAtEverySize counts the characters of plans in which everything changes.
func TestHalfOfPulumisOwnAtEverySize(t *testing.T) {
	for _, n := range []int{100, 300, 3000} {
		output := large(t, n)
		got, printed := utf8.RuneCountInString(Write(read(t, output), options).Text), printedAtLeast(t, output)
		if got > printed/2 {
			t.Errorf("the comment on %d resources has %d characters, more than half of the %d that Pulumi prints at least", n, got, printed)
		}
		t.Logf("%d resources: %d characters, Pulumi prints at least %d", n, got, printed)
	}
}

// object is a state of a resource in a constructed plan.
type object = map[string]any

func constructed(t testing.TB, steps ...object) []byte {
	t.Helper()
	b, err := json.Marshal(object{"steps": steps, "changeSummary": object{"same": 3}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stepOf is a step as the engine prints it. Inputs that are nil leave the state out.
func stepOf(op, kind, name string, old, current object) object {
	urn := "urn:pulumi:dev::loja-veloz::" + kind + "::" + name
	s := object{"op": op, "urn": urn, "detailedDiff": nil}
	if old != nil {
		s["oldState"] = object{"urn": urn, "custom": true, "type": kind, "id": "id-of-" + name, "inputs": old, "outputs": old}
	}
	if current != nil {
		s["newState"] = object{"urn": urn, "custom": true, "type": kind, "inputs": current}
	}
	return s
}

func TestSecretsAreMasked(t *testing.T) {
	const hidden = "hunter2-hunter2"
	before := func(secret string) object {
		return object{
			"password": secret, "masterPassword": secret, "description": "old " + secret[:3],
			"settings":  `{"api_key":"` + secret + `","list":[{"name":"DB_PASSWORD","value":"` + secret + `"}]}`,
			"script":    "export STRIPE_TOKEN=" + secret + "\nurl: postgres://admin:" + secret + "@db/shop\npassword: " + secret,
			"env":       []any{object{"name": "APP_KEY", "value": secret}, object{"name": "PORT", "value": "8080"}},
			"nested":    object{"clientSecret": secret, "auth-token": []any{secret}},
			"key":       "-----BEGIN RSA PRIVATE KEY-----\n" + secret + "\n-----END RSA PRIVATE KEY-----",
			"header":    "Authorization: Bearer " + secret,
			"byPulumi":  "[secret]",
			"reference": object{"secretName": "loja-veloz/dev/stripe"},
		}
	}
	other := hidden + "-new"
	s := stepOf("update", "aws:example/thing:Thing", "thing", before(hidden), before(other))
	s["detailedDiff"] = object{"byPulumi": object{"kind": "update", "inputDiff": true}}
	values := func(secret string) object {
		return object{"metadata": object{"name": "shop"}, "data": object{"a.b": secret}, "stringData": object{"user": secret}}
	}
	output := constructed(t, s,
		stepOf("update", "kubernetes:core/v1:Secret", "object", values(hidden), values(other)),
		stepOf("create", "kubernetes:core/v1:Secret", "new", nil, values(hidden)),
		stepOf("delete", "aws:rds/instance:Instance", "gone", before(hidden), nil),
	)
	o := options
	o.Failure = "cannot log in to postgres://admin:" + hidden + "@db: AWS_SECRET_ACCESS_KEY=" + hidden
	c := Write(read(t, output), o)
	for name, text := range map[string]string{"comment": c.Text, "full text": c.Full} {
		if strings.Contains(text, hidden) {
			t.Errorf("the %s shows a secret:\n%s", name, text)
		}
	}
	for _, want := range []string{
		"! password: [secret] → [secret, changed]", "! byPulumi: [secret] → [secret, changed]", `! data["a.b"]: [secret] → [secret, changed]`,
		`! settings.api_key: [secret] → [secret, changed]`, `! env["APP_KEY"].value: [secret] → [secret, changed]`,

		"cannot log in to postgres://admin:[secret]@db",
	} {
		if !strings.Contains(c.Text, want) {
			t.Errorf("the comment does not say %q:\n%s", want, c.Text)
		}
	}
	if !strings.Contains(c.Full, "reference.secretName: loja-veloz/dev/stripe") {
		t.Error("the name of a secret is masked, which is none")
	}
}

func TestHugeConfigMap(t *testing.T) {
	rules := make([]string, 30_000)
	for i := range rules {
		rules[i] = fmt.Sprintf("- record: rule_%d", i)
	}
	before := strings.Join(rules, "\n")
	rules[15_000] = "- record: another"
	after := strings.Join(rules, "\n")
	values := func(text string) object { return object{"data": object{"objectives.yml": text}} }
	c := Write(read(t, constructed(t, stepOf("update", "kubernetes:core/v1:ConfigMap", "rules", values(before), values(after)))), options)
	for _, want := range []string{"1 lines removed, 1 added", "-   - record: rule_15000", "+   - record: another", string(Canary)} {
		if !strings.Contains(c.Text, want) {
			t.Errorf("the comment does not say %q", want)
		}
	}
	if len(c.Text) > 3000 {
		t.Errorf("the comment on one line of a big text has %d bytes", len(c.Text))
	}
	// A text that is another as a whole.
	c = Write(read(t, constructed(t, stepOf("update", "kubernetes:core/v1:ConfigMap", "rules", values(before),
		values(strings.ToUpper(after))))), options)
	if len(c.Text) > 10_000 || !strings.Contains(c.Text, "30000 lines removed, 30000 added") || !strings.Contains(c.Full,
		"- RECORD: RULE_29999") {
		t.Errorf("the comment has %d bytes, and the full text %d", len(c.Text), len(c.Full))
	}
}

// large is a plan of n resources, a fifth of which are replaced databases and deleted buckets.
func large(t testing.TB, n int) []byte {
	steps := make([]object, 0, n)
	for i := range n {
		name := fmt.Sprintf("resource-%04d", i)
		switch i % 10 {
		case 0:
			s := stepOf("replace", "aws:rds/instance:Instance", name, object{"identifier": "a" + name}, object{"identifier": "b" + name})
			s["detailedDiff"] = object{"identifier": object{"kind": "update-replace", "inputDiff": true}}
			steps = append(steps, s)
		case 1:
			steps = append(steps, stepOf("delete", "aws:s3/bucketV2:BucketV2", name, object{"bucket": name}, nil))
		case 2, 3, 4:
			steps = append(steps, stepOf("create", "aws:ssm/parameter:Parameter", name, nil, object{"value": name}))
		default:
			container := func(image string) object {
				return object{"metadata": object{"name": name}, "spec": object{"template": object{"spec": object{"containers": []any{
					object{"name": "service", "image": image, "env": []any{object{"name": "PORT", "value": "8080"}, object{"name": "NAME", "value": name}},
						"securityContext": object{"allowPrivilegeEscalation": false, "runAsNonRoot": true}},
				}}}}}
			}
			steps = append(steps, stepOf("update", "kubernetes:apps/v1:Deployment", name, container("shop@"+name), container("shop@sha256:"+name)))
		}
	}
	return constructed(t, steps...)
}

func TestNothingDangerousIsCut(t *testing.T) {
	output := large(t, 3000)
	c := Write(read(t, output), options)
	if len(c.Text) > Limit || c.Left {
		t.Errorf("the comment has %d bytes and leaves out names: %t", len(c.Text), c.Left)
	}
	everyRemoval(t, output, c.Text)
	if !strings.Contains(c.Text, "of the changes do not fit here: the file `comment.full.md` has them.") || !strings.Contains(c.Full,
		"shop@resource-2999") {
		t.Error("what does not fit is not said, or not in the full text")
	}
}

func TestMoreRisksThanFitAreSaid(t *testing.T) {
	var steps []object
	for i := range 3000 {
		steps = append(steps, stepOf("delete", "aws:s3/bucketV2:BucketV2", fmt.Sprintf("a-bucket-with-a-long-name-%04d", i),
			object{"bucket": "b"}, nil))
	}
	c := Write(read(t, constructed(t, steps...)), options)
	if !c.Left || len(c.Text) > Limit || !strings.Contains(c.Text, "Do not approve this from the comment alone") || !strings.Contains(c.Text,
		"3000 to delete") {
		t.Errorf("Left is %t, and the comment of %d bytes begins\n%s", c.Left, len(c.Text), c.Text[:500])
	}
	everyRemoval(t, constructed(t, steps...), c.Full)
}

func TestCharactersWithoutAFormAreWrittenOut(t *testing.T) {
	const turned = "1\u202e5"
	c := Write(read(t, constructed(t, stepOf("update", "aws:rds/instance:Instance", "db"+turned,
		object{"engineVersion": "15"}, object{"engineVersion": turned, "note": "x\n" + turned}))), Options{Stack: "dev", Rest: "rest.md", Failure: turned})
	for _, text := range []string{c.Text, c.Full} {
		if strings.Contains(text, "\u202e") || !strings.Contains(text, `1\u202e5`) {
			t.Errorf("the direction of the text changes in\n%s", text)
		}
	}
}

func TestPlanCannotForgeMarkdown(t *testing.T) {
	for _, bad := range []string{
		"`</details>\n```\n@everyone <!-- loja-preview stack=prod --> | x |\n### Preview of `prod`: no risk",
		"15` @everyone stack=prod `",
	} {
		c := Write(read(t, constructed(t, stepOf("update", "aws:rds/instance:Instance", "db",
			object{"engineVersion": "15", "note": "x\ny"}, object{"engineVersion": bad, "note": bad}))),
			Options{Stack: "dev", Rest: "rest.md", Failure: bad})
		for _, text := range []string{c.Text, c.Full} {
			outside := regexp.MustCompile("(?s)```.*?\n```").ReplaceAllString(text, "")
			outside = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(outside, "")
			for _, forged := range []string{"@everyone", "stack=prod", "of `prod`", "`"} {
				if strings.Contains(outside, forged) {
					t.Errorf("%q is outside of code:\n%s", forged, outside)
				}
			}
		}
	}
}

// BenchmarkThreeThousand reads a plan of 3,000 resources that all change, and writes both texts: the goal is a
// second.
func BenchmarkThreeThousand(b *testing.B) {
	output := large(b, 3000)
	characters := 0
	for b.Loop() {
		characters = utf8.RuneCountInString(Write(read(b, output), options).Text)
	}
	b.ReportMetric(float64(characters), "characters")
	b.ReportMetric(float64(printedAtLeast(b, output)), "characters-by-pulumi")
}
