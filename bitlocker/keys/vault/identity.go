package vault

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// maxIdentity bounds a file of identities or recipients.
const maxIdentity = 1 << 20

// ParseRecipient reads one public key: age1…, ssh-ed25519 … or ssh-rsa ….
func ParseRecipient(s string) (age.Recipient, error) {
	s = strings.TrimSpace(s)
	switch {
	case strings.HasPrefix(s, "ssh-"):
		r, err := agessh.ParseRecipient(s)
		if err != nil {
			return nil, errors.New("not an SSH public key of the kinds ssh-ed25519 and ssh-rsa")
		}
		return r, nil
	case strings.HasPrefix(strings.ToUpper(s), secretPrefix):
		return nil, errors.New("this is a secret key: name the public key that belongs to it, which begins with age1")
	}
	list, err := age.ParseRecipients(strings.NewReader(s))
	if err != nil || len(list) != 1 {
		return nil, errors.New("not a public key: it begins with age1, ssh-ed25519 or ssh-rsa")
	}
	return list[0], nil
}

// ReadRecipients reads a file of public keys, one a line; "#" begins a comment. Name is what errors call it.
func ReadRecipients(r io.Reader, name string) ([]age.Recipient, error) {
	data, err := readText(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var list []age.Recipient
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxIdentity+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		recipient, err := ParseRecipient(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		list = append(list, recipient)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: holds no public key", name)
	}
	return list, nil
}

const (
	secretPrefix = "AGE-SECRET-KEY-"
	pemPrefix    = "-----BEGIN "
)

// ErrNotIdentity says that a file holds no identity at all, so that others may be looked at.
var ErrNotIdentity = errors.New("holds neither an age identity nor an SSH private key")

// ReadIdentities reads a file of age identities, as age-keygen writes it, or an SSH private key without passphrase.
// No error repeats what is in the file. It wraps [ErrNotIdentity] for a file of another kind.
func ReadIdentities(r io.Reader, name string) ([]age.Identity, error) {
	data, err := readText(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer clear(data)
	if bytes.HasPrefix(data, []byte(pemPrefix)) {
		identity, err := agessh.ParseIdentity(data)
		var locked *ssh.PassphraseMissingError
		switch {
		case errors.As(err, &locked):
			return nil, fmt.Errorf("%s: the SSH key is protected by a passphrase itself: use one without", name)
		case err != nil:
			return nil, fmt.Errorf("%s: not an SSH private key of the kinds Ed25519 and RSA: %w", name, ErrNotIdentity)
		}
		return []age.Identity{identity}, nil
	}
	var list []age.Identity
	for n, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0 || line[0] == '#':
			continue
		case bytes.HasPrefix(line, []byte("AGE-PLUGIN-")):
			return nil, fmt.Errorf("%s, line %d: identities of plugins are not supported", name, n+1)
		case !bytes.HasPrefix(line, []byte(secretPrefix)):
			return nil, fmt.Errorf("%s, line %d: %w", name, n+1, ErrNotIdentity)
		}
		found, err := age.ParseIdentities(bytes.NewReader(line))
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: the identity is mistyped or cut off", name, n+1)
		}
		list = append(list, found...)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNotIdentity)
	}
	return list, nil
}

// readText reads a small text file. Windows' shell writes what a program prints in UTF-16.
func readText(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxIdentity+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxIdentity {
		return nil, fmt.Errorf("larger than %d KiB", maxIdentity>>10)
	}
	if after, ok := bytes.CutPrefix(data, []byte{0xff, 0xfe}); ok {
		units := make([]uint16, len(after)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16(after[2*i:])
		}
		clear(data)
		return []byte(string(utf16.Decode(units))), nil
	}
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}
