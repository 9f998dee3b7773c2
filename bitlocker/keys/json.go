package keys

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
)

// maxDepth bounds how deeply objects may lie in each other.
const maxDepth = 64

func looksLikeJSON(text string) bool {
	text = strings.TrimSpace(text)
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")
}

// json reads JSON values, one or many behind each other, as Graph, directory and
// management exports and scripts around Get-BitLockerVolume write them. Whatever
// their shape: an object that names a recovery key is a row; what it does not say
// of the computer, an object around it may. ok is false if the text is no JSON
// from its start on.
func (c *collector) json(text string) (ok bool) {
	w := &jsonWalk{collector: c, text: text, line: 1}
	for w.base < len(text) {
		if err := w.values(); errors.Is(err, io.EOF) {
			break
		}
		if !w.any {
			return false
		}
		// Of lines of JSON, one bad line does not stop the others.
		c.problem(w.lineAt(w.base+int(w.dec.InputOffset())), Unreadable, "not valid JSON from here on")
		next := strings.IndexByte(text[w.base+int(w.dec.InputOffset()):], '\n')
		if next < 0 {
			break
		}
		w.base += int(w.dec.InputOffset()) + next + 1
	}
	if c.list.Len() == 0 && len(c.list.Problems) == 0 {
		c.problem(1, Unreadable, "no recovery key found in the JSON")
	}
	return true
}

// jsonWalk walks through a text's values.
type jsonWalk struct {
	*collector
	text string
	dec  *json.Decoder
	base int  // where dec began
	any  bool // a whole value was read
	rows []jsonRow

	line, lineEnd int // lineAt counts from its last answer
}

// jsonRow is a row whose computer may yet be named by an object around it.
type jsonRow struct {
	line int
	f    fields
}

// values reads values up to the first error, which is io.EOF at the end.
func (w *jsonWalk) values() error {
	w.dec = json.NewDecoder(strings.NewReader(w.text[w.base:]))
	w.dec.UseNumber()
	for {
		w.rows = w.rows[:0]
		_, err := w.value(0)
		// Also those before an error count.
		for _, r := range w.rows {
			w.row(r)
		}
		if err != nil {
			w.any = w.any || len(w.rows) > 0
			return err
		}
		w.any = true
	}
}

func (w *jsonWalk) row(r jsonRow) {
	if r.f.key != "" {
		w.fields(r.line, r.f)
		return
	}
	p := RowError{Line: r.line, Kind: NoKey, Reason: noKeyInRow}
	p.ID, _ = r.f.onlyID()
	w.report(p)
}

// lineAt is the number of the line of a byte that is not before the last asked for.
func (w *jsonWalk) lineAt(offset int) int {
	offset = min(offset, len(w.text))
	if offset > w.lineEnd {
		w.line += strings.Count(w.text[w.lineEnd:offset], "\n")
		w.lineEnd = offset
	}
	return w.line
}

// value reads one value. It returns strings, numbers and truth values as text, and
// a list of 16 numbers below 256 as those bytes, which PowerShell makes of them.
func (w *jsonWalk) value(depth int) (string, error) {
	if depth > maxDepth {
		return "", errors.New("too deep")
	}
	token, err := w.dec.Token()
	if err != nil {
		return "", err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return "", w.object(depth)
		}
		return w.array(depth)
	case string:
		return t, nil
	case json.Number:
		return t.String(), nil
	case bool:
		return strconv.FormatBool(t), nil
	}
	return "", nil
}

func (w *jsonWalk) array(depth int) (string, error) {
	var octets []byte
	n := 0
	for ; w.dec.More(); n++ {
		v, err := w.value(depth + 1)
		if err != nil {
			return "", err
		}
		if b, err := strconv.ParseUint(v, 10, 8); err == nil && len(octets) == n && n < len(bitlocker.GUID{}) {
			octets = append(octets, byte(b))
		}
	}
	_, err := w.dec.Token()
	if n == len(bitlocker.GUID{}) && len(octets) == n {
		return bitlocker.GUID(octets).String(), err
	}
	return "", err
}

// jsonNames are the names that count, by what they are.
var jsonNames = func() map[string]bool {
	names := map[string]bool{"volumetype": true, "deviceid": true, "keyprotectortype": true, "keyprotector": true}
	for _, list := range [][]string{idColumns, keyColumns, computerColumns, containerColumns, objectColumns} {
		for _, n := range list {
			names[n] = true
		}
	}
	return names
}()

// object reads an object behind its brace.
func (w *jsonWalk) object(depth int) error {
	line := w.lineAt(w.base + int(w.dec.InputOffset()))
	first := len(w.rows)
	values := map[string]string{}
	for w.dec.More() {
		token, err := w.dec.Token()
		if err != nil {
			return err
		}
		v, err := w.value(depth + 1)
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if name = columnName(name); jsonNames[name] && values[name] == "" && len(v) < maxLine {
			values[name] = v
		}
	}
	if _, err := w.dec.Token(); err != nil {
		return err
	}
	find := func(names []string) string {
		for _, n := range names {
			if values[n] != "" {
				return values[n]
			}
		}
		return ""
	}
	f := fields{id: find(idColumns), key: find(keyColumns), computer: find(computerColumns), container: find(containerColumns)}
	for _, n := range objectColumns {
		if values[n] != "" {
			f.objects = append(f.objects, values[n])
		}
	}
	if id, ok := octetGUID(f.id); ok {
		f.id = id.String()
	}
	if strings.Contains(values["keyprotector"], "BitLockerVolumeKeyProtector") {
		w.problem(line, NoKey, "the export wrote type names instead of the key protectors: export again with ConvertTo-Json -Depth 5")
	}
	// What an object says of the computer counts for those inside.
	if computer, container := f.place(); computer != "" || container != "" {
		for i := range w.rows[first:] {
			inside := &w.rows[first+i].f
			if c, o := inside.place(); c == "" && o == "" {
				inside.computer, inside.container = computer, container
			}
		}
	}
	if values["volumetype"] == "" && values["deviceid"] == "" || values["keyprotector"] != "" {
		if f.key == "" || !isKeyField(values) {
			return nil
		}
	} else if _, ok := f.onlyID(); f.key == "" && (!ok || len(w.rows) > first) {
		return nil
	}
	w.rows = append(w.rows, jsonRow{line, f})
	return nil
}

// isKeyField tells a recovery key from other things called "key" or "password".
func isKeyField(values map[string]string) bool {
	if t := values["keyprotectortype"]; t != "" && t != "3" && !strings.EqualFold(t, "RecoveryPassword") {
		return false // of Get-BitLockerVolume: a TPM or another that has none
	}
	for _, n := range keyColumns {
		if v := values[n]; v != "" {
			return !slices.Contains([]string{"key", "password"}, n) || mayHoldKey(v)
		}
	}
	return false
}

// octetGUID reads a GUID as its bytes in base64, which directory tools make of it.
func octetGUID(s string) (id bitlocker.GUID, ok bool) {
	if len(s) != 24 {
		return id, false
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return bitlocker.GUID(b), true
}
