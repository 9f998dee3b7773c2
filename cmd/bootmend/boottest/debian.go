package boottest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// repository is the root of the source tree.
func repository() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "."
	}
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// testdata is a file that others made, see CONTRIBUTING; "" where it is absent.
func testdata(name string) string {
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join(repository(), "..", "shared", "testdata")
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

var debMu sync.Mutex

// unpackDeb gives the directory where the newest package of that name is unpacked. It is taken from the cache that
// the bundle was made from, or fetched by the host's own package manager into one beside it.
func unpackDeb(ctx context.Context, name string) (string, error) {
	debMu.Lock()
	defer debMu.Unlock()
	if err := need("dpkg-deb"); err != nil {
		return "", err
	}
	cache := filepath.Join(repository(), ".cache")
	own := filepath.Join(cache, "boottest")
	find := func() string {
		for _, dir := range []string{filepath.Join(cache, "apt", "debs"), own} {
			if found, _ := filepath.Glob(filepath.Join(dir, name+"_*.deb")); len(found) > 0 {
				return found[len(found)-1]
			}
		}
		return ""
	}
	deb := find()
	if deb == "" {
		if err := os.MkdirAll(own, 0o755); err != nil {
			return "", err
		}
		if _, err := runIn(ctx, own, "apt-get", "download", "-q", name); err != nil {
			return "", fmt.Errorf("package %s is neither cached nor to be had: %w: %w", name, ErrUnavailable, err)
		}
		if deb = find(); deb == "" {
			return "", fmt.Errorf("package %s: fetched, but not found in %s", name, own)
		}
	}
	dir := filepath.Join(own, filepath.Base(deb)+".d")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	// Beside and renamed, so that another process never sees half a package.
	if err := os.MkdirAll(own, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(own, "unpack")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if _, err := run(ctx, "dpkg-deb", "-x", deb, filepath.Join(tmp, "x")); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(tmp, "x"), dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, nil
}
