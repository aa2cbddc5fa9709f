package toolchain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// A Package is a pinned npm package with its dependencies. Its lock file has the checksum
// of every archive; no script of a package runs.
type Package struct {
	Name   string   // of its folder in the cache
	Title  string   // for messages
	Folder string   // below tools, with the lock file
	Files  []string // the files that npm reads, relative to Folder
}

// Install installs a package, once for each version of its lock file, and returns the folder
// with its node_modules. If finish is set, Install calls it to complete a new folder.
func (c *Cache) Install(ctx context.Context, p Package, finish func(dir string) error) (string, error) {
	content, dir, err := c.locate(p)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return "", fmt.Errorf("npm is not on PATH, and %s is an npm package: install Node 20 or newer", p.Title)
	}
	release, err := c.lock(ctx, filepath.Join(c.Root, "npm")) // a build of tools takes long, and make dev needs none
	if err != nil {
		return "", err
	}
	defer release()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // the process that held the lock has installed it
	}
	c.Out.Step("installing %s; this happens once", p.Title)
	work := dir + ".building"
	if err := os.RemoveAll(work); err != nil {
		return "", err
	}
	for name, b := range content {
		path := filepath.Join(work, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			return "", err
		}
	}
	if err := (command.Command{
		Args: []string{"npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"}, Dir: work,
		Log: filepath.Join(c.Root, "logs", p.Name+".log"),
	}).Run(ctx); err != nil {
		return "", fmt.Errorf("installing %s: %w", p.Title, err)
	}
	if finish != nil {
		if err := finish(work); err != nil {
			return "", fmt.Errorf("installing %s: %w", p.Title, err)
		}
	}
	return dir, os.Rename(work, dir)
}

// locate reads the package's files, and returns their content and the package's folder, whose
// name contains their hash.
func (c *Cache) locate(p Package) (content map[string][]byte, dir string, err error) {
	hash := sha256.New()
	content = map[string][]byte{}
	for _, name := range p.Files {
		b, err := os.ReadFile(filepath.Join(c.Pins, "..", p.Folder, name))
		if err != nil {
			return nil, "", fmt.Errorf("pin of %s: %w", p.Title, err)
		}
		content[name] = b
		hash.Write(b)
	}
	return content, filepath.Join(c.Root, "tools", p.Name+"-"+hex.EncodeToString(hash.Sum(nil))[:10]), nil
}
