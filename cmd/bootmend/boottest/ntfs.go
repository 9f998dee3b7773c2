package boottest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// What no tool at hand does to an NTFS volume is done here, on file records of the master file table (layout:
// linux/fs/ntfs3/ntfs.h, MFT_REC and ATTRIB).
const (
	recordVolume     = 3 // $Volume
	recordBitmap     = 6 // $Bitmap
	attrVolumeInfo   = 0x70
	attrData         = 0x80
	attrEnd          = 0xFFFFFFFF
	volumeInfoFlags  = 10
	volumeFlagDirty  = 1
	fixupFreeSection = 510 // the last two bytes of a sector are not what they seem
)

// NTFSImage is a volume image opened for patching.
type NTFSImage struct {
	*os.File
	cluster     int64 // bytes
	record      int64 // bytes of a file record
	mft, mirror int64 // offsets of the table and of the copy of its first four records
}

func openNTFS(path string) (*NTFSImage, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	boot := make([]byte, 512)
	if _, err := file.ReadAt(boot, 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	v := &NTFSImage{File: file, cluster: int64(binary.LittleEndian.Uint16(boot[11:])) * int64(boot[13])}
	v.mft = int64(binary.LittleEndian.Uint64(boot[48:])) * v.cluster
	v.mirror = int64(binary.LittleEndian.Uint64(boot[56:])) * v.cluster
	// As mkntfs makes it: 1 KiB, or a whole sector where that is larger.
	v.record = max(1024, int64(binary.LittleEndian.Uint16(boot[11:])))
	return v, nil
}

// attribute finds an attribute of a file record and gives its bytes with their place in the image.
func (v *NTFSImage) attribute(record int64, kind uint32) ([]byte, int64, error) {
	base := v.mft + record*v.record
	data := make([]byte, v.record)
	if _, err := v.ReadAt(data, base); err != nil {
		return nil, 0, err
	}
	if string(data[:4]) != "FILE" {
		return nil, 0, fmt.Errorf("%s: no file record at offset %d", v.Name(), base)
	}
	for at := int(binary.LittleEndian.Uint16(data[20:])); at+24 < fixupFreeSection; {
		found, length := binary.LittleEndian.Uint32(data[at:]), int(binary.LittleEndian.Uint32(data[at+4:]))
		if found == attrEnd || length < 24 || at+length > fixupFreeSection {
			break
		}
		if found == kind {
			return data[at : at+length], base + int64(at), nil
		}
		at += length
	}
	return nil, 0, fmt.Errorf("%s: file record %d has no attribute %#x", v.Name(), record, kind)
}

// markDirty sets the flag with which Windows has a volume checked at its next start.
func (v *NTFSImage) markDirty() error {
	attr, at, err := v.attribute(recordVolume, attrVolumeInfo)
	if err != nil {
		return err
	}
	flags := int64(binary.LittleEndian.Uint16(attr[20:])) + volumeInfoFlags
	dirty := []byte{attr[flags] | volumeFlagDirty}
	_, err = v.WriteAt(dirty, at+flags)
	if err == nil {
		_, err = v.WriteAt(dirty, at+flags-v.mft+v.mirror)
	}
	return err
}

// isDirty tells whether Windows will check a volume at its next start.
func isDirty(path string) (bool, error) {
	v, err := openNTFS(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = v.Close() }()
	attr, _, err := v.attribute(recordVolume, attrVolumeInfo)
	if err != nil {
		return false, err
	}
	return attr[int64(binary.LittleEndian.Uint16(attr[20:]))+volumeInfoFlags]&volumeFlagDirty != 0, nil
}

// reserve finds room for BitLocker's three copies of its metadata and the volume's moved header, and marks it as
// used, as Windows does with hidden files.
func (v *NTFSImage) reserve(size int64) (places [3]int64, err error) {
	attr, _, err := v.attribute(recordBitmap, attrData)
	if err != nil {
		return places, err
	}
	// $Bitmap is one run: its length and its cluster, in as many bytes as the first byte's halves say.
	run := attr[binary.LittleEndian.Uint16(attr[32:]):]
	at := littleEndian(run[1+run[0]&15:][:run[0]>>4]) * v.cluster
	bitmap := make([]byte, size/v.cluster/8)
	if _, err := v.ReadAt(bitmap, at); err != nil {
		return places, err
	}
	const room = 128 << 10 // metadata of 64 KiB and, behind the first, a header of 8 KiB
	bytes := int(room / v.cluster / 8)
	for i := range places {
		// Spread over the volume as Windows does.
		for at := len(bitmap) * (i + 1) / 4; ; at++ {
			if at+bytes > len(bitmap) {
				return places, fmt.Errorf("%s: no room for BitLocker's metadata", v.Name())
			}
			if allZero(bitmap[at : at+bytes]) {
				for j := range bytes {
					bitmap[at+j] = 0xFF
				}
				places[i] = int64(at) * 8 * v.cluster
				break
			}
		}
	}
	_, err = v.WriteAt(bitmap, at)
	return places, err
}

func littleEndian(b []byte) (n int64) {
	for i, c := range b {
		n |= int64(c) << (8 * i)
	}
	return n
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// prepareVolume gives a new Windows volume what only Windows does to one.
func prepareVolume(path string, o *DiskOptions) (err error) {
	v, err := openNTFS(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if o.Dirty {
		if err := v.markDirty(); err != nil {
			return err
		}
	}
	if !o.Plain && o.BitLocker.Metadata == (fvetest.Options{}).Metadata {
		o.BitLocker.Metadata, err = v.reserve(windowsSize)
	}
	return err
}

// inUse tells whether a process still has the file open.
func inUse(path string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == path {
			return true
		}
	}
	return false
}
