package usb

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/bootmend/bootmend/image/fat"
)

const (
	sectorSize = 512
	mbrCode    = 440 // bytes of code in an MBR

	// coreOffset is where GRUB's core image lies on the device, in bytes.
	coreOffset = partitionOffset + fat.BootDataSector*sectorSize

	// The core image of the bundle begins with cdboot.img (2048 bytes), which is of no use here; then comes
	// diskboot.img (one sector), whose list of blocks is its last twelve bytes: first sector (64 bits), count,
	// segment (GRUB's diskboot.S). Then startup_raw.S, which holds at 0x18 a partition, of whose three bytes the
	// last is that of an MBR or GPT, counted from 0, and the drive, which it fills in itself (GRUB's
	// include/grub/offsets.h, GRUB_DECOMPRESSOR_I386_PC_BOOT_DEVICE).
	cdBoot    = 2048
	blockList = sectorSize - 12
	partition = sectorSize + 0x18

	// bootSector is where boot_hybrid.img holds the sector of diskboot.img (GRUB's boot.S, kernel_sector).
	bootSector = 0x1b0
)

// bootCode fits GRUB's boot sector and core image to where they lie on a stick.
func bootCode(hybrid, eltorito []byte) (mbr, core []byte, err error) {
	if len(hybrid) != sectorSize {
		return nil, nil, fmt.Errorf("boot sector code: %d bytes, expected %d", len(hybrid), sectorSize)
	}
	if len(eltorito) < cdBoot+2*sectorSize {
		return nil, nil, fmt.Errorf("BIOS boot image of GRUB: %d bytes are too few", len(eltorito))
	}
	core = bytes.Clone(eltorito[cdBoot:])
	core = append(core, make([]byte, -len(core)&(sectorSize-1))...)
	if !bytes.Equal(core[partition:partition+4], []byte{0xff, 0xff, 0xff, 0}) {
		return nil, nil, fmt.Errorf("BIOS boot image of GRUB: %x at byte %#x, expected no partition: make the bundle again", core[partition:partition+4], cdBoot+partition)
	}
	core[partition+2] = 0
	le := binary.LittleEndian
	first := uint64(coreOffset / sectorSize)
	le.PutUint64(core[blockList:], first+1)
	if count := le.Uint16(core[blockList+8:]); int(count) > len(core)/sectorSize {
		return nil, nil, fmt.Errorf("BIOS boot image of GRUB: %d sectors listed, %d there: make the bundle again", count, len(core)/sectorSize)
	}
	mbr = bytes.Clone(hybrid[:mbrCode])
	le.PutUint64(mbr[bootSector:], first)
	return mbr, trimCore(core), nil
}

// trimCore leaves out sectors of zeros at the end, which on media can't be told from those behind it.
func trimCore(core []byte) []byte {
	n := len(bytes.TrimRight(core, "\x00"))
	return append(bytes.Clone(core[:n]), make([]byte, -n&(sectorSize-1))...)
}
