package vault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

// maxSize bounds a vault: a million keys with computer names.
const maxSize = 128 << 20

// maxWorkFactor bounds the memory that a vault may ask for to 1 GiB (128 bytes times r times N, RFC 7914).
const maxWorkFactor = 20

var (
	// ErrPassphrase says that a passphrase is not the vault's: ask again.
	ErrPassphrase = errors.New("the passphrase is wrong")
	// ErrIdentity says that no identity of those given opens the vault: look for another.
	ErrIdentity = errors.New("no identity that opens it is there")
	// ErrNotVault says that a file is not of the age format.
	ErrNotVault = errors.New("not a vault: it does not begin as an age file does")
)

// Sealed is a vault as it lies on media.
type Sealed struct {
	name       string
	data       []byte // of the binary format
	stanzas    []string
	workFactor int
}

// Read takes in a vault without opening it. Name is what errors call it. The error wraps [ErrNotVault] for a file of
// another kind.
func Read(r io.Reader, name string) (*Sealed, error) {
	buffered := bufio.NewReader(r)
	head, _ := buffered.Peek(256) // shorter is no vault, and a broken reader shows below
	if !keys.IsSealed(head) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotVault)
	}
	if r = buffered; !bytes.HasPrefix(head, []byte("age-")) {
		r = armor.NewReader(buffered)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", name, err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("vault %s: larger than %d MiB", name, maxSize>>20)
	}
	s := &Sealed{name: name, data: data}
	header := &headerReader{}
	if _, err := age.Decrypt(bytes.NewReader(data), header); !errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fmt.Errorf("vault %s: %w", name, err)
	}
	for _, stanza := range header.stanzas {
		s.stanzas = append(s.stanzas, stanza.Type)
		if stanza.Type == "scrypt" && len(stanza.Args) == 2 {
			s.workFactor, _ = strconv.Atoi(stanza.Args[1]) // age says what is wrong with it
		}
	}
	return s, nil
}

// headerReader is an identity that opens nothing and remembers what it was asked to open.
type headerReader struct{ stanzas []*age.Stanza }

func (h *headerReader) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	h.stanzas = stanzas
	return nil, age.ErrIncorrectIdentity
}

// Name is what the vault was called when it was read.
func (s *Sealed) Name() string { return s.name }

// Bytes is the vault as it goes onto media, in the binary format.
func (s *Sealed) Bytes() []byte { return s.data }

// WantsPassphrase reports whether a passphrase opens the vault, and not an identity.
func (s *Sealed) WantsPassphrase() bool { return slices.Contains(s.stanzas, "scrypt") }

// Memory is how many bytes opening a vault with its passphrase takes beyond the vault's own size.
func (s *Sealed) Memory() int64 {
	if s.workFactor < 1 || s.workFactor > maxWorkFactor {
		return 0
	}
	return 128 * 8 << s.workFactor
}

// Passphrase opens the vault. The error wraps [ErrPassphrase] if it is another vault's passphrase.
func (s *Sealed) Passphrase(passphrase string) (*Vault, error) {
	if passphrase == "" {
		return nil, fmt.Errorf("vault %s: %w", s.name, ErrPassphrase)
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", s.name, err)
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	return s.open(ErrPassphrase, identity)
}

// Identity opens the vault with the first of the identities that fits. The error wraps [ErrIdentity] if none does.
func (s *Sealed) Identity(identities ...age.Identity) (*Vault, error) {
	if len(identities) == 0 {
		return nil, fmt.Errorf("vault %s: %w", s.name, ErrIdentity)
	}
	return s.open(ErrIdentity, identities...)
}

func (s *Sealed) open(incorrect error, identities ...age.Identity) (*Vault, error) {
	r, err := age.Decrypt(bytes.NewReader(s.data), identities...)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fmt.Errorf("vault %s: %w", s.name, incorrect)
	}
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", s.name, err)
	}
	// One piece of memory that is large enough from the beginning, so that growing leaves no copies behind.
	text := bytes.NewBuffer(make([]byte, 0, len(s.data)+bytes.MinRead))
	if _, err := text.ReadFrom(r); err != nil {
		clear(text.Bytes())
		return nil, fmt.Errorf("vault %s is damaged: %w", s.name, err)
	}
	v, err := parse(text.Bytes(), s.name)
	if err != nil {
		clear(text.Bytes())
		return nil, err
	}
	return v, nil
}
