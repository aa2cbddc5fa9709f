package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
)

func reader(env map[string]string, args ...string) *config.Reader {
	return config.NewReader(args, func(name string) string { return env[name] })
}

func TestUnsetVariablesGiveDefaults(t *testing.T) {
	r := reader(map[string]string{"EMPTY": " "})
	if got := r.Int("PORT", 8080, 0, 65535); got != 8080 {
		t.Errorf("Int = %d, want 8080", got)
	}
	if got := r.Duration("PAUSE", time.Second, 0, time.Minute); got != time.Second {
		t.Errorf("Duration = %s, want 1s", got)
	}
	if got := r.Choice("EMPTY", "json", "text"); got != "json" {
		t.Errorf("Choice = %q, want json", got)
	}
	if got := r.HTTPURL("URL") + r.IP("IP"); got != "" {
		t.Errorf("HTTPURL and IP = %q, want nothing", got)
	}
	if err := r.Err(); err != nil {
		t.Errorf("Err = %v, want nil", err)
	}
}

func TestSetVariablesAreRead(t *testing.T) {
	r := reader(map[string]string{
		"PORT": "9000", "PAUSE": "250ms", "FORMAT": "text", "URL": "http://collector:4318", "IP": "127.0.0.1",
		"SERVICE_NAME": "pedidos", "SERVICE_VERSION": "0123456789ab", "POD_NAME": "pedidos-7d9c-abcde",
	})
	if got := r.Int("PORT", 8080, 0, 65535); got != 9000 {
		t.Errorf("Int = %d, want 9000", got)
	}
	if got := r.Duration("PAUSE", time.Second, 0, time.Minute); got != 250*time.Millisecond {
		t.Errorf("Duration = %s, want 250ms", got)
	}
	if got := r.Choice("FORMAT", "json", "text"); got != "text" {
		t.Errorf("Choice = %q, want text", got)
	}
	if got := r.HTTPURL("URL"); got != "http://collector:4318" {
		t.Errorf("HTTPURL = %q", got)
	}
	if got := r.IP("IP"); got != "127.0.0.1" {
		t.Errorf("IP = %q", got)
	}
	want := config.Identity{Service: "pedidos", Version: "0123456789ab", Pod: "pedidos-7d9c-abcde"}
	if got := r.Identity("other"); got != want {
		t.Errorf("Identity = %+v, want %+v", got, want)
	}
	digest := reader(map[string]string{"SERVICE_VERSION": strings.Repeat("0123456789abcdef", 4)})
	if got := digest.Identity("other").Version; got != "0123456789ab" {
		t.Errorf("the version of an image's digest is %q, want its first 12 digits", got)
	}
	if err := r.Err(); err != nil {
		t.Errorf("Err = %v, want nil", err)
	}
}

func TestAllErrorsAreReportedAtOnceByName(t *testing.T) {
	r := reader(map[string]string{
		"WORD_PORT": "eighty", "HIGH_PORT": "70000", "PAUSE": "5", "FORMAT": "xml", "IP": "localhost",
		"SERVICE_NAME": "two words", "SERVICE_VERSION": "v1\r\nSet-Cookie: a=b", "POD_NAME": "-",
		"RELATIVE": "collector:4318", "SECRET_URL": "ftp://user:hunter2@collector",
	}, "--port=1")
	r.Int("WORD_PORT", 1, 0, 65535)
	r.Int("HIGH_PORT", 1, 0, 65535)
	r.Duration("PAUSE", 0, 0, time.Minute)
	r.Choice("FORMAT", "json", "text")
	r.IP("IP")
	r.Identity("service")
	r.HTTPURL("RELATIVE")
	r.HTTPURL("SECRET_URL")
	err := r.Err()
	if err == nil {
		t.Fatal("Err = nil, want all errors")
	}
	for _, name := range []string{"--port=1", "WORD_PORT", "HIGH_PORT", "PAUSE", "FORMAT", "IP", "SERVICE_NAME", "SERVICE_VERSION", "POD_NAME", "RELATIVE", "SECRET_URL"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a URL's password:\n%v", err)
	}
}
