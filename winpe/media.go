package winpe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bootmend/bootmend/winpe/bcd"
	"github.com/bootmend/bootmend/winpe/wim"
)

// BootFile is a file of media that start Windows PE.
type BootFile struct {
	Path string // from the root of the media, with a slash before it
	Size int64
	Open func() (io.ReadCloser, error)
}

// The places that Microsoft's boot managers know: the RAM disk's are in every boot configuration of Microsoft's media.
const (
	pathManager     = "/EFI/Boot/bootx64.efi"
	pathBCD         = "/EFI/Microsoft/Boot/BCD"
	pathManagerBIOS = "/bootmgr"
	pathBCDBIOS     = "/Boot/BCD"
	pathSDI         = "/Boot/boot.sdi"
	pathWIM         = "/sources/boot.wim"
)

// bootFile is a file that media need, where it lies on them, and where in an image.
type bootFile struct {
	what, path string
	image      []string
	optional   bool
	// loaders are for a boot configuration, which can be written: the programs that it may start.
	loaders []string
}

// The boot configuration in the image's folder DVD is that of discs and sticks; the one that starts an installed Windows
// is made anew each time.
var firmwareFiles = []bootFile{
	{what: "the UEFI boot manager (bootx64.efi)", path: pathManager, image: []string{"Windows/Boot/EFI/bootmgfw.efi"}},
	{what: "the boot configuration for UEFI (BCD)", path: pathBCD, image: []string{"Windows/Boot/DVD/EFI/BCD"},
		loaders: []string{"Windows/System32/boot/winload.efi", "Windows/System32/winload.efi"}},
	{what: "the RAM disk's boot.sdi", path: pathSDI, image: []string{"Windows/Boot/DVD/EFI/boot.sdi", "Windows/Boot/DVD/PCAT/boot.sdi"}},
	// The list of revoked boot managers, which those of 2024 and later look for.
	{path: "/EFI/Microsoft/Boot/boot.stl", image: []string{"Windows/Boot/EFI/boot.stl"}, optional: true},
}

// biosFiles are what a BIOS needs beside that, all of it or nothing.
var biosFiles = []bootFile{
	{what: "the boot manager for BIOS (bootmgr)", path: pathManagerBIOS, image: []string{"Windows/Boot/PCAT/bootmgr"}},
	{what: "the boot configuration for BIOS (BCD)", path: pathBCDBIOS, image: []string{"Windows/Boot/DVD/PCAT/BCD"},
		loaders: []string{"Windows/System32/boot/winload.exe", "Windows/System32/winload.exe"}},
}

// bootFolders are what of a media folder has to do with starting. The rest of an installation medium is Windows itself.
var bootFolders = []string{"EFI", "Boot"}

// maxBootFiles and maxBootSize bound what is taken from those folders.
const (
	maxBootFiles = 2000
	maxBootSize  = 256 << 20
)

// UEFIFiles are the files that start the source with UEFI, but for the WIM, in the order of their paths. What is missing
// is in the error. A boot configuration that the source lacks is written, and dated when.
func (s *Source) UEFIFiles(image int, when time.Time) ([]BootFile, error) {
	var files []BootFile
	if s.Media != nil {
		var err error
		if files, err = s.mediaFiles(); err != nil {
			return nil, err
		}
	}
	tree, err := s.WIM.Image(image)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.WIMPath, err)
	}
	files, missing, err := s.complete(files, firmwareFiles, tree, when)
	if err != nil {
		return nil, err
	}
	if missing != nil {
		return nil, fmt.Errorf("%s: missing: %s: name a folder that has them with --winpe-media (the ADK's Media, or a Windows medium)", s.WIMPath, strings.Join(missing, ", "))
	}
	slices.SortFunc(files, func(a, b BootFile) int { return strings.Compare(strings.ToUpper(a.Path), strings.ToUpper(b.Path)) })
	return files, nil
}

// withBIOS adds to files of UEFIFiles what a BIOS needs, and reports whether the source has all of it.
func (s *Source) withBIOS(files []BootFile, image int, when time.Time) ([]BootFile, bool, error) {
	tree, err := s.WIM.Image(image)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", s.WIMPath, err)
	}
	more := slices.Clone(files)
	if manager, ok := s.locateMedia("bootmgr"); ok {
		f, err := fileOf(s.Media, manager)
		if err != nil {
			return nil, false, err
		}
		more = append(more, f)
	}
	more, missing, err := s.complete(more, biosFiles, tree, when)
	if err != nil {
		return nil, false, err
	}
	if missing != nil {
		return files, false, nil
	}
	return more, true, nil
}

// complete adds to files what of wanted they lack, out of an image or written here, and returns the names of what is
// nowhere.
func (s *Source) complete(files []BootFile, wanted []bootFile, tree fs.FS, when time.Time) (_ []BootFile, missing []string, err error) {
	for _, f := range wanted {
		if slices.ContainsFunc(files, func(b BootFile) bool { return strings.EqualFold(b.Path, f.path) }) {
			continue
		}
		found, err := fromTree(tree, f.image, f.path)
		if err == nil && found == nil {
			found, err = f.written(tree, when)
		}
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("%s: %w", s.WIMPath, err)
		case found != nil:
			files = append(files, *found)
		case !f.optional:
			missing = append(missing, f.what)
		}
	}
	return files, missing, nil
}

// written is a boot configuration for a loader that the image has; nil where there is none, and of other files.
func (b *bootFile) written(tree fs.FS, when time.Time) (*BootFile, error) {
	for _, loader := range b.loaders {
		if _, err := fs.Stat(tree, loader); err != nil {
			continue
		}
		data, err := bcd.RAMDisk(`\`+strings.ReplaceAll(strings.ToLower(loader), "/", `\`), when)
		if err != nil {
			return nil, err
		}
		return &BootFile{b.path, int64(len(data)), func() (io.ReadCloser, error) {
			return section{io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))}, nil
		}}, nil
	}
	return nil, nil
}

// mediaFiles lists what lies in the folders for starting.
func (s *Source) mediaFiles() (files []BootFile, err error) {
	if manager, ok := locateFS(s.Media, "bootmgr.efi"); ok { // Microsoft's media have it in the root, too
		f, err := fileOf(s.Media, manager)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	var sum int64
	for _, folder := range bootFolders {
		at, ok := locateFS(s.Media, folder)
		if !ok {
			continue
		}
		err := fs.WalkDir(s.Media, at, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if !info.Mode().IsRegular() {
				return fmt.Errorf("%s: is no file", name)
			}
			files = append(files, BootFile{"/" + name, info.Size(), func() (io.ReadCloser, error) { return s.Media.Open(name) }})
			if sum += info.Size(); sum > maxBootSize || len(files) > maxBootFiles {
				return fmt.Errorf("more than boot files in %s: name the folder with the boot files", at)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("boot files: %w", err)
		}
	}
	return files, nil
}

// fromTree takes the first of several files of an image; nil where it has none of them.
func fromTree(tree fs.FS, names []string, to string) (*BootFile, error) {
	for _, name := range names {
		info, err := fs.Stat(tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &BootFile{to, info.Size(), func() (io.ReadCloser, error) { return tree.Open(name) }}, nil
	}
	return nil, nil
}

// shell is what Windows PE starts in place of its own shell (winpeshl.ini), and script what that is: it brings the
// devices up, starts the agent, and where that ends without a restart, leaves a person with a prompt that says why.
// The prompt never ends, since Windows PE restarts the machine when its shell does.
const (
	shell = "[LaunchApps]\r\n%SYSTEMROOT%\\System32\\cmd.exe, /c %SYSTEMDRIVE%\\bootmend.cmd\r\n"

	script = `@echo off
title bootmend
cd /d %~dp0
wpeinit.exe
if not exist mend.exe (
	echo bootmend: mend.exe is missing in this Windows PE: build the media again.
	goto prompt
)
mend.exe
set status=%errorlevel%
echo.
if %status% == 0 echo bootmend: mend.exe has done its work, as it says above.
if %status% == 1 echo bootmend: mend.exe could not finish. The reason is above.
if %status% == 3 echo bootmend: mend.exe found nothing to heal.
if %status% gtr 3 echo bootmend: mend.exe stopped with status %status%, which is none of its own: it may not run in this Windows PE.
if %status% lss 0 echo bootmend: mend.exe stopped with status %status%: it crashed, or cannot run in this Windows PE.
:prompt
echo.
echo   mend.exe          runs it again          mend.exe -dry-run    changes nothing
echo   wpeutil reboot    restarts the machine   wpeutil shutdown     switches it off
cmd.exe /k
goto prompt
`
)

// WithAgent is the WIM with an agent that starts by itself, and with the image that it is in as the one that boots. when
// is the date of what is new. more are further files.
func (s *Source) WithAgent(ctx context.Context, image int, agent []byte, when time.Time, more ...wim.Addition) (*wim.Patched, error) {
	text := func(name, content string) wim.Addition {
		return wim.Addition{Path: name, Data: strings.NewReader(content), Size: int64(len(content))}
	}
	p, err := s.WIM.Add(ctx, image, append([]wim.Addition{
		{Path: "mend.exe", Data: bytes.NewReader(agent), Size: int64(len(agent))},
		text("bootmend.cmd", strings.ReplaceAll(script, "\n", "\r\n")),
		text("Windows/System32/winpeshl.ini", shell),
	}, more...), when)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.WIMPath, err)
	}
	p.SetBoot()
	return p, nil
}

// maxFile is the largest file of a FAT volume, and of a disc without a second extent, in bytes.
const maxFile = 1<<32 - 1

// StickFiles are all files that start the source from a stick, and the agent in it: those of UEFIFiles, those that a
// BIOS needs where the source has all of them (bootmgr is one of them then), and the WIM.
func (s *Source) StickFiles(ctx context.Context, image int, agent []byte, when time.Time, more ...wim.Addition) ([]BootFile, error) {
	files, err := s.UEFIFiles(image, when)
	if err != nil {
		return nil, err
	}
	if files, _, err = s.withBIOS(files, image, when); err != nil {
		return nil, err
	}
	p, err := s.WithAgent(ctx, image, agent, when, more...)
	if err != nil {
		return nil, err
	}
	if p.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes is more than a file on media that firmware reads can have (4 GiB), and the boot manager takes a RAM disk from one file only, so that it cannot be split: export the one image that is needed with \"dism /export-image\"", path.Base(s.WIMPath), p.Size())
	}
	return append(files, BootFile{pathWIM, p.Size(), func() (io.ReadCloser, error) {
		return section{io.NewSectionReader(p, 0, p.Size())}, nil
	}}), nil
}

type section struct{ *io.SectionReader }

func (section) Close() error { return nil }

// Disc is what starts the source from a disc.
type Disc struct {
	Files []BootFile
	BIOS  BootFile // boot sector; Size is 0 where the source has none
	UEFI  BootFile // boot image
}

// bootfix is what has a BIOS ask for a key before it starts from a disc that has it.
const bootfix = "/boot/bootfix.bin"

// DiscFiles are StickFiles and what a disc needs beside them: for UEFI an image of a small volume, the one that does not
// ask for a key where there is a choice, and for a BIOS its boot sector, boot manager and boot configuration.
func (s *Source) DiscFiles(ctx context.Context, image int, agent []byte, when time.Time, more ...wim.Addition) (*Disc, error) {
	uefi, err := s.discImage("efisys_noprompt.bin", "efisys.bin")
	if err != nil {
		return nil, err
	}
	if uefi.Size == 0 {
		return nil, fmt.Errorf("%s: missing: the boot image of discs for UEFI (efisys_noprompt.bin or efisys.bin): a Windows medium has it in efi/microsoft/boot, the ADK in Deployment Tools/amd64/Oscdimg: name the medium with --winpe-media, or build a stick, which does not need it", s.WIMPath)
	}
	bios, err := s.discImage("etfsboot.com")
	if err != nil {
		return nil, err
	}
	files, err := s.StickFiles(ctx, image, agent, when, more...)
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f BootFile) bool { return strings.EqualFold(f.Path, bootfix) })
	if !slices.ContainsFunc(files, func(f BootFile) bool { return strings.EqualFold(f.Path, pathManagerBIOS) }) {
		bios = BootFile{} // it has nothing to start
	}
	return &Disc{files, bios, uefi}, nil
}

// discImage finds the first of several boot images: in the media folder, or in one of the ADK.
func (s *Source) discImage(names ...string) (BootFile, error) {
	for _, name := range names {
		for _, place := range []string{"efi/microsoft/boot/" + name, "boot/" + name, name} {
			if at, ok := s.locateMedia(place); ok {
				return fileOf(s.Media, at)
			}
		}
		for _, folder := range s.firmware {
			if at, ok := locateFS(folder, name); ok {
				return fileOf(folder, at)
			}
		}
	}
	return BootFile{}, nil
}

func (s *Source) locateMedia(name string) (string, bool) {
	if s.Media == nil {
		return "", false
	}
	return locateFS(s.Media, name)
}

func fileOf(fsys fs.FS, name string) (BootFile, error) {
	info, err := fs.Stat(fsys, name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: is no file", name)
	}
	if err != nil {
		return BootFile{}, fmt.Errorf("boot files: %w", err)
	}
	return BootFile{"/" + name, info.Size(), func() (io.ReadCloser, error) { return fsys.Open(name) }}, nil
}

// NetworkFiles are what wimboot starts the source from, for UEFI and for a BIOS alike, the WIM last. It takes a boot
// manager that it is not given out of the WIM. Of a boot configuration, it fits that for a BIOS to UEFI, but not the other
// way around, so that it is the one for a BIOS that it gets, if there is one.
func (s *Source) NetworkFiles(ctx context.Context, image int, agent []byte, when time.Time, more ...wim.Addition) ([]BootFile, error) {
	files, err := s.StickFiles(ctx, image, agent, when, more...)
	if err != nil {
		return nil, err
	}
	tree, err := s.WIM.Image(image)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.WIMPath, err)
	}
	// A boot manager for a BIOS that is only in the WIM lies where wimboot looks, but not where disks have it.
	files, missing, err := s.complete(files, biosFiles[1:], tree, when)
	if err != nil {
		return nil, err
	}
	store := pathBCDBIOS
	if missing != nil {
		store = pathBCD
	}
	var list []BootFile
	for _, path := range []string{pathManagerBIOS, pathManager, store, pathSDI, pathWIM} {
		if i := slices.IndexFunc(files, func(f BootFile) bool { return strings.EqualFold(f.Path, path) }); i >= 0 {
			list = append(list, files[i])
		}
	}
	return list, nil
}
