package fvetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"unicode/utf16"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

var le = binary.LittleEndian

// builder makes the metadata of one volume.
type builder struct {
	opts  Options
	time  uint64 // FILETIME
	nonce uint32
	vmk   []byte
	err   error

	mirror uint64 // of a clear volume for Windows Vista: what BitLocker replaces
}

// bytes takes n random bytes.
func (b *builder) bytes(n int) []byte {
	p := make([]byte, n)
	if _, err := io.ReadFull(b.opts.Rand, p); err != nil && b.err == nil {
		b.err = fmt.Errorf("read random bytes: %w", err)
	}
	return p
}

// guid makes a random identifier of version 4.
func (b *builder) guid() bitlocker.GUID {
	g := bitlocker.GUID(b.bytes(16))
	g[7] = g[7]&0x0f | 0x40
	g[8] = g[8]&0x3f | 0x80
	return g
}

// put appends structures of fixed size.
func put(parts ...any) []byte {
	var p []byte
	for _, v := range parts {
		var err error
		if p, err = binary.Append(p, le, v); err != nil {
			panic(err) // a part of no fixed size: a mistake in this package
		}
	}
	return p
}

// entry makes a metadata entry.
func entry(kind, value, version uint16, data ...[]byte) []byte {
	d := bytes.Join(data, nil)
	return append(put(fve.EntryHeader{Size: uint16(fve.EntryHeaderSize + len(d)), Type: kind, Value: value, Version: version}), d...)
}

func text(kind uint16, s string) []byte {
	return entry(kind, fve.ValueString, 1, utf16le(s), []byte{0, 0})
}

func utf16le(s string) []byte { return put(utf16.Encode([]rune(s))) }

// seal makes an entry that holds a key of the given kind, encrypted.
func (b *builder) seal(kind, keyKind uint16, secret, with []byte) []byte {
	b.nonce++
	nonce := put(b.time, b.nonce)
	plain := entry(0, fve.ValueKey, 0, put(keyKind, uint16(0)), secret)
	tag, data, err := fve.Seal(with, nonce, plain, fve.TagSize)
	if err != nil && b.err == nil {
		b.err = err
	}
	return entry(kind, fve.ValueEncryptedKey, 1, nonce, tag, data)
}

// protector makes a volume master key entry.
func (b *builder) protector(id bitlocker.GUID, protection, version uint16, properties ...[]byte) []byte {
	head := put(fve.VMKHeader{ID: id, Modified: b.time, Protection: protection})
	return entry(fve.TypeVMK, fve.ValueVMK, version, head, bytes.Join(properties, nil))
}

// stretched is a protector whose key is being derived from a password.
type stretched struct {
	id       bitlocker.GUID
	salt     [16]byte
	initial  [32]byte
	key      [32]byte
	recovery []byte // the 16 bytes of a recovery password
}

// stretchAll derives the keys of all passwords at once.
func stretchAll(list []*stretched) {
	var wg sync.WaitGroup
	for _, s := range list {
		wg.Go(func() {
			// Without a deadline, it cannot fail.
			s.key, _ = fve.Stretch(context.Background(), s.initial, s.salt, nil)
		})
	}
	wg.Wait()
}

func (b *builder) newStretched(initial [32]byte, recovery []byte) *stretched {
	return &stretched{id: b.guid(), salt: [16]byte(b.bytes(16)), initial: initial, recovery: recovery}
}

// recoveryEntry is laid out as Windows 7 does, with the time entry of later
// ones: the recovery password itself is kept, under the volume master key.
func (b *builder) recoveryEntry(s *stretched) []byte {
	kd := entry(0, fve.ValueStretchKey, 1, put(uint16(fve.KeyStretchRecovery), uint16(0)), s.salt[:],
		b.seal(0, fve.KeyStretchRecovery, s.recovery, b.vmk))
	used := entry(0, fve.ValueRecoveryTime, 1, put(b.time, b.time, uint32(0x00020008)))
	return b.protector(s.id, fve.ProtectRecovery, 1, kd, b.seal(0, fve.KeyVMK, b.vmk, s.key[:]), used)
}

func (b *builder) passwordEntry(s *stretched) []byte {
	kd := entry(0, fve.ValueStretchKey, 1, put(uint16(fve.KeyStretchPassword), uint16(0)), s.salt[:],
		b.seal(0, fve.KeyStretchPassword, s.key[:], b.vmk))
	return b.protector(s.id, fve.ProtectPassword, 1, kd, b.seal(0, fve.KeyVMK, b.vmk, s.key[:]))
}

func (b *builder) clearKeyEntry(id bitlocker.GUID) []byte {
	key := b.bytes(32)
	return b.protector(id, fve.ProtectClear, 3,
		entry(0, fve.ValueKey, 1, put(uint16(fve.KeyClear), uint16(0)), key),
		b.seal(0, fve.KeyVMK, b.vmk, key), b.unknown())
}

// unknown is a property that is not known, if one is asked for.
func (b *builder) unknown() []byte {
	if !b.opts.UnknownEntries {
		return nil
	}
	return entry(0, 0x7e5a, 1, b.bytes(12))
}

func (b *builder) tpmEntry(id bitlocker.GUID) []byte {
	const pcrs = 1<<7 | 1<<11 // what Windows seals to under Secure Boot
	return b.protector(id, fve.ProtectTPM, 1,
		entry(0, fve.ValueTPMKey, 1, put(uint32(pcrs)), b.bytes(0xd0)),
		b.seal(0, fve.KeyVMK, b.vmk, b.bytes(32)))
}

const externalKeyName = "ExternalKey"

// startupKeyEntry makes the protector, and the file that opens it.
func (b *builder) startupKeyEntry(id bitlocker.GUID) (protector, bek []byte) {
	key := b.bytes(32)
	protector = b.protector(id, fve.ProtectExternal, 1,
		text(0, externalKeyName),
		entry(0, fve.ValueUseKey, 1, put(uint16(fve.KeyExternal), uint16(0)), b.seal(0, fve.KeyExternal, key, b.vmk)),
		b.seal(0, fve.KeyVMK, b.vmk, key))
	file := entry(fve.TypeStartupKey, fve.ValueExternalKey, 1, put(id, b.time),
		text(0, externalKeyName),
		entry(0, fve.ValueKey, 1, put(uint16(fve.KeyExternal), uint16(0)), key))
	size := uint32(fve.DatasetHeaderSize + len(file))
	return protector, append(put(fve.DatasetHeader{
		Size: size, Version: fve.DatasetVersion, HeaderSize: fve.DatasetHeaderSize, SizeCopy: size,
		ID: id, NextNonce: 1, Created: b.time,
	}), file...)
}

// build makes the metadata, which is the same in all three copies, and the
// volume key.
func (b *builder) build(res *Result, size int64) (metadata, fvek []byte, err error) {
	o := &b.opts
	method := uint16(o.Method)
	if fve.KeySize(method) == 0 {
		return nil, nil, fmt.Errorf("cannot format a volume with method %s", o.Method)
	}
	b.time = fve.Filetime(o.Created)
	b.vmk = b.bytes(32)
	stored := b.bytes(fve.StoredKeySize(method))
	if o.Method == bitlocker.MethodElephant128 {
		clear(stored[16:32]) // the halves are padded
		clear(stored[48:])
	}
	res.VMK, res.FVEK = b.vmk, stored
	res.VolumeID = b.guid()
	entries, err := b.protectors(res)
	if err != nil {
		return nil, nil, err
	}
	entries = append(entries, b.seal(fve.TypeFVEK, method, stored, b.vmk)...)
	header := res.Regions[3]
	if !o.Vista {
		entries = append(entries, entry(fve.TypeVolumeHeader, fve.ValueOffsetSize, 1, put(uint64(header.Off), uint64(header.Len)))...)
	}
	if o.UnknownEntries {
		entries = append(entries, entry(0x7e57, 0x7e58, 9, b.bytes(40))...)
		entries = append(entry(0x0002, 0x7e59, 1, nil), entries...) // a value of no length
	}
	entries = append(text(fve.TypeDescription, o.Description), entries...)

	blockSize := (fve.BlockHeaderSize + fve.DatasetHeaderSize + len(entries) + 15) / 16 * 16
	room := int(res.Regions[0].Len)
	if blockSize > room/2 {
		return nil, nil, fmt.Errorf("metadata would have %d bytes: too many protectors", blockSize)
	}
	head := fve.BlockHeader{
		Signature: [8]byte([]byte(fve.Signature)), Size16: uint16(blockSize / 16), Version: fve.BlockVersion,
		State: fve.StateEncrypted, NextState: fve.StateEncrypted, EncryptedSize: uint64(size),
		HeaderSectors: uint32(header.Len / int64(o.SectorSize)), HeaderOffset: uint64(header.Off),
	}
	if o.Vista {
		head.Size16, head.Version, head.EncryptedSize = uint16(blockSize), fve.VistaBlockVersion, 0
		head.HeaderSectors, head.HeaderOffset = 0, b.mirror
	}
	if o.EncryptedSize != 0 {
		head.State, head.EncryptedSize = fve.StateSwitched, uint64(o.EncryptedSize)
		if o.Paused {
			head.State = fve.StatePaused
		}
		if o.Decrypting {
			head.NextState = fve.StateDecrypted
		}
	}
	for i := range head.Metadata {
		head.Metadata[i] = uint64(res.Regions[i].Off)
	}
	dataSize := uint32(fve.DatasetHeaderSize + len(entries))
	block := append(put(head, fve.DatasetHeader{
		Size: dataSize, Version: fve.DatasetVersion, HeaderSize: fve.DatasetHeaderSize, SizeCopy: dataSize,
		ID: res.VolumeID, NextNonce: b.nonce + 2, Method: method, Method2: method, Created: b.time,
	}), entries...)
	block = append(block, make([]byte, blockSize-len(block))...)
	sum := sha256.Sum256(block)
	metadata = append(block, put(fve.ValidationHeader{Size: uint16(room - blockSize), Version: head.Version, CRC32: crc32.ChecksumIEEE(block)})...)
	if !o.ChecksumOnly {
		metadata = append(metadata, b.seal(0, fve.KeyHash, sum[:], b.vmk)...)
	}
	metadata = append(metadata, make([]byte, room-len(metadata))...)
	return metadata, fve.PackKey(method, stored), b.err
}

// protectors makes the entries of all protectors and notes them in res.
func (b *builder) protectors(res *Result) ([]byte, error) {
	var passwords, recovery []*stretched
	for _, s := range b.opts.RecoveryPasswords {
		if s == "" {
			s = b.recoveryPassword()
		}
		p, err := bitlocker.ParseRecoveryPassword(s)
		if err != nil {
			return nil, err
		}
		key := recoveryBytes(p.Reveal())
		r := b.newStretched(sha256.Sum256(key), key)
		recovery = append(recovery, r)
		res.Recovery = append(res.Recovery, Recovery{r.id, p.Reveal()})
	}
	for _, s := range b.opts.Passwords {
		once := sha256.Sum256(utf16le(s))
		p := b.newStretched(sha256.Sum256(once[:]), nil)
		passwords = append(passwords, p)
		res.Passwords = append(res.Passwords, Password{p.id, s})
	}
	stretchAll(append(append([]*stretched(nil), passwords...), recovery...))

	var entries []byte
	if b.opts.TPM {
		res.TPM = b.guid()
		entries = append(entries, b.tpmEntry(res.TPM)...)
	}
	for _, p := range passwords {
		entries = append(entries, b.passwordEntry(p)...)
	}
	for _, r := range recovery {
		entries = append(entries, b.recoveryEntry(r)...)
	}
	if b.opts.StartupKey {
		res.StartupKey = b.guid()
		e, bek := b.startupKeyEntry(res.StartupKey)
		entries, res.BEK = append(entries, e...), bek
	}
	if b.opts.ClearKey {
		res.ClearKey = b.guid()
		entries = append(entries, b.clearKeyEntry(res.ClearKey)...)
	}
	return entries, b.err
}

// recoveryPassword chooses a recovery password.
func (b *builder) recoveryPassword() string {
	s := ""
	for r := b.bytes(16); len(r) > 0; r = r[2:] {
		s += fmt.Sprintf("-%06d", 11*int(le.Uint16(r)))
	}
	return s[1:]
}

// recoveryBytes is the key that a canonical recovery password stands for.
func recoveryBytes(password string) []byte {
	key := make([]byte, 0, 16)
	for i := 0; i < len(password); i += 7 {
		n := 0
		for _, c := range password[i : i+6] {
			n = n*10 + int(c-'0')
		}
		key = le.AppendUint16(key, uint16(n/11))
	}
	return key
}
