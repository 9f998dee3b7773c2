package keys

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// What sources call their columns, spelled without case, blanks and punctuation.
// The first names that a table has win: "Id" is a row number where there is a
// "RecoveryKeyId" too.
var (
	idColumns = []string{
		"keyid", "recoverykeyid", "msfverecoveryguid", "keyprotectorid", "recoverypasswordid", "bitlockerkeyid",
		"bitlockerrecoverykeyid", "recoveryguid", "recoveryid", "passwordid", "protectorid", "recoverykeyidentifier",
		"identifier", "id", "volumeguid",
	}
	keyColumns = []string{
		"recoverykey", "recoverypassword", "msfverecoverypassword", "bitlockerrecoverykey", "bitlockerrecoverypassword",
		"bitlockerkey", "numericalpassword", "key", "password",
	}
	computerColumns = []string{
		"computername", "hostname", "computer", "computerfqdn", "devicename", "devicedisplayname", "machinename",
		"dnshostname", "netbiosname", "host", "device", "machine", "system", "distinguishedname", "name",
	}
	containerColumns  = []string{"organizationalunit", "organizationalunits", "ou", "container", "parentcontainer", "canonicalname"}
	startupKeyColumns = []string{"startupkey"}
	// Columns that may name the recovery object, whose name ends in {key ID}.
	objectColumns = []string{"name", "distinguishedname", "cn", "dn"}
)

// columns says where things stand in the rows of a table; -1 is nowhere.
type columns struct {
	id, key, computer, container, startupKey int
	objects                                  []int
	count                                    int // cells in the header
}

// header reads a row as a header; nil if it names no column of keys.
func header(cells []string) *columns {
	names := make(map[string]int, len(cells))
	for i, c := range cells {
		n := columnName(c)
		if _, twice := names[n]; !twice {
			names[n] = i
		}
	}
	find := func(aliases []string) int {
		for _, a := range aliases {
			if i, ok := names[a]; ok {
				return i
			}
		}
		return -1
	}
	c := &columns{id: find(idColumns), key: find(keyColumns), computer: find(computerColumns), container: find(containerColumns),
		startupKey: find(startupKeyColumns), count: len(cells)}
	if c.key < 0 {
		return nil
	}
	for _, n := range objectColumns {
		if i, ok := names[n]; ok {
			c.objects = append(c.objects, i)
		}
	}
	return c
}

func columnName(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// separators in the order in which a tie is decided.
var separators = []rune{',', ';', '\t', '|'}

// splitRow splits one row into cells. A quote opens a quoted cell only at the
// cell's start and a doubled one stands for itself, as in RFC 4180; blanks around
// a cell are dropped. ok is false if a quoted cell is not closed. The cells are in
// the space of cells, which may be nil.
func splitRow(cells []string, row string, sep rune) (_ []string, ok bool) {
	cells = cells[:0]
	width := utf8.RuneLen(sep)
	for {
		start := skipBlanks(row, sep)
		var cell string
		if start < len(row) && row[start] == '"' {
			var rest string
			if cell, rest, ok = quotedCell(row[start+1:], sep); !ok {
				return cells, false
			}
			row = rest
			cells = append(cells, cell)
		} else {
			end := strings.IndexRune(row, sep)
			if end < 0 {
				return append(cells, strings.TrimSpace(row)), true
			}
			cells = append(cells, strings.TrimSpace(row[:end]))
			row = row[end:]
		}
		if row == "" {
			return cells, true
		}
		row = row[width:]
	}
}

// skipBlanks passes over blanks before a cell, of which the separator is none.
func skipBlanks(row string, sep rune) int {
	for i, r := range row {
		if r == sep || !unicode.IsSpace(r) {
			return i
		}
	}
	return len(row)
}

// quotedCell reads a cell behind its opening quote; rest begins with the
// separator, or is empty at the end of the row.
func quotedCell(row string, sep rune) (cell, rest string, ok bool) {
	var b strings.Builder
	for {
		end := strings.IndexByte(row, '"')
		if end < 0 {
			return "", "", false
		}
		if strings.HasPrefix(row[end+1:], `"`) {
			b.WriteString(row[:end+1])
			row = row[end+2:]
			continue
		}
		cell, row = row[:end], row[end+1:]
		// What follows the quote belongs to the cell, except for blanks.
		end = strings.IndexRune(row, sep)
		if end < 0 {
			end = len(row)
		}
		tail := strings.TrimSpace(row[:end])
		if b.Len() > 0 || tail != "" {
			b.WriteString(cell)
			b.WriteString(tail)
			cell = b.String()
		}
		return cell, row[end:], true
	}
}
