package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/iso"
	"github.com/bootmend/bootmend/image/netboot"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/winpe"
	"github.com/bootmend/bootmend/winpe/wim"
)

// environment is what media start: bootmend's own Linux, or Microsoft's Windows PE.
type environment string

const (
	linuxEnv environment = "linux"
	winpeEnv environment = "winpe"
)

// Set implements pflag.Value.
func (e *environment) Set(s string) error {
	switch v := environment(s); v {
	case linuxEnv, winpeEnv:
		*e = v
		return nil
	}
	return fmt.Errorf("%q is no environment: use linux or winpe", s)
}

// String implements pflag.Value.
func (e *environment) String() string { return string(*e) }

// Type implements pflag.Value.
func (*environment) Type() string { return "linux|winpe" }

// winpeOptions choose Windows PE in place of Linux.
type winpeOptions struct {
	env     environment
	path    string
	media   string
	drivers string
}

func (o *winpeOptions) AddFlags(f *pflag.FlagSet) {
	o.env = linuxEnv
	f.Var(&o.env, "env", "what the media start")
	f.StringVar(&o.path, "winpe", "", "for --env winpe: the ISO image of a Windows medium, a folder of the ADK or made by copype, or a boot.wim")
	f.StringVar(&o.media, "winpe-media", "", "folder with the boot files (Boot, EFI), where --winpe names a WIM alone")
	f.StringVar(&o.drivers, "drivers", "", "folder of storage drivers (INF files) that Windows PE loads before it looks for disks")
}

// check refuses flags that do not go together.
func (o *winpeOptions) check(command string, build *buildOptions) error {
	if o.env == linuxEnv {
		for flag, value := range map[string]string{"--winpe": o.path, "--winpe-media": o.media, "--drivers": o.drivers} {
			if value != "" {
				return usagef("%s: %s is for Windows PE: add --env winpe", command, flag)
			}
		}
		return nil
	}
	switch {
	case o.path == "":
		return usagef("%s: --env winpe needs --winpe PATH: Microsoft's files may not come with bootmend; the ISO image of a Windows 10 or 11 medium will do, or the ADK", command)
	case build.config.DiscardHibernation:
		return usagef("%s: --discard-hibernation is for the Linux environment: in Windows PE a hibernated Windows is left alone", command)
	}
	return nil
}

// winpeSource is an opened source, and what is to go into it.
type winpeSource struct {
	*winpe.Source
	image   int
	agent   []byte
	drivers []image.File
}

// open finds what starts Windows PE, and what of it can be wrong.
func (o *winpeOptions) open() (w *winpeSource, err error) {
	source, err := winpe.Open(o.path, o.media)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = source.Close() // read only
		}
	}()
	status, err := source.Status()
	if err != nil {
		return nil, err
	}
	if status.Use == 0 {
		return nil, withHint(fmt.Errorf("%s: no image in it can heal machines%s", status.WIM, lacks(status)),
			"\"bootmend winpe info %s\" says more", o.path)
	}
	w = &winpeSource{Source: source, image: status.Use}
	_, open, err := assets.MendExe()
	if err != nil {
		return nil, err
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	w.agent, err = io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if o.drivers != "" {
		w.drivers, err = readDrivers(o.drivers)
	}
	return w, err
}

// lacks says of each image what it has not got.
func lacks(status *winpe.Status) string {
	var text strings.Builder
	for _, i := range status.Images {
		fmt.Fprintf(&text, "; image %d (%s): %s", i.Index, remediate.Printable(i.Name), i.Problem)
	}
	return text.String()
}

// chosen is the source where Windows PE is wanted, nil otherwise.
func (o *winpeOptions) chosen() (*winpeSource, error) {
	if o.env != winpeEnv {
		return nil, nil
	}
	return o.open()
}

// close is for all, also where there is no source.
func (w *winpeSource) close() {
	if w != nil {
		_ = w.Close() // read only
	}
}

// stick is what starts Windows PE from a stick, beside whose WIM the agent's files lie.
func (w *winpeSource) stick(ctx context.Context, when time.Time) (pe image.WindowsPE, err error) {
	files, err := w.StickFiles(ctx, w.image, w.agent, when)
	return image.WindowsPE{Boot: imageFiles(files), Drivers: w.drivers}, err
}

// Files on a boot server of Windows PE.
const (
	pathScript  = "/boot.ipxe"
	pathWimboot = "/wimboot"
	pathNetWIM  = "/boot.wim"
)

// ipxeScript starts wimboot with files, by the names that it looks for.
func ipxeScript(files []image.File) []byte {
	script := "#!ipxe\nkernel wimboot\n"
	for _, f := range files {
		name := strings.TrimPrefix(f.Path, "/")
		script += "initrd " + name + " " + strings.Replace(name, "bcd", "BCD", 1) + "\n"
	}
	return []byte(script + "boot\n")
}

// maxWimboot bounds a file of some 60 KiB.
const maxWimboot = 4 << 20

// network is the folder of a boot server. The agent's files are in the WIM.
func (w *winpeSource) network(ctx context.Context, spec image.Spec, wimboot string) (*image.Tree, error) {
	loader, err := readWimboot(wimboot)
	if err != nil {
		return nil, err
	}
	files, err := w.NetworkFiles(ctx, w.image, w.agent, spec.Time, w.inside(spec)...)
	if err != nil {
		return nil, err
	}
	for i, f := range files { // most servers tell capitals from small letters
		files[i].Path = "/" + path.Base(strings.ToLower(f.Path))
	}
	started := imageFiles(files)
	boot := append([]image.File{image.FromBytes(pathScript, ipxeScript(started)), image.FromBytes(pathWimboot, loader)}, started...)
	return image.WindowsPENetworkTree(ctx, boot, spec)
}

// readWimboot reads the loader and refuses what is none.
func readWimboot(path string) ([]byte, error) {
	loader, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(loader) > maxWimboot || !bytes.HasPrefix(loader, []byte("MZ")) {
		return nil, withHint(fmt.Errorf("%s: is no wimboot: it must be the program as it is given out, a file of UEFI's form of less than 4 MiB", path), "ipxe.org/wimboot has it")
	}
	return loader, nil
}

// serve is the same for a server of our own. The source must stay open for as long as it is served.
func (w *winpeSource) serve(ctx context.Context, spec image.Spec, wimboot string) (*netboot.Files, error) {
	tree, err := w.network(ctx, spec, wimboot)
	if err != nil {
		return nil, err
	}
	return netboot.LoadWindowsPE(tree)
}

// inside are the agent's files, for media that have them in the WIM.
func (w *winpeSource) inside(spec image.Spec) (more []wim.Addition) {
	for _, f := range append(spec.AgentFiles(), w.drivers...) {
		more = append(more, wim.Addition{Path: f.Path, Data: reopened{f}, Size: f.Size})
	}
	return more
}

// disc is what starts Windows PE from a disc, with the agent's files in the WIM: so Windows PE need not see the disc.
func (w *winpeSource) disc(ctx context.Context, spec image.Spec) (iso.WindowsPE, error) {
	d, err := w.DiscFiles(ctx, w.image, w.agent, spec.Time, w.inside(spec)...)
	if err != nil {
		return iso.WindowsPE{}, err
	}
	tree, err := image.WindowsPEDiscTree(ctx, imageFiles(d.Files), imageFiles([]winpe.BootFile{d.BIOS, d.UEFI}), spec)
	if err != nil {
		return iso.WindowsPE{}, err
	}
	return iso.WindowsPE{Tree: tree, BIOS: imageFile(d.BIOS), UEFI: imageFile(d.UEFI), Private: spec.Private()}, nil
}

func imageFile(f winpe.BootFile) image.File {
	return image.File{Path: f.Path, Size: f.Size, Open: f.Open}
}

// imageFiles leaves out what a source does not have.
func imageFiles(files []winpe.BootFile) (list []image.File) {
	for _, f := range files {
		if f.Open != nil {
			list = append(list, imageFile(f))
		}
	}
	return list
}

// reopened opens a file each time that something of it is read, so that a folder of drivers need not be open as a whole.
type reopened struct{ image.File }

// ReadAt implements io.ReaderAt.
func (f reopened) ReadAt(b []byte, off int64) (int, error) {
	r, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	at, ok := r.(io.ReaderAt)
	if !ok {
		return 0, fmt.Errorf("%s: cannot be read from the middle", f.Path)
	}
	return at.ReadAt(b, off)
}

// Bounds of a folder of drivers: those for all storage of a fleet are a few dozen files.
const (
	maxDriverFiles = 5000
	maxDriverBytes = 1 << 30
)

// readDrivers lists a folder of drivers, which must have an INF file.
func readDrivers(dir string) ([]image.File, error) {
	var files []image.File
	var sum int64
	inf := false
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		inf = inf || strings.EqualFold(filepath.Ext(name), ".inf")
		files = append(files, image.File{Path: image.PathDrivers + "/" + filepath.ToSlash(below), Size: info.Size(),
			Open: func() (io.ReadCloser, error) { return os.Open(name) }})
		if sum += info.Size(); sum > maxDriverBytes || len(files) > maxDriverFiles {
			return fmt.Errorf("%s: more than drivers: name a folder with nothing else in it", dir)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !inf {
		return nil, withHint(fmt.Errorf("%s: holds no INF file", dir), "unpack the vendor's driver: Windows PE loads drivers by their INF files, not by a set-up program")
	}
	return files, nil
}
