package ntfsstate

import (
	"encoding/binary"
	"fmt"
)

// The journal begins with two restart pages, of which the newer valid one counts.
const (
	minRestartPage = 512
	maxRestartPage = 64 << 10
	noClient       = 0xFFFF
	volumeIsClean  = 0x0002
)

// restart is what matters of a restart page.
type restart struct {
	major, minor uint16
	lsn          uint64
	clean        bool
}

// log tells the state of the journal and its version.
func (v *volume) log() (Log, string) {
	runs, err := v.logRuns()
	if err != nil {
		return LogDamaged, ""
	}
	// Where the second page lies, the first says; Windows uses pages of 4 KiB everywhere.
	var newest *restart
	empty := 0
	size := int64(4096)
	for i := range int64(2) {
		page := make([]byte, max(size, 4096))
		if v.readRuns(runs, page, i*size) != nil {
			continue
		}
		if allOnes(page) {
			empty++
			continue
		}
		r, pageSize, err := parseRestart(page)
		if err != nil {
			continue
		}
		size = pageSize
		if newest == nil || r.lsn > newest.lsn {
			newest = r
		}
	}
	switch {
	case newest != nil && newest.clean:
		return LogClean, newest.version()
	case newest != nil:
		return LogInUse, newest.version()
	case empty == 2:
		return LogEmpty, ""
	}
	return LogDamaged, ""
}

func (r *restart) version() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

// parseRestart reads a restart page: its header, then the restart area. It returns the size of such a page, too.
func parseRestart(page []byte) (*restart, int64, error) {
	if s := string(page[:4]); s != "RSTR" && s != "CHKD" {
		return nil, 0, ErrFormat
	}
	size := int64(binary.LittleEndian.Uint32(page[16:]))
	if size < minRestartPage || size > maxRestartPage || size&(size-1) != 0 {
		return nil, 0, ErrFormat
	}
	if size > int64(len(page)) {
		return nil, 0, ErrFormat // larger than any that Windows makes today
	}
	page = page[:size]
	if err := fixup(page); err != nil {
		return nil, 0, err
	}
	area := int(binary.LittleEndian.Uint16(page[24:]))
	if area < 30 || area+16 > len(page) {
		return nil, 0, ErrFormat
	}
	r := &restart{
		minor: binary.LittleEndian.Uint16(page[26:]), major: binary.LittleEndian.Uint16(page[28:]),
		lsn: binary.LittleEndian.Uint64(page[area:]),
	}
	inUse, flags := binary.LittleEndian.Uint16(page[area+12:]), binary.LittleEndian.Uint16(page[area+14:])
	r.clean = inUse == noClient || flags&volumeIsClean != 0
	return r, size, nil
}

func allOnes(b []byte) bool {
	for _, c := range b {
		if c != 0xFF {
			return false
		}
	}
	return true
}

// run is a piece of a file: so many bytes at a place of the volume.
type run struct{ off, size int64 }

// logRuns finds where the journal lies.
func (v *volume) logRuns() ([]run, error) {
	record, err := v.readRecord(recordLogFile)
	if err != nil {
		return nil, err
	}
	data, err := find(record, attrData)
	if err != nil {
		return nil, err
	}
	if data.data[8] != 1 || len(data.data) < 64 {
		return nil, fmt.Errorf("%w: $LogFile is not a file of clusters", ErrFormat)
	}
	at := int(binary.LittleEndian.Uint16(data.data[32:]))
	if at < 64 || at > len(data.data) {
		return nil, ErrFormat
	}
	return v.parseRuns(data.data[at:])
}

// parseRuns reads mapping pairs: a byte with two lengths, then a count of clusters and the distance from the last
// run's begin.
func (v *volume) parseRuns(b []byte) ([]run, error) {
	var runs []run
	var lcn int64
	for len(b) > 0 && b[0] != 0 {
		n, m := int(b[0]&15), int(b[0]>>4)
		if n == 0 || n > 8 || m == 0 || m > 8 || 1+n+m > len(b) || len(runs) == maxRuns {
			return nil, fmt.Errorf("%w: mapping pairs", ErrFormat)
		}
		count := signed(b[1 : 1+n])
		lcn += signed(b[1+n : 1+n+m])
		const most = 1 << 40
		if count <= 0 || count > most || lcn < 0 || lcn > most {
			return nil, fmt.Errorf("%w: mapping pairs", ErrFormat)
		}
		runs = append(runs, run{lcn * v.cluster, count * v.cluster})
		b = b[1+n+m:]
	}
	return runs, nil
}

func signed(b []byte) int64 {
	var n int64
	for i, c := range b {
		n |= int64(c) << (8 * i)
	}
	shift := 64 - 8*len(b)
	return n << shift >> shift
}

// readRuns fills b from an offset of a file.
func (v *volume) readRuns(runs []run, b []byte, off int64) error {
	for _, r := range runs {
		if off >= r.size {
			off -= r.size
			continue
		}
		n := min(int64(len(b)), r.size-off)
		if _, err := v.r.ReadAt(b[:n], r.off+off); err != nil {
			return err
		}
		if b, off = b[n:], 0; len(b) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: $LogFile is too short", ErrFormat)
}
