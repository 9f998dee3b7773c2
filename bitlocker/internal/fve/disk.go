package fve

import "time"

// Signatures of the first sector and of a metadata block (BDE, "Volume header").
const (
	Signature     = "-FVE-FS-" // BITLK_SIGNATURE
	SignatureToGo = "MSWIN4.1" // BITLK_SIGNATURE_TOGO
)

// Fixed sizes and places.
const (
	BootSectorSize = 512

	GUIDOffset     = 0xA0  // BITLK_HEADER_METADATA_OFFSET
	GUIDOffsetToGo = 0x1A8 // BITLK_HEADER_METADATA_OFFSET_TOGO

	MetadataSize = 64 << 10 // reserved for each copy, BITLK_FVE_METADATA_SIZE
	Copies       = 3

	BlockVersion   = 2 // Windows 7 and later
	DatasetVersion = 1
)

// What is different on a volume of Windows Vista.
const (
	VistaBlockVersion = 1
	VistaMetadataSize = 16 << 10 // reserved for each copy, rounded up to clusters
	VistaTotalSectors = 0x28     // in the first sector: the file system's sectors, 8 bytes
	VistaLCN          = 0x38     // in the first sector: the cluster of the first metadata copy, 8 bytes
	VistaClear        = 8 << 10  // bytes at the start that are never encrypted

	SignatureNTFS = "NTFS    "
	OEMOffset     = 3
)

// Identifiers in the first sector, as their bytes lie on the disk.
var (
	// GUIDNormal is 4967D63B-2E29-4AD8-8399-F6A339E3D001.
	GUIDNormal = [16]byte{0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01}
	// GUIDEncryptOnWrite is 92A84D3B-DD80-4D0E-9E4E-B1E3284EAED8.
	GUIDEncryptOnWrite = [16]byte{0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8}
)

// Recognition follows the start of the first sector at GUIDOffset or
// GUIDOffsetToGo (BDE, "BitLocker Windows 7 and later" and "BitLocker To Go").
type Recognition struct {
	GUID     [16]byte       // 0
	Metadata [Copies]uint64 // 16, bytes from the start of the volume
	EOW      [2]uint64      // 40, only with GUIDEncryptOnWrite
}

// RecognitionSize is the size of Recognition without the EOW field, which is
// not there on a BitLocker To Go volume.
const RecognitionSize = 40

// BlockHeader starts each metadata block (BDE, "FVE metadata block header
// version 2"; first half of bitlk_fve_metadata).
type BlockHeader struct {
	Signature     [8]byte        // 0
	Size16        uint16         // 8, size of the block in units of 16 bytes (Vista: in bytes)
	Version       uint16         // 10
	State         uint16         // 12, curr_state
	NextState     uint16         // 14
	EncryptedSize uint64         // 16, bytes from the start that are encrypted
	ConvertSize   uint32         // 24, being converted behind EncryptedSize (state 2)
	HeaderSectors uint32         // 28, sectors of the relocated volume header
	Metadata      [Copies]uint64 // 32, where the three blocks are
	HeaderOffset  uint64         // 56, where the volume header went (Vista: the file system's own value at VistaLCN)
}

// BlockHeaderSize is the size of BlockHeader on the disk.
const BlockHeaderSize = 64

// Conversion states, in BlockHeader.State and NextState.
const (
	StateDecrypted = 1
	StateSwitching = 2 // a part behind EncryptedSize is in flux
	StatePaused    = 3
	StateEncrypted = 4 // BITLK_STATE_NORMAL
	StateSwitched  = 5 // conversion under way, nothing in flux
)

// DatasetHeader follows BlockHeader, and starts a .BEK file (BDE, "FVE
// metadata header (version 1)"; second half of bitlk_fve_metadata).
type DatasetHeader struct {
	Size       uint32   // 0, this header and all entries
	Version    uint32   // 4
	HeaderSize uint32   // 8
	SizeCopy   uint32   // 12
	ID         [16]byte // 16, identifier of the volume (of the key in a .BEK file)
	NextNonce  uint32   // 32
	Method     uint16   // 36
	Method2    uint16   // 38, the method again or 0
	Created    uint64   // 40, FILETIME
}

// DatasetHeaderSize is the size of DatasetHeader on the disk.
const DatasetHeaderSize = 48

// EntryHeader starts each metadata entry (BDE, "FVE metadata entry").
type EntryHeader struct {
	Size    uint16 // 0, with this header
	Type    uint16 // 2
	Value   uint16 // 4
	Version uint16 // 6
}

// EntryHeaderSize is the size of EntryHeader on the disk.
const EntryHeaderSize = 8

// Entry types (BDE, "FVE metadata entry types").
const (
	TypeProperty     = 0x0000
	TypeVMK          = 0x0002
	TypeFVEK         = 0x0003
	TypeStartupKey   = 0x0006
	TypeDescription  = 0x0007
	TypeAutoUnlock   = 0x000b
	TypeVolumeHeader = 0x000f
)

// Value types (BDE, "FVE metadata value types").
const (
	ValueKey          = 0x0001
	ValueString       = 0x0002
	ValueStretchKey   = 0x0003
	ValueUseKey       = 0x0004
	ValueEncryptedKey = 0x0005 // AES-CCM
	ValueTPMKey       = 0x0006
	ValueVMK          = 0x0008
	ValueExternalKey  = 0x0009
	ValueOffsetSize   = 0x000f
	ValueRecoveryTime = 0x0015
	ValueGUID         = 0x0017
	ValueHint         = 0x0018
)

// Key kinds inside a key value (BDE, "Encryption methods").
const (
	KeyStretchRecovery = 0x1000
	KeyStretchPassword = 0x1001
	KeyClear           = 0x2000
	KeyExternal        = 0x2002
	KeyVMK             = 0x2003
	KeyHash            = 0x2005 // SHA-256 of the block, in the validation
)

// Sizes of the fixed parts of values, without the entry's header.
const (
	KeyHeaderSize     = 4      // method, flags
	StretchHeaderSize = 4 + 16 // method, flags, salt
	SealedHeaderSize  = 12 + 16
	VMKHeaderSize     = 28
	ExternalSize      = 24
	OffsetSizeSize    = 16
)

// VMKHeader starts a volume master key entry (BDE, "FVE Volume Master Key").
type VMKHeader struct {
	ID         [16]byte // 0
	Modified   uint64   // 16, FILETIME
	Unknown    uint16   // 24
	Protection uint16   // 26
}

// Protection kinds in VMKHeader.Protection: the upper byte is a set of bits.
const (
	ProtectClear      = 0x0000
	ProtectTPM        = 0x0100
	ProtectExternal   = 0x0200
	ProtectPIN        = 0x0400
	ProtectRecovery   = 0x0800
	ProtectPublicKey  = 0x1000
	ProtectPassword   = 0x2000
	ProtectSID        = 0x4000
	ProtectionKindSet = 0xff00
)

// ValidationHeader follows a block right behind its Size16*16 bytes; an entry
// with the block's SHA-256, sealed with the volume master key, follows it
// (bitlk_fve_metadata_validation).
type ValidationHeader struct {
	Size    uint16 // 0, up to the end of the 64 KiB
	Version uint16 // 2
	CRC32   uint32 // 4, IEEE, of the block
}

// ValidationHeaderSize is the size of ValidationHeader on the disk.
const ValidationHeaderSize = 8

// EOWInfo describes a volume whose conversion is tracked by bitmaps
// ("encrypt on write", Windows 8 and later). The fields are known from
// dislocker's and dissect.fve's descriptions; BDE has only the signature.
type EOWInfo struct {
	Signature   [8]byte   // 0, "FVE-EOW\0"
	HeaderSize  uint16    // 8
	Size        uint16    // 10
	SectorSize  uint32    // 12
	Unknown1    uint32    // 16
	ChunkSize   uint32    // 20, bytes a bit stands for
	ConvLogSize uint32    // 24
	Unknown2    uint32    // 28
	Regions     uint32    // 32
	CRC32       uint32    // 36, of Size bytes with this field zero
	Offsets     [2]uint64 // 40, where the two copies of this structure are
}

// EOWInfoSize is the size of EOWInfo on the disk.
const EOWInfoSize = 56

// EOWSignature, EOWBitmapSignature and EOWRecordSignature start the
// structures of an encrypt-on-write volume (BDE, "Notes").
const (
	EOWSignature       = "FVE-EOW\x00"
	EOWBitmapSignature = "FVE-EOWBM\x00"
	EOWRecordSignature = "FVE-EOWBR\x00"
)

// EOWBitmap is the head of one region's bitmap.
type EOWBitmap struct {
	Signature     [10]byte  // 0
	HeaderSize    uint16    // 10
	Size          uint32    // 12
	Index         uint32    // 16
	RegionOffset  uint64    // 20
	RegionSize    uint64    // 28
	ConvLogOffset uint64    // 36
	RecordOffset  [2]uint32 // 44, from the start of this structure
	RecordSize    uint32    // 52
	CRC32         uint32    // 56, up to RecordOffset[0] with this field zero
}

// EOWBitmapSize is the size of EOWBitmap on the disk.
const EOWBitmapSize = 60

// EOWRecord is one of the two versions of a bitmap; the higher Sequence counts.
type EOWRecord struct {
	Signature  [10]byte // 0
	HeaderSize uint16   // 10
	Size       uint32   // 12
	Bits       uint32   // 16
	Sequence   uint64   // 20
	Flags      uint32   // 28
	CRC32      uint32   // 32, of Size bytes with this field zero
}

// EOWRecordSize is the size of EOWRecord on the disk.
const EOWRecordSize = 36

// filetimeEpoch is 1970-01-01 as a FILETIME: 100 ns steps since 1601.
const filetimeEpoch = 116444736000000000

// Time converts a FILETIME; zero stays the zero time.
func Time(filetime uint64) time.Time {
	if filetime == 0 || filetime > 1<<63-1 {
		return time.Time{}
	}
	d := int64(filetime) - filetimeEpoch
	return time.Unix(d/1e7, d%1e7*100).UTC()
}

// Filetime is the inverse of Time.
func Filetime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix()*1e7 + int64(t.Nanosecond())/100 + filetimeEpoch)
}
