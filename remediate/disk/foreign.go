package disk

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// Foreign is what another program keeps on a disk or partition.
type Foreign struct {
	// What completes "the disk is" or "the partition is".
	What string
	// Next is what a person can do, in one sentence.
	Next string
	// HandsOff is set where what looks like a volume may be one part of it only: nothing on it may be written to.
	HandsOff bool
}

// Signatures and where they lie. md, LVM2, LUKS: the kernel's drivers/md/md_p.h, libblkid's superblock probes.
// Intel and DDF RAID: mdadm's super-intel.c and super-ddf.c. Dynamic disks: linux/block/partitions/ldm.h. Encryption
// by other vendors: The Sleuth Kit's detect_encryption.c; TrueCrypt's and VeraCrypt's boot loaders name themselves in
// the first sector.
var (
	sigMD       = []byte{0xfc, 0x4e, 0x2b, 0xa9}
	sigIntel    = []byte("Intel Raid ISM Cfg Sig. ")
	sigDDF      = []byte{0xde, 0x11, 0xde, 0x11}
	sigLUKS     = []byte("LUKS\xba\xbe")
	sigLVM      = []byte("LABELONE")
	sigPrivHead = []byte("PRIVHEAD")
	sigSpace    = []byte("SPACEDB ")

	encryptors = []struct {
		name        string
		sig         string
		first, last int // offsets at which the signature may begin
	}{
		{"Symantec (PGP) Drive Encryption", "PGPGUARD", 3, 32},
		{"McAfee (SafeBoot) Drive Encryption", "SafeBoot", 0, 32},
		{"McAfee (SafeBoot) Drive Encryption", "Safeboot", 0, 32},
		{"Symantec (GuardianEdge) Endpoint Encryption", "PCGM", 0, 32},
		{"Check Point Full Disk Encryption", "Protect", 80, 100},
		{"Sophos SafeGuard", "SGM400", 110, 150},
		{"Sophos SafeGuard", "SGE400", 110, 150},
		{"WinMagic SecureDoc", "WMSD", 236, 256},
		{"VeraCrypt", "VeraCrypt Boot Loader", 0, 490},
		{"TrueCrypt", "TrueCrypt Boot Loader", 0, 490},
	}
)

// Partition types, of a GPT and of an MBR (Microsoft, "PARTITION_INFORMATION_GPT structure").
const (
	typeLDMMetadata = gpt.Type("5808C8AA-7E8F-42E0-85D2-E1E90434CFB3")
	typeLDMData     = gpt.Type("AF9B60A0-1431-4F62-BC68-3311714A69AD")
	typeSpaces      = gpt.Type("E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D")
	typeDynamic     = mbr.Type(0x42)
)

const ownDriver = "Writing to one disk of a set would damage the set: start Windows' own recovery environment, which has its driver; " +
	"or, if the disk is in no set any more, delete what is left of it in the firmware's RAID set-up."

var (
	foreignMD    = &Foreign{"part of a Linux software RAID (md)", "Assemble it on a Linux machine, mount the volume there and use \"bootmend repair\" if Windows is on it.", true}
	foreignIntel = &Foreign{"part of an Intel RAID (RST) set", ownDriver, true}
	foreignDDF   = &Foreign{"part of a RAID set (DDF)", ownDriver, true}
	foreignLUKS  = &Foreign{"encrypted by Linux (LUKS)", "Windows does not start from it.", false}
	foreignLVM   = &Foreign{"part of a Linux volume group (LVM)", "Windows does not start from it.", true}
	foreignLDM   = &Foreign{"a dynamic disk of Windows", "Its volumes may span or mirror disks, so they are left alone: attach all its disks to a Windows machine and " +
		"use \"bootmend repair\" with the drive letter there; or start Windows' own recovery environment.", true}
	foreignSpaces = &Foreign{"part of a Storage Spaces pool", "Only Windows reads a pool: attach all its disks to a Windows machine and use \"bootmend repair\" with the drive letter there; " +
		"or start Windows' own recovery environment.", false}
)

// FindForeign looks for what other programs keep on a disk or partition of the given size. It returns nil where there
// is nothing of the kind, and where it cannot be read.
func FindForeign(r io.ReaderAt, size int64) *Foreign {
	at := func(off int64, sig []byte) bool {
		b := make([]byte, len(sig))
		if off < 0 || off+int64(len(b)) > size {
			return false
		}
		_, err := r.ReadAt(b, off)
		return err == nil && bytes.Equal(b, sig)
	}
	switch {
	case at(size-2*512, sigIntel), at(size-2*4096, sigIntel):
		return foreignIntel
	case at(size-512, sigDDF), at(size-4096, sigDDF):
		return foreignDDF
	case isMD(r, size):
		return foreignMD
	case at(0, sigLUKS):
		return foreignLUKS
	case at(0, sigSpace):
		return foreignSpaces
	case at(0, sigLVM), at(512, sigLVM):
		return foreignLVM
	}
	if f := foreignTable(r, size); f != nil {
		return f
	}
	// Sector 6 of a dynamic disk with an MBR.
	if at(6*512, sigPrivHead) {
		return foreignLDM
	}
	return encrypted(r)
}

// isMD looks for md's superblock where its versions have it: 1.1 at the beginning, 1.2 at 4 KiB, 1.0 and 0.90 near the
// end, where the volume itself begins at the beginning and looks like any other.
func isMD(r io.ReaderAt, size int64) bool {
	const unit090 = 64 << 10
	for _, place := range []struct {
		off   int64
		major uint32
	}{
		{0, 1}, {4096, 1}, {(size/512 - 16) &^ 7 * 512, 1}, {size&^(unit090-1) - unit090, 0},
	} {
		b := make([]byte, 8)
		if place.off < 0 || place.off+int64(len(b)) > size {
			continue
		}
		if _, err := r.ReadAt(b, place.off); err == nil && bytes.Equal(b[:4], sigMD) && binary.LittleEndian.Uint32(b[4:]) == place.major {
			return true
		}
	}
	return false
}

// foreignTable knows dynamic disks and storage pools by the types of their partitions.
func foreignTable(r io.ReaderAt, size int64) *Foreign {
	f := &file{io.NewSectionReader(r, 0, size), size}
	for _, sector := range []int{512, 4096} {
		table, err := gpt.Read(f, sector, sector)
		if err != nil {
			continue
		}
		for _, p := range table.Partitions {
			switch p.Type {
			case typeLDMMetadata, typeLDMData:
				return foreignLDM
			case typeSpaces:
				return foreignSpaces
			}
		}
		return nil
	}
	table, err := mbr.Read(f, 512, 512)
	if err != nil {
		return nil
	}
	for _, p := range table.Partitions {
		if p.Type == typeDynamic {
			return foreignLDM
		}
	}
	return nil
}

// encrypted looks for the boot code of other vendors' encryption. It may be left from a time when the disk was
// encrypted, so a volume that can be read is not left alone because of it.
func encrypted(r io.ReaderAt) *Foreign {
	sector := make([]byte, 512)
	if _, err := r.ReadAt(sector, 0); err != nil {
		return nil
	}
	for _, e := range encryptors {
		if bytes.Contains(sector[e.first:min(e.last+len(e.sig), len(sector))], []byte(e.sig)) {
			return &Foreign{What: "encrypted with " + e.name,
				Next: "bootmend cannot open it: unlock or decrypt it with that product's own recovery medium, or quarantine the file in Safe Mode."}
		}
	}
	return nil
}
