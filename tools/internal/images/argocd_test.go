package images

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestGitRunsFromArgoCDsImage: the image has what git needs to fetch by HTTP, and each program's name.
func TestGitRunsFromArgoCDsImage(t *testing.T) {
	files, err := argoCDFiles(t.Context(), os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range argoCDNames {
		found := false
		for _, f := range files {
			found = found || f.Path == "usr/local/bin/"+name && f.Link == "/usr/local/bin/argocd"
		}
		if !found {
			t.Errorf("the image has no %s", name)
		}
	}
	root := laidOut(t, files)
	if out := inside(t, root, "/usr/bin/git", "--version"); !strings.HasPrefix(out, "git version ") {
		t.Errorf("git --version prints %q", out)
	}
	// Nothing listens there; the helper was found and loaded if that is what it says.
	if out := inside(t, root, "/usr/bin/git", "ls-remote", "http://127.0.0.1:1/x.git"); !strings.Contains(out, "connect") {
		t.Errorf("git ls-remote prints %q", out)
	}
}

// TestRedisRunsFromItsImage: the program is redis-server by its name there.
func TestRedisRunsFromItsImage(t *testing.T) {
	program, err := exec.LookPath(redisProgram)
	if err != nil {
		t.Skip("redis-tools is not installed; make up installs it in GitOps mode")
	}
	files, err := withLibraries(t.Context(), map[string]string{program: redisServer})
	if err != nil {
		t.Fatal(err)
	}
	if out := inside(t, laidOut(t, files), redisServer, "--version"); !strings.HasPrefix(out, "Redis server v=7.") {
		t.Errorf("redis-server --version prints %q", out)
	}
}

// laidOut writes an image's files into a folder.
func laidOut(t *testing.T, files []File) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := t.TempDir()
	for _, f := range append(files, File{Path: "dev/null", Mode: 0o666}) { // a container has devices
		path := filepath.Join(root, f.Path)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case f.Link != "":
			err = errors.Join(err, os.Symlink(f.Link, path))
		case strings.HasSuffix(f.Path, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		default:
			err = errors.Join(err, os.WriteFile(path, f.Data, os.FileMode(f.Mode)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// inside runs a program with the files of an image only, and returns what it prints.
func inside(t *testing.T, root string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", []string{"PATH=/usr/bin"}, &syscall.SysProcAttr{Chroot: root}
	out, err := cmd.CombinedOutput()
	if len(out) == 0 {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}
