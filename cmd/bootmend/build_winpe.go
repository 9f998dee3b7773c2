package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/winpe"
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
	case build.control != "":
		return usagef("%s: --control is for the Linux environment: in Windows PE the agent asks no server", command)
	case build.config.DiscardHibernation:
		return usagef("%s: --discard-hibernation is for the Linux environment: in Windows PE a hibernated Windows is left alone", command)
	}
	return nil
}

// plan gathers what starts Windows PE. The sources stay open until close is called.
func (o *winpeOptions) plan(ctx context.Context, when time.Time) (pe image.WindowsPE, closeAll func(), err error) {
	source, err := winpe.Open(o.path, o.media)
	if err != nil {
		return pe, nil, err
	}
	defer func() {
		if err != nil {
			_ = source.Close() // read only
		}
	}()
	status, err := source.Status()
	if err != nil {
		return pe, nil, err
	}
	if status.Use == 0 {
		return pe, nil, withHint(fmt.Errorf("%s: no image in it can heal machines", status.WIM),
			"\"bootmend winpe info %s\" says what each one lacks", o.path)
	}
	_, open, err := assets.MendExe()
	if err != nil {
		return pe, nil, err
	}
	r, err := open()
	if err != nil {
		return pe, nil, err
	}
	agent, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return pe, nil, err
	}
	files, err := source.StickFiles(ctx, status.Use, agent, when)
	if err != nil {
		return pe, nil, err
	}
	for _, f := range files {
		pe.Boot = append(pe.Boot, image.File{Path: f.Path, Size: f.Size, Open: f.Open})
	}
	if o.drivers != "" {
		if pe.Drivers, err = readDrivers(o.drivers); err != nil {
			return pe, nil, err
		}
	}
	return pe, func() { _ = source.Close() }, nil
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
