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
	// Columns that may name the recovery object, whose name ends in {key ID}.
	objectColumns = []string{"name", "distinguishedname", "cn", "dn"}
)

// columns says where things stand in the rows of a table; -1 is nowhere.
type columns struct {
	id, key, computer int
	objects           []int
	count             int // cells in the header
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
	c := &columns{id: find(idColumns), key: find(keyColumns), computer: find(computerColumns), count: len(cells)}
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

// splitRow splits one row. A quote opens a quoted cell only at the cell's start
// and a doubled one stands for itself, as in RFC 4180; blanks around a cell are
// dropped. ok is false if a quoted cell is not closed.
func splitRow(row string, sep rune) (cells []string, ok bool) {
	var cell strings.Builder
	quoted, wasQuoted := false, false
	flush := func() {
		s := cell.String()
		if !wasQuoted {
			s = strings.TrimSpace(s)
		}
		cells = append(cells, s)
		cell.Reset()
		wasQuoted = false
	}
	for i, size := 0, 0; i < len(row); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(row[i:])
		switch {
		case quoted && r == '"' && strings.HasPrefix(row[i+1:], `"`):
			cell.WriteRune('"')
			size++
		case quoted && r == '"':
			quoted = false
		case quoted:
			cell.WriteRune(r)
		case r == sep:
			flush()
		case r == '"' && !wasQuoted && strings.TrimSpace(cell.String()) == "":
			cell.Reset()
			quoted, wasQuoted = true, true
		case wasQuoted && unicode.IsSpace(r):
			// between the closing quote and the separator
		default:
			cell.WriteRune(r)
		}
	}
	flush()
	return cells, !quoted
}
