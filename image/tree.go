package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/image/initramfs"
	"github.com/bootmend/bootmend/remediate/trust"
)

// Paths on the media that makers of media and the agent look for.
const (
	PathShim         = "/EFI/BOOT/BOOTX64.EFI" // UEFI 2.10, section 3.5.1.1
	PathGrub         = "/EFI/BOOT/grubx64.efi" // the name that shim asks for
	PathGrubConfig   = "/boot/grub/grub.cfg"
	PathElTorito     = "/boot/grub/eltorito.img"
	PathESP          = "/boot/efi.img"
	PathKernel       = "/bootmend/vmlinuz"
	PathModules      = "/bootmend/modules.img" // the initramfs: first segment
	PathNetwork      = "/bootmend/network.img" // a segment with the drivers of network cards, where a server is asked
	PathAgent        = "/bootmend/agent.img"   // and second
	PathWindowsAgent = "/mend.exe"             // in the root, for a person to find
	PathMediaID      = "/bootmend/media.id"
	PathConfig       = "/bootmend/config.yaml"
	PathSerials      = "/" + config.SerialsPath
	PathKeys         = "/bootmend/keys.csv"
	PathVault        = "/bootmend/keys.age"
	PathKeyFolder    = "/bootmend/keys" // for key files that are added later
	PathRules        = "/bootmend/rules"
	PathTrust        = "/bootmend/trust"
	PathLogs         = "/bootmend/logs"
	PathManifest     = "/bootmend/manifest.json"
	PathNotice       = "/bootmend/NOTICE"   // of the boot files
	PathLicences     = "/bootmend/LICENCES" // of the agents
	PathReadme       = "/README.txt"
)

// Paths on a boot server. The signed GRUB looks for its configuration at this one and no other.
const (
	PathNetShim       = "/bootx64.efi"
	PathNetGrub       = "/grubx64.efi" // the name that shim asks for
	PathNetBIOS       = "/bios.0"
	PathNetGrubConfig = "/grub/grub.cfg"
	PathNetMedia      = "/bootmend/media.img" // a segment of the initramfs, with the files that the agent reads of media
	PathNetDisc       = "/http-boot.iso"      // all of it once more, for UEFI HTTP boot
)

// File is a file on the media.
type File struct {
	Path   string
	Size   int64
	SHA256 [sha256.Size]byte // zero for what is made of other files: the EFI system partition and the manifest
	Open   func() (io.ReadCloser, error)

	ModTime time.Time // of files that were read from media

	inside []File                            // of the volume that it is an image of, with their hashes
	sum    func() ([sha256.Size]byte, error) // where SHA256 is zero and the manifest needs it
}

// Tree is everything on the media, in the order in which it is read when the media boot. [Spec.Tree] makes one for
// an ISO image, [Spec.StickTree] one for a stick.
type Tree struct {
	ID         string // 32 hexadecimal digits that follow from the content
	Label      string
	Time       time.Time
	HasKeys    bool // in clear text
	HasVault   bool
	KernelArgs string   // the kernel's command line, for boot loaders other than GRUB
	Initramfs  []string // the paths of its segments, for them too
	Files      []File
	Dirs       []string // folders that are empty at first
	BootHybrid []byte   // boot sector code for BIOS sticks
	Core       []byte   // sticks: GRUB's image for a BIOS, which is no file there
	UEFIOnly   bool     // sticks: no BIOS starts it, so that there is no boot code outside of files
	WindowsPE  bool     // sticks and discs: Microsoft's boot managers read it

	boot []BootCode
}

// kind is what the tree is for.
type kind int

const (
	disc             kind = iota // an ISO 9660 image, with an EFI system partition as one of its files
	stick                        // one FAT partition
	network                      // a boot server's folder
	remote                       // a disc for UEFI HTTP boot, which only the firmware can see
	windowsPE                    // one FAT partition, that starts Windows PE
	windowsPENetwork             // a boot server's folder for wimboot
	windowsPEDisc                // a disc that starts Windows PE
)

// bundled is an entry of the boot bundle and where it goes.
type bundled struct {
	path, name string
	packed     bool
}

func newTree(ctx context.Context, s Spec, k kind) (*Tree, error) {
	hybrid, err := fs.ReadFile(s.Bundle, assets.BootHybrid)
	if err != nil {
		return nil, fmt.Errorf("boot bundle: %w", err)
	}
	t := &Tree{Label: Label, Time: s.Time.UTC().Truncate(time.Second), HasKeys: s.Keys != nil, HasVault: s.Vault != nil, BootHybrid: hybrid}

	var inputs []File
	chain := []bundled{
		{PathKernel, assets.Kernel, false}, {PathModules, assets.ModulesCPIO, false}, {PathElTorito, assets.ElTorito, false},
		{PathGrub, assets.Grub, true}, {PathShim, assets.Shim, true}, {PathNotice, assets.Notice, true},
	}
	if k == network {
		chain = []bundled{
			{PathKernel, assets.Kernel, false}, {PathModules, assets.ModulesCPIO, false}, {PathNetBIOS, assets.GrubPXE, false},
			{PathNetGrub, assets.GrubNet, true}, {PathNetShim, assets.Shim, true}, {PathNotice, assets.Notice, true},
		}
	}
	if s.HasToken {
		chain = slices.Insert(chain, 2, bundled{PathNetwork, assets.NetworkCPIO, false})
	}
	for _, f := range chain {
		file, err := fromBundle(s.Bundle, f.path, f.name, f.packed)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, file)
	}
	agent := s.Agent
	agent.Path = PathAgent
	at := slices.IndexFunc(inputs, func(f File) bool { return f.Path == PathElTorito || f.Path == PathNetBIOS })
	inputs = slices.Insert(inputs, at, agent) // in the order in which they are read
	if k == stick && s.WindowsAgent.Open != nil {
		windows := s.WindowsAgent
		windows.Path = PathWindowsAgent
		inputs = append(inputs, windows)
	}
	inputs = slices.Concat(inputs, s.AgentFiles(), s.licences())
	if err := hashAll(ctx, inputs); err != nil {
		return nil, err
	}
	t.ID = mediaID(s, k, t.Time, inputs)
	t.KernelArgs, t.Initramfs = s.kernelArgs()+" bootmend.media="+t.ID, s.initramfs(k)

	grub := FromBytes(PathGrubConfig, grubConfig(s, k, t.ID))
	if k == network {
		grub.Path = PathNetGrubConfig
	}
	readme := FromBytes(PathReadme, readme(t, k))
	id := FromBytes(PathMediaID, []byte(t.ID+"\n"))
	t.Files = []File{readme, grub}
	apart := []string{PathElTorito} // what is no file of its own
	switch k {
	case disc, remote:
		apart = []string{PathShim, PathGrub}
		inside := []File{pick(inputs, PathShim), pick(inputs, PathGrub), grub, readme, id}
		if err := hashAll(ctx, inside); err != nil {
			return nil, err
		}
		esp, err := espImage(ctx, t, inside)
		if err != nil {
			return nil, err
		}
		inputs = slices.Insert(inputs, slices.IndexFunc(inputs, func(f File) bool { return f.Path == PathAgent })+1, esp)
	case stick:
		if t.Core, err = pick(inputs, PathElTorito).content(); err != nil {
			return nil, err
		}
		t.Dirs = []string{PathLogs, PathKeyFolder}
	}
	if k == network || k == remote {
		var media []File
		if inputs, media, err = netMedia(inputs, id); err != nil {
			return nil, err
		}
		t.Files = append(t.Files, media...)
	}
	for _, f := range inputs {
		if !slices.Contains(apart, f.Path) {
			t.Files = append(t.Files, f)
		}
	}
	if k != network {
		t.Files = append(t.Files, id, FromBytes("/bootmend/id-"+t.ID, nil))
	}
	if err := hashAll(ctx, t.Files); err != nil { // but for what has a sum of its own
		return nil, err
	}
	return t, t.writeManifest()
}

// AgentFiles are what the agent reads of media.
func (s Spec) AgentFiles() []File {
	inputs := []File{FromBytes(PathConfig, s.Config)}
	if s.Serials != nil {
		inputs = append(inputs, FromBytes(PathSerials, s.Serials.Marshal()))
	}
	if s.Keys != nil {
		inputs = append(inputs, FromBytes(PathKeys, s.Keys))
	}
	if s.Vault != nil {
		inputs = append(inputs, FromBytes(PathVault, s.Vault))
	}
	for i, r := range s.Rules {
		name := PathRules + "/" + ruleName(i, r.Name)
		inputs = append(inputs, FromBytes(name, r.Data))
		if r.Signature != nil {
			inputs = append(inputs, FromBytes(name+trust.Extension, r.Signature))
		}
	}
	for i, key := range s.Trust {
		inputs = append(inputs, FromBytes(fmt.Sprintf("%s/%02d.pub", PathTrust, i+1), key))
	}
	return inputs
}

// licences is the file with what has to be passed on with the agents, if there is one.
func (s Spec) licences() []File {
	if s.Licences == nil {
		return nil
	}
	return []File{FromBytes(PathLicences, s.Licences)}
}

// netMedia packs what the agent reads of media into a segment of the initramfs, and returns the other files apart.
func netMedia(inputs []File, id File) (rest, media []File, err error) {
	packed := []initramfs.File{}
	for _, f := range append(slices.Clone(inputs), id) {
		read := f.Path == PathConfig || f.Path == PathSerials || f.Path == PathVault || f.Path == PathMediaID ||
			strings.HasPrefix(f.Path, PathRules+"/") || strings.HasPrefix(f.Path, PathTrust+"/")
		if !read {
			rest = append(rest, f)
			continue
		}
		data, err := f.content()
		if err != nil {
			return nil, nil, err
		}
		packed = append(packed, initramfs.File{Name: config.NetMediaDir + f.Path, Mode: 0o600, Data: data})
	}
	archive, err := initramfs.Files(packed)
	if err != nil {
		return nil, nil, err
	}
	return rest, []File{FromBytes(PathNetMedia, archive)}, nil
}

func pick(files []File, path string) File {
	return files[slices.IndexFunc(files, func(f File) bool { return f.Path == path })]
}

// Find returns the file at a path.
func (t *Tree) Find(path string) (File, bool) {
	i := slices.IndexFunc(t.Files, func(f File) bool { return f.Path == path })
	if i < 0 {
		return File{}, false
	}
	return t.Files[i], true
}

// Add puts a file into the tree, and into the manifest.
func (t *Tree) Add(ctx context.Context, f File) error {
	files := []File{f}
	if err := hashAll(ctx, files); err != nil {
		return err
	}
	t.Files = append(t.Files, files[0])
	return t.writeManifest()
}

// Replace gives a file of the tree another content of the same size, as makers of media do with boot code that
// must know where on the media it lies, and brings the manifest up to date.
func (t *Tree) Replace(path string, data []byte) error {
	i := slices.IndexFunc(t.Files, func(f File) bool { return f.Path == path })
	if i < 0 || t.Files[i].Size != int64(len(data)) {
		return fmt.Errorf("file %s: replaced by %d bytes, which is not its size", path, len(data))
	}
	t.Files[i] = FromBytes(path, data)
	t.Files[i].SHA256 = sha256.Sum256(data)
	return t.writeManifest()
}

// FromBytes is a file with content in memory.
func FromBytes(path string, data []byte) File {
	return File{Path: path, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return memory{bytes.NewReader(data)}, nil
	}}
}

// memory is an open file that can be read at any offset.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// content returns the whole of a small file.
func (f File) content() ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	return io.ReadAll(r)
}

// summer is a bundle that knows the hashes of its entries, which need not be read for them then.
type summer interface {
	Sum(name string) ([sha256.Size]byte, bool)
}

// fromBundle is a file with the content of an entry of the bundle. A packed entry is unpacked once, beside everything
// else that goes on until somebody reads it.
func fromBundle(bundle fs.FS, path, name string, packed bool) (File, error) {
	info, err := fs.Stat(bundle, name)
	if err != nil {
		return File{}, fmt.Errorf("boot bundle: %s: %w", name, err)
	}
	f := File{Path: path, Size: info.Size(), Open: func() (io.ReadCloser, error) { return bundle.Open(name) }}
	if packed {
		f.Open = fromMemory(func() ([]byte, error) {
			data, err := fs.ReadFile(bundle, name)
			if err != nil {
				return nil, fmt.Errorf("boot bundle: %s: %w", name, err)
			}
			return data, nil
		}, true)
	}
	if known, ok := bundle.(summer); ok {
		if sum, ok := known.Sum(name); ok {
			f.SHA256 = sum
		}
	}
	return f, nil
}

// fromMemory opens content that is made once: when it is first wanted or, with ahead, beginning now.
func fromMemory(content func() ([]byte, error), ahead bool) func() (io.ReadCloser, error) {
	content = sync.OnceValues(content)
	if ahead {
		go func() { _, _ = content() }() // whoever opens it gets the error
	}
	return func() (io.ReadCloser, error) {
		data, err := content()
		if err != nil {
			return nil, err
		}
		return memory{bytes.NewReader(data)}, nil
	}
}

// hashAll fills in the hashes that are missing, several files at a time.
func hashAll(ctx context.Context, files []File) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range files {
		if files[i].SHA256 == ([sha256.Size]byte{}) && files[i].sum == nil {
			g.Go(func() error { return files[i].hash(ctx) })
		}
	}
	return g.Wait()
}

// hash fills in SHA256 and makes sure that the file has the size that it says.
func (f *File) hash(ctx context.Context) error {
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("file %s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	h := sha256.New()
	buf := make([]byte, 256<<10)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := r.Read(buf)
		n += int64(k)
		h.Write(buf[:k])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	if n != f.Size {
		return fmt.Errorf("file %s: %d bytes where %d were announced", f.Path, n, f.Size)
	}
	h.Sum(f.SHA256[:0])
	return nil
}

// mediaID follows from everything that the person building decides, so that two media with one ID are equal.
func mediaID(s Spec, k kind, when time.Time, inputs []File) string {
	h := sha256.New()
	field := func(b []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	field([]byte("bootmend media 1"))
	field([]byte{byte(k)})
	field([]byte(when.Format(time.RFC3339)))
	field([]byte(s.kernelArgs()))
	field(s.GrubConfig)
	for _, f := range inputs {
		field([]byte(f.Path))
		field(f.SHA256[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// findMedia is how GRUB finds media that it was not started from as such.
const findMedia = `# The marker's name carries the media's own number, so no other stick or disk is taken for this one. Started as
# CD or by a BIOS, $root is the media already and nothing is searched.
if [ ! -e /bootmend/id-@MEDIA_ID@ ]; then
	search --no-floppy --file --set=root /bootmend/id-@MEDIA_ID@
fi`

// initramfs are the paths of its segments.
func (s Spec) initramfs(k kind) []string {
	segments := []string{PathModules}
	if s.HasToken {
		segments = append(segments, PathNetwork)
	}
	if k == network || k == remote {
		segments = append(segments, PathNetMedia)
	}
	return append(segments, PathAgent) // the last: no uncompressed one may follow it
}

func grubConfig(s Spec, k kind, id string) []byte {
	find := findMedia
	if k == network {
		find = "# $root is the server that this file came from."
	}
	find = strings.ReplaceAll(find, "@MEDIA_ID@", id)
	return []byte(strings.NewReplacer("@FIND_MEDIA@", find, "@INITRD@", strings.Join(s.initramfs(k), " "), "@MEDIA_ID@", id, "@KERNEL_ARGS@", s.kernelArgs()).Replace(string(s.GrubConfig)))
}

// SetBoot tells the tree of boot code that the maker of media lays outside of files, and brings the manifest up to
// date. The manifest's length depends on the names and places given, not on the code.
func (t *Tree) SetBoot(code ...BootCode) error {
	t.boot = code
	return t.writeManifest()
}

// Manifest is /bootmend/manifest.json: every other file with its size and hash.
type Manifest struct {
	Schema int            `json:"schema"`
	Media  string         `json:"media"`
	Time   time.Time      `json:"time"` // the date of all files, by which later ones can be told
	Files  []ManifestFile `json:"files"`
	Boot   []BootCode     `json:"boot,omitempty"`
}

// ManifestFile is a file in the manifest.
type ManifestFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Inside are the files of a volume that the file is an image of. On a stick logs come to it, so that its hash
	// is no longer this one.
	Inside []ManifestFile `json:"inside,omitempty"`
}

// BootCode is code that lies outside of files.
type BootCode struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"` // in bytes from the start of the media
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// NewBootCode describes code that lies at an offset.
func NewBootCode(name string, offset int64, code []byte) BootCode {
	sum := sha256.Sum256(code)
	return BootCode{name, offset, int64(len(code)), hex.EncodeToString(sum[:])}
}

// Marshal returns the manifest as it lies on the media. Equal manifests have equal bytes.
func (m Manifest) Marshal() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// writeManifest adds the manifest or renews it. Its size depends on names and sizes alone, so that its content can wait
// until it is read.
func (t *Tree) writeManifest() error {
	t.Files = slices.DeleteFunc(t.Files, func(f File) bool { return f.Path == PathManifest })
	files := slices.Clone(t.Files)
	m := Manifest{Schema: 1, Media: t.ID, Time: t.Time, Boot: t.boot}
	m.Files, _ = manifestFiles(files, func(f File) ([sha256.Size]byte, error) { return f.SHA256, nil })
	blank, err := m.Marshal()
	if err != nil {
		return err
	}
	t.Files = append(t.Files, File{Path: PathManifest, Size: int64(len(blank)), Open: fromMemory(func() (_ []byte, err error) {
		m.Files, err = manifestFiles(files, func(f File) ([sha256.Size]byte, error) {
			if f.sum != nil {
				return f.sum()
			}
			return f.SHA256, nil
		})
		if err != nil {
			return nil, err
		}
		return m.Marshal()
	}, false)})
	return nil
}

func manifestFiles(files []File, sum func(File) ([sha256.Size]byte, error)) (list []ManifestFile, err error) {
	for _, f := range files {
		s, err := sum(f)
		if err != nil {
			return nil, err
		}
		inside, err := manifestFiles(f.inside, sum)
		if err != nil {
			return nil, err
		}
		list = append(list, ManifestFile{f.Path, f.Size, hex.EncodeToString(s[:]), inside})
	}
	slices.SortFunc(list, func(a, b ManifestFile) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}
