package keys

import (
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
)

// looksLikeBlocks recognises texts in which a key stands in a line of its own and
// its ID in a line before or after: the file that Windows saves ("BitLocker
// Recovery Key {GUID}.TXT") and the output of manage-bde -protectors -get. Their
// labels are in Windows' language, so only the shapes of IDs and keys count.
func looksLikeBlocks(text string) bool {
	lines := lineReader{rest: text}
	ids, keys := 0, 0
	for {
		line, ok := lines.next()
		if !ok {
			return ids > 0 && keys > 0
		}
		if len(line) > maxLine {
			return false
		}
		hasID := findGUID(line, 0) >= 0
		start, end := findKey(line, 0)
		switch {
		case start >= 0 && (hasID || strings.ContainsAny(strings.TrimSpace(line[:start])+strings.TrimSpace(line[end:]), ",;|\t")):
			return false // a row of a table
		case start >= 0:
			keys++
		case hasID:
			ids++
		}
	}
}

// blocks reads such a text. A key's ID is the last one before it, since further
// protectors without key (a TPM) may be listed before; in a text that begins with
// a key it is the next one after.
func (c *collector) blocks(text string) {
	var (
		lines   = lineReader{rest: text}
		id      bitlocker.GUID
		hasID   bool
		waiting *Entry // a key whose ID may follow
		follows bool   // IDs follow their keys
		any     bool
	)
	flush := func() {
		if waiting != nil {
			c.add(*waiting)
			waiting = nil
		}
	}
	for {
		line, ok := lines.next()
		if !ok {
			break
		}
		if ids := guidsIn(line); len(ids) > 0 {
			id, hasID = ids[len(ids)-1], true
			if waiting != nil && follows {
				waiting.ID, waiting.HasID, hasID = id, true, false
				flush()
			}
			continue
		}
		start, end := findKey(line, 0)
		if start < 0 {
			continue
		}
		if !any {
			any, follows = true, !hasID
		}
		passwords, reason := passwordsIn(line[start:end])
		if reason != "" {
			p := RowError{Line: lines.line, Kind: InvalidKey, Reason: reason}
			if hasID {
				p.ID, hasID = id, false
			}
			c.report(p)
			continue
		}
		flush()
		waiting = &Entry{ID: id, HasID: hasID, Password: passwords[0], Line: lines.line}
		if hasID = false; !follows {
			flush()
		}
	}
	flush()
}
