package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Render returns the files of all services by their paths, SERVICE/FILE. The errors of all services
// are reported.
func Render(services []Service) (map[string][]byte, error) {
	all := map[string][]byte{}
	var errs []error
	for _, s := range services {
		files, err := s.Files()
		errs = append(errs, err)
		for name, text := range files {
			all[s.Name+"/"+name] = text
		}
	}
	return all, errors.Join(errs...)
}

// Read returns the files that Render has written into a folder, by their paths. Other files are left
// out; a folder that does not exist has none.
func Read(folder string) (map[string][]byte, error) {
	all, unmarked, rendered := map[string][]byte{}, map[string][]byte{}, map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(folder, "*", "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path) // #nosec G304 -- the folder that a person named
		if err != nil {
			return nil, fmt.Errorf("reading what is rendered: %w", err)
		}
		service := filepath.Base(filepath.Dir(path))
		switch name := filepath.Base(path); {
		case bytes.HasPrefix(text, []byte(Header)):
			all[service+"/"+name], rendered[service] = text, true
		case name == KustomizationFile:
			unmarked[service] = text
		}
	}
	// Kustomize and Image Updater may drop the comment when they write the digest. In a folder where
	// nothing else has it, the file is a person's.
	for service, text := range unmarked {
		if rendered[service] {
			all[service+"/"+KustomizationFile] = text
		}
	}
	return all, nil
}

// Changes says what Write would change in a folder, a line for each file, sorted.
func Changes(before, after map[string][]byte) []string {
	var lines []string
	for path, text := range after {
		switch old, there := before[path]; {
		case !there:
			lines = append(lines, path+" is missing")
		case !bytes.Equal(old, text):
			lines = append(lines, path+" differs")
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			lines = append(lines, path+" is not rendered any more")
		}
	}
	slices.Sort(lines)
	return lines
}

// Write makes a folder hold exactly these files, apart from those that Render did not write, and
// returns what has changed.
func Write(folder string, files map[string][]byte) ([]string, error) {
	before, err := Read(folder)
	if err != nil {
		return nil, err
	}
	// The digests come last: whoever reads them meanwhile has the earlier version.
	paths := slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		if last := strings.HasSuffix(a, KustomizationFile); last != strings.HasSuffix(b, KustomizationFile) {
			if last {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	for _, path := range paths {
		if bytes.Equal(before[path], files[path]) {
			continue
		}
		if err := write(filepath.Join(folder, filepath.FromSlash(path)), files[path]); err != nil {
			return nil, err
		}
	}
	for path := range before {
		if _, kept := files[path]; kept {
			continue
		}
		file := filepath.Join(folder, filepath.FromSlash(path))
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("deleting what is not rendered any more: %w", err)
		}
		_ = os.Remove(filepath.Dir(file)) // if it is empty now
	}
	return Changes(before, files), nil
}

// write replaces a file as a whole.
func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec G301 -- it is committed
		return fmt.Errorf("writing what is rendered: %w", err)
	}
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, text, 0o644); err != nil { // #nosec G306 -- it is committed
		return fmt.Errorf("writing what is rendered: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("writing what is rendered: %w", err)
	}
	return nil
}
