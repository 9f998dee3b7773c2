package hive

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// TestReplay brings a real hive up to date that a machine was switched off with, from both of its logs.
func TestReplay(t *testing.T) {
	data := shared(t, "hives/SYSTEM_B.xz")
	log1, log2 := shared(t, "hives/SYSTEM_B.LOG1.xz"), shared(t, "hives/SYSTEM_B.LOG2.xz")
	alone, err := Open(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	if !alone.Dirty() {
		t.Error("without its logs the hive counts as clean")
	}
	if _, err := Load(data); !errors.Is(err, ErrDirty) {
		t.Errorf("editing without the logs: %v", err)
	}
	// Load looks at every record of the hive; one page too few or too many does not pass. The logs' order is of no account.
	h := load(t, data, log1, log2)
	other := load(t, data, log2, log1)
	if !bytes.Equal(h.edit.data, other.edit.data) {
		t.Error("the order of the logs matters")
	}
	// Numbers that the logs' own headers show: LOG1 begins at 0x83b, LOG2 at 0x83f.
	out, err := h.Bytes()
	must(t, err)
	if got := le.Uint32(out[basePrimary:]); got <= 0x83f {
		t.Errorf("sequence number %#x is not above the logs'", got)
	}
	read, err := Open(bytes.NewReader(data), int64(len(data)), log1, log2)
	must(t, err)
	if read.Dirty() {
		t.Error("with its logs the hive counts as dirty")
	}
	whole := make([]byte, read.size)
	must(t, read.read(whole, 0))
	if !bytes.Equal(whole, h.edit.data) {
		t.Error("a hive that is read and one that is edited differ")
	}
	// Only the first log: the later entries are missing, and that is a state that Windows had, too.
	partly, err := Open(bytes.NewReader(data), int64(len(data)), log1)
	must(t, err)
	if partly.Dirty() {
		t.Error("with the first log alone the hive counts as dirty")
	}
	// Only the second: its first entry does follow what the hive says of itself, but not the first log.
	edited, err := Open(bytes.NewReader(out), int64(len(out)), log1, log2)
	must(t, err)
	if edited.Dirty() || len(edited.pages) > 0 {
		t.Error("old logs were applied to a newer hive")
	}
}

// dirtyHive makes a hive, an edit of it, and logs that turn the one into the other: the pages that differ, as Windows
// has them after a crash.
func dirtyHive(t testing.TB) (before, after []byte) {
	h, err := New("Root")
	must(t, err)
	root, err := h.Root()
	must(t, err)
	must(t, root.SetDWORD("Start", 1))
	h.Now = when
	before, err = h.Bytes()
	must(t, err)
	must(t, root.SetDWORD("Start", 4))
	sub, err := root.CreateSubkey("grown")
	must(t, err)
	must(t, sub.SetValue("data", Binary, bytes.Repeat([]byte("grown"), 2000)))
	after, err = h.Bytes()
	must(t, err)
	le.PutUint32(before[basePrimary:], le.Uint32(before[basePrimary:])+1)
	le.PutUint32(before[baseChecksum:], checksum(before))
	return before, after
}

func logHead(before []byte, kind, number uint32) []byte {
	b := slices.Clone(before[:logBase])
	le.PutUint32(b[baseType:], kind)
	le.PutUint32(b[basePrimary:], number)
	le.PutUint32(b[baseSecondary:], number)
	le.PutUint32(b[baseChecksum:], checksum(b))
	return b
}

// newEntry is a log entry with pages of the hive after an edit.
func newEntry(after []byte, number uint32, pages ...uint32) []byte {
	b := make([]byte, entryRefs)
	copy(b, "HvLE")
	le.PutUint32(b[entryNumber:], number)
	le.PutUint32(b[entryBins:], uint32(len(after)-baseSize))
	le.PutUint32(b[entryPages:], uint32(len(pages)))
	for _, page := range pages {
		b = le.AppendUint32(le.AppendUint32(b, page), binAlign)
	}
	for _, page := range pages {
		b = append(b, after[baseSize+page:][:binAlign]...)
	}
	b = append(b, make([]byte, (sector-len(b)%sector)%sector)...)
	le.PutUint32(b[entrySize:], uint32(len(b)))
	le.PutUint64(b[entryHash1:], marvin(b[entryRefs:]))
	le.PutUint64(b[entryHash2:], marvin(b[:entryHash2]))
	return b
}

func oldLog(before, after []byte) []byte {
	b := logHead(after, logTypeOld, le.Uint32(before[basePrimary:]))
	copy(b[baseTime:baseTime+8], before[baseTime:])
	le.PutUint32(b[baseChecksum:], checksum(b))
	b = append(b, "DIRT"...)
	var pages []byte
	bitmap := make([]byte, (len(after)-baseSize)/sector/8)
	for i := range bitmap {
		for bit := range 8 {
			at := baseSize + (8*i+bit)*sector
			if at >= len(before) || !bytes.Equal(before[at:at+sector], after[at:at+sector]) {
				bitmap[i] |= 1 << bit
				pages = append(pages, after[at:at+sector]...)
			}
		}
	}
	b = append(b, bitmap...)
	b = append(b, make([]byte, (sector-len(b)%sector)%sector)...)
	return append(b, pages...)
}

func TestLogFormats(t *testing.T) {
	before, after := dirtyHive(t)
	n := le.Uint32(before[basePrimary:])
	var pages []uint32
	for at := uint32(0); int(at) < len(after)-baseSize; at += binAlign {
		pages = append(pages, at)
	}
	half := len(pages) / 2
	first := append(logHead(before, logTypeNew, n), newEntry(after, n, pages[:half]...)...)
	second := append(logHead(before, logTypeNew, n+1), newEntry(after, n+1, pages[half:]...)...)
	whole := append(slices.Clone(first), newEntry(after, n+1, pages[half:]...)...)
	stale := append(logHead(before, logTypeNew, n-2), newEntry(after, n-2, pages...)...)
	torn := slices.Clone(whole)
	torn[len(torn)-1] ^= 1
	noBase := slices.Clone(before)
	noBase[baseMajor] = 9
	for name, tc := range map[string]struct {
		hive []byte
		logs [][]byte
		ok   bool
	}{
		"one log":             {before, [][]byte{whole}, true},
		"two logs":            {before, [][]byte{second, first}, true},
		"old format":          {before, [][]byte{oldLog(before, after)}, true},
		"old format, LOG2":    {before, [][]byte{nil, oldLog(before, after)}, true},
		"torn base block":     {noBase, [][]byte{whole}, true},
		"torn base, old":      {noBase, [][]byte{oldLog(before, after)}, false}, // the first bin made here carries no time
		"no logs":             {before, nil, false},
		"empty logs":          {before, [][]byte{make([]byte, 8192), {}}, false},
		"entries of long ago": {before, [][]byte{stale}, false},
		"cut old log":         {before, [][]byte{oldLog(before, after)[:2048]}, false},
	} {
		h, err := Load(tc.hive, tc.logs...)
		if !tc.ok {
			if err == nil {
				t.Errorf("%s: loaded", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(h.edit.data, after[baseSize:]) {
			t.Errorf("%s: not what the edit left", name)
		}
	}
	// Recovery ends at the first entry that is not whole.
	h, err := Open(bytes.NewReader(before), int64(len(before)), torn)
	must(t, err)
	if h.Dirty() || len(h.pages) != half*binAlign/sector {
		t.Errorf("with a torn second entry %d sectors were taken over", len(h.pages))
	}
}

// TestOldLogsBesideAnEdit is what Windows would find: an edited hive with the logs that completed the old one.
func TestOldLogsBesideAnEdit(t *testing.T) {
	before, after := dirtyHive(t)
	n := le.Uint32(before[basePrimary:])
	for name, log := range map[string][]byte{
		"new": append(logHead(before, logTypeNew, n), newEntry(after, n, 0, binAlign, 2*binAlign, 3*binAlign)...),
		"old": oldLog(before, after),
	} {
		h := load(t, before, log)
		h.Now = when.AddDate(0, 0, 1)
		must(t, key(t, h, "").SetDWORD("Start", 3))
		edited, err := h.Bytes()
		must(t, err)
		// Even if Windows crashed right after it had begun to write to the hive.
		le.PutUint32(edited[basePrimary:], le.Uint32(edited[basePrimary:])+1)
		le.PutUint32(edited[baseChecksum:], checksum(edited))
		again, err := Open(bytes.NewReader(edited), int64(len(edited)), log)
		must(t, err)
		if !again.Dirty() || len(again.pages) > 0 {
			t.Errorf("%s: the old log was applied to the edited hive", name)
		}
	}
}

func FuzzLog(f *testing.F) {
	before, after := dirtyHive(f)
	n := le.Uint32(before[basePrimary:])
	f.Add(before, append(logHead(before, logTypeNew, n), newEntry(after, n, 0, binAlign)...), []byte{}, true)
	f.Add(before, oldLog(before, after), []byte{}, true)
	f.Add(before, append(logHead(before, logTypeNew, n), newEntry(after, n, 0)...),
		append(logHead(before, logTypeNew, n+1), newEntry(after, n+1, binAlign)...), true)
	f.Fuzz(func(t *testing.T, data, log1, log2 []byte, mend bool) {
		if mend {
			log1, log2 = mendLog(log1), mendLog(log2)
		}
		h, err := Open(bytes.NewReader(data), int64(len(data)), log1, log2)
		if err != nil {
			return
		}
		if int(h.size) > len(data)+len(log1)+len(log2) {
			t.Errorf("%d bytes of hive bins from files of %d", h.size, len(data)+len(log1)+len(log2))
		}
		readAll(h)
		if h, err := Load(data, log1, log2); err == nil {
			editSome(t, h)
		}
	})
}

// mendLog makes the checksums of a log right, so that the fuzzer gets behind them.
func mendLog(log []byte) []byte {
	log = slices.Clone(log)
	if len(log) >= logBase {
		le.PutUint32(log[baseChecksum:], checksum(log))
	}
	for at := logBase; at+sector <= len(log); at += sector {
		e := log[at:]
		if size := le.Uint32(e[entrySize:]); string(e[:4]) == "HvLE" && size >= sector && int64(size) <= int64(len(e)) {
			le.PutUint64(e[entryHash1:], marvin(e[entryRefs:size]))
			le.PutUint64(e[entryHash2:], marvin(e[:entryHash2]))
		}
	}
	return log
}
