package boottest

import (
	"encoding/binary"
	"fmt"
	"os"
)

// DiskWrite is one entry of a write log: bytes that were sent to the disk, or a flush (no Data), after which all that
// was sent before it is on the disk whatever happens.
type DiskWrite struct {
	Flush bool
	FUA   bool // on the disk as soon as it is done
	Off   int64
	Data  []byte
}

// Layout of the log: linux/drivers/md/dm-log-writes.c; QEMU's blklogwrites driver writes the same.
const (
	logMagic       = 0x6a736677736872
	logFlush       = 1
	logFUA         = 2
	logDiscard     = 4
	logEntryHeader = 32
)

// ReadWriteLog reads the log of a disk whose machine has ended.
func ReadWriteLog(path string) ([]DiskWrite, error) {
	log, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(log) < 512 || binary.LittleEndian.Uint64(log) != logMagic {
		return nil, fmt.Errorf("%s: not a write log", path)
	}
	entries, sector := binary.LittleEndian.Uint64(log[16:]), int64(binary.LittleEndian.Uint32(log[24:]))
	var writes []DiskWrite
	at := sector
	for range entries {
		if at+logEntryHeader > int64(len(log)) {
			return nil, fmt.Errorf("%s: ends within entry %d", path, len(writes))
		}
		first, number := binary.LittleEndian.Uint64(log[at:]), int64(binary.LittleEndian.Uint64(log[at+8:]))
		flags := binary.LittleEndian.Uint64(log[at+16:])
		at += sector
		w := DiskWrite{Flush: flags&logFlush != 0, FUA: flags&logFUA != 0, Off: int64(first) * sector}
		if n := number * sector; n > 0 {
			if flags&logDiscard != 0 {
				return nil, fmt.Errorf("%s: entry %d discards, which no repair does", path, len(writes))
			}
			if at+n > int64(len(log)) {
				return nil, fmt.Errorf("%s: ends within entry %d", path, len(writes))
			}
			w.Data = log[at : at+n]
			at += n
		}
		writes = append(writes, w)
	}
	return writes, nil
}
