// Package ntfsstate reads what an NTFS volume says of its own health: [Read] gives the mark with which Windows has a
// volume checked (the "dirty flag") and the state of its journal, the $LogFile. [SetDirty] sets the mark or takes it
// away. It works on the volume itself, which must not be mounted for writing then.
//
// Sources of the format: linux/fs/ntfs3/ntfs.h (boot sector, file records, attributes), libntfs-3g's logfile.h (restart
// pages), and samples of volumes that Windows made.
package ntfsstate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// State is what Read found.
type State struct {
	// Dirty is set while Windows, or we, ask for the volume to be checked at the next start of Windows.
	Dirty bool
	Log   Log
	// LogVersion is "1.1" or "2.0", empty where there is no journal to have one.
	LogVersion string
}

// Log is the state of a volume's journal.
type Log int

// The states of a journal.
const (
	// LogEmpty holds nothing: it was never used, or was reset.
	LogEmpty Log = iota
	// LogClean was closed by Windows in good order.
	LogClean
	// LogInUse was not closed: Windows crashed, is hibernated, or was switched off. There may be changes in it that
	// have not reached their place.
	LogInUse
	// LogDamaged cannot be read.
	LogDamaged
)

var logNames = [...]string{"empty", "closed in order", "not closed", "damaged"}

// String is for people.
func (l Log) String() string { return logNames[l] }

// ErrFormat means that the volume is not NTFS, or too damaged to tell.
var ErrFormat = errors.New("not a readable NTFS volume")

// File records with fixed numbers, and attribute types.
const (
	recordLogFile = 2
	recordVolume  = 3

	attrVolumeInformation = 0x70
	attrData              = 0x80
	attrEnd               = 0xFFFFFFFF

	dirtyFlag = 0x0001
)

// Limits on what a volume may claim.
const (
	maxRecord = 64 << 10
	maxRuns   = 4096
	fixupUnit = 512
)

// volume is the geometry of an NTFS volume.
type volume struct {
	r           io.ReaderAt
	cluster     int64
	record      int64
	mft, mirror int64 // in bytes
}

// open reads the boot sector.
func open(r io.ReaderAt) (*volume, error) {
	boot := make([]byte, 512)
	if _, err := r.ReadAt(boot, 0); err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	if !bytes.Equal(boot[3:11], []byte("NTFS    ")) {
		return nil, fmt.Errorf("%w: no NTFS boot sector", ErrFormat)
	}
	sector := int64(binary.LittleEndian.Uint16(boot[11:]))
	v := &volume{r: r, cluster: sector * power(boot[13])}
	v.record = power(boot[64])
	if int8(boot[64]) > 0 {
		v.record = int64(boot[64]) * v.cluster
	}
	first, copied := int64(binary.LittleEndian.Uint64(boot[48:])), int64(binary.LittleEndian.Uint64(boot[56:]))
	const maxCluster = 2 << 20
	if sector < 256 || sector > 4096 || v.cluster < sector || v.cluster > maxCluster || v.record < 1024 || v.record > maxRecord ||
		v.record%fixupUnit != 0 || first <= 0 || copied <= 0 || first > 1<<48 || copied > 1<<48 {
		return nil, fmt.Errorf("%w: boot sector with clusters of %d bytes and records of %d", ErrFormat, v.cluster, v.record)
	}
	v.mft, v.mirror = first*v.cluster, copied*v.cluster
	return v, nil
}

// power is a count in the boot sector: itself, or where it is negative a power of two.
func power(b byte) int64 {
	if int8(b) >= 0 {
		return int64(b)
	}
	if n := -int(int8(b)); n < 32 {
		return 1 << n
	}
	return 0
}

// attribute is part of a file record.
type attribute struct {
	data []byte
	at   int64 // offset in the record
}

// readRecord reads a file record and undoes its fixups: the last two bytes of each sector are kept elsewhere.
func (v *volume) readRecord(number int64) ([]byte, error) {
	record := make([]byte, v.record)
	if _, err := v.r.ReadAt(record, v.mft+number*v.record); err != nil {
		return nil, fmt.Errorf("file record %d: %w", number, err)
	}
	if string(record[:4]) != "FILE" {
		return nil, fmt.Errorf("%w: file record %d begins with %q", ErrFormat, number, record[:4])
	}
	if err := fixup(record); err != nil {
		return nil, fmt.Errorf("file record %d: %w", number, err)
	}
	return record, nil
}

// fixup checks that all sectors of a record or page are of one write, and puts their last bytes back.
func fixup(b []byte) error {
	at, count := int(binary.LittleEndian.Uint16(b[4:])), int(binary.LittleEndian.Uint16(b[6:]))
	if count < 1 || (count-1)*fixupUnit != len(b) || at+2*count > fixupUnit-2 || at < 8 {
		return fmt.Errorf("%w: fixups of %d sectors at %d", ErrFormat, count-1, at)
	}
	for i := 1; i < count; i++ {
		end := b[i*fixupUnit-2 : i*fixupUnit]
		if !bytes.Equal(end, b[at:at+2]) {
			return fmt.Errorf("%w: sector %d is of another write than the others", ErrFormat, i)
		}
		copy(end, b[at+2*i:])
	}
	return nil
}

// find returns the first attribute of a kind without a name.
func find(record []byte, kind uint32) (attribute, error) {
	for at := int64(binary.LittleEndian.Uint16(record[20:])); at+24 <= int64(len(record)); {
		found, length := binary.LittleEndian.Uint32(record[at:]), int64(binary.LittleEndian.Uint32(record[at+4:]))
		if found == attrEnd || length < 24 || at+length > int64(len(record)) {
			break
		}
		if found == kind && record[at+9] == 0 {
			return attribute{record[at : at+length], at}, nil
		}
		at += length
	}
	return attribute{}, fmt.Errorf("%w: no attribute %#x", ErrFormat, kind)
}

// flags finds the volume's flags: their value and place in the file record of $Volume.
func (v *volume) flags() (value uint16, at int64, err error) {
	record, err := v.readRecord(recordVolume)
	if err != nil {
		return 0, 0, fmt.Errorf("$Volume: %w", err)
	}
	info, err := find(record, attrVolumeInformation)
	if err != nil {
		return 0, 0, fmt.Errorf("$Volume: %w", err)
	}
	const flagsAt = 10
	value0 := int(binary.LittleEndian.Uint16(info.data[20:])) + flagsAt
	if info.data[8] != 0 || value0+2 > len(info.data) {
		return 0, 0, fmt.Errorf("%w: $Volume without its flags", ErrFormat)
	}
	at = info.at + int64(value0)
	if at%fixupUnit >= fixupUnit-2 {
		return 0, 0, fmt.Errorf("%w: the flags of $Volume lie in a fixup", ErrFormat)
	}
	return binary.LittleEndian.Uint16(info.data[value0:]), at, nil
}

// Read looks at a volume. A journal that cannot be read is LogDamaged and no error.
func Read(r io.ReaderAt) (State, error) {
	v, err := open(r)
	if err != nil {
		return State{}, err
	}
	flags, _, err := v.flags()
	if err != nil {
		return State{}, err
	}
	s := State{Dirty: flags&dirtyFlag != 0}
	s.Log, s.LogVersion = v.log()
	return s, nil
}

// Volume is an NTFS volume that is written to.
type Volume interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// SetDirty sets the mark or takes it away, in $Volume and in the copy that $MFTMirr holds, and makes it durable. The
// change is a single byte of a single sector, so a power cut leaves the record whole.
func SetDirty(f Volume, dirty bool) error {
	v, err := open(f)
	if err != nil {
		return err
	}
	flags, at, err := v.flags()
	if err != nil {
		return err
	}
	low := []byte{byte(flags &^ dirtyFlag)}
	if dirty {
		low[0] |= dirtyFlag
	}
	changed := false
	for _, table := range []int64{v.mft, v.mirror} {
		place := table + recordVolume*v.record + at
		is := make([]byte, 1)
		if _, err := f.ReadAt(is, place); err != nil {
			return fmt.Errorf("read the flags of $Volume: %w", err)
		}
		if is[0] == low[0] || is[0]^low[0] != dirtyFlag {
			continue // right already, or a copy that is of something else altogether
		}
		changed = true
		if _, err := f.WriteAt(low, place); err != nil {
			return fmt.Errorf("write the flags of $Volume: %w", err)
		}
	}
	if !changed {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the flags of $Volume: %w", err)
	}
	return nil
}
