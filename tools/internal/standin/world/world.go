// Package world holds what exists in the stand-in's fictitious account: the stored objects,
// their ids and names.
package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// DirVariable names the environment variable with the folder of the world. Everything but
// a preview needs it.
const DirVariable = "LOJA_STANDIN_WORLD"

// A World is a folder with the objects that exist, one JSON file each, so that people and
// tests can read and change them: a file removed is an object removed by hand.
type World struct{ dir string }

// An Object is one resource that exists.
type Object struct {
	aws.Object
	URN     string
	Unique  string // what no other object of its type may have
	Outputs resource.PropertyMap
}

type objectFile struct {
	Type, ID, URN, Seed, Unique string
	Inputs, Outputs             json.RawMessage
}

// ErrNone says that DirVariable is not set.
var ErrNone = errors.New(DirVariable + " is not set: the stand-in has no folder to keep its world in")

// Open opens the world of the folder that DirVariable names.
func Open() (*World, error) {
	dir := os.Getenv(DirVariable)
	if dir == "" {
		return nil, ErrNone
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the stand-in's world: %w", err)
	}
	return &World{dir}, nil
}

// locked runs f while no other process changes the world: each provider of a program is a
// process of its own.
func (w *World) locked(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(w.dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	return f()
}

func (w *World) folder(tok string) string {
	parts := strings.Split(tok, ":")
	module, _, _ := strings.Cut(parts[1], "/")
	return filepath.Join(w.dir, module, parts[2])
}

func (w *World) file(tok, id string) string {
	return filepath.Join(w.folder(tok), url.PathEscape(id)+".json")
}

// Get returns the object of a type with an id, or nil if there is none.
func (w *World) Get(tok, id string) (*Object, error) {
	return readObject(w.file(tok, id))
}

// All returns the objects of a type, by id.
func (w *World) All(tok string) ([]*Object, error) {
	files, err := filepath.Glob(filepath.Join(w.folder(tok), "*.json"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	var all []*Object
	for _, f := range files {
		o, err := readObject(f)
		if err != nil {
			return nil, err
		}
		if o != nil {
			all = append(all, o)
		}
	}
	return all, nil
}

func readObject(file string) (*Object, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the stand-in's world: %w", err)
	}
	var f objectFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("the stand-in's world: %s: %w", file, err)
	}
	o := &Object{Object: aws.Object{Type: f.Type, ID: f.ID, Seed: f.Seed}, URN: f.URN, Unique: f.Unique}
	for _, p := range []struct {
		from json.RawMessage
		to   *resource.PropertyMap
	}{{f.Inputs, &o.Inputs}, {f.Outputs, &o.Outputs}} {
		var s structpb.Struct
		if err := protojson.Unmarshal(p.from, &s); err != nil {
			return nil, fmt.Errorf("the stand-in's world: %s: %w", file, err)
		}
		m, err := value.Unmarshal("world", &s)
		if err != nil {
			return nil, fmt.Errorf("the stand-in's world: %s: %w", file, err)
		}
		*p.to = m
	}
	return o, nil
}

// put stores an object. Secrets keep their marks; the folder holds them in plain text, as
// the cloud does, readable by its owner alone.
func (w *World) put(o *Object) error {
	f := objectFile{Type: o.Type, ID: o.ID, URN: o.URN, Seed: o.Seed, Unique: o.Unique}
	for _, p := range []struct {
		from resource.PropertyMap
		to   *json.RawMessage
	}{{o.Inputs, &f.Inputs}, {o.Outputs, &f.Outputs}} {
		s, err := value.Marshal("world", p.from)
		if err != nil {
			return fmt.Errorf("the stand-in's world: %w", err)
		}
		b, err := json.Marshal(s.AsMap())
		if err != nil {
			return fmt.Errorf("the stand-in's world: %w", err)
		}
		*p.to = b
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	file := w.file(o.Type, o.ID)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	return os.Rename(file+".new", file)
}

// remove forgets an object; one that does not exist is not an error.
func (w *World) remove(tok, id string) error {
	if err := os.Remove(w.file(tok, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	return nil
}
