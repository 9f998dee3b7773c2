package boottest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// markDirty sets the flag that Windows sets in $Volume when it wants the volume checked at the next start, which no
// tool at hand does. $Volume is the fourth record of the master file table; its $VOLUME_INFORMATION attribute (0x70)
// is resident and carries the flags at offset 10 (linux/fs/ntfs3/ntfs.h, VOLUME_INFO).
func markDirty(path string) error {
	volume, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(setDirty(volume), volume.Close())
}

func setDirty(volume *os.File) error {
	boot := make([]byte, 512)
	if _, err := volume.ReadAt(boot, 0); err != nil {
		return err
	}
	cluster := int64(binary.LittleEndian.Uint16(boot[11:])) * int64(boot[13])
	const recordSize = 1024
	offset := int64(binary.LittleEndian.Uint64(boot[48:]))*cluster + 3*recordSize
	record := make([]byte, recordSize)
	if _, err := volume.ReadAt(record, offset); err != nil {
		return err
	}
	if string(record[:4]) != "FILE" {
		return fmt.Errorf("no file record at offset %d of %s", offset, volume.Name())
	}
	for at := int(binary.LittleEndian.Uint16(record[20:])); at+24 < 510; {
		kind, length := binary.LittleEndian.Uint32(record[at:]), binary.LittleEndian.Uint32(record[at+4:])
		if kind == 0x70 {
			flags := at + int(binary.LittleEndian.Uint16(record[at+20:])) + 10
			// Inside the first sector but for its last two bytes, so the fix-up of the record need not change.
			_, err := volume.WriteAt([]byte{record[flags] | 1}, offset+int64(flags))
			return err
		}
		if kind == 0xFFFFFFFF || length == 0 {
			break
		}
		at += int(length)
	}
	return fmt.Errorf("no volume information in %s", volume.Name())
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
