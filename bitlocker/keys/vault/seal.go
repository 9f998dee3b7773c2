package vault

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"filippo.io/age"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

// The lines at the beginning of an opened vault.
const (
	magic        = "# bootmend vault "
	version      = "1"
	fieldCreated = "# created "
	fieldExpires = "# expires "
	columns      = "KeyID,RecoveryKey,StartupKey,ComputerName"
)

// WorkFactor is the power of two that makes trying a passphrase slow (scrypt's N, with r 8 and p 1). Deriving the
// key takes 0.4 s and 128 MiB on a fast processor, and about a second on a small PC.
const WorkFactor = 17

// Options say how a vault is sealed.
type Options struct {
	// Recipients open the vault: one of [NewPassphrase], or any number of others.
	Recipients []age.Recipient
	// Created and Expires are sealed in, to the second; without Expires the vault stays good.
	Created, Expires time.Time
}

// MinPassphrase is how many characters a passphrase has at least.
const MinPassphrase = 8

// CheckPassphrase says what makes a passphrase unfit: it is too short to keep a thief busy, or it has characters
// that the keyboard of a machine under repair cannot type.
func CheckPassphrase(passphrase string) error {
	for _, r := range passphrase {
		if r < ' ' || r > '~' {
			return errors.New("the passphrase has a character that cannot be typed on a machine under repair: use the letters, digits, signs and blanks of an American keyboard")
		}
	}
	switch {
	case len(passphrase) < MinPassphrase:
		return fmt.Errorf("the passphrase has %d characters: use at least %d, better several words", len(passphrase), MinPassphrase)
	case strings.TrimSpace(passphrase) != passphrase:
		return errors.New("the passphrase begins or ends with a blank, which nobody sees: leave it out")
	}
	return nil
}

// NewPassphrase is the recipient of a vault that a passphrase opens. Only tests choose another workFactor than
// [WorkFactor].
func NewPassphrase(passphrase string, workFactor int) (age.Recipient, error) {
	if err := CheckPassphrase(passphrase); err != nil {
		return nil, err
	}
	if workFactor < 1 || workFactor > maxWorkFactor {
		return nil, fmt.Errorf("work factor %d is out of range: use 1 to %d", workFactor, maxWorkFactor)
	}
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(workFactor)
	return r, nil
}

// Seal writes the keys of a list as a vault. The same list gives other bytes each time, as sealing has to. It is an error
// where the list is more than a vault can hold.
func Seal(w io.Writer, list *keys.List, o Options) error {
	if len(list.Entries) > maxRows {
		return fmt.Errorf("seal keys: %d keys are more than the %d that a vault holds", len(list.Entries), maxRows)
	}
	if n := len(list.StartupKeys); n > keys.MaxStartupKeys {
		return fmt.Errorf("seal keys: %d startup keys are more than the %d that a vault holds", n, keys.MaxStartupKeys)
	}
	sealed, err := age.Encrypt(&bounded{w, maxSize}, o.Recipients...)
	if err != nil {
		return fmt.Errorf("seal keys: %w", err)
	}
	if err := errors.Join(writeText(sealed, list, o), sealed.Close()); err != nil {
		return fmt.Errorf("seal keys: %w", err)
	}
	return nil
}

// bounded is a writer that takes no more than what is left.
type bounded struct {
	to   io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, fmt.Errorf("they are more than a vault holds, %d MiB: seal the keys of fewer computers", maxSize>>20)
	}
	b.left -= len(p)
	return b.to.Write(p)
}

// writeText writes what is sealed.
func writeText(w io.Writer, list *keys.List, o Options) error {
	out := bufio.NewWriter(w)
	line := func(parts ...string) { // out keeps its first error
		for _, p := range parts {
			_, _ = out.WriteString(p)
		}
		_ = out.WriteByte('\n')
	}
	line(magic, version)
	line(fieldCreated, o.Created.UTC().Format(time.RFC3339))
	if !o.Expires.IsZero() {
		line(fieldExpires, o.Expires.UTC().Format(time.RFC3339))
	}
	line(columns)
	for _, k := range list.StartupKeys {
		line(k.ID.String(), ",,", base64.StdEncoding.EncodeToString(k.Data.Reveal()), ",")
	}
	for _, e := range sorted(list.Entries) {
		line(idText(e), ",", e.Password.Reveal(), ",,", quote(e.Computer))
	}
	return out.Flush()
}

// sorted orders entries by ID; those without come first. Keys of the same ID stay in their order.
func sorted(entries []keys.Entry) []keys.Entry {
	entries = slices.Clone(entries)
	text := make(map[[16]byte]string, len(entries))
	for _, e := range entries {
		text[e.ID] = e.ID.String()
	}
	slices.SortStableFunc(entries, func(a, b keys.Entry) int {
		if !a.HasID || !b.HasID {
			return cmp.Compare(btoi(a.HasID), btoi(b.HasID))
		}
		return strings.Compare(text[a.ID], text[b.ID])
	})
	return entries
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func idText(e keys.Entry) string {
	if !e.HasID {
		return ""
	}
	return e.ID.String()
}

// quote makes a cell of a name (RFC 4180). A line break would end the row, so it goes.
func quote(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, name)
	if strings.ContainsAny(name, `",`) {
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return name
}
