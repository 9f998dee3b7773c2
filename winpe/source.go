// Package winpe reads what an administrator has of Microsoft's Windows PE, which may not be shipped with bootmend: an
// ADK folder, a Windows medium or its ISO image, or a WIM alone. [Open] finds the pieces and [Source.Status] says what
// they are and what is missing.
package winpe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bootmend/bootmend/winpe/udf"
	"github.com/bootmend/bootmend/winpe/wim"
)

// Source is Windows PE as it was found.
type Source struct {
	// Kind says in words what it is.
	Kind string
	// WIMPath is where the WIM lies, for people: in an ISO image behind the name of that.
	WIMPath string
	WIM     *wim.File
	// Media is the folder with the boot files around it; nil where there is only the WIM.
	Media fs.FS

	firmware []fs.FS  // folders of the ADK with the boot images of discs
	file     *os.File // the WIM, or the ISO image that it lies in
}

// Close closes what was opened.
func (s *Source) Close() error { return s.file.Close() }

// layouts are where a WIM lies in the folders that people have, and where from there the media folder is and the folders
// with the boot images of discs.
var layouts = []struct {
	kind, wim, media string
	firmware         []string
}{
	{"working folder made by copype", "media/sources/boot.wim", "media", []string{"fwfiles"}},
	{"Windows medium or media folder", "sources/boot.wim", ".", []string{"../fwfiles"}},
	{"ADK folder of an architecture", "en-us/winpe.wim", "Media", []string{"../../Deployment Tools/amd64/Oscdimg"}},
	{"ADK folder", "Windows Preinstallation Environment/amd64/en-us/winpe.wim", "Windows Preinstallation Environment/amd64/Media",
		[]string{"Deployment Tools/amd64/Oscdimg"}},
	{"ADK folder", "Assessment and Deployment Kit/Windows Preinstallation Environment/amd64/en-us/winpe.wim",
		"Assessment and Deployment Kit/Windows Preinstallation Environment/amd64/Media",
		[]string{"Assessment and Deployment Kit/Deployment Tools/amd64/Oscdimg"}},
}

// Open looks at a WIM, an ISO image of a Windows medium, or a folder. Names are found in any case, as on Windows. media
// is a folder that has the boot files; "" takes those around the WIM.
func Open(name, media string) (*Source, error) {
	s, err := find(name)
	if err != nil {
		return nil, err
	}
	if media != "" {
		info, err := os.Stat(media)
		switch {
		case err == nil && !info.IsDir():
			err = fmt.Errorf("%s: is a file: name the folder with the boot files (bootmgr, boot, EFI)", media)
		case err == nil && !hasFold(os.DirFS(media), "Boot") && !hasFold(os.DirFS(media), "EFI"):
			err = fmt.Errorf("%s: has neither a folder Boot nor EFI: name the folder with the boot files (of the ADK: Media; of a Windows medium: its root)", media)
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.Media = os.DirFS(media)
	}
	return s, nil
}

func find(name string) (*Source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return openFile(name, info.Size())
	}
	for _, l := range layouts {
		found, ok := locate(name, l.wim)
		if !ok {
			continue
		}
		s := &Source{Kind: l.kind, WIMPath: found}
		if media, ok := locate(name, l.media); ok {
			s.Media = os.DirFS(media)
		}
		for _, folder := range l.firmware {
			// The way up is not looked for in any case.
			up := strings.Count(folder, "../")
			if at, ok := locate(filepath.Join(name, strings.Repeat("../", up)), strings.TrimLeft(folder, "./")); ok {
				s.firmware = append(s.firmware, os.DirFS(at))
			}
		}
		return s, s.open()
	}
	return nil, fmt.Errorf("%s: holds no Windows PE: looked for %s and the folders of the ADK", name, layouts[1].wim)
}

// openFile opens a WIM or an ISO image.
func openFile(name string, size int64) (*Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	disc, err := udf.Open(f, size)
	if errors.Is(err, udf.ErrNoUDF) {
		if isISO9660(f) {
			_ = f.Close() // read only
			return nil, fmt.Errorf("%s: %w, which Windows media have: mount it and name the folder", name, err)
		}
		s := &Source{Kind: "WIM alone", WIMPath: name, file: f}
		return s, s.read(f, size)
	}
	if err != nil {
		_ = f.Close() // read only
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &Source{Kind: "ISO image of a Windows medium", Media: disc, file: f}
	const place = "sources/boot.wim"
	at, ok := locateFS(disc, place)
	if !ok {
		_ = f.Close() // read only
		return nil, fmt.Errorf("%s: holds no Windows PE: looked for %s: use an installation medium of Windows", name, place)
	}
	s.WIMPath = name + ": " + at
	inner, err := disc.Open(at)
	var r io.ReaderAt
	var info fs.FileInfo
	if err == nil {
		info, err = inner.Stat()
	}
	if err == nil {
		if r, ok = inner.(io.ReaderAt); !ok {
			err = errors.New("is a folder")
		}
	}
	if err != nil {
		_ = f.Close() // read only
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, s.read(r, info.Size())
}

// isISO9660 looks for the first volume descriptor (ECMA-119 section 8.1).
func isISO9660(r io.ReaderAt) bool {
	b := make([]byte, 6)
	_, err := r.ReadAt(b, 16*2048)
	return err == nil && string(b[1:]) == "CD001"
}

func (s *Source) open() error {
	f, err := os.Open(s.WIMPath)
	if err != nil {
		return err
	}
	s.file = f
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // read only
		return fmt.Errorf("%s: %w", s.WIMPath, err)
	}
	return s.read(f, info.Size())
}

// read takes the WIM in; on an error the source is closed.
func (s *Source) read(r io.ReaderAt, size int64) (err error) {
	if s.WIM, err = wim.Open(r, size); err != nil {
		_ = s.file.Close() // read only
		return fmt.Errorf("%s: %w", s.WIMPath, err)
	}
	return nil
}

// locate finds a path below dir in any case.
func locate(dir, name string) (string, bool) {
	at := dir
	for part := range strings.SplitSeq(name, "/") {
		if part == "." {
			continue
		}
		entries, err := os.ReadDir(at)
		if err != nil {
			return "", false
		}
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return strings.EqualFold(e.Name(), part) })
		if i < 0 {
			return "", false
		}
		at = filepath.Join(at, entries[i].Name())
	}
	return at, true
}

// Status is what a Source is good for.
type Status struct {
	Kind        string   `json:"kind"`
	WIM         string   `json:"wim"`
	Compression string   `json:"compression"`
	Size        int64    `json:"size"`
	BootIndex   int      `json:"boot_index"`
	Images      []Image  `json:"images"`
	Use         int      `json:"use"` // the image that media are made of; 0 where none will do
	Missing     []string `json:"missing,omitempty"`
	Notes       []string `json:"notes,omitempty"`
}

// Image is one image of the WIM.
type Image struct {
	wim.ImageInfo
	WindowsPE bool     `json:"windows_pe"` // or Windows Setup, which runs in it
	Packages  []string `json:"packages,omitempty"`
	// ManageBDE says that the image can unlock BitLocker volumes.
	ManageBDE bool   `json:"manage_bde"`
	Problem   string `json:"problem,omitempty"` // why this one will not do
}

// amd64 is the architecture of Windows' own numbering (PROCESSOR_ARCHITECTURE_AMD64).
const amd64 = 9

// Status looks into every image.
func (s *Source) Status() (*Status, error) {
	st := &Status{Kind: s.Kind, WIM: s.WIMPath, Compression: s.WIM.Compression().String(), Size: s.WIM.Size(), BootIndex: s.WIM.BootIndex(),
		Images: []Image{}}
	infos, err := s.WIM.Info()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.WIMPath, err)
	}
	for n := 1; n <= s.WIM.Images(); n++ {
		info := wim.ImageInfo{Index: n}
		if i := slices.IndexFunc(infos, func(i wim.ImageInfo) bool { return i.Index == n }); i >= 0 {
			info = infos[i]
		}
		image := Image{ImageInfo: info}
		image.look(s.WIM)
		st.Images = append(st.Images, image)
	}
	st.choose()
	st.needs(s)
	return st, nil
}

// look finds out what an image can do from the files in it: the XML of a boot.wim that somebody has serviced tells
// little.
func (i *Image) look(f *wim.File) {
	tree, err := f.Image(i.Index)
	if err != nil {
		i.Problem = err.Error()
		return
	}
	has := func(name string) bool {
		_, err := fs.Stat(tree, name)
		return err == nil
	}
	i.WindowsPE = has("Windows/System32/wpeinit.exe") || has("Windows/System32/winpeshl.exe")
	i.ManageBDE = has("Windows/System32/manage-bde.exe")
	packages, err := fs.ReadDir(tree, "Windows/servicing/Packages")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		i.Problem = err.Error()
	}
	for _, p := range packages {
		// WinPE-SecureStartup-Package~31bf3856ad364e35~amd64~~10.0.22621.1.mum, and one for each language.
		fields := strings.Split(strings.TrimSuffix(p.Name(), path.Ext(p.Name())), "~")
		if len(fields) == 5 && fields[3] == "" && strings.HasPrefix(strings.ToLower(fields[0]), "winpe-") && strings.EqualFold(path.Ext(p.Name()), ".mum") {
			i.Packages = append(i.Packages, strings.TrimSuffix(fields[0], "-Package"))
		}
	}
	slices.Sort(i.Packages)
	i.Packages = slices.Compact(i.Packages)
	switch {
	case !i.WindowsPE:
		i.Problem = "no Windows PE: it has neither wpeinit.exe nor winpeshl.exe"
	case i.Windows != nil && i.Windows.Architecture != amd64:
		i.Problem = "not for x64 machines"
	case !i.ManageBDE:
		i.Problem = "without manage-bde: add the package WinPE-SecureStartup (and WinPE-WMI, which it needs) with \"dism /add-package\""
	}
}

// choose takes the image that boots; where that one will not do, the first that will.
func (st *Status) choose() {
	if n := st.BootIndex; n > 0 && st.Images[n-1].Problem == "" {
		st.Use = n
		return
	}
	if i := slices.IndexFunc(st.Images, func(i Image) bool { return i.Problem == "" }); i >= 0 {
		st.Use = i + 1
		if st.BootIndex > 0 {
			st.Notes = append(st.Notes, fmt.Sprintf("image %d boots, but image %d is the one that will do", st.BootIndex, st.Use))
		}
	}
}

// needs names what is missing and where it can be had.
func (st *Status) needs(s *Source) {
	if st.Use == 0 {
		st.Missing = append(st.Missing, "an image with Windows PE for x64 and manage-bde: the ADK with its Windows PE add-on has one (copype amd64 FOLDER), so has a Windows installation medium (sources/boot.wim)")
		return
	}
	image, err := s.WIM.Image(st.Use)
	if err != nil {
		return // look has said so
	}
	in := func(fsys fs.FS, places []string) bool {
		return fsys != nil && slices.ContainsFunc(places, func(p string) bool { return hasFold(fsys, strings.TrimPrefix(p, "/")) })
	}
	for _, b := range slices.Concat(firmwareFiles, biosFiles) {
		switch {
		case b.optional || in(s.Media, []string{b.path}) || in(image, b.image):
		case in(image, b.loaders):
			st.Notes = append(st.Notes, b.what+" is not there: media get one that is written for them")
		default:
			st.Missing = append(st.Missing, b.what+": a media folder has it (the ADK's Media, or a Windows medium)")
		}
	}
}

// hasFold reports whether a file is there under a name of any case.
func hasFold(fsys fs.FS, name string) bool {
	_, ok := locateFS(fsys, name)
	return ok
}

// locateFS finds a path in any case.
func locateFS(fsys fs.FS, name string) (string, bool) {
	at := "."
	for part := range strings.SplitSeq(name, "/") {
		entries, err := fs.ReadDir(fsys, at)
		if err != nil {
			return "", false
		}
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return strings.EqualFold(e.Name(), part) })
		if i < 0 {
			return "", false
		}
		at = path.Join(at, entries[i].Name())
	}
	return at, true
}
