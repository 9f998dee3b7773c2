package fvetest

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
)

// Options say what kind of volume Format makes. The zero value is a volume of
// AES-XTS 128 with one recovery password.
type Options struct {
	Method     bitlocker.Method // MethodXTS128 if none
	SectorSize int              // 512 if zero

	// RecoveryPasswords makes a protector of each; an empty string stands for
	// one that Format chooses. With no protector of any kind asked for, Format
	// makes one.
	RecoveryPasswords []string
	Passwords         []string // user passwords
	ClearKey          bool     // as if Windows had suspended protection
	StartupKey        bool     // a .BEK file
	TPM               bool     // a protector that looks like a TPM's; it opens nothing

	Description string    // as Windows writes it: computer, label, date
	Created     time.Time // 2024-07-19 if zero
	ToGo        bool      // the first sector of BitLocker To Go
	// Vista makes the layout of Windows Vista: sectors of 512 bytes, and a clear volume that starts with the first
	// sector of an NTFS volume one sector smaller than size, and ends with a copy of it.
	Vista bool

	// HeaderSize is how much of the volume's start moves elsewhere; 8 KiB if zero, as with NTFS.
	HeaderSize int64
	// ChecksumOnly leaves out the hash of the metadata.
	ChecksumOnly bool
	// UnknownEntries puts entries of kinds that nobody has seen yet into the metadata and a protector.
	UnknownEntries bool
	// Decrypting and Paused say more of a volume with EncryptedSize.
	Decrypting, Paused bool

	// EncryptedSize, if not zero, leaves all behind it clear, as while Windows
	// is encrypting the volume.
	EncryptedSize int64
	// Metadata, if not all zero, places the three metadata copies.
	Metadata [3]int64
	// Used tells whether the clear file system uses any of n bytes at off, in
	// pieces of at most 64 KiB. Where it does not, Format writes nothing, as
	// Windows does when it encrypts used space only: there the volume then
	// reads as garbage. Nil encrypts everything.
	Used func(off, n int64) bool
	// Rand is where keys, salts and identifiers come from. Nil is a fixed
	// source: the same options give the same volume.
	Rand io.Reader
}

// DefaultDescription is that of a volume where Options has none.
const DefaultDescription = "BOOTMEND-PC C: 7/19/2024"

// Seed is an endless source of bytes for Options.Rand that depends on s alone.
func Seed(s string) io.Reader {
	return rand.NewChaCha8(sha256.Sum256([]byte(s)))
}

func (o Options) withDefaults() Options {
	if o.Method == bitlocker.MethodNone {
		o.Method = bitlocker.MethodXTS128
	}
	if o.SectorSize == 0 {
		o.SectorSize = 512
	}
	if len(o.RecoveryPasswords)+len(o.Passwords) == 0 && !o.ClearKey && !o.StartupKey && !o.TPM {
		o.RecoveryPasswords = []string{""}
	}
	if o.Description == "" {
		o.Description = DefaultDescription
	}
	if o.Created.IsZero() {
		o.Created = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	}
	if o.HeaderSize == 0 && !o.Vista {
		o.HeaderSize = 8 << 10
	}
	if o.Rand == nil {
		o.Rand = Seed("fvetest")
	}
	return o
}

// Result tells how to open the volume.
type Result struct {
	VolumeID   bitlocker.GUID
	Recovery   []Recovery     // in the order of Options.RecoveryPasswords
	Passwords  []Password     // in the order of Options.Passwords
	ClearKey   bitlocker.GUID // zero if there is none, as the next ones
	TPM        bitlocker.GUID
	StartupKey bitlocker.GUID
	BEK        []byte   // the startup key file
	VMK        []byte   // the volume master key
	FVEK       []byte   // the volume key, as the metadata keep it
	Regions    []Region // as Layout gives them
}

// Recovery is a protector with a recovery password.
type Recovery struct {
	ID       bitlocker.GUID
	Password string
}

// Password is a protector with a user's password.
type Password struct {
	ID       bitlocker.GUID
	Password string
}
