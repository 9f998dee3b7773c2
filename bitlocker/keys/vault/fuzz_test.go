package vault

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// FuzzParse reads what may have been sealed by others.
func FuzzParse(f *testing.F) {
	m, made := volume(f, fvetest.Options{RecoveryPasswords: []string{""}, StartupKey: true})
	row := made.Recovery[0].ID.String() + "," + otherKey + ",,FRONTDESK-7\n"
	f.Add([]byte("# bootmend vault 1\n# created 2026-11-22T09:00:00Z\n# expires 2026-12-01T00:00:00Z\n" + columns + "\n" + row))
	f.Add([]byte("# bootmend vault 1\r\n" + columns + "\r\n," + otherKey + ",,\"a\"\"\"\r\n"))
	f.Add([]byte("# bootmend vault 1\n" + columns + "\n11111111-2222-3333-4444-555555555555,,AAAA,\n,,"))
	f.Add([]byte("KeyID;RecoveryKey\n;" + otherKey + "\n"))
	f.Add([]byte(columns))
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a lookup is wanted here, not the derivation
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := parse(bytes.Clone(text), "keys.age")
		if err != nil {
			return
		}
		_, _, _ = v.Unlock(ctx, m)
		_ = v.CheckExpiry(expires)
		l := v.List()
		if len(l.Entries)+len(l.StartupKeys) > v.Len() {
			t.Errorf("%d keys of %d", len(l.Entries), v.Len())
		}
		for _, e := range l.Entries {
			if _, err := bitlocker.ParseRecoveryPassword(e.Password.Reveal()); err != nil {
				t.Error("an entry without key")
			}
		}
		// What was read is written as a vault that reads the same.
		var out bytes.Buffer
		if err := writeText(&out, l, Options{Created: v.Created}); err != nil {
			t.Fatal(err)
		}
		again, err := parse(out.Bytes(), "again")
		if err != nil || len(again.Problems) > 0 || len(again.List().Entries) != len(l.Entries) {
			t.Errorf("written again: %v, %v", again, err)
		}
		v.Wipe()
	})
}

// FuzzIdentity reads files of a stick that may be anything.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte("# created\nAGE-SECRET-KEY-1QQQ\n"))
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"))
	f.Add([]byte("\xff\xfeA\x00G\x00E\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ReadIdentities(bytes.NewReader(data), "identity")
		_, _ = ReadRecipients(bytes.NewReader(data), "recipients")
	})
}

// FuzzSealed reads files that say they are vaults.
func FuzzSealed(f *testing.F) {
	f.Add([]byte("age-encryption.org/v1\n-> scrypt c2FsdHNhbHRzYWx0c2FsdA 10\nAAAA\n--- AAAA\n"))
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data), "keys.age")
		if err != nil {
			return
		}
		_, _ = s.WantsPassphrase(), s.Memory()
		_, _ = io.Discard.Write(s.Bytes())
	})
}
