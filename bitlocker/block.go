package bitlocker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// block is one copy of the metadata whose bytes have been checked.
type block struct {
	head    fve.BlockHeader
	dataset fve.DatasetHeader
	raw     []byte // the block, without its validation
	entries []byte // behind the two headers
	hash    *sealed
	// hashErr tells why hash is nil, but for checksumOnly.
	hashErr error
	// checksumOnly is a block that has no hash.
	checksumOnly bool
}

// errNoChecksum marks a block that is whole, but whose checksum could not be
// read: enough to show, not to trust.
var errNoChecksum = errors.New("checksum cannot be read")

// checkBlock validates copy i of the metadata before anything uses a field of
// it: signature, version, sizes, that the copy lies where it says, and its
// CRC-32. b is what could be read of the copy at offset off.
//
// With errNoChecksum the block is returned as well.
func checkBlock(b []byte, i int, off int64, boot *bootSector) (*block, error) {
	const headers = fve.BlockHeaderSize + fve.DatasetHeaderSize
	if len(b) < headers {
		return nil, fmt.Errorf("volume ends at offset %d", off+int64(len(b)))
	}
	k := &block{}
	if _, err := binary.Decode(b, binary.LittleEndian, &k.head); err != nil {
		return nil, err
	}
	if _, err := binary.Decode(b[fve.BlockHeaderSize:], binary.LittleEndian, &k.dataset); err != nil {
		return nil, err
	}
	if string(k.head.Signature[:]) != fve.Signature {
		return nil, errors.New("signature -FVE-FS- is missing")
	}
	version, size, room := uint16(fve.BlockVersion), int(k.head.Size16)*16, int(boot.copySize())
	if boot.vista != nil {
		version, size = fve.VistaBlockVersion, int(k.head.Size16)
	}
	if k.head.Version != version {
		return nil, fmt.Errorf("version %d instead of %d", k.head.Version, version)
	}
	if size < headers || size+fve.ValidationHeaderSize > room {
		return nil, fmt.Errorf("size %d, want %d to %d", size, headers, room-fve.ValidationHeaderSize)
	}
	if size > len(b) {
		return nil, fmt.Errorf("volume ends at offset %d, inside the block", off+int64(len(b)))
	}
	if k.head.Metadata[i] != uint64(off) {
		return nil, fmt.Errorf("block says that it lies at offset %d", k.head.Metadata[i])
	}
	d := k.dataset
	if d.Version != fve.DatasetVersion || d.HeaderSize < fve.DatasetHeaderSize || d.HeaderSize > d.Size || int64(d.Size) > int64(size-fve.BlockHeaderSize) {
		return nil, fmt.Errorf("metadata header has version %d, header size %d, size %d in a block of %d bytes", d.Version, d.HeaderSize, d.Size, size)
	}
	if err := checkPlaces(&k.head, boot); err != nil {
		return nil, err
	}
	k.raw = b[:size:size]
	k.entries = k.raw[fve.BlockHeaderSize+int(d.HeaderSize) : fve.BlockHeaderSize+int(d.Size)]

	var v fve.ValidationHeader
	if len(b) < size+fve.ValidationHeaderSize {
		return k, fmt.Errorf("%w: volume ends at offset %d", errNoChecksum, off+int64(len(b)))
	}
	if _, err := binary.Decode(b[size:], binary.LittleEndian, &v); err != nil {
		return nil, err
	}
	if v.Size < fve.ValidationHeaderSize || v.Version > 2 {
		return nil, fmt.Errorf("validation has size %d, version %d", v.Size, v.Version)
	}
	if sum := crc32.ChecksumIEEE(k.raw); sum != v.CRC32 {
		return nil, fmt.Errorf("checksum is %08x instead of %08x", sum, v.CRC32)
	}
	return k, k.parseHash(b[size+fve.ValidationHeaderSize : min(len(b), size+int(v.Size))])
}

// checkPlaces refuses blocks that put BitLocker's own data where it cannot be.
func checkPlaces(h *fve.BlockHeader, boot *bootSector) error {
	const limit = 1 << 60 // far beyond any disk, and sums cannot overflow
	sectorSize := boot.sectorSize
	header := int64(h.HeaderSectors) * int64(sectorSize)
	if boot.vista != nil {
		header = fve.VistaClear
	} else if h.HeaderOffset > limit || h.HeaderOffset%uint64(sectorSize) != 0 || header == 0 || int64(h.HeaderOffset) < header {
		return fmt.Errorf("volume header of %d sectors at offset %d", h.HeaderSectors, h.HeaderOffset)
	}
	if h.EncryptedSize > limit || header > limit {
		return fmt.Errorf("encrypted size %d or volume header of %d sectors is too large", h.EncryptedSize, h.HeaderSectors)
	}
	for _, off := range h.Metadata {
		if off > limit || off%uint64(sectorSize) != 0 || int64(off) < header {
			return fmt.Errorf("metadata at offset %d", off)
		}
	}
	return nil
}

// parseHash reads the entry behind the checksum. It holds the SHA-256 of the
// block, sealed with the volume master key, or on a decrypted volume bare.
// Where there is none, the checksum is all there is.
func (k *block) parseHash(b []byte) error {
	list, err := parseEntries(b, len(k.raw)+fve.ValidationHeaderSize)
	if err != nil && len(list) == 0 {
		k.hashErr = fmt.Errorf("metadata's hash: %w", err)
		return nil
	}
	if len(list) == 0 {
		k.checksumOnly = true
		return nil
	}
	switch list[0].Value {
	case fve.ValueEncryptedKey:
		k.hash, k.hashErr = list[0].sealed()
	case fve.ValueKey:
		_, hash, err := list[0].key()
		if err != nil {
			return err
		}
		if err := k.compareHash(hash); err != nil {
			return err
		}
		k.hashErr = fmt.Errorf("metadata of a volume without keys: %w", ErrUnsupported)
	default:
		k.hashErr = fmt.Errorf("%s cannot be used to check the metadata: %w", list[0], ErrUnsupported)
	}
	return nil
}

// verify checks the block against the hash that the volume master key opens:
// the checksum alone does not protect against a change made on purpose.
func (k *block) verify(vmk []byte) error {
	if k.hash == nil {
		return k.hashErr // nil where the checksum is all there is
	}
	kind, hash, err := k.hash.open(vmk)
	if err != nil {
		return fmt.Errorf("open the metadata's hash: %w", err)
	}
	defer clear(hash)
	if kind != fve.KeyHash {
		return fmt.Errorf("metadata's hash is of kind 0x%04x: %w", kind, ErrUnsupported)
	}
	return k.compareHash(hash)
}

func (k *block) compareHash(hash []byte) error {
	if sum := sha256.Sum256(k.raw); !bytes.Equal(sum[:], hash) {
		return errors.New("metadata does not match its SHA-256")
	}
	return nil
}
