package check

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A module is a Go module of the repository in which something has changed.
type module struct {
	Dir string // relative to the repository
	// Packages have changed files: in their own folder, or in a folder below it without Go files,
	// such as testdata. Generate have a go:generate line, and changed files below them. Both are
	// relative to Dir, as the go command takes them: ./pedidos/order.
	Packages, Generate []string
}

// modules returns the modules that the files belong to, by their folders. Files outside a module, and
// the pins of tools, are of none.
func modules(repository fs.FS, files []string) ([]module, error) {
	found := map[string]module{}
	for _, file := range files {
		dir, pkg, generate := "", "", []string{}
		for folder := path.Dir(file); folder != "." && dir == ""; folder = path.Dir(folder) {
			isPackage, generates, err := describe(repository, folder)
			if err != nil {
				return nil, err
			}
			if isPackage && pkg == "" {
				pkg = folder
			}
			if generates {
				generate = append(generate, folder)
			}
			if _, err := fs.Stat(repository, path.Join(folder, "go.mod")); err == nil {
				dir = folder
			}
		}
		if dir == "" || strings.HasPrefix(dir, "tools/pins/") {
			continue
		}
		m := found[dir]
		m.Dir = dir
		if pkg != "" {
			m.Packages = append(m.Packages, relative(dir, pkg))
		}
		for _, folder := range generate {
			m.Generate = append(m.Generate, relative(dir, folder))
		}
		found[dir] = m
	}
	var sorted []module
	for _, dir := range slices.Sorted(maps.Keys(found)) {
		m := found[dir]
		for _, list := range []*[]string{&m.Packages, &m.Generate} {
			slices.Sort(*list)
			*list = slices.Compact(*list)
		}
		sorted = append(sorted, m)
	}
	return sorted, nil
}

func relative(dir, pkg string) string { return "." + strings.TrimPrefix(pkg, dir) }

// describe says whether a folder is a package, and whether it has a go:generate line. A folder that
// does not exist any more is neither, nor is testdata.
func describe(repository fs.FS, folder string) (isPackage, generates bool, err error) {
	if strings.Contains(folder+"/", "/testdata/") {
		return false, false, nil
	}
	sources, err := fs.Glob(repository, path.Join(folder, "*.go"))
	if err != nil {
		return false, false, fmt.Errorf("reading %s: %w", folder, err)
	}
	for _, source := range sources {
		text, err := fs.ReadFile(repository, source)
		if err != nil {
			return false, false, err
		}
		generates = generates || strings.Contains("\n"+string(text), "\n//go:generate ")
	}
	return len(sources) > 0, generates, nil
}

var replaced = regexp.MustCompile(`(?m)=> (\.\.?/\S+)$`)

// dependents returns those of all modules, given by their folders, that replace one of the changed
// ones, and the changed ones.
func dependents(repository fs.FS, all []string, changed []module) ([]string, error) {
	var found []string
	for _, dir := range all {
		text, err := fs.ReadFile(repository, path.Join(dir, "go.mod"))
		if err != nil {
			return nil, err
		}
		uses := []string{dir}
		for _, match := range replaced.FindAllStringSubmatch(string(text), -1) {
			uses = append(uses, path.Join(dir, match[1]))
		}
		if slices.ContainsFunc(changed, func(m module) bool { return slices.Contains(uses, m.Dir) }) {
			found = append(found, dir)
		}
	}
	return found, nil
}
