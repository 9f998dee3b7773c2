package keys

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bootmend/bootmend/bitlocker"
)

const (
	maxRows      = 1_000_000
	maxProblems  = 10_000
	maxJoin      = 16 // lines that one quoted cell may span
	headerWithin = 8  // rows in which a header may come
)

// ReadCSV reads a table of recovery keys. It recognises the encoding (UTF-8,
// UTF-16, with or without byte order mark), the separator (comma, semicolon, tab,
// bar), and the columns by their header, or by what is in them where there is
// none. Further columns are ignored. Name is what errors call the source.
//
// Rows that give no key are in Problems, and the others still count. A row whose
// key is good but whose ID is not is kept without ID and named in Problems too.
// The error is for a source that cannot be read at all.
func ReadCSV(r io.Reader, name string) (*List, error) {
	lines, err := newLineReader(r)
	if err != nil {
		return nil, fmt.Errorf("read key list %s: %w", name, err)
	}
	t := &table{name: name, lines: lines, list: &List{}, seen: make(map[seenKey]int)}
	if err := t.read(); err != nil {
		return nil, fmt.Errorf("read key list %s: %w", name, err)
	}
	if len(t.list.Entries) == 0 && len(t.list.Problems) == 0 {
		t.problem(1, "no recovery key found: expected columns such as KeyID and RecoveryKey")
	}
	return t.list, nil
}

type seenKey struct {
	id       bitlocker.GUID
	hasID    bool
	password bitlocker.RecoveryPassword
}

type table struct {
	name  string
	lines *lineReader
	list  *List
	seen  map[seenKey]int

	sep     rune     // 0 until known
	columns *columns // nil while none or without header
	rows    int      // that are not blank or comments
	more    int      // problems beyond maxProblems
	queue   []row    // lines read ahead
}

type row struct {
	text string
	line int
	err  error // errLongLine
}

func (t *table) problem(line int, format string, args ...any) {
	if len(t.list.Problems) >= maxProblems {
		t.more++
		return
	}
	t.list.Problems = append(t.list.Problems, RowError{File: t.name, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// nextRow returns the next line, one that was read ahead first.
func (t *table) nextRow() (row, error) {
	if len(t.queue) > 0 {
		r := t.queue[0]
		t.queue = t.queue[1:]
		return r, nil
	}
	text, err := t.lines.next()
	if errors.Is(err, errLongLine) {
		return row{line: t.lines.line, err: err}, nil
	}
	return row{text: text, line: t.lines.line}, err
}

func (t *table) read() error {
	for {
		r, err := t.nextRow()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", t.lines.line, err)
		}
		if r.err != nil {
			t.problem(r.line, "%v", r.err)
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
	if t.more > 0 {
		t.list.Problems = append(t.list.Problems, RowError{File: t.name, Line: t.lines.line,
			Reason: fmt.Sprintf("%d further problems are not listed", t.more)})
	}
	return nil
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
		cells, ok := splitRow(r.text, sep)
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
	cells, ok := splitRow(r.text, t.sep)
	if !ok {
		if cells, ok = t.join(r); !ok {
			t.problem(r.line, "a quote is not closed")
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
	if c.key >= len(cells) {
		t.problem(r.line, "the row has %d of %d columns and no recovery key", len(cells), c.count)
		return
	}
	passwords, reason := passwordsIn(cell(c.key))
	if reason != "" {
		t.problem(r.line, "%s", reason)
		return
	}
	ids, idProblem := idsIn(cell(c.id))
	if len(ids) == 0 {
		// The name of a recovery object in a directory ends in the key ID.
		for _, i := range c.objects {
			if ids = bracedGUIDs(cell(i)); len(ids) > 0 {
				ids, idProblem = ids[:1], ""
				break
			}
		}
	}
	if idProblem != "" {
		t.problem(r.line, "%s: the key is kept without it", idProblem)
	}
	computer := shortName(cell(c.computer))
	if strings.ContainsAny(computer, "{}") {
		computer = "" // the name of a recovery object, not of a computer
	}
	if len(ids) > 1 && len(ids) != len(passwords) {
		t.problem(r.line, "%d key IDs for %d keys: the keys are kept without", len(ids), len(passwords))
		ids = nil
	}
	for i, p := range passwords {
		e := Entry{Computer: cleanName(computer), Password: p, Line: r.line}
		if len(ids) == len(passwords) {
			e.ID, e.HasID = ids[i], true
		}
		t.add(e)
	}
}

// join adds following lines to a row whose quoted cell goes on. It gives up, and
// returns the lines, if that does not make a row of this table: then a quote was
// forgotten, and what follows are rows of their own.
func (t *table) join(r row) (cells []string, ok bool) {
	text := r.text
	var ahead []row
	for range maxJoin {
		next, err := t.nextRow()
		if err != nil {
			break // met again by the reader
		}
		ahead = append(ahead, next)
		if next.err != nil || len(text)+len(next.text) > maxLine {
			break
		}
		text += "\n" + next.text
		cells, ok := splitRow(text, t.sep)
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
		if strings.Contains(c, "\n") && keyShape.MatchString(c) && guidShape.MatchString(c) {
			return true
		}
	}
	return false
}

func (t *table) add(e Entry) {
	k := seenKey{e.ID, e.HasID, e.Password}
	if i, ok := t.seen[k]; ok {
		first := &t.list.Entries[i]
		if first.Computer == "" {
			first.Computer = e.Computer
		}
		if e.Computer == "" || strings.EqualFold(first.Computer, e.Computer) {
			t.list.Duplicates++
			return
		}
	} else {
		t.seen[k] = len(t.list.Entries)
	}
	t.list.Entries = append(t.list.Entries, e)
}

var (
	guidShape   = regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	bracedShape = regexp.MustCompile(`(?i)\{([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}`)
	// keyShape is what may be a recovery password, a mistyped one too.
	keyShape = regexp.MustCompile(`\d{5,7}(?:[\s\p{Pd}\x{2212}]*\d{5,7}){6,8}`)
	floatKey = regexp.MustCompile(`^\d[.,]\d+E\+\d+$`)
)

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
		return nil, "the row has no recovery key"
	case strings.HasPrefix(cell, "System."):
		return nil, "the export wrote a type name instead of the keys of a machine that has several: export that machine again"
	case floatKey.MatchString(strings.ToUpper(cell)):
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
	if id, err := bitlocker.ParseGUID(cell); err == nil {
		return []bitlocker.GUID{id}, ""
	}
	ids := parseGUIDs(guidShape.FindAllString(cell, -1))
	if len(ids) == 0 {
		return nil, "the key ID is not a GUID"
	}
	return ids, ""
}

func bracedGUIDs(cell string) []bitlocker.GUID {
	var found []string
	for _, m := range bracedShape.FindAllStringSubmatch(cell, -1) {
		found = append(found, m[1])
	}
	return parseGUIDs(found)
}

func parseGUIDs(texts []string) []bitlocker.GUID {
	var ids []bitlocker.GUID
	for _, s := range texts {
		if g, err := bitlocker.ParseGUID(s); err == nil {
			ids = append(ids, g)
		}
	}
	return ids
}

// bareRow reads a row of a table without header by what its cells look like.
func (t *table) bareRow(r row) {
	if !keyShape.MatchString(r.text) {
		// Before the first key it may be a title or a header in a language that
		// is not known here; afterwards it is a row without key.
		if len(t.list.Entries) > 0 || guidShape.MatchString(r.text) {
			t.problem(r.line, "the row has no recovery key")
		}
		return
	}
	var cells []string
	found := -1
	for _, sep := range t.candidates() {
		var ok bool
		if cells, ok = splitRow(r.text, sep); !ok {
			continue
		}
		for i, c := range cells {
			if m := keyShape.FindString(c); m != "" && guidShape.FindString(m) == "" && len(m) >= len(c)-4 {
				found = i
			}
		}
		if found >= 0 {
			break
		}
	}
	if found < 0 {
		t.problem(r.line, "the columns of this row are not recognised")
		return
	}
	passwords, reason := passwordsIn(cells[found])
	if reason != "" {
		t.problem(r.line, "%s", reason)
		return
	}
	var ids []bitlocker.GUID
	computer := ""
	for i, c := range cells {
		if i == found {
			continue
		}
		if m := guidShape.FindAllString(c, -1); len(m) > 0 {
			ids = append(ids, parseGUIDs(m)...)
			if len(commonNames(c)) > 1 && computer == "" {
				computer = shortName(c)
			}
			continue
		}
		if n := shortName(c); computer == "" && looksLikeComputer(n) {
			computer = n
		}
	}
	for _, p := range passwords {
		e := Entry{Computer: cleanName(computer), Password: p, Line: r.line}
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

// cleanName drops what could disturb a terminal or a log, and anything that might
// be a key in the wrong column.
func cleanName(s string) string {
	if keyShape.MatchString(s) {
		return ""
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 256 {
		s = string(r[:256])
	}
	return s
}
