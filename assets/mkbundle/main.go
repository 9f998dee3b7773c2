// Mkbundle makes what the program embeds: the boot bundle from packages of the distribution, and the
// agent's segment of the initramfs.
//
//	mkbundle [bundle] [-o FILE] [-cache DIR] [-modules FILE] [-refresh] [-force]
//	mkbundle agent    [-o FILE] ELF
//	mkbundle pack     -o FILE FILE
//	mkbundle licences [-o FILE] [-targets LIST] PACKAGE...
//	mkbundle check    [-o FILE] FILE
//
// It needs apt-get, but neither root nor changes to the system (bundle), Go (licences), or nothing at all (agent, pack, check).
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/bootmend/bootmend/assets/bundle"
	"github.com/bootmend/bootmend/image/initramfs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		logf("%v", err)
		os.Exit(1)
	}
}

func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "mkbundle: "+format+"\n", args...)
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"bundle"}, args...)
	}
	switch command, rest := args[0], args[1:]; command {
	case "bundle":
		return runBundle(ctx, rest)
	case "agent":
		return runAgent(rest)
	case "pack":
		return runPack(rest)
	case "licences":
		return runLicences(ctx, rest)
	case "check":
		return runCheck(rest)
	default:
		return fmt.Errorf("no command %q: use bundle, agent, pack, licences or check", command)
	}
}

func runBundle(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bundle", flag.ContinueOnError)
	out := flags.String("o", "assets/embedded/bundle.zip", "write the bundle to `FILE`")
	cache := flags.String("cache", ".cache/apt", "keep package lists and packages in `DIR`")
	list := flags.String("modules", "assets/modules.list", "take the kernel modules that `FILE` lists")
	refresh := flags.Bool("refresh", false, "fetch the package lists even if those in the cache are of today")
	force := flags.Bool("force", false, "make the bundle even if it is up to date")
	if err := flags.Parse(args); err != nil {
		return err
	}
	modules, err := os.ReadFile(*list)
	if err != nil {
		return err
	}
	a, err := openApt(ctx, *cache, logf)
	if err != nil {
		return err
	}
	if err := a.refresh(ctx, *refresh); err != nil {
		return err
	}
	in, err := fetchInputs(ctx, a)
	if err != nil {
		return err
	}
	defer in.close()
	recipe, err := in.recipe(modules)
	if err != nil {
		return err
	}
	if sum, err := sumFile(*out); err == nil && !*force {
		if old, err := os.ReadFile(a.path("recipe")); err == nil && string(old) == recipe+" "+sum {
			logf("%s is up to date", *out)
			now := time.Now()
			return os.Chtimes(*out, now, now) // make goes by the time
		}
	}
	data, err := build(ctx, a, in, modules)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	if err := writeWhole(*out, data); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	logf("%s: %d bytes, SHA-256 %x", *out, len(data), sum)
	return writeWhole(a.path("recipe"), []byte(recipe+" "+hex.EncodeToString(sum[:])))
}

// recipe identifies everything that a bundle is made from: packages, module list, and this program.
func (in *inputs) recipe(modules []byte) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	sum, err := sumFile(self)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %x", sum, sha256.Sum256(modules))
	for _, p := range in.all() {
		fmt.Fprintf(h, " %s", p.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (in *inputs) all() []*fetched {
	return []*fetched{in.kernel, in.shim, in.grub, in.pcBin, in.grubCommon, in.licences}
}

func (in *inputs) close() {
	for _, p := range in.all() {
		_ = p.close() // opened for reading
	}
}

func runAgent(args []string) error {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
	out := flags.String("o", "assets/embedded/mend-linux-amd64.cpio.zst", "write the segment to `FILE`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("agent: name the program's file")
	}
	elf, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	segment, err := initramfs.Agent(elf)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	logf("%s: %d bytes of %d", *out, len(segment), len(elf))
	return writeWhole(*out, segment)
}

// runPack compresses the agent for Windows; the same program gives the same bytes.
func runPack(args []string) error {
	flags := flag.NewFlagSet("pack", flag.ContinueOnError)
	out := flags.String("o", "assets/embedded/mend-windows-amd64.exe.zst", "write the frame to `FILE`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("pack: name the program's file")
	}
	program, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	packed := e.EncodeAll(program, nil)
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	logf("%s: %d bytes of %d", *out, len(packed), len(program))
	return writeWhole(*out, packed)
}

func runCheck(args []string) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	out := flags.String("o", "", "copy the bundle to `FILE` if it is good")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("check: name the bundle's file")
	}
	name := flags.Arg(0)
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := bundle.Open(f, info.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := b.Check(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	m := b.Manifest()
	logf("%s: kernel %s, %d modules, good", name, m.Kernel, m.Modules.Count)
	if *out == "" {
		return nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	return writeWhole(*out, data)
}
