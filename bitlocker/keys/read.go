package keys

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// Read reads recovery keys in any format that is known, and tells by the content
// which it is: a table (as [ReadCSV]), what Windows saves or manage-bde prints in
// any language, an LDIF or JSON export, a list of bare keys, or a .BEK startup
// key. Name is what errors call the source; a key ID in it counts for a file of
// one key without.
//
// What gives no key is in Problems, and the rest still counts. The error is for a
// source that cannot be read at all; it wraps [ErrSealed] for a vault.
func Read(r io.Reader, name string) (*List, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("read keys from %s: %w", name, err)
	}
	defer clear(data)
	if IsSealed(data) {
		return nil, fmt.Errorf("read keys from %s: %w", name, ErrSealed)
	}
	if k, err := ParseStartupKey(data); err == nil {
		k.File = name
		return &List{StartupKeys: []StartupKey{k}}, nil
	}
	text, err := decodeText(data)
	if err != nil {
		return nil, fmt.Errorf("read keys from %s: %w", name, err)
	}
	c := newCollector(name)
	if err := c.text(text); err != nil {
		return nil, fmt.Errorf("read keys from %s: %w", name, err)
	}
	c.finish()
	nameOnlyKey(c.list, name)
	return c.list, nil
}

// text reads a text whose format is not known.
func (c *collector) text(text string) error {
	switch {
	case looksLikeJSON(text) && c.json(text):
		return nil
	case looksLikeLDIF(text):
		c.ldif(text)
	case looksLikeBlocks(text):
		c.blocks(text)
	default:
		return c.table(text)
	}
	if c.list.Len() == 0 && len(c.list.Problems) == 0 {
		c.problem(1, Unreadable, noKeyFound)
	}
	return nil
}

const noKeyFound = "no recovery key found: expected columns such as KeyID and RecoveryKey"

// nameOnlyKey takes a key's ID from the file's name, which is where Windows puts
// it too, if there is one key and it has none.
func nameOnlyKey(l *List, name string) {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	if len(l.Entries) != 1 || l.Entries[0].HasID || len(l.Problems) > 0 {
		return
	}
	if ids := guidsIn(name); len(ids) == 1 {
		l.Entries[0].ID, l.Entries[0].HasID = ids[0], true
	}
}
