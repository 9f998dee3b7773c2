package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/bootmend/bootmend/assets/mkbundle/deb"
)

// apt is the host's own package manager with a state of its own: it uses the system's sources and keys, so
// that the distribution's signatures are checked, and neither needs root nor touches the system's lists,
// cache or hooks.
type apt struct {
	dir string // absolute
	log func(format string, args ...any)
}

// errNoApt is what a machine without apt is told.
var errNoApt = errors.New("this machine has no apt-get: make the bundle on a Debian machine and give it to make BUNDLE=path")

// listsAge is how long the package lists count as fresh.
const listsAge = 24 * time.Hour

func openApt(ctx context.Context, dir string, log func(string, ...any)) (*apt, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, program := range []string{"apt-get", "apt-cache", "apt-config"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w (%w)", errNoApt, err)
		}
	}
	a := &apt{dir: dir, log: log}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "log", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("apt cache: %w", err)
		}
	}
	// An empty status file: nothing is installed, so that what is installed here has no influence.
	if err := os.WriteFile(a.path("state/status"), nil, 0o644); err != nil {
		return nil, fmt.Errorf("apt cache: %w", err)
	}
	system, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-config dump: %w", withStderr(err))
	}
	if err := os.WriteFile(a.path("apt.conf"), aptConfig(system, dir, hostArch()), 0o644); err != nil {
		return nil, fmt.Errorf("apt cache: %w", err)
	}
	return a, nil
}

func (a *apt) path(name string) string { return filepath.Join(a.dir, filepath.FromSlash(name)) }

// notOurs are the parts of the system's configuration that must not reach us: where its state lies, hooks
// that would run as us or touch the system's cache, and indexes beyond the package lists. Proxies, mirrors
// and authentication stay.
var notOurs = []string{
	"Dir::State", "Dir::Cache", "Dir::Log", "Dir::Etc::parts", "Dir::Etc::main",
	"APT::Architecture", "APT::Architectures", "APT::Update::", "APT::Sandbox", "APT::Periodic", "DPkg",
	"Acquire::IndexTargets", "Acquire::Languages", "Unattended-Upgrade",
}

// aptConfig turns the dump of the system's configuration into ours. A file in place of options on the
// command line, because those can add to a list such as the hooks but not empty it.
func aptConfig(system []byte, dir, arch string) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(system) {
		ours := true
		for _, prefix := range notOurs {
			if len(line) >= len(prefix) && strings.EqualFold(string(line[:len(prefix)]), prefix) {
				ours = false
			}
		}
		if ours {
			out.Write(line)
		}
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(dir)
	fmt.Fprintf(&out, `
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::State "%[1]s/state";
Dir::State::status "%[1]s/state/status";
Dir::Cache "%[1]s/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "%[1]s/log";
APT::Sandbox::User "root"; // as root, the files would else have to belong to _apt
APT::Update::Error-Mode "any";
Acquire::Languages { "none"; };
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
`, quoted)
	if arch != "amd64" {
		fmt.Fprintf(&out, "APT::Architectures:: \"%s\";\n", arch)
	}
	return out.Bytes()
}

// hostArch is Debian's name of the machine that runs the tools, which need not be the one that boots.
func hostArch() string {
	switch runtime.GOARCH {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "ppc64le":
		return "ppc64el"
	default:
		return runtime.GOARCH
	}
}

func (a *apt) run(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+a.path("apt.conf"), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), withStderr(err))
	}
	return out, nil
}

// withStderr adds what the program said to why it failed.
func withStderr(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if said := strings.TrimSpace(string(exit.Stderr)); said != "" {
			return fmt.Errorf("%w: %s", err, said)
		}
	}
	return err
}

// refresh fetches the package lists unless those here are fresh. Without a network, old lists will do.
func (a *apt) refresh(ctx context.Context, force bool) error {
	stamp := a.path("state/refreshed")
	info, statErr := os.Stat(stamp)
	if statErr == nil && !force && time.Since(info.ModTime()) < listsAge {
		return nil
	}
	a.log("fetching the distribution's package lists")
	if _, err := a.run(ctx, a.dir, "apt-get", "-qq", "update"); err != nil {
		if statErr == nil && ctx.Err() == nil {
			a.log("going on with the lists of %s: %v", info.ModTime().UTC().Format(time.DateTime), err)
			return nil
		}
		return fmt.Errorf("fetch the package lists: %w", err)
	}
	return os.WriteFile(stamp, nil, 0o644)
}

// names returns the packages whose name starts with prefix.
func (a *apt) names(ctx context.Context, prefix string) ([]string, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "pkgnames", prefix)
	return strings.Fields(string(out)), err
}

// show returns what the lists say of the version of each package that would be installed.
func (a *apt) show(ctx context.Context, names ...string) ([]stanza, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", append([]string{"show", "--no-all-versions"}, names...)...)
	if err != nil {
		return nil, err
	}
	return parseStanzas(out)
}

// candidate is show for one package.
func (a *apt) candidate(ctx context.Context, name string) (stanza, error) {
	list, err := a.show(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the distribution offers no package %s", name)
	}
	return list[0], nil
}

// fetch returns the package of a stanza, downloaded unless it is here with the right checksum.
func (a *apt) fetch(ctx context.Context, s stanza) (*fetched, error) {
	name := fmt.Sprintf("%s_%s_%s.deb", s["Package"], strings.ReplaceAll(s["Version"], ":", "%3a"), s["Architecture"])
	file := a.path("debs/" + name)
	want := s["SHA256"]
	if len(want) != 2*sha256.Size {
		return nil, fmt.Errorf("package %s: the package list has no SHA-256", name)
	}
	if sum, err := sumFile(file); err != nil || sum != want {
		if err := a.download(ctx, s, file, want); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p, err := deb.Open(f, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), f.Close())
	}
	text, err := p.Control()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), f.Close())
	}
	control, err := parseStanzas(text)
	if err != nil || len(control) != 1 || control[0]["Package"] != s["Package"] || control[0]["Version"] != s["Version"] {
		return nil, errors.Join(fmt.Errorf("%s: its control file is not that of %s %s", file, s["Package"], s["Version"]), err, f.Close())
	}
	return &fetched{stanza: control[0], SHA256: want, Package: p, close: f.Close}, nil
}

func (a *apt) download(ctx context.Context, s stanza, file, want string) error {
	a.log("downloading %s %s (%s bytes)", s["Package"], s["Version"], s["Size"])
	tmp, err := os.MkdirTemp(a.path("debs"), ".download-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if _, err := a.run(ctx, tmp, "apt-get", "-qq", "download", s["Package"]+":"+s.arch()+"="+s["Version"]); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get download %s: %d packages came, expected 1", s["Package"], len(found))
	}
	if sum, err := sumFile(found[0]); err != nil || sum != want {
		return fmt.Errorf("package %s: SHA-256 %s, expected %s by the signed package list: %w", s["Package"], sum, want, errors.Join(errDamaged, err))
	}
	return os.Rename(found[0], file)
}

var errDamaged = errors.New("the download is damaged: run make again")

// fetched is a package in the cache, whose SHA-256 is that of the signed package list.
type fetched struct {
	stanza
	SHA256 string
	*deb.Package
	close func() error
}

func sumFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
