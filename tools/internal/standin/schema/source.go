package schema

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// The module that the types are read from. Version is also that of the released plugin.
const (
	Module  = "github.com/pulumi/pulumi-aws/sdk/v6"
	Version = "6.83.0" // renovate: datasource=go depName=github.com/pulumi/pulumi-aws/sdk/v6
	// ComponentVersion is the version of the EKS component.
	ComponentVersion = "2.8.1" // renovate: datasource=go depName=github.com/pulumi/pulumi-eks/sdk/v2
)

// SourceVariable names the environment variable with the folder of Module.
const SourceVariable = "LOJA_PULUMI_AWS_SOURCE"

// SourceDir returns the folder of pulumi-aws's Go SDK: SourceVariable's, or else the one in
// the Go toolchain's module cache.
func SourceDir(ctx context.Context) (string, error) {
	if dir := os.Getenv(SourceVariable); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "go", "aws", "provider.go")); err != nil {
			return "", fmt.Errorf("%s is not the folder of %s: %w", SourceVariable, Module, err)
		}
		return dir, nil
	}
	// The program's own requirement first: it costs nothing and is what the
	// program was compiled with.
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", Module).Output()
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		return dir, nil
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", Module+"@v"+Version)
	cmd.Dir = os.TempDir()
	out, err = cmd.Output()
	var m struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &m); jsonErr == nil && m.Dir != "" {
		return m.Dir, nil
	}
	if err == nil {
		err = errors.New("go mod download named no folder")
	}
	if m.Error != "" {
		err = errors.New(m.Error)
	}
	return "", fmt.Errorf("no sources of %s v%s (set %s to their folder): %w", Module, Version, SourceVariable, err)
}

// A Source reads types from the SDK's sources, each once and on
// demand. It is safe for concurrent use.
type Source struct {
	dir       string // of the module
	mutex     sync.Mutex
	tokens    map[string]map[string]string // package -> token -> file
	files     map[string]*ast.File
	structs   map[string]map[string]*ast.StructType // package -> name, of pulumiTypes*.go
	resources map[string]*Resource
	functions map[string]*Function
	objects   map[string]map[string]Field
}

// NewSource reads from the module's folder.
func NewSource(dir string) *Source {
	return &Source{
		dir: dir, tokens: map[string]map[string]string{}, files: map[string]*ast.File{},
		structs: map[string]map[string]*ast.StructType{}, resources: map[string]*Resource{},
		functions: map[string]*Function{}, objects: map[string]map[string]Field{},
	}
}

// ErrUnknown says that the SDK has no such type or function.
var ErrUnknown = errors.New("pulumi-aws " + Version + " has no such")

// packageOf is the folder of a token's Go package: aws:ec2/vpc:Vpc is in ec2.
func packageOf(tok string) (string, error) {
	parts := strings.Split(tok, ":")
	if len(parts) != 3 || parts[0] != "aws" {
		return "", fmt.Errorf("%w type: %s", ErrUnknown, tok)
	}
	module, _, _ := strings.Cut(parts[1], "/")
	if module == "index" {
		return "", nil
	}
	if strings.ContainsAny(module, `./\`) || module == "" {
		return "", fmt.Errorf("%w type: %s", ErrUnknown, tok)
	}
	return module, nil
}

func (s *Source) folder(pkg string) string { return filepath.Join(s.dir, "go", "aws", pkg) }

// find is the file that registers a token, by the calls in the package's files.
func (s *Source) find(tok string) (pkg, file string, err error) {
	pkg, err = packageOf(tok)
	if err != nil {
		return "", "", err
	}
	if s.tokens[pkg] == nil {
		if s.tokens[pkg], err = registered(s.folder(pkg)); err != nil {
			return "", "", err
		}
	}
	file, ok := s.tokens[pkg][tok]
	if !ok {
		return "", "", fmt.Errorf("%w type or function: %s", ErrUnknown, tok)
	}
	return pkg, file, nil
}

// registered are the tokens of a package's resources and functions, with the file
// that calls the engine with each.
func registered(folder string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	index := map[string]string{}
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(f), "pulumi") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("sources of pulumi-aws: %w", err)
		}
		for _, match := range calls.FindAllSubmatch(b, -1) {
			index[string(match[1])] = f
		}
	}
	return index, nil
}

var calls = regexp.MustCompile(`ctx\.(?:RegisterResource|Invoke)\("([^"]+)"`)

func (s *Source) parse(file string) (*ast.File, error) {
	if f := s.files[file]; f != nil {
		return f, nil
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("sources of pulumi-aws: %w", err)
	}
	s.files[file] = f
	return f, nil
}

// Resource returns what the SDK says of a resource type.
func (s *Source) Resource(tok string) (*Resource, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if r := s.resources[tok]; r != nil {
		return r, nil
	}
	var pkg, file string
	var err error
	if tok == "pulumi:providers:aws" {
		pkg, file = "", filepath.Join(s.folder(""), "provider.go")
	} else if pkg, file, err = s.find(tok); err != nil {
		return nil, err
	}
	f, err := s.parse(file)
	if err != nil {
		return nil, err
	}
	constructor := callerOf(f, "RegisterResource", tok)
	if constructor == nil {
		return nil, fmt.Errorf("%w type: %s", ErrUnknown, tok)
	}
	name := strings.TrimPrefix(constructor.Name.Name, "New")
	r := &Resource{Token: tok, Outputs: map[string]Field{}}
	goNames := map[string]string{}
	structs := structsIn(f)
	inputs := structs[lowerFirst(name)+"Args"]
	if inputs == nil {
		return nil, fmt.Errorf("sources of pulumi-aws: %s has no arguments", tok)
	}
	r.Inputs = s.fields(pkg, inputs, goNames)
	if state := structs[lowerFirst(name)+"State"]; state != nil {
		r.Outputs = s.fields(pkg, state, nil)
	}
	if result := structs[name]; result != nil {
		r.markComputed(result)
	}
	r.readConstructor(constructor, goNames)
	s.resources[tok] = r
	return r, nil
}

// markComputed marks the outputs that are always set: their Go type is not a pointer.
func (r *Resource) markComputed(result *ast.StructType) {
	for _, field := range result.Fields.List {
		property := tag(field)
		known, ok := r.Outputs[property]
		selector, isSelector := field.Type.(*ast.SelectorExpr)
		if !ok || !isSelector {
			continue
		}
		switch selector.Sel.Name {
		case "StringOutput", "IntOutput", "BoolOutput", "Float64Output":
			known.Computed = true
			r.Outputs[property] = known
		}
	}
}

// readConstructor finds the arguments that a constructor requires and the outputs
// that it declares secret.
func (r *Resource) readConstructor(constructor *ast.FuncDecl, goNames map[string]string) {
	ast.Inspect(constructor, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			if property := goNames[nilChecked(n.Cond)]; property != "" && returns(n.Body) {
				r.Required = append(r.Required, property)
			}
		case *ast.CallExpr:
			if called(n) == "AdditionalSecretOutputs" {
				r.SecretOutputs = append(r.SecretOutputs, stringsIn(n)...)
			}
		}
		return true
	})
}

func stringsIn(n ast.Node) []string {
	var all []string
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if v, err := strconv.Unquote(lit.Value); err == nil {
				all = append(all, v)
			}
		}
		return true
	})
	return all
}

// Function returns what the SDK says of a function's arguments.
func (s *Source) Function(tok string) (*Function, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if f := s.functions[tok]; f != nil {
		return f, nil
	}
	pkg, file, err := s.find(tok)
	if err != nil {
		return nil, err
	}
	f, err := s.parse(file)
	if err != nil {
		return nil, err
	}
	caller := callerOf(f, "Invoke", tok)
	if caller == nil {
		return nil, fmt.Errorf("%w function: %s", ErrUnknown, tok)
	}
	fn := &Function{Token: tok, Inputs: map[string]Field{}}
	for _, param := range caller.Type.Params.List {
		if star, ok := param.Type.(*ast.StarExpr); ok {
			if id, ok := star.X.(*ast.Ident); ok {
				if args := structsIn(f)[id.Name]; args != nil {
					fn.Inputs = s.fields(pkg, args, nil)
				}
			}
		}
	}
	s.functions[tok] = fn
	return fn, nil
}

// structOf returns the fields of a nested object. It takes the lock: objects are read
// while values are checked, never while a resource is read.
func (s *Source) structOf(pkg, name string) (map[string]Field, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	key := pkg + "." + name
	if o := s.objects[key]; o != nil {
		return o, nil
	}
	if s.structs[pkg] == nil {
		files, err := filepath.Glob(filepath.Join(s.folder(pkg), "pulumiTypes*.go"))
		if err != nil {
			return nil, err
		}
		all := map[string]*ast.StructType{}
		for _, file := range files {
			f, err := s.parse(file)
			if err != nil {
				return nil, err
			}
			for n, t := range structsIn(f) {
				all[n] = t
			}
			delete(s.files, file) // large, and no longer needed
		}
		s.structs[pkg] = all
	}
	t := s.structs[pkg][name]
	if t == nil {
		return nil, fmt.Errorf("sources of pulumi-aws: no object %s", key)
	}
	o := s.fields(pkg, t, nil)
	s.objects[key] = o
	return o, nil
}

// fields reads a plain struct; goNames, if any, gets property names by Go name.
func (s *Source) fields(pkg string, t *ast.StructType, goNames map[string]string) map[string]Field {
	all := map[string]Field{}
	for _, f := range t.Fields.List {
		property := tag(f)
		if property == "" {
			continue
		}
		field := Field{Type: s.typeOf(pkg, f.Type)}
		switch f.Type.(type) {
		case *ast.StarExpr, *ast.ArrayType, *ast.MapType, *ast.InterfaceType:
			field.Optional = true
		}
		all[property] = field
		if goNames != nil && len(f.Names) > 0 {
			goNames[f.Names[0].Name] = property
		}
	}
	return all
}

func (s *Source) typeOf(pkg string, e ast.Expr) *Type {
	switch e := e.(type) {
	case *ast.StarExpr:
		return s.typeOf(pkg, e.X)
	case *ast.ArrayType:
		return &Type{Kind: List, Elem: s.typeOf(pkg, e.Elt)}
	case *ast.MapType:
		return &Type{Kind: Map, Elem: s.typeOf(pkg, e.Value)}
	case *ast.Ident:
		switch e.Name {
		case "string":
			return &Type{Kind: String}
		case "int":
			return &Type{Kind: Integer}
		case "float64":
			return &Type{Kind: Number}
		case "bool":
			return &Type{Kind: Boolean}
		}
		return &Type{Kind: Nested, object: &object{s, pkg, e.Name}}
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok && x.Name == "pulumi" && (e.Sel.Name == "Archive" || e.Sel.Name == "AssetOrArchive") {
			return &Type{Kind: File}
		}
	}
	return &Type{Kind: Any}
}

func structsIn(f *ast.File) map[string]*ast.StructType {
	all := map[string]*ast.StructType{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			if t, ok := spec.(*ast.TypeSpec); ok {
				if st, ok := t.Type.(*ast.StructType); ok {
					all[t.Name.Name] = st
				}
			}
		}
	}
	return all
}

// callerOf finds the function that calls ctx.<method>("tok", ...).
func callerOf(f *ast.File, method, tok string) *ast.FuncDecl {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Body == nil {
			continue
		}
		found := false
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && called(call) == method && len(call.Args) > 0 {
				if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Value == strconv.Quote(tok) {
					found = true
				}
			}
			return !found
		})
		if found {
			return fn
		}
	}
	return nil
}

func called(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// nilChecked returns X of the condition args.X == nil.
func nilChecked(cond ast.Expr) string {
	b, ok := cond.(*ast.BinaryExpr)
	if !ok || b.Op != token.EQL {
		return ""
	}
	s, ok := b.X.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := s.X.(*ast.Ident); !ok || x.Name != "args" {
		return ""
	}
	return s.Sel.Name
}

func returns(b *ast.BlockStmt) bool {
	for _, stmt := range b.List {
		if _, ok := stmt.(*ast.ReturnStmt); ok {
			return true
		}
	}
	return false
}

func tag(f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	raw, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(reflect.StructTag(raw).Get("pulumi"), ",")
	return name
}

func lowerFirst(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[size:]
}
