package github_test

import (
	"encoding/json"
	"maps"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// A manager is a custom manager of Renovate's configuration. Renovate's expressions are RE2, as Go's.
type manager struct {
	Description  string   `json:"description"`
	FilePatterns []string `json:"managerFilePatterns"`
	MatchStrings []string `json:"matchStrings"`
	DepName      string   `json:"depNameTemplate"`
	Datasource   string   `json:"datasourceTemplate"`
	RegistryURL  string   `json:"registryUrlTemplate"`
}

// A dependency is a version that a manager found in a file.
type dependency struct {
	manager, file, datasource, name, version string
	start, end                               int // of the version in the file
}

// tracked returns the files of the repository.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// dependencies returns what the custom managers find in the files.
func dependencies(t *testing.T) []dependency {
	t.Helper()
	var config struct {
		Managers []manager `json:"customManagers"`
	}
	if err := json.Unmarshal([]byte(read(t, ".github/renovate.json")), &config); err != nil {
		t.Fatal(err)
	}
	files := tracked(t)
	var found []dependency
	for _, m := range config.Managers {
		for _, pattern := range m.FilePatterns {
			expression := regexp.MustCompile(strings.Trim(pattern, "/"))
			matched := false
			for _, file := range files {
				if expression.MatchString(file) {
					in := m.extract(file, read(t, file))
					found = append(found, in...)
					matched = matched || len(in) > 0
				}
			}
			if !matched {
				t.Errorf("%s: %s finds nothing", m.Description, pattern)
			}
		}
	}
	for _, d := range found {
		if d.name == "" || d.version == "" || d.datasource == "" {
			t.Errorf("%s: %s: name, version or datasource is missing: %+v", d.manager, d.file, d)
		}
	}
	return found
}

func (m manager) extract(file, text string) []dependency {
	var found []dependency
	for _, matchString := range m.MatchStrings {
		expression := regexp.MustCompile(matchString)
		for _, at := range expression.FindAllStringSubmatchIndex(text, -1) {
			group := func(name, fallback string) string {
				if i := expression.SubexpIndex(name); i > 0 {
					return text[at[2*i]:at[2*i+1]]
				}
				return fallback
			}
			i := expression.SubexpIndex("currentValue")
			found = append(found, dependency{
				manager: m.Description, file: file, datasource: group("datasource", m.Datasource), name: group("depName", m.DepName),
				version: group("currentValue", ""), start: at[2*i], end: at[2*i+1],
			})
		}
	}
	return found
}

const pinsFile = "tools/internal/toolchain/pins.go"

// tools returns every tool of pins.go.
func tools() []toolchain.Tool {
	return slices.Concat([]toolchain.Tool{
		toolchain.Kubernetes, toolchain.Ko, toolchain.Flagger, toolchain.Cosign, toolchain.PolicyController, toolchain.Trivy, toolchain.Govulncheck,
		toolchain.ArgoCD,
	}, toolchain.Pulumi,
		toolchain.Images, toolchain.Lint, toolchain.Generators)
}

// TestRenovateFindsThePins: a tool's version in pins.go is found with the name of a module of its
// pin, and of the version that the pin has.
func TestRenovateFindsThePins(t *testing.T) {
	names := map[string][]string{}
	for _, d := range dependencies(t) {
		if d.file == pinsFile {
			names[d.version] = append(names[d.version], d.name)
		}
	}
	pins := map[string]bool{}
	for _, tool := range tools() {
		pins[tool.Pin] = true
		mod := read(t, path.Join("tools/pins", tool.Pin, "go.mod"))
		if !slices.ContainsFunc(names[tool.Version], func(name string) bool {
			version, numbered := "v"+tool.Version, name
			switch name {
			case "prometheus/prometheus":
				numbered, version = "github.com/prometheus/prometheus", "v0.300.0"
			case "github.com/pulumi/pulumi-kubernetes/provider/v4":
				version = "v4.0.0-" // no tag of the provider's module can be built: the commit of the release
			}
			return regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(numbered) + `( => ` + regexp.QuoteMeta(numbered) + `)? ` +
				regexp.QuoteMeta(version)).MatchString(mod)
		}) {
			t.Errorf("%s %s: Renovate finds %v in %s, none of which is in tools/pins/%s/go.mod at that version",
				tool.Name, tool.Version, names[tool.Version], pinsFile, tool.Pin)
		}
	}
	for _, file := range tracked(t) {
		if rest, ok := strings.CutPrefix(file, "tools/pins/"); ok && !pins[strings.Split(rest, "/")[0]] {
			t.Errorf("%s is of no tool in %s", file, pinsFile)
		}
	}
}

// TestRenovateFindsTheCharts counts the charts and the images in charts.go.
func TestRenovateFindsTheCharts(t *testing.T) {
	const file = "infra/charts/charts.go"
	text := read(t, file)
	charts, images := 0, 0
	for _, d := range dependencies(t) {
		switch {
		case d.file != file:
		case d.datasource == "helm":
			charts++
		default:
			images++
		}
	}
	if want := strings.Count(text, "= Chart{"); charts != want {
		t.Errorf("Renovate finds %d charts of %d", charts, want)
	}
	if want := strings.Count(text, `Tag: "`); images != want {
		t.Errorf("Renovate finds %d images of %d", images, want)
	}
}

// byHand are files that name a pinned version, or an image, and that Renovate leaves alone.
var byHand = map[string]string{
	"infra/charts/charts.go":                   "versions of a chart's software follow the chart",
	"infra/cluster/addons.go":                  "EKS add-ons: only AWS's API lists them",
	"tools/internal/toolchain/pins.go":         "folders of npm packages follow package.json",
	"tools/internal/platform/metricsserver.go": "the address of a source",
	"tools/internal/images/argocd.go":          "the distribution's Redis is packed under this name",
	"infra/delivery/localargocd.go":            "the same Redis; Argo CD's own version has its comment",
	"tools/internal/images/controllers.go":     "the pause image, which is built here and has the name that the kubelet asks for",
	"tools/internal/standin/cli/cli.go":        "an invented version",
	"tools/internal/standin/aws/eks.go":        "an invented version",
}

// TestRenovateFindsEveryPlace: Renovate changes every place of the code that names an image with its
// tag, or that has a version which Renovate changes elsewhere.
func TestRenovateFindsEveryPlace(t *testing.T) {
	versions := map[string]bool{}
	found := map[string][]dependency{}
	for _, d := range dependencies(t) {
		versions[regexp.QuoteMeta(d.version)] = true
		found[d.file] = append(found[d.file], d)
	}
	written := []*regexp.Regexp{
		regexp.MustCompile(`(?:^|[^\d.])(` + strings.Join(slices.Sorted(maps.Keys(versions)), "|") + `)(?:$|[^\d.\w])`),
		regexp.MustCompile(`(?:docker|quay|ghcr|k8s)\.io/[\w./-]+:v?(\d[\w.]*)`),
	}
	for _, file := range tracked(t) {
		if !regexp.MustCompile(`^(infra|tools)/.*\.(go|yaml)$`).MatchString(file) || strings.HasSuffix(file, "_test.go") ||
			strings.Contains(file, "/testdata/") || strings.Contains(file, "/testcharts/") || byHand[file] != "" {
			continue
		}
		text := read(t, file)
		if strings.HasPrefix(text, "# Code generated") {
			continue
		}
		for _, expression := range written {
			for _, at := range expression.FindAllStringSubmatchIndex(text, -1) {
				line := text[strings.LastIndex(text[:at[2]], "\n")+1 : at[3]]
				comment := strings.HasPrefix(strings.TrimSpace(line), "//") && !strings.HasPrefix(line, "//go:generate")
				if !comment && !slices.ContainsFunc(found[file], func(d dependency) bool { return d.start <= at[2] && at[3] <= d.end }) {
					t.Errorf("%s: Renovate does not find the version at the end of %q", file, line)
				}
			}
		}
	}
}

// TestRenovateReadsEveryModule: its presets ignore folders of these names.
func TestRenovateReadsEveryModule(t *testing.T) {
	ignored := []string{"node_modules", "bower_components", "vendor", "examples", "__tests__", "test", "tests", "__fixtures__"}
	seen := 0
	for _, file := range tracked(t) {
		if base := path.Base(file); base != "go.mod" && base != "package.json" {
			continue
		}
		seen++
		for _, folder := range strings.Split(path.Dir(file), "/") {
			if slices.Contains(ignored, folder) {
				t.Errorf("Renovate ignores %s, because of the folder %s", file, folder)
			}
		}
	}
	if seen < 20 {
		t.Errorf("the repository has %d modules and packages: they are not listed any more", seen)
	}
}
