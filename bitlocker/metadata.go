package bitlocker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// Metadata is what a volume tells without a key. It holds no secret but a
// clear key that Windows itself left on the volume, and never prints that.
type Metadata struct {
	VolumeID       GUID        `json:"volume_id"`
	Description    string      `json:"description"` // as Windows wrote it: "COMPUTER C: 10/21/2021"
	ComputerName   string      `json:"computer_name"`
	Created        time.Time   `json:"created"`
	Method         Method      `json:"method"`
	State          State       `json:"state"`
	EncryptedSize  int64       `json:"encrypted_size"` // bytes from the start that are encrypted, see State
	SectorSize     int         `json:"sector_size"`
	VolumeSize     int64       `json:"volume_size"`
	ToGo           bool        `json:"to_go"`            // BitLocker To Go
	EncryptOnWrite bool        `json:"encrypt_on_write"` // conversion is tracked by bitmaps
	Vista          bool        `json:"vista"`            // the layout of Windows Vista
	Protectors     []Protector `json:"protectors"`
	Block          int         `json:"block"` // which of the three copies was used: 1 to 3

	// Problems are what was wrong with the other copies, and whatever else a
	// person should know before trusting the volume.
	Problems []string `json:"problems,omitempty"`
	// Skipped are metadata entries of kinds that are not needed to open it.
	Skipped []string `json:"skipped,omitempty"`

	block      *block
	vista      *vista
	copySize   int64 // of a metadata copy
	fvek       *sealed
	fvekErr    error
	headerOff  int64
	headerSize int64
	reserved   []extent // where BitLocker keeps its own data, sorted
	plain      []extent // where the disk holds clear bytes, sorted
	boots      []extent // Vista's first sector and its copy, sorted
	untrusted  error    // why the volume may be shown but not opened
	readOnly   error    // why it must not be written to
}

// ReadMetadata reads the metadata of a volume that r starts with. size is the
// volume's size in bytes, or -1 where it is not known.
//
// The first of the three copies that is valid is used; Problems tells what is
// wrong with the others. If none is, the error wraps [ErrNoValidMetadata], and
// where a copy is whole but for its checksum the Metadata is returned as well,
// to be shown to a person; it unlocks nothing.
func ReadMetadata(r io.ReaderAt, size int64) (*Metadata, error) {
	first := make([]byte, fve.BootSectorSize)
	if n, err := r.ReadAt(first, 0); n < len(first) {
		if err == io.EOF {
			return nil, fmt.Errorf("volume of %d bytes: %w", n, ErrNotBitLocker)
		}
		return nil, fmt.Errorf("read the first sector of the volume: %w", err)
	}
	boot, err := parseBootSector(first)
	if err != nil {
		return nil, err
	}
	m := &Metadata{
		SectorSize: boot.sectorSize, ToGo: boot.toGo, EncryptOnWrite: boot.eow, Vista: boot.vista != nil,
		vista: boot.vista, copySize: boot.copySize(),
	}
	if m.Vista {
		boot.otherCopies(r)
	}
	m.chooseBlock(r, boot)
	if m.block == nil {
		return nil, m.untrusted
	}
	m.parseHeaders(size)
	m.parseEntries()
	if err := m.findPlaces(r, boot); err != nil {
		return nil, err
	}
	return m, m.untrusted
}

// chooseBlock reads the three copies and keeps the first valid one.
func (m *Metadata) chooseBlock(r io.ReaderAt, boot *bootSector) {
	for i, off := range boot.metadata {
		k, err := readBlock(r, i, off, boot)
		if err != nil {
			m.Problems = append(m.Problems, fmt.Sprintf("metadata copy %d at offset %d: %v", i+1, off, err))
			if errors.Is(err, errNoChecksum) && m.block == nil {
				m.block, m.Block, m.untrusted = k, i+1, err
			}
			continue
		}
		if m.block == nil || m.untrusted != nil {
			m.block, m.Block, m.untrusted = k, i+1, nil
		} else if string(k.raw) != string(m.block.raw) {
			m.Problems = append(m.Problems, fmt.Sprintf("metadata copy %d at offset %d: valid, but differs from copy %d, which is used", i+1, off, m.Block))
		}
	}
	if m.block == nil || m.untrusted != nil {
		m.untrusted = fmt.Errorf("%w: all three are damaged (%s)", ErrNoValidMetadata, strings.Join(m.Problems, "; "))
	}
}

func readBlock(r io.ReaderAt, i int, off int64, boot *bootSector) (*block, error) {
	sectorSize := boot.sectorSize
	if off < int64(sectorSize) || off > 1<<60 || off%int64(sectorSize) != 0 {
		return nil, errors.New("first sector gives an offset that cannot be")
	}
	b := make([]byte, boot.copySize())
	n, err := r.ReadAt(b, off)
	if n < len(b) && err != nil && err != io.EOF {
		return nil, fmt.Errorf("read at offset %d: %w", off+int64(n), err)
	}
	return checkBlock(b[:n], i, off, boot)
}

// parseHeaders takes the fixed fields of the chosen block.
func (m *Metadata) parseHeaders(size int64) {
	h, d := &m.block.head, &m.block.dataset
	m.VolumeID = d.ID
	m.Created = fve.Time(d.Created)
	m.Method = Method(d.Method)
	m.State = stateOf(h.State, h.NextState)
	m.EncryptedSize = int64(h.EncryptedSize)
	if m.Vista {
		m.vista.mirror = h.HeaderOffset
	} else {
		m.headerOff = int64(h.HeaderOffset)
		m.headerSize = int64(h.HeaderSectors) * int64(m.SectorSize)
	}
	if m.block.checksumOnly {
		m.Problems = append(m.Problems, "metadata has a checksum, but no hash under the volume's key: a change made on purpose would not be noticed")
	}
	m.VolumeSize = max(size, 0)
	if m.State == StateUnknown {
		m.Problems = append(m.Problems, fmt.Sprintf("conversion state %d, next %d is unknown", h.State, h.NextState))
	}
	// While converting, the field says how far that has come; otherwise it is
	// the size of the volume. An image may not reach that; a volume that was
	// extended goes beyond it, and is encrypted there too.
	least := m.EncryptedSize
	if m.Vista {
		least = max(least, m.vista.lastSector+int64(m.SectorSize))
		if m.State == StateEncrypted {
			m.EncryptedSize = least // Vista leaves the field empty
		}
	}
	for _, off := range h.Metadata {
		least = max(least, int64(off)+m.copySize)
	}
	if size >= 0 && size < least {
		m.Problems = append(m.Problems, fmt.Sprintf("image is truncated: it ends at offset %d, the volume at %d or later", size, least))
	}
	m.VolumeSize = max(m.VolumeSize, least)
}

// parseEntries goes through the metadata entries of the chosen block.
func (m *Metadata) parseEntries() {
	off := fve.BlockHeaderSize + int(m.block.dataset.HeaderSize)
	list, err := parseEntries(m.block.entries, off)
	if err != nil {
		m.Problems = append(m.Problems, err.Error())
	}
	m.fvekErr = errors.New("metadata has no volume key")
	for _, e := range list {
		switch {
		case e.Type == fve.TypeVMK && e.Value == fve.ValueVMK:
			p, skipped, err := parseProtector(e)
			m.Skipped = append(m.Skipped, skipped...)
			if err != nil {
				m.Problems = append(m.Problems, err.Error())
				continue
			}
			m.Protectors = append(m.Protectors, p)
		case e.Type == fve.TypeFVEK && e.Value == fve.ValueEncryptedKey && m.fvek == nil:
			m.fvek, m.fvekErr = e.sealed()
		case e.Type == fve.TypeDescription && e.Value == fve.ValueString && m.Description == "":
			m.Description = e.text()
			// "COMPUTER [volume label or letter] date"; the name has no blank.
			m.ComputerName, _, _ = strings.Cut(m.Description, " ")
		case e.Type == fve.TypeVolumeHeader && e.Value == fve.ValueOffsetSize:
			m.volumeHeader(e)
		default:
			m.Skipped = append(m.Skipped, e.String())
		}
	}
}

// volumeHeader compares the entry that tells where the volume header went
// (BDE, "FVE Volume header block") with the block header, which tells it too.
func (m *Metadata) volumeHeader(e entry) {
	if len(e.data) < fve.OffsetSizeSize {
		m.Problems = append(m.Problems, fmt.Sprintf("%s is too short for the place of the volume header", e))
		return
	}
	off, size := binary.LittleEndian.Uint64(e.data), binary.LittleEndian.Uint64(e.data[8:])
	// The size tells a sector's size, under the metadata's hash, which the
	// first sector is not.
	if n := uint64(m.block.head.HeaderSectors); n > 0 && size%n == 0 && size/n != uint64(m.SectorSize) && isSectorSize(size/n) {
		m.Problems = append(m.Problems, fmt.Sprintf("first sector gives sectors of %d bytes, the metadata of %d, which are used", m.SectorSize, size/n))
		m.SectorSize, m.headerSize = int(size/n), int64(size)
	}
	if off != uint64(m.headerOff) || size != uint64(m.headerSize) {
		m.Problems = append(m.Problems, fmt.Sprintf("volume header is at offset %d with %d bytes or at offset %d with %d bytes; the latter is used", off, size, m.headerOff, m.headerSize))
	}
}

// protectorsOf lists the protectors of a kind; id, if not nil, names one.
func (m *Metadata) protectorsOf(kind ProtectorKind, id *GUID) []*Protector {
	var list []*Protector
	for i := range m.Protectors {
		if p := &m.Protectors[i]; p.Kind == kind && (id == nil || *id == p.ID) {
			list = append(list, p)
		}
	}
	return list
}
