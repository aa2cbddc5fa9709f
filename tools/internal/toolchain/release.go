package toolchain

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/loja-veloz/platform/tools/internal/console"
)

// A Source says where programs come from.
type Source string

// The sources. Auto takes releases where they can be reached, and compiles otherwise.
const (
	Auto     Source = "auto"
	Released Source = "release"
	Built    Source = "build"
)

// A Release is a file that a project publishes with programs, and its checksum.
type Release struct {
	// URL is the file's address: https, with {arch} for the architecture, or oci://REPOSITORY for a
	// container image.
	URL string
	// Sums are the checksums by Go's name of the architecture: sha256:HEX or sha512:HEX. That of an
	// image is the digest of its index, and the same for all.
	Sums map[string]string
	// Arch is the project's name of an architecture, if it is not Go's.
	Arch map[string]string
	// From is where the project publishes the checksums.
	From string
	// Files are the paths of the programs in the file.
	Files map[string]string
}

// sum returns the checksum for this machine's architecture, or "".
func (r Release) sum() string { return r.Sums[runtime.GOARCH] }

// oci begins the address of a container image.
const oci = "oci://"

// address returns the file's address for this machine, at the mirror if there is one. A mirror has
// the file at MIRROR/HOST/PATH.
func (r Release) address(mirror string) string {
	arch := runtime.GOARCH
	if theirs := r.Arch[arch]; theirs != "" {
		arch = theirs
	}
	plain := strings.ReplaceAll(r.URL, "{arch}", arch)
	if mirror == "" {
		return plain
	}
	at := strings.TrimSuffix(mirror, "/")
	_, file, _ := strings.Cut(plain, "://")
	if strings.HasPrefix(plain, oci) {
		_, host, _ := strings.Cut(at, "://")
		at = oci + host
	}
	return at + "/" + file
}

const (
	// probeTime is how long a release page has to answer before the programs are compiled instead.
	probeTime = 3 * time.Second
	// tries is how often a download that broke off goes on.
	tries = 5
)

// releases returns the tools that have a release for this machine.
func releases(tools []Tool) []Tool {
	return slices.DeleteFunc(slices.Clone(tools), func(t Tool) bool {
		return len(t.Releases) == 0 || slices.ContainsFunc(t.Releases, func(r Release) bool { return r.sum() == "" })
	})
}

// releaseDir returns the folder of a tool's released programs, whose name has a part of the
// checksums.
func (c *Cache) releaseDir(t Tool) string {
	sums := sha256.New()
	for _, r := range t.Releases {
		fmt.Fprintln(sums, r.URL, r.sum(), slices.Sorted(maps.Keys(r.Files)))
	}
	return filepath.Join(c.Root, "tools", fmt.Sprintf("%s-%s-release-%s", t.Name, t.Version, hex.EncodeToString(sums.Sum(nil))[:10]))
}

// takesReleases is false where the releases, which are for Linux, do not run.
func (c *Cache) takesReleases() bool {
	return runtime.GOOS == "linux" && (c.Source == Auto || c.Source == Released)
}

// take provides tools from their releases, and returns those that are left to compile. With Auto
// it says in one line why a tool is left.
func (c *Cache) take(ctx context.Context, tools []Tool) ([]Tool, error) {
	released := releases(tools)
	if c.Source == Released && runtime.GOOS != "linux" {
		return nil, fmt.Errorf("TOOLS=release: the releases in tools/internal/toolchain are for Linux, "+
			"and this machine runs %s: unset TOOLS", runtime.GOOS)
	}
	if !c.takesReleases() || len(released) == 0 {
		return tools, nil
	}
	if c.Source == Auto {
		if err := c.reachable(ctx, released); err != nil {
			var names []string
			for _, t := range released {
				names = append(names, t.Name)
			}
			c.Out.Step("compiling %s: %v", strings.Join(names, ", "), err)
			return tools, nil
		}
	}
	whole := true
	for i, t := range released {
		c.Out.Step("[%d/%d] downloading %s %s", i+1, len(released), t.Name, t.Version)
		err := c.takeOne(ctx, t)
		switch {
		case err == nil:
			tools = slices.DeleteFunc(slices.Clone(tools), func(other Tool) bool { return other.Name == t.Name })
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case c.Source == Released:
			return nil, fmt.Errorf("%w; to compile it instead, set TOOLS=build", err)
		default:
			whole = false
			c.Out.Step("compiling %s: %v", t.Name, err)
		}
	}
	if !whole {
		return tools, nil // a later download goes on
	}
	return tools, os.RemoveAll(c.downloads())
}

// downloads returns the folder of the archives.
func (c *Cache) downloads() string { return filepath.Join(c.Root, "downloads") }

// reachable fails if a release cannot be reached within probeTime.
func (c *Cache) reachable(ctx context.Context, tools []Tool) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	asked := map[string]bool{}
	for _, t := range tools {
		for _, r := range t.Releases {
			address := r.address(c.Mirror)
			u, err := url.Parse(address)
			if err != nil {
				return err
			}
			if asked[u.Host] {
				continue
			}
			asked[u.Host] = true
			if image, ok := strings.CutPrefix(address, oci); ok {
				ref, err := name.NewDigest(image + "@" + r.sum())
				if err == nil {
					_, err = remote.Head(ref, remote.WithContext(ctx), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
				}
				if err != nil {
					return fmt.Errorf("%s cannot be reached: %w", image, err)
				}
				continue
			}
			request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return fmt.Errorf("releases cannot be reached: %w", err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answers %s", address, response.Status)
			}
		}
	}
	return nil
}

// takeOne provides one tool from its releases.
func (c *Cache) takeOne(ctx context.Context, t Tool) error {
	dir := c.releaseDir(t)
	work := dir + ".downloading"
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o755)); err != nil {
		return err
	}
	for _, r := range t.Releases {
		address := r.address(c.Mirror)
		var err error
		if image, ok := strings.CutPrefix(address, oci); ok {
			err = r.pull(ctx, image, work)
		} else {
			err = c.fetchArchive(ctx, r, address, work)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("the release of %s %s: %w", t.Name, t.Version, err), os.RemoveAll(work))
		}
	}
	return os.Rename(work, dir)
}

// fetchArchive downloads an archive, verifies it and unpacks its programs into a folder.
func (c *Cache) fetchArchive(ctx context.Context, r Release, address, into string) error {
	file := filepath.Join(c.downloads(), path.Base(address)+"."+strings.ReplaceAll(r.sum(), ":", "-")[:20])
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if verify(file, r) != nil { // not there yet for another tool
		if err := fetchFile(ctx, c.Out, address, file, c.Stall); err != nil {
			return err
		}
		// A wrong file does not stay, because a later download would go on with it.
		if err := verify(file, r); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", address, err), os.Remove(file))
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unpack(f, true, r.Files, into); err != nil {
		return fmt.Errorf("unpacking %s: %w", address, err)
	}
	return nil
}

// fetchFile downloads to a file, and goes on where an earlier download broke off. It gives up when
// no byte has come for the time stall, tries times in a row.
func fetchFile(ctx context.Context, out *console.Console, address, file string, stall time.Duration) error {
	if stall == 0 {
		stall = 30 * time.Second
	}
	var last error
	for failed := 0; failed < tries; {
		before := size(file)
		done, err := fetchPart(ctx, out, address, file, stall)
		if done || ctx.Err() != nil {
			return err
		}
		if last = err; size(file) == before {
			failed++
		}
	}
	return fmt.Errorf("%s: gave up after %d tries without progress: %w", address, tries, last)
}

func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

// fetchPart downloads what the file lacks. done means that another try would not help.
func fetchPart(ctx context.Context, out *console.Console, address, file string, stall time.Duration) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(stall, func() { cancel(fmt.Errorf("no byte for %s", stall)) })
	defer timer.Stop()
	fail := func(err error) error { return errors.Join(err, context.Cause(ctx)) }

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return true, err
	}
	have := size(file)
	if have > 0 {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
	}
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // it is closed below
	if err != nil {
		return false, fail(err)
	}
	defer response.Body.Close()
	flags := os.O_CREATE | os.O_WRONLY
	switch response.StatusCode {
	case http.StatusOK:
		flags |= os.O_TRUNC // the server sends all of it
	case http.StatusPartialContent:
		flags |= os.O_APPEND
	case http.StatusRequestedRangeNotSatisfiable:
		return true, nil // the file is whole, or wrong, which its checksum tells
	default:
		// The server may recover from an error of its own, and a client that is told to wait may come again.
		again := response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests
		return !again, fmt.Errorf("%s: the answer is %s", address, response.Status)
	}
	f, err := os.OpenFile(file, flags, 0o644)
	if err != nil {
		return true, err
	}
	defer f.Close()
	total := response.ContentLength
	if response.StatusCode == http.StatusPartialContent && total >= 0 {
		total += have
	}
	shown := time.Now()
	_, err = io.Copy(f, readerFunc(func(b []byte) (int, error) {
		n, err := response.Body.Read(b)
		timer.Reset(stall)
		if time.Since(shown) >= reportEvery {
			shown = time.Now()
			out.Step("%s: %d of %d MiB", path.Base(address), size(file)>>20, max(total, 0)>>20)
		}
		return n, err
	}))
	if err != nil {
		return false, fail(err)
	}
	return true, f.Close()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// verify fails if a file does not have the release's checksum.
func verify(file string, r Release) error {
	algorithm, want, _ := strings.Cut(r.sum(), ":")
	var h hash.Hash
	switch algorithm {
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	default:
		return fmt.Errorf("the checksum %q begins with neither sha256: nor sha512:", r.sum())
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("the file has the checksum %s:%s, and %s publishes %s:%s", algorithm, got, r.From, algorithm, want)
	}
	return nil
}

// unpack writes the wanted programs of a tar archive into a folder. It fails if one is missing.
func unpack(from io.Reader, compressed bool, files map[string]string, into string) error {
	if compressed {
		z, err := gzip.NewReader(from)
		if err != nil {
			return err
		}
		from = z // the archive's checksum has been verified, so that of gzip adds nothing
	}
	programs := map[string]string{}
	for program, at := range files {
		programs[path.Clean(at)] = program
	}
	archive := tar.NewReader(from)
	for len(programs) > 0 {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it has no %s", strings.Join(slices.Sorted(maps.Keys(programs)), ", no "))
		}
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(path.Clean(header.Name), "/")
		program, wanted := programs[at]
		if !wanted || header.Typeflag != tar.TypeReg {
			continue
		}
		delete(programs, at)
		f, err := os.OpenFile(filepath.Join(into, program), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive) //nolint:gosec // the checksum of the archive is pinned, so its size is too
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// pull unpacks the programs of a container image.
func (r Release) pull(ctx context.Context, image, into string) error {
	ref, err := name.NewDigest(image + "@" + r.sum())
	if err != nil {
		return err
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return fmt.Errorf("pulling %s: %w", ref, err)
	}
	content := mutate.Extract(img)
	defer content.Close()
	if err := unpack(content, false, r.Files, into); err != nil {
		return fmt.Errorf("unpacking %s: %w", ref, err)
	}
	return nil
}
