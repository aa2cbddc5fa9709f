package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLinesOfInitdb(t *testing.T) {
	for line, want := range map[string]string{
		`"/usr/lib/postgresql/15/bin/postgres" -V`: `/usr/lib/postgresql/15/bin/postgres|-V`,
		`"/bin/postgres" --single -F -O -j -c search_path=pg_catalog template1 >/dev/null`: `/bin/postgres|--single|-F|-O|-j|` +
			`-c|search_path=pg_catalog|template1|1>/dev/null`,
		`"/bin/postgres" --check -c a=1 < "/dev/null" > "/dev/null" 2>&1`: `/bin/postgres|--check|-c|a=1|0>/dev/null|1>/dev/null|2>&1`,
		`'/a b/postgres' "a \"b\"" ''`:                                    `/a b/postgres|a "b"|`,
	} {
		words, redirections, err := split(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		for _, r := range redirections {
			to := r.to
			if to == "" {
				to = "&1"
			}
			words = append(words, string(rune('0'+r.from))+">"+to)
		}
		if got := strings.Join(words, "|"); got != want {
			t.Errorf("%s\nis parsed as %s\nwant         %s", line, got, want)
		}
	}
	for _, line := range []string{"a; b", "a $(b)", `"$a"`, "a `b`", "a | b", "a 'b", "a >", "a *"} {
		if _, _, err := split(line); err == nil {
			t.Errorf("%s is accepted", line)
		}
	}
}

func TestErrorsNameTheVariable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{nil, "POSTGRES_PASSWORD"},
		{map[string]string{"POSTGRES_PASSWORD": "a", "POSTGRES_PASSWORD_FILE": file}, "both set"},
		{map[string]string{"POSTGRES_PASSWORD_FILE": file + "x"}, "POSTGRES_PASSWORD_FILE"},
		{map[string]string{"POSTGRES_PASSWORD_FILE": file}, "more than one line"},
		{map[string]string{"POSTGRES_PASSWORD": "a", "POSTGRES_INITDB_ARGS": "--locale='C'"}, "POSTGRES_INITDB_ARGS"},
	} {
		err := initialise(t.TempDir(), "", func(name string) string { return c.env[name] })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q in it", c.env, err, c.want)
		}
	}
}

func TestAFolderWithOtherFilesIsRefusedAndKept(t *testing.T) {
	dir := t.TempDir()
	letter := filepath.Join(dir, "letter")
	if err := os.WriteFile(letter, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := initialise(dir, "", func(name string) string { return map[string]string{"POSTGRES_PASSWORD": "a"}[name] })
	if err == nil || !strings.Contains(err.Error(), "letter") {
		t.Errorf("a folder with a letter in it: %v", err)
	}
	if _, err := os.Stat(letter); err != nil {
		t.Error(err)
	}
}
