package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
)

// vaultOptions say how keys are sealed.
type vaultOptions struct {
	passphraseFile string
	recipients     []string
	recipientFiles []string
	expires        string
	workFactor     int

	passphrase age.Recipient // as it was asked for, for further vaults of the same media
}

func (o *vaultOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "file with the vault's passphrase in its first line (default: ask on the terminal)")
	f.StringArrayVar(&o.recipients, "recipient", nil, "seal for this public key (age1..., ssh-ed25519 ..., ssh-rsa ...) instead of a passphrase (may be repeated)")
	f.StringArrayVar(&o.recipientFiles, "recipient-file", nil, "the same with a file of public keys, one a line (may be repeated)")
	f.StringVar(&o.expires, "expires", "", "when the keys stop being used: a date (2026-12-31), a time (2026-12-31T18:00) or from now (12h, 14d, 2w)")
	f.IntVar(&o.workFactor, "work-factor", vault.WorkFactor, "how slow trying a passphrase is made, as a power of two")
	_ = f.MarkHidden("work-factor") // lower only where tests run on an emulated machine
}

// used names a flag that was given, "" for none.
func (o *vaultOptions) used() string {
	switch {
	case o.passphraseFile != "":
		return "--passphrase-file"
	case len(o.recipients) > 0:
		return "--recipient"
	case len(o.recipientFiles) > 0:
		return "--recipient-file"
	case o.expires != "":
		return "--expires"
	}
	return ""
}

// check reads what the flags name, before anybody is asked anything. No recipients means: a passphrase.
func (o *vaultOptions) check(now time.Time) (sealing vault.Options, err error) {
	sealing.Created = now
	if sealing.Expires, err = parseExpiry(o.expires, now); err != nil {
		return sealing, &usageError{err}
	}
	for _, s := range o.recipients {
		r, err := vault.ParseRecipient(s)
		if err != nil {
			return sealing, usagef("--recipient: %w", err)
		}
		sealing.Recipients = append(sealing.Recipients, r)
	}
	for _, name := range o.recipientFiles {
		list, err := readRecipients(name)
		if err != nil {
			return sealing, err
		}
		sealing.Recipients = append(sealing.Recipients, list...)
	}
	if o.passphraseFile != "" && len(sealing.Recipients) > 0 {
		return sealing, usagef("a vault is opened by a passphrase or by recipients, not by both: leave out --passphrase-file or the recipients")
	}
	return sealing, nil
}

func readRecipients(name string) ([]age.Recipient, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return vault.ReadRecipients(f, name)
}

// seal seals a list, with the passphrase that it asks for unless there are recipients.
func (o *vaultOptions) seal(ctx context.Context, messages io.Writer, list *keys.List) ([]byte, error) {
	sealing, err := o.check(time.Now())
	if err != nil {
		return nil, err
	}
	how := "each machine opens it with an identity on a second stick"
	if len(sealing.Recipients) == 0 {
		how = "each machine asks for the passphrase once"
		if o.passphrase == nil {
			passphrase, err := newPassphrase(ctx, messages, o.passphraseFile)
			if err != nil {
				return nil, err
			}
			if o.passphrase, err = vault.NewPassphrase(passphrase, o.workFactor); err != nil {
				return nil, err
			}
		}
		sealing.Recipients = []age.Recipient{o.passphrase}
	}
	var out bytes.Buffer
	if err := vault.Seal(&out, list, sealing); err != nil {
		return nil, err
	}
	until := ""
	if !sealing.Expires.IsZero() {
		until = "; it is refused from " + sealing.Expires.Format("2006-01-02 15:04 MST") + " on, or up to 26 hours later where a machine's clock runs behind"
	}
	fmt.Fprintf(messages, "bootmend: %s sealed in a vault: %s%s\n", countKeys(list), how, until)
	return out.Bytes(), nil
}

// countKeys is how many keys a list holds, in words.
func countKeys(list *keys.List) string {
	text := plural(len(list.Entries), "recovery key")
	if n := len(list.StartupKeys); n > 0 {
		text += " and " + plural(n, "startup key")
	}
	return text
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// newPassphrase reads the passphrase for a new vault from a file, or asks for it twice.
func newPassphrase(ctx context.Context, messages io.Writer, file string) (string, error) {
	if file != "" {
		passphrase, err := readPassphraseFile(file)
		if err == nil {
			if err = vault.CheckPassphrase(passphrase); err != nil {
				err = fmt.Errorf("%s: %w", file, err)
			}
		}
		return passphrase, err
	}
	first, err := askHidden(ctx, messages, "Passphrase for the vault: ", "name a file with --passphrase-file, or a --recipient")
	if err != nil {
		return "", err
	}
	if err := vault.CheckPassphrase(first); err != nil {
		return "", err
	}
	second, err := askHidden(ctx, messages, "The same again: ", "")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", withHint(errors.New("the two passphrases differ"), "start again, and type the same twice")
	}
	return first, nil
}

// passphraseLimit bounds a passphrase file.
const passphraseLimit = 4 << 10

// readPassphraseFile takes the first line of a file that nobody else may read; "-" is the standard input.
func readPassphraseFile(name string) (string, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return "", err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return "", err
		}
		if othersMayRead(info) {
			return "", withHint(fmt.Errorf("%s: other users of this computer may read the passphrase", name), "chmod 600 %s", name)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, passphraseLimit+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer clear(data)
	if len(data) > passphraseLimit {
		return "", fmt.Errorf("%s: larger than %d bytes, which is no passphrase", name, passphraseLimit)
	}
	line, _, _ := bytes.Cut(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return "", fmt.Errorf("%s: the first line is empty, where the passphrase should be", name)
	}
	return string(line), nil
}

// askHidden asks a question on the terminal, where the answer does not show. hint says what to do without a terminal.
func askHidden(ctx context.Context, messages io.Writer, question, hint string) (string, error) {
	fd := int(os.Stdin.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", withHint(errors.New("a passphrase is needed, and there is no terminal to ask on"), "%s", hint)
	}
	fmt.Fprint(messages, question)
	defer fmt.Fprintln(messages)
	type answer struct {
		line []byte
		err  error
	}
	typed := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		typed <- answer{line, err}
	}()
	select {
	case a := <-typed:
		defer clear(a.line)
		return string(a.line), a.err
	case <-ctx.Done(): // Ctrl-C
		_ = term.Restore(fd, state)
		return "", ctx.Err()
	}
}

// maxExpiry is where an expiry date is more likely mistyped than meant.
const maxExpiry = 10 * 365 * 24 * time.Hour

// parseExpiry reads --expires. A date is good to its end, here.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	expires, err := expiryTime(s, now)
	switch {
	case err != nil:
		return time.Time{}, err
	case !expires.After(now):
		return time.Time{}, fmt.Errorf("--expires %s: that time is over", s)
	case expires.Sub(now) > maxExpiry:
		return time.Time{}, fmt.Errorf("--expires %s: more than ten years from now: leave --expires out for keys that stay good", s)
	}
	return expires.Truncate(time.Second), nil
}

func expiryTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.ParseInLocation("2006-01-02", s, time.Local); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for suffix, days := range map[string]int{"d": 1, "w": 7} {
		if number, ok := strings.CutSuffix(s, suffix); ok {
			if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < 10_000 {
				return now.AddDate(0, 0, n*days), nil
			}
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	return time.Time{}, fmt.Errorf("--expires %s: neither a date (2026-12-31), a time (2026-12-31T18:00) nor a duration (12h, 14d, 2w)", s)
}
