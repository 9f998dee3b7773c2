package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"aead.dev/minisign"
)

// SecretKey signs rule packs. It shows nothing of itself when printed.
type SecretKey struct{ key minisign.PrivateKey }

// Format keeps the key out of every verb of package fmt.
func (SecretKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("secret key (withheld)")) }

// ErrPassword says that a secret key needs another password.
var ErrPassword = errors.New("the password does not open the secret key")

// GenerateKey makes a key pair in minisign's file formats. An empty password leaves the secret key unprotected; any
// other costs about a second and 1 GiB of memory, as it does minisign.
func GenerateKey(rnd io.Reader, password string) (public, secret []byte, id string, err error) {
	pub, key, err := minisign.GenerateKey(rnd)
	if err != nil {
		return nil, nil, "", fmt.Errorf("make a key: %w", err)
	}
	if public, err = pub.MarshalText(); err != nil {
		return nil, nil, "", err
	}
	if password == "" {
		secret, err = key.MarshalText()
	} else {
		secret, err = minisign.EncryptKey(password, key)
	}
	if err != nil {
		return nil, nil, "", fmt.Errorf("protect the secret key: %w", err)
	}
	return append(public, '\n'), append(secret, '\n'), keyID(pub.ID()), nil
}

// NeedsPassword reports whether a secret key file is protected.
func NeedsPassword(secret []byte) bool { return minisign.IsEncrypted(bytes.TrimSpace(secret)) }

// ParseSecretKey reads a minisign secret key file; password is ignored where none is needed.
func ParseSecretKey(data []byte, password string) (SecretKey, error) {
	data = bytes.TrimSpace(data)
	if len(data) > maxKeySize {
		return SecretKey{}, fmt.Errorf("a minisign secret key has less than %d bytes, this file has more", maxKeySize)
	}
	if NeedsPassword(data) {
		key, err := minisign.DecryptKey(password, data)
		if err != nil {
			return SecretKey{}, ErrPassword
		}
		return SecretKey{key}, nil
	}
	var key minisign.PrivateKey
	if err := key.UnmarshalText(data); err != nil {
		return SecretKey{}, fmt.Errorf("not a minisign secret key: %w", plainly(err))
	}
	return SecretKey{key}, nil
}

// KeyID is the ID of the key, as minisign shows it.
func (k SecretKey) KeyID() string { return keyID(k.key.ID()) }

// Sign makes the content of a pack's signature file. The comment becomes part of what is signed.
func (k SecretKey) Sign(pack []byte, comment string) ([]byte, error) {
	if strings.ContainsFunc(comment, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
		return nil, errors.New("the comment of a signature is one line")
	}
	// Hashed first, as minisign does since 0.8.
	r := minisign.NewReader(bytes.NewReader(pack))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return r.SignWithComments(k.key, comment, "signature by bootmend, key "+k.KeyID()), nil
}
