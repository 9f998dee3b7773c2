package bitlocker

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// maxBEK bounds a startup key file; those of Windows have 156 bytes or a few more.
const maxBEK = 64 << 10

// parseBEK reads a startup key file (BDE, "BitLocker External Key (BEK)
// file"): the protector that it belongs to, and its key.
func parseBEK(b []byte) (id GUID, key []byte, err error) {
	var h fve.DatasetHeader
	if len(b) < fve.DatasetHeaderSize || len(b) > maxBEK {
		return id, nil, fmt.Errorf("has %d bytes, want %d to %d", len(b), fve.DatasetHeaderSize, maxBEK)
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil {
		return id, nil, err
	}
	if h.Version != fve.DatasetVersion || h.HeaderSize < fve.DatasetHeaderSize || h.Size < h.HeaderSize || int64(h.Size) > int64(len(b)) {
		return id, nil, fmt.Errorf("header has version %d, header size %d, size %d in a file of %d bytes: not a .BEK file, or cut off", h.Version, h.HeaderSize, h.Size, len(b))
	}
	list, err := parseEntries(b[h.HeaderSize:h.Size], int(h.HeaderSize))
	if err != nil {
		return id, nil, err
	}
	for _, e := range list {
		// The type says what the key is for (0x0006: to start Windows); other
		// entries than keys, as newer files have, are passed over.
		if e.Value != fve.ValueExternalKey {
			continue
		}
		inside, err := e.nested(fve.ExternalSize)
		if err != nil {
			return id, nil, err
		}
		id = GUID(e.data[:16])
		for _, n := range inside {
			if n.Value != fve.ValueKey {
				continue
			}
			_, key, err = n.key()
			if err == nil && len(key) != 32 {
				err = fmt.Errorf("key has %d bytes instead of 32", len(key))
			}
			return id, key, err
		}
	}
	return id, nil, errors.New("holds no external key")
}

// StartupKeyID gives the identifier of the protector that a .BEK file
// belongs to.
func StartupKeyID(bek []byte) (GUID, error) {
	id, _, err := parseBEK(bek)
	return id, err
}
