package keys

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bootmend/bootmend/bitlocker"
)

const (
	maxRows      = 1_000_000
	maxJoin      = 16 // lines that one quoted cell may span
	headerWithin = 8  // rows in which a header may come
)

// ReadCSV reads a table of recovery keys. It recognises the encoding (UTF-8,
// UTF-16, with or without byte order mark), the separator (comma, semicolon, tab,
// bar), and the columns by their header, or by what is in them where there is
// none. Further columns are ignored. Name is what errors call the source. [Read]
// reads every other format too.
//
// Rows that give no key are in Problems, and the others still count. A row whose
// key is good but whose ID is not is kept without ID and named in Problems too.
// The error is for a source that cannot be read at all.
func ReadCSV(r io.Reader, name string) (*List, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("read key list %s: %w", name, err)
	}
	defer clear(data)
	text, err := decodeText(data)
	if err != nil {
		return nil, fmt.Errorf("read key list %s: %w", name, err)
	}
	c := newCollector(name)
	if err := c.table(text); err != nil {
		return nil, fmt.Errorf("read key list %s: %w", name, err)
	}
	c.finish()
	return c.list, nil
}

// table reads a table or a list of bare keys.
func (c *collector) table(text string) error {
	t := &table{collector: c, lines: lineReader{rest: text}}
	// Long lists are read quicker into space that is there already.
	c.grow(min(strings.Count(text, "\n"), len(text)/48, maxRows))
	if err := t.read(); err != nil {
		return err
	}
	if c.list.Len() == 0 && len(c.list.Problems) == 0 {
		c.problem(1, Unreadable, noKeyFound)
	}
	return nil
}

type table struct {
	*collector
	lines lineReader

	sep     rune     // 0 until known
	columns *columns // nil while none or without header
	rows    int      // that are not blank or comments
	queue   []row    // lines read ahead
	cells   []string // space for the cells of a row
	objects []string // and for those of fields
}

type row struct {
	text string
	line int
}

// nextRow returns the next line, one that was read ahead first.
func (t *table) nextRow() (row, bool) {
	if len(t.queue) > 0 {
		r := t.queue[0]
		t.queue = t.queue[1:]
		return r, true
	}
	text, ok := t.lines.next()
	return row{text: text, line: t.lines.line}, ok
}

func (t *table) read() error {
	for {
		r, ok := t.nextRow()
		if !ok {
			return nil
		}
		if len(r.text) > maxLine {
			t.problem(r.line, Unreadable, "%v", errLongLine)
			continue
		}
		text := strings.TrimSpace(r.text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue // PowerShell begins with "#TYPE"
		}
		if sep, ok := separatorLine(text); ok {
			t.sep = sep
			continue
		}
		if t.rows++; t.rows > maxRows {
			return fmt.Errorf("more than %d rows", maxRows)
		}
		if t.isHeader(r) {
			continue
		}
		t.row(r)
	}
}

// separatorLine reads the "sep=;" that spreadsheets begin with.
func separatorLine(text string) (rune, bool) {
	text = strings.Trim(text, `"`)
	if len(text) < 5 || !strings.EqualFold(text[:4], "sep=") {
		return 0, false
	}
	r, size := utf8.DecodeRuneInString(text[4:])
	return r, 4+size == len(text)
}

// isHeader takes a row as the header if it is one and no key came before it.
func (t *table) isHeader(r row) bool {
	if t.columns != nil || len(t.list.Entries) > 0 || t.rows > headerWithin {
		return false
	}
	for _, sep := range t.candidates() {
		cells, ok := splitRow(nil, r.text, sep)
		// The separator that finds the most columns is the one meant.
		if c := header(cells); ok && c != nil && (t.columns == nil || c.count > t.columns.count) {
			t.columns, t.sep = c, sep
		}
	}
	return t.columns != nil
}

func (t *table) candidates() []rune {
	if t.sep != 0 {
		return []rune{t.sep}
	}
	return separators
}

func (t *table) row(r row) {
	if t.columns == nil {
		t.bareRow(r)
		return
	}
	cells, ok := splitRow(t.cells, r.text, t.sep)
	if t.cells = cells; !ok {
		if cells, ok = t.join(r); !ok {
			t.problem(r.line, Unreadable, "a quote is not closed")
			return
		}
	}
	c := t.columns
	cell := func(i int) string {
		if i < 0 || i >= len(cells) {
			return ""
		}
		return cells[i]
	}
	f := fields{id: cell(c.id), key: cell(c.key), computer: cell(c.computer), container: cell(c.container), objects: t.objects[:0]}
	for _, i := range c.objects {
		f.objects = append(f.objects, cell(i))
	}
	t.objects = f.objects
	if bek := cell(c.startupKey); bek != "" && f.key == "" {
		t.startupKey(r.line, bek)
		return
	}
	if c.key >= len(cells) {
		p := RowError{Line: r.line, Kind: NoKey, Reason: fmt.Sprintf("the row has %d of %d columns and no recovery key", len(cells), c.count)}
		p.ID, _ = f.onlyID()
		t.report(p)
		return
	}
	t.fields(r.line, f)
}

// startupKey reads a .BEK file in base64, as WriteCSV writes it.
func (c *collector) startupKey(line int, text string) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		c.problem(line, InvalidKey, "the startup key is not base64")
		return
	}
	k, err := ParseStartupKey(data)
	if err != nil {
		c.problem(line, InvalidKey, "the startup key is no .BEK file: %v", err)
		return
	}
	k.Line = line
	c.addStartupKey(k)
}

// fields is a row of any source, as the source has it.
type fields struct {
	id, key, computer, container string
	objects                      []string // may name the recovery object
}

// onlyID is the row's ID if it has exactly one.
func (f fields) onlyID() (bitlocker.GUID, bool) {
	ids, _ := idsIn(f.id)
	for i := 0; len(ids) == 0 && i < len(f.objects); i++ {
		// The name of a recovery object in a directory ends in the key ID.
		if id, ok := bracedGUID(f.objects[i]); ok {
			return id, true
		}
	}
	if len(ids) == 1 {
		return ids[0], true
	}
	return bitlocker.GUID{}, false
}

// fields adds what a row says.
func (c *collector) fields(line int, f fields) {
	passwords, reason := passwordsIn(f.key)
	if reason != "" {
		kind := InvalidKey
		if reason == noKeyInRow || reason == typeName {
			kind = NoKey
		}
		p := RowError{Line: line, Kind: kind, Reason: reason}
		p.ID, _ = f.onlyID()
		c.report(p)
		return
	}
	ids, idProblem := idsIn(f.id)
	if len(ids) == 0 {
		if id, ok := f.onlyID(); ok {
			ids, idProblem = []bitlocker.GUID{id}, ""
		}
	}
	if idProblem != "" {
		c.problem(line, InvalidID, "%s: the key is kept without it", idProblem)
	}
	if len(ids) > 1 && len(ids) != len(passwords) {
		c.problem(line, InvalidID, "%d key IDs for %d keys: the keys are kept without", len(ids), len(passwords))
		ids = nil
	}
	computer, container := f.place()
	for i, p := range passwords {
		e := Entry{Computer: computer, Container: container, Password: p, Line: line}
		if len(ids) == len(passwords) {
			e.ID, e.HasID = ids[i], true
		}
		c.add(e)
	}
}

// place tells the computer and where a directory keeps it.
func (f fields) place() (computer, container string) {
	computer, container, isDN := fromDN(f.computer)
	if !isDN {
		computer, container = f.computer, f.container
	}
	computer = shortName(computer)
	inBraces := strings.IndexByte(computer, '{') >= 0 // the name of a recovery object
	for i := 0; i < len(f.objects) && !isDN; i++ {
		var cn, in string
		if cn, in, isDN = fromDN(f.objects[i]); isDN {
			if in != "" {
				container = in
			}
			if computer == "" || inBraces {
				computer = shortName(cn)
				inBraces = strings.IndexByte(computer, '{') >= 0
			}
		}
	}
	if inBraces {
		computer = ""
	}
	return cleanName(computer), cleanName(container)
}

// join adds following lines to a row whose quoted cell goes on. It gives up, and
// returns the lines, if that does not make a row of this table: then a quote was
// forgotten, and what follows are rows of their own.
func (t *table) join(r row) (cells []string, ok bool) {
	text := r.text
	var ahead []row
	for range maxJoin {
		next, more := t.nextRow()
		if !more {
			break
		}
		ahead = append(ahead, next)
		if len(text)+len(next.text) > maxLine {
			break
		}
		text += "\n" + next.text
		cells, ok := splitRow(nil, text, t.sep)
		if !ok {
			continue
		}
		if len(cells) == t.columns.count && !swallowedRow(cells) {
			return cells, true
		}
		break
	}
	t.queue = append(ahead, t.queue...)
	return nil, false
}

// swallowedRow reports whether a cell of several lines holds a key, as it would if
// it had taken in other rows.
func swallowedRow(cells []string) bool {
	for _, c := range cells {
		if strings.Contains(c, "\n") && mayHoldKey(c) && findGUID(c, 0) >= 0 {
			return true
		}
	}
	return false
}

const (
	noKeyInRow = "the row has no recovery key"
	typeName   = "the export wrote a type name instead of the keys of a machine that has several: export that machine again"
)

// isFloat recognises what a spreadsheet makes of 48 digits: 2.84868E+47.
func isFloat(s string) bool {
	mantissa, exponent, ok := strings.Cut(strings.ToUpper(s), "E+")
	return ok && len(mantissa) > 0 && isDigit(mantissa[0]) && strings.Trim(mantissa, "0123456789.,") == "" && strings.Trim(exponent, "0123456789") == ""
}

// passwordsIn reads a cell that should hold a key, or several; otherwise it says
// why not.
func passwordsIn(cell string) ([]bitlocker.RecoveryPassword, string) {
	cell = strings.Trim(strings.TrimSpace(cell), `="'`)
	p, err := bitlocker.ParseRecoveryPassword(cell)
	if err == nil {
		return []bitlocker.RecoveryPassword{p}, ""
	}
	// A machine with several keys may have them all in one cell.
	parts := strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(";,|\n/", r) })
	if len(parts) > 1 {
		var list []bitlocker.RecoveryPassword
		for _, part := range parts {
			p, err := bitlocker.ParseRecoveryPassword(part)
			if err != nil {
				list = nil
				break
			}
			list = append(list, p)
		}
		if len(list) > 0 {
			return list, ""
		}
	}
	switch {
	case cell == "" || strings.EqualFold(cell, "NULL") || strings.EqualFold(cell, "NOData") || strings.EqualFold(cell, "N/A"):
		return nil, noKeyInRow
	case strings.HasPrefix(cell, "System."):
		return nil, typeName
	case isFloat(cell):
		return nil, "a spreadsheet has rounded the recovery key to a number: export it again as text"
	}
	var ge *bitlocker.GroupError
	if errors.As(err, &ge) {
		return nil, ge.Error()
	}
	return nil, "not a recovery key: " + err.Error()
}

// idsIn reads a cell that should hold a key ID, or several.
func idsIn(cell string) ([]bitlocker.GUID, string) {
	cell = strings.Trim(strings.TrimSpace(cell), `="'`)
	if cell == "" || strings.EqualFold(cell, "NULL") {
		return nil, ""
	}
	ids := guidsIn(cell)
	if len(ids) == 0 {
		return nil, "the key ID is not a GUID"
	}
	return ids, ""
}

// bareRow reads a row of a table without header by what its cells look like.
func (t *table) bareRow(r row) {
	start, end := findKey(r.text, 0)
	if start < 0 {
		// Before the first key it may be a title or a header in a language that
		// is not known here; afterwards it is a row without key.
		if ids := guidsIn(r.text); len(t.list.Entries) > 0 || len(ids) > 0 {
			p := RowError{Line: r.line, Kind: NoKey, Reason: noKeyInRow}
			if len(ids) == 1 {
				p.ID = ids[0]
			}
			t.report(p)
		}
		return
	}
	cells, found := t.bareCells(r.text)
	if found < 0 {
		// No table, but a line with a key, as a person notes it.
		trim := func(s string) string { return strings.Trim(s, " \t:;,=-") }
		cells, found = []string{trim(r.text[:start]), r.text[start:end], trim(r.text[end:])}, 1
	}
	passwords, reason := passwordsIn(cells[found])
	var ids []bitlocker.GUID
	computer, container := "", ""
	for i, c := range cells {
		if i == found {
			continue
		}
		if found := guidsIn(c); len(found) > 0 {
			ids = append(ids, found...)
		}
		cn, in, isDN := fromDN(c)
		if isDN && container == "" {
			container = in
		}
		if n := shortName(c); computer == "" && !strings.ContainsAny(cn, "{}") && findGUID(n, 0) < 0 && looksLikeComputer(n) {
			computer = n
		}
	}
	if reason != "" {
		p := RowError{Line: r.line, Kind: InvalidKey, Reason: reason}
		if len(ids) == 1 {
			p.ID = ids[0]
		}
		t.report(p)
		return
	}
	for _, p := range passwords {
		e := Entry{Computer: cleanName(computer), Container: cleanName(container), Password: p, Line: r.line}
		if len(ids) == 0 {
			t.add(e)
		}
		// Which of several GUIDs is the key's cannot be told without a header;
		// a wrong one matches no protector.
		for _, id := range ids {
			e.ID, e.HasID = id, true
			t.add(e)
		}
	}
}

// bareCells splits a row by the separator that leaves the key a cell of its own,
// and tells which; found is -1 if none does.
func (t *table) bareCells(text string) (cells []string, found int) {
	found = -1
	for _, sep := range t.candidates() {
		var ok bool
		if cells, ok = splitRow(t.cells, text, sep); !ok {
			continue
		}
		t.cells = cells
		for i, c := range cells {
			if start, end := findKey(c, 0); start >= 0 && end-start >= len(c)-4 {
				found = i
			}
		}
		if found >= 0 {
			break
		}
	}
	return cells, found
}

// notComputers are words that exports put into other columns.
var notComputers = map[string]bool{
	"true": true, "false": true, "null": true, "yes": true, "no": true, "entra": true, "activedirectory": true,
	"azuread": true, "operatingsystemvolume": true, "fixeddatavolume": true, "removabledatavolume": true,
}

func looksLikeComputer(s string) bool {
	return hasComputerShape(s) && strings.ContainsFunc(s, unicode.IsLetter) && !notComputers[strings.ToLower(s)]
}

// maxComputerName is a DNS label's length, which bounds computer names (RFC 1035, section 2.3.4).
const maxComputerName = 63

// hasComputerShape is no regular expression because that, with all the letters there are, would take longer to
// compile than everything else in the program.
func hasComputerShape(s string) bool {
	if n := utf8.RuneCountInString(s); n == 0 || n > maxComputerName || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '_' && r != '-'
	})
}

// maxName bounds what is kept of a name, in bytes.
const maxName = 512

// cleanName drops what could disturb a terminal or a log, and anything that might
// be a key in the wrong column.
func cleanName(s string) string {
	if mayHoldKey(s) {
		return ""
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return s
}
