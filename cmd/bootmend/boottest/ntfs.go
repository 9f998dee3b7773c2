package boottest

import (
	"bytes"
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
	recordMFT        = 0 // $MFT
	recordLogFile    = 2 // $LogFile
	recordVolume     = 3 // $Volume
	recordBitmap     = 6 // $Bitmap
	attrVolumeInfo   = 0x70
	attrData         = 0x80
	attrBitmap       = 0xB0
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

func openNTFS(path string) (*NTFSImage, error) { return openNTFSAt(path, 0) }

// openNTFSAt reads the boot sector of a volume that begins at start; further offsets are the volume's.
func openNTFSAt(path string, start int64) (*NTFSImage, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	boot := make([]byte, 512)
	if _, err := file.ReadAt(boot, start); err != nil {
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
	const room = 128 << 10 // metadata of 64 KiB and, behind the first, a header of 8 KiB
	for i := range places {
		// Spread over the volume as Windows does.
		if places[i], err = v.allocate(size, room, size*int64(i+1)/4); err != nil {
			return places, err
		}
	}
	return places, nil
}

// allocate marks room clusters of a volume of size bytes as used, from the offset on at the earliest. It works in steps of
// eight clusters.
func (v *NTFSImage) allocate(size, room, from int64) (int64, error) {
	at, _, err := v.firstRun(recordBitmap, attrData)
	if err != nil {
		return 0, err
	}
	bitmap := make([]byte, size/v.cluster/8)
	if _, err := v.ReadAt(bitmap, at); err != nil {
		return 0, err
	}
	bytes := int(room / v.cluster / 8)
	for i := int(from / v.cluster / 8); i+bytes <= len(bitmap); i++ {
		if !allZero(bitmap[i : i+bytes]) {
			continue
		}
		for j := range bytes {
			bitmap[i+j] = 0xFF
		}
		_, err = v.WriteAt(bitmap, at)
		return int64(i) * 8 * v.cluster, err
	}
	return 0, fmt.Errorf("%s: no room for %d bytes", v.Name(), room)
}

// firstRun is the place and the length in bytes of an attribute as mkntfs makes it, which is one run: its length and its cluster, in as
// many bytes as the halves of the first byte say.
func (v *NTFSImage) firstRun(record int64, kind uint32) (at, length int64, err error) {
	attr, _, err := v.attribute(record, kind)
	if err != nil {
		return 0, 0, err
	}
	run := attr[binary.LittleEndian.Uint16(attr[32:]):]
	n := run[0] & 15
	return littleEndian(run[1+n:][:run[0]>>4]) * v.cluster, littleEndian(run[1:][:n]) * v.cluster, nil
}

// useRecords marks all file records as used, those too that a file system keeps back to make the table longer: a new one
// needs a cluster then.
func (v *NTFSImage) useRecords() error {
	table, _, err := v.attribute(recordMFT, attrData)
	if err != nil {
		return err
	}
	at, length, err := v.firstRun(recordMFT, attrBitmap)
	if err != nil {
		return err
	}
	records := int64(binary.LittleEndian.Uint64(table[40:])) / v.record // in the clusters that it has
	bits := make([]byte, (records+7)/8)
	if int64(len(bits)) > length {
		return fmt.Errorf("%s: the bitmap of $MFT is in pieces", v.Name())
	}
	if _, err := v.ReadAt(bits, at); err != nil {
		return err
	}
	for n := range records {
		bits[n/8] |= 1 << (n % 8)
	}
	_, err = v.WriteAt(bits, at)
	return err
}

// giveLog gives a volume of the given size another journal, which begins as log says and is long bytes long. The room of
// the old one stays used.
func (v *NTFSImage) giveLog(volume int64, log []byte, long int64) error {
	place, err := v.allocate(volume, long, volume/2)
	if err != nil {
		return err
	}
	if _, err := v.WriteAt(append(log[:len(log):len(log)], bytes.Repeat([]byte{0xFF}, int(long)-len(log))...), place); err != nil {
		return err
	}
	attr, at, err := v.attribute(recordLogFile, attrData)
	if err != nil {
		return err
	}
	clusters := long / v.cluster
	binary.LittleEndian.PutUint64(attr[24:], uint64(clusters-1))
	for _, field := range []int{40, 48, 56} { // allocated, real and valid size
		binary.LittleEndian.PutUint64(attr[field:], uint64(long))
	}
	run := attr[binary.LittleEndian.Uint16(attr[32:]):]
	run[0], run[5] = 0x22, 0
	binary.LittleEndian.PutUint16(run[1:], uint16(clusters))
	binary.LittleEndian.PutUint16(run[3:], uint16(place/v.cluster))
	for _, to := range []int64{at, at - v.mft + v.mirror} {
		if _, err := v.WriteAt(attr, to); err != nil {
			return err
		}
	}
	return nil
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

// recordAt is the place of a file record on a disk.
func recordAt(d *WindowsDisk, record int64) (int64, error) {
	v, err := openNTFSAt(d.Path, d.Start)
	if err != nil {
		return 0, err
	}
	return d.Start + v.mft + record*v.record, v.Close()
}
