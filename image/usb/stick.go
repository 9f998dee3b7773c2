package usb

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/fat"
)

// ErrNoStick says that something is not the image of a stick that this package makes, nor such a stick.
var ErrNoStick = errors.New("not a bootmend stick")

// Stick is a finished stick or its image, which other systems may have written to since.
type Stick struct {
	// ID is the media's number.
	ID string
	// Files are all files on it, those added later too, with paths as in the manifest, but without hashes.
	Files []media.File
	// SectorSize is the sector size it was made for, in bytes.
	SectorSize int
	// Contents is its volume.
	Contents *fat.Contents

	stick stick
}

// Open reads the partition table and the tree of a stick of size bytes. What is none gives ErrNoStick.
func Open(r io.ReaderAt, size int64) (*Stick, error) {
	for _, sector := range []int64{512, 4096} {
		table := readTable(r, size, sector)
		if table == nil {
			table = readMBR(r)
		}
		for _, p := range table.Partitions {
			if s, err := open(r, size, sector, p); s != nil || err != nil {
				return s, err
			}
		}
	}
	return nil, ErrNoStick
}

// open reads a partition; it returns nil for one that is not ours.
func open(r io.ReaderAt, size, sector int64, p *gpt.Partition) (*Stick, error) {
	// The boot code knows where the partition begins, so one of ours begins nowhere else.
	if int64(p.Start)*sector != partitionOffset || p.End < p.Start || p.Type != gpt.MicrosoftBasicData {
		return nil, nil
	}
	length := size - partitionOffset
	if p.End < uint64(size/sector) {
		length = int64(p.End-p.Start+1) * sector
	}
	c, err := fat.Read(io.NewSectionReader(r, partitionOffset, length), length)
	if err != nil && p.Name != media.Label {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stick: %w", err)
	}
	if c.Kind != fat.FAT32 || !slices.ContainsFunc(c.Entries, func(e fat.Entry) bool { return "/"+e.Path == media.PathManifest }) {
		return nil, nil
	}
	s := &Stick{SectorSize: int(sector), Contents: c}
	for _, e := range c.Entries {
		if e.Dir {
			continue
		}
		f := media.File{Path: "/" + e.Path, Size: e.Size, ModTime: e.ModTime, Open: e.Open}
		s.Files = append(s.Files, f)
		if f.Path == media.PathMediaID && f.Size < 100 {
			if s.ID, err = readID(f); err != nil {
				return nil, err
			}
		}
	}
	mbr := make([]byte, mbrCode)
	if _, err := r.ReadAt(mbr, 0); err != nil {
		return nil, fmt.Errorf("stick: boot sector: %w", err)
	}
	s.stick = stick{id: s.ID, label: c.Label, volumeID: c.VolumeID, time: c.Time, entries: c.Entries, mbr: mbr, core: trimCore(c.BootData)}
	has := func(path string) bool {
		return slices.ContainsFunc(c.Entries, func(e fat.Entry) bool { return strings.EqualFold("/"+e.Path, path) })
	}
	s.stick.windowsPE = has(media.PathWIM) // no other stick of ours has that
	s.stick.uefiOnly = s.stick.windowsPE && !has(media.PathGrubConfig)
	return s, nil
}

func readID(f media.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", fmt.Errorf("stick: file %s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	b, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("stick: file %s: %w", f.Path, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Layout is the same stick on a device of so many bytes, with sectors of 512 bytes: the partition ends where the
// device does.
func (s *Stick) Layout(deviceSize int64) (*Layout, error) { return s.Fit(Device{Size: deviceSize}) }

// Fit is Layout for a device of any kind.
func (s *Stick) Fit(d Device) (*Layout, error) {
	if s.ID == "" {
		return nil, fmt.Errorf("stick without %s: build it anew", media.PathMediaID)
	}
	return s.stick.layout(d)
}
