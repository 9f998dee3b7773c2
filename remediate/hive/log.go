package hive

import (
	"cmp"
	"math/bits"
	"slices"
)

// Fields of a log entry of the new format (Windows 8.1 and later).
const (
	logTypeOld  = 1
	logTypeNT   = 2 // the same in Windows NT and 2000
	logTypeNew  = 6
	entrySize   = 4
	entryFlags  = 8
	entryNumber = 12
	entryBins   = 16
	entryPages  = 20
	entryHash1  = 24
	entryHash2  = 32
	entryRefs   = 40
)

// recover brings the hive up to date with its logs, if it needs that, and fills in size. The file holds room bytes of
// hive bins.
//
// A hive is clean when its base block's checksum is right and its two sequence numbers are equal; then Windows, and
// its boot loader, ignore the logs whatever they hold. After a crash the hive is dirty: in the old format the one log
// with the hive's own time is applied; in the new format both logs hold entries with rising sequence numbers, which
// are applied from the log that begins earlier, as long as each number follows the one before.
func (h *Hive) recover(room int64, logs [][]byte) error {
	valid := checksum(h.base) == le.Uint32(h.base[baseChecksum:])
	clean := valid && le.Uint32(h.base[basePrimary:]) == le.Uint32(h.base[baseSecondary:])
	h.newest = max(le.Uint32(h.base[basePrimary:]), le.Uint32(h.base[baseSecondary:]))
	var usable []logFile
	for _, data := range logs {
		h.newest = max(h.newest, newestNumber(data))
		if l, ok := parseLog(data); ok {
			usable = append(usable, l)
			room += int64(len(data)) // what a hive may have grown by lies in the log whole
		}
	}
	h.size = le.Uint32(h.base[baseBins:])
	if !clean {
		h.dirty = !h.replay(valid, usable)
	}
	if int64(h.size) > room {
		return damaged(h.size, "the last hive bin, but the file is shorter")
	}
	return nil
}

// logFile is a log whose first block is intact.
type logFile struct {
	data   []byte
	kind   uint32
	number uint32 // sequence number
}

func parseLog(data []byte) (logFile, bool) {
	if len(data) < 2*sector || string(data[:4]) != "regf" || checksum(data) != le.Uint32(data[baseChecksum:]) {
		return logFile{}, false
	}
	l := logFile{data, le.Uint32(data[baseType:]), le.Uint32(data[basePrimary:])}
	if l.number != le.Uint32(data[baseSecondary:]) {
		return logFile{}, false
	}
	signature := string(data[logBase : logBase+4])
	switch l.kind {
	case logTypeNew:
		return l, signature == "HvLE"
	case logTypeOld, logTypeNT:
		return l, signature == "DIRT"
	}
	return logFile{}, false
}

// replay applies the logs and reports whether the hive is whole now. With valid unset, the hive's own base block is
// torn and the log's copy of it takes its place.
func (h *Hive) replay(valid bool, logs []logFile) bool {
	h.pages = map[uint32][]byte{}
	news := slices.DeleteFunc(slices.Clone(logs), func(l logFile) bool { return l.kind != logTypeNew })
	if len(news) == 0 {
		return h.replayOld(valid, logs)
	}
	slices.SortStableFunc(news, func(a, b logFile) int { return cmp.Compare(a.number, b.number) })
	if !valid {
		news = news[len(news)-1:]
		h.takeBase(news[0])
	}
	applied := false
	last := uint32(0)
	for _, l := range news {
		if applied && l.number != last+1 || !applied && valid && l.number < le.Uint32(h.base[baseSecondary:]) {
			continue
		}
		for at, want := logBase, l.number; ; want++ {
			n, ok := h.applyEntry(l.data[min(at, len(l.data)):], want)
			if !ok {
				break
			}
			at += n
			applied, last = true, want
		}
	}
	return applied
}

// takeBase replaces a torn base block by the log's copy.
func (h *Hive) takeBase(l logFile) {
	copy(h.base, l.data[:logBase])
	le.PutUint32(h.base[baseType:], typePrimary)
	h.size = le.Uint32(h.base[baseBins:])
}

// entryLength checks a log entry's header and returns the entry's length; 0 is no entry.
func entryLength(b []byte) int {
	if len(b) < sector || string(b[:4]) != "HvLE" {
		return 0
	}
	size := le.Uint32(b[entrySize:])
	if size < sector || size%sector != 0 || uint64(size) > uint64(len(b)) || marvin(b[:entryHash2]) != le.Uint64(b[entryHash2:]) {
		return 0
	}
	return int(size)
}

// applyEntry takes over the pages of the entry at the beginning of b, if it is intact and has the number that is due.
func (h *Hive) applyEntry(b []byte, number uint32) (int, bool) {
	size := entryLength(b)
	if size == 0 || le.Uint32(b[entryNumber:]) != number {
		return 0, false
	}
	bins, count := le.Uint32(b[entryBins:]), le.Uint32(b[entryPages:])
	data := entryRefs + 8*uint64(count)
	if bins%binAlign != 0 || bins > maxSize || data > uint64(size) || marvin(b[entryRefs:size]) != le.Uint64(b[entryHash1:]) {
		return 0, false
	}
	// All references are looked at before the first page is taken over.
	pages := uint64(0)
	for i := range int(count) {
		offset, length := le.Uint32(b[entryRefs+8*i:]), le.Uint32(b[entryRefs+8*i+4:])
		pages += uint64(length)
		if offset%sector != 0 || length%sector != 0 || uint64(offset)+uint64(length) > uint64(bins) || data+pages > uint64(size) {
			return 0, false
		}
	}
	rest := b[data:size]
	for i := range int(count) {
		offset, length := le.Uint32(b[entryRefs+8*i:]), le.Uint32(b[entryRefs+8*i+4:])
		h.takePages(offset, rest[:length])
		rest = rest[length:]
	}
	h.size = bins
	le.PutUint32(h.base[baseBins:], bins)
	flags := le.Uint32(h.base[baseFlags:])&^flagKTM | le.Uint32(b[entryFlags:])&flagKTM
	le.PutUint32(h.base[baseFlags:], flags)
	return size, true
}

func (h *Hive) takePages(offset uint32, data []byte) {
	for i := 0; i < len(data); i += sector {
		h.pages[offset+uint32(i)] = data[i : i+sector]
	}
}

// replayOld applies a log of the old format: a bitmap of the sectors that changed, and those. As the boot loader does,
// the first log is taken that has the hive's own time.
func (h *Hive) replayOld(valid bool, logs []logFile) bool {
	when := le.Uint64(h.base[baseTime:])
	if !valid {
		var bin [binHeader]byte
		if n, _ := h.r.ReadAt(bin[:], 0); n < len(bin) {
			return false
		}
		when = le.Uint64(bin[20:]) // the first bin carries it too
	}
	for _, l := range logs {
		if le.Uint64(l.data[baseTime:]) != when {
			continue
		}
		bins := le.Uint32(l.data[baseBins:])
		bitmap := l.data[logBase+4:]
		length := int(bins / sector / 8)
		if bins%binAlign != 0 || bins > maxSize || length > len(bitmap) {
			continue
		}
		bitmap = bitmap[:length]
		at := (logBase + 4 + length + sector - 1) &^ (sector - 1)
		dirty := 0
		for _, b := range bitmap {
			dirty += bits.OnesCount8(b)
		}
		if at+dirty*sector > len(l.data) {
			continue // the log itself was cut short
		}
		for i, b := range bitmap {
			for bit := range 8 {
				if b>>bit&1 == 1 {
					h.takePages(uint32(i*8+bit)*sector, l.data[at:at+sector])
					at += sector
				}
			}
		}
		h.takeBase(l)
		return true
	}
	return false
}

// newestNumber is the highest sequence number in a log file, old entries that are not in use any more included.
func newestNumber(data []byte) (newest uint32) {
	if len(data) >= logBase && string(data[:4]) == "regf" && checksum(data) == le.Uint32(data[baseChecksum:]) {
		newest = max(le.Uint32(data[basePrimary:]), le.Uint32(data[baseSecondary:]))
	}
	for at := logBase; at+sector <= len(data); at += sector {
		if entryLength(data[at:]) > 0 {
			newest = max(newest, le.Uint32(data[at+entryNumber:]))
		}
	}
	return newest
}

// marvin is Marvin32 with the registry's seed.
func marvin(data []byte) uint64 {
	lo, hi := uint32(0x7a4e55c5), uint32(0x82ef4d88)
	mix := func(word uint32) {
		lo += word
		hi ^= lo
		lo = bits.RotateLeft32(lo, 20)
		lo += hi
		hi = bits.RotateLeft32(hi, 9)
		hi ^= lo
		lo = bits.RotateLeft32(lo, 27)
		lo += hi
		hi = bits.RotateLeft32(hi, 19)
	}
	for ; len(data) >= 4; data = data[4:] {
		mix(le.Uint32(data))
	}
	tail := uint32(0x80)
	for i := len(data) - 1; i >= 0; i-- {
		tail = tail<<8 | uint32(data[i])
	}
	mix(tail)
	mix(0)
	return uint64(hi)<<32 | uint64(lo)
}
