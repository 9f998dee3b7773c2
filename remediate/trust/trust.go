// Package trust decides whose rule packs are believed. A pack is trusted if it is, byte for byte, one that is
// packaged with the program, or if it has a signature of minisign (https://jedisct1.github.io/minisign/, Ed25519)
// by a key that was given: [Store.Verify]. Signatures are made with minisign itself or with [Sign].
package trust

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"aead.dev/minisign"
)

// Extension is what a signature's file is called by, behind the name of the pack.
const Extension = ".minisig"

// Limits of what is read from media; a key or a signature has a few hundred bytes.
const (
	maxKeySize       = 4 << 10
	maxSignatureSize = 16 << 10
)

// Why a pack is not trusted. Each comes with the details in its text.
var (
	ErrUnsigned   = errors.New("has no signature")
	ErrUnknownKey = errors.New("is signed with a key that is not trusted here")
	ErrChanged    = errors.New("is not what was signed: the pack or its signature was changed")
	ErrMalformed  = errors.New("has a signature file that is not minisign's")
)

// Origin is how a pack came to be trusted.
type Origin string

// The origins of a trusted pack.
const (
	Packaged Origin = "packaged" // with the program
	Signed   Origin = "signed"
	Allowed  Origin = "unsigned" // or badly signed, and allowed nevertheless
)

// Verdict is what [Store.Verify] found out about a trusted pack.
type Verdict struct {
	Origin Origin `json:"origin"`
	// KeyID is the signing key's, as minisign shows it; Comment what the signer wrote into the signed part.
	KeyID   string `json:"key_id,omitempty"`
	Comment string `json:"comment,omitempty"`
	// Problem says, for Allowed, what would have kept the pack from being trusted.
	Problem string `json:"problem,omitempty"`
}

// String is the verdict for people.
func (v Verdict) String() string {
	switch v.Origin {
	case Packaged:
		return "packaged with this program"
	case Signed:
		return "signed with key " + v.KeyID
	}
	return "not trusted, but allowed: it " + v.Problem
}

// Store is what is trusted. The zero value trusts nothing.
type Store struct {
	packaged map[[sha256.Size]byte]bool
	keys     []minisign.PublicKey
	// AllowUnsigned lets every pack pass, with the reason why it should not in the verdict.
	AllowUnsigned bool
}

// NewStore trusts the packs (*.yaml) at the top of packaged.
func NewStore(packaged fs.FS) (*Store, error) {
	names, err := fs.Glob(packaged, "*.yaml")
	if err != nil {
		return nil, err
	}
	s := &Store{packaged: make(map[[sha256.Size]byte]bool)}
	for _, name := range names {
		data, err := fs.ReadFile(packaged, name)
		if err != nil {
			return nil, fmt.Errorf("packaged rule pack %s: %w", name, err)
		}
		s.packaged[sha256.Sum256(data)] = true
	}
	return s, nil
}

// AddKey trusts a minisign public key: the content of a .pub file, or its second line alone. It returns the key's ID.
func (s *Store) AddKey(data []byte) (string, error) {
	key, err := parseKey(data)
	if err != nil {
		return "", err
	}
	s.keys = append(s.keys, key)
	return keyID(key.ID()), nil
}

func parseKey(data []byte) (minisign.PublicKey, error) {
	var key minisign.PublicKey
	if len(data) > maxKeySize {
		return key, fmt.Errorf("a minisign public key has less than %d bytes, this file has more", maxKeySize)
	}
	if bytes.Contains(data, []byte("secret key")) {
		return key, errors.New("this is a secret key: give the public one (.pub), and keep this one to yourself")
	}
	if err := key.UnmarshalText(bytes.TrimSpace(data)); err != nil {
		return key, fmt.Errorf("not a minisign public key: %w", plainly(err))
	}
	return key, nil
}

// Verify decides about a pack. signature is the content of its signature file, nil where there is none.
func (s *Store) Verify(pack, signature []byte) (Verdict, error) {
	if s.packaged[sha256.Sum256(pack)] {
		return Verdict{Origin: Packaged}, nil
	}
	verdict, err := s.verifySignature(pack, signature)
	if err != nil && s.AllowUnsigned {
		return Verdict{Origin: Allowed, Problem: err.Error()}, nil
	}
	return verdict, err
}

func (s *Store) verifySignature(pack, signature []byte) (Verdict, error) {
	if signature == nil {
		return Verdict{}, ErrUnsigned
	}
	var sig minisign.Signature
	if len(signature) > maxSignatureSize {
		return Verdict{}, fmt.Errorf("%w: it is larger than %d bytes", ErrMalformed, maxSignatureSize)
	}
	if err := sig.UnmarshalText(signature); err != nil {
		return Verdict{}, fmt.Errorf("%w: %w", ErrMalformed, plainly(err))
	}
	known := false
	for _, key := range s.keys {
		if key.ID() != sig.KeyID {
			continue
		}
		if minisign.Verify(key, pack, signature) {
			return Verdict{Origin: Signed, KeyID: keyID(sig.KeyID), Comment: sig.TrustedComment}, nil
		}
		known = true // two keys may have one ID
	}
	if known {
		return Verdict{}, fmt.Errorf("%w (key %s)", ErrChanged, keyID(sig.KeyID))
	}
	return Verdict{}, fmt.Errorf("%w (key %s; trusted: %s)", ErrUnknownKey, keyID(sig.KeyID), s.keyList())
}

func (s *Store) keyList() string {
	if len(s.keys) == 0 {
		return "none"
	}
	ids := make([]string, len(s.keys))
	for i, k := range s.keys {
		ids[i] = keyID(k.ID())
	}
	return strings.Join(ids, ", ")
}

// keyID writes an ID as minisign does.
func keyID(id uint64) string { return fmt.Sprintf("%016X", id) }

// plainly takes the library's name off its errors.
func plainly(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "minisign: "))
}
