package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
)

// secret is what a person gave to open a volume with. Exactly one field is set; none means: ask.
type secret struct {
	recovery *bitlocker.RecoveryPassword
	list     *keys.List
	password string
}

// keyFileLimit bounds a key file; the largest is a key list of a whole company.
const keyFileLimit = 64 << 20

// readSecret tells by a key file's content what it is.
func readSecret(path string) (secret, error) {
	if path == "" {
		return secret{}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return secret{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, keyFileLimit+1))
	if err != nil {
		return secret{}, err
	}
	if len(data) > keyFileLimit {
		return secret{}, fmt.Errorf("key file %s is larger than %d MiB", path, keyFileLimit>>20)
	}
	defer clear(data)
	text := strings.TrimSpace(string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	if text == "" {
		return secret{}, fmt.Errorf("key file %s is empty", path)
	}
	if p, err := bitlocker.ParseRecoveryPassword(text); err == nil {
		return secret{recovery: &p}, nil
	}
	list, err := keys.Read(bytes.NewReader(data), path)
	if err == nil && list.Len() > 0 {
		return secret{list: list}, nil
	}
	if strings.ContainsAny(text, "\r\n\x00") {
		if err == nil {
			err = fmt.Errorf("key file %s: neither a recovery password, a key list, a startup key nor a password in one line", path)
		}
		return secret{}, withHint(err, "\"bootmend keys check %s\" tells what is in it", path)
	}
	return parseTyped(text)
}

// parseTyped takes 48 digits for a recovery password and everything else for a user's password. Digits and
// dashes of about that length are a mistyped recovery password, and are called that.
func parseTyped(text string) (secret, error) {
	p, err := bitlocker.ParseRecoveryPassword(text)
	if err == nil {
		return secret{recovery: &p}, nil
	}
	if strings.Trim(text, "0123456789- ") == "" && len(text) >= 40 {
		return secret{}, fmt.Errorf("recovery password: %w", err)
	}
	return secret{password: text}, nil
}

// unlock opens a volume with the secret. Without one, a clear key is tried, then the person is asked.
func unlock(ctx context.Context, messages io.Writer, m *bitlocker.Metadata, s secret) (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
	switch {
	case s.recovery != nil:
		return m.UnlockRecovery(ctx, *s.recovery, nil)
	case s.list != nil:
		return s.list.Unlock(ctx, m)
	case s.password != "":
		return m.UnlockPassword(ctx, s.password)
	}
	key, protector, err := m.UnlockClearKey()
	if !errors.Is(err, bitlocker.ErrNoProtector) {
		return key, protector, err
	}
	typed, err := askSecret(messages, m)
	if err != nil {
		return nil, nil, err
	}
	return unlock(ctx, messages, m, typed)
}

// askSecret asks on the terminal, where what is typed does not show.
func askSecret(messages io.Writer, m *bitlocker.Metadata) (secret, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return secret{}, withHint(errors.New("no key was given, and there is no terminal to ask on"), "name a file with --key-file")
	}
	for _, p := range m.Protectors {
		if p.Kind == bitlocker.ProtectorRecoveryPassword {
			fmt.Fprintf(messages, "bootmend: recovery password wanted, key ID %s\n", p.ID)
		}
	}
	fmt.Fprint(messages, "Recovery password or password: ")
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(messages)
	if err != nil {
		return secret{}, err
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return secret{}, errors.New("no key was typed")
	}
	return parseTyped(strings.TrimSpace(string(line)))
}
