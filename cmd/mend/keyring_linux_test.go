package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/remediate"
)

const (
	testPassphrase = "correct horse battery"
	wrongPassword  = "110011-220022-330033-440044-550055-660066-111111-222222"
)

type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// lockedVolume is a BitLocker volume, and what opens it.
func lockedVolume(t *testing.T) (*volume, *fvetest.Result) {
	t.Helper()
	disk := make(memory, fvetest.MinSize)
	made, err := fvetest.Format(disk, bytes.NewReader(make([]byte, len(disk))), int64(len(disk)), fvetest.Options{RecoveryPasswords: []string{""}, StartupKey: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := bitlocker.ReadMetadata(bytes.NewReader(disk), int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	return &volume{meta: m}, made
}

func sealedKeys(t *testing.T, csv string, o vault.Options) []byte {
	t.Helper()
	list, err := keys.Read(strings.NewReader(csv), "keys.csv")
	if err != nil {
		t.Fatal(err)
	}
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	var out bytes.Buffer
	if err := vault.Seal(&out, list, o); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func passphraseRecipient(t *testing.T) []age.Recipient {
	t.Helper()
	r, err := vault.NewPassphrase(testPassphrase, 10)
	if err != nil {
		t.Fatal(err)
	}
	return []age.Recipient{r}
}

// put writes a file below root.
func put(t *testing.T, root, name string, data []byte) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// testAgent has no terminals and no devices.
func testAgent(t *testing.T) *agent {
	t.Helper()
	run, err := remediate.NewRun(time.Now(), "test", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{common: common{con: newConsole(nil), keys: newKeyring(), log: remediate.NewLog(run)}}
	a.site = a
	return a
}

// TestReadKeyFiles finds every kind of file that opens volumes, wherever it may lie, and says what it cannot use.
func TestReadKeyFiles(t *testing.T) {
	v, made := lockedVolume(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	row := made.Recovery[0].ID.String() + "," + made.Recovery[0].Password + "\n"
	windows := "\xff\xfe"
	for _, b := range []byte("Identifier:\r\n\t" + made.Recovery[0].ID.String() + "\r\nKey:\r\n\t" + made.Recovery[0].Password + "\r\n") {
		windows += string(rune(b)) + "\x00"
	}
	for name, data := range map[string][]byte{
		"bootmend/keys.csv":                   []byte("KeyID,RecoveryKey\n" + row),
		"bootmend/keys/export.csv":            []byte("KeyID;RecoveryKey\n" + strings.ReplaceAll(row, ",", ";")),
		"bootmend/keys/BitLocker.TXT":         []byte(windows),
		"bootmend/keys/A.BEK":                 made.BEK,
		"A.BEK":                               made.BEK,
		"BitLocker Recovery Key X.TXT":        []byte(windows),
		"BitLocker-Schlüssel unbrauchbar.txt": []byte("\x00\x01\x02"),
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, name, data)
			found := readKeyFiles(root, "stick sdb1")
			if data[0] == 0 {
				if found.any() || len(found.notes) == 0 {
					t.Errorf("found %s, notes %q", &found, found.notes)
				}
				return
			}
			if len(found.lists) != 1 || len(found.notes) > 0 || !strings.HasSuffix(found.lists[0].name, " on stick sdb1") {
				t.Fatalf("found %s, notes %q", &found, found.notes)
			}
			u := v.findKey(context.Background(), found.lists)
			if u.err != nil || u.keyID != made.Recovery[0].ID.String() && u.keyID != made.StartupKey.String() {
				t.Errorf("%+v", u)
			}
		})
	}
	for name, data := range map[string]string{
		"identity.txt": identity.String(), "my.key": identity.String() + "\r\n", "bootmend/identity.txt": "# x\n" + identity.String(),
	} {
		root := t.TempDir()
		put(t, root, name, []byte(data))
		if found := readKeyFiles(root, "x"); len(found.identities) != 1 || len(found.notes) > 0 {
			t.Errorf("%s: %s, notes %q", name, &found, found.notes)
		}
	}
	// What is on sticks otherwise is passed over, or named without repeating it.
	root := t.TempDir()
	put(t, root, "readme.txt", []byte("hello"))
	put(t, root, "photo.jpg", []byte("hello"))
	put(t, root, "big.key", make([]byte, 2*maxIdentity))
	put(t, root, ".hidden.key", []byte(identity.String()))
	put(t, root, "bootmend/keys/._export.csv", []byte("KeyID,RecoveryKey\n"+row))
	if found := readKeyFiles(root, "x"); found.any() || len(found.notes) > 0 {
		t.Errorf("found %s, notes %q", &found, found.notes)
	}
	put(t, root, "broken.key", []byte(identity.String()[:30]))
	put(t, root, "bootmend/keys.csv", []byte("KeyID,RecoveryKey\n"+row[:len(row)-3]+"\n"))
	put(t, root, "bootmend/keys.age", []byte("age-encryption.org/v1\nnonsense"))
	found := readKeyFiles(root, "x")
	if found.any() || len(found.notes) != 3 {
		t.Errorf("found %s, notes %q", &found, found.notes)
	}
	for _, note := range found.notes {
		if strings.Contains(note, made.Recovery[0].Password[:13]) || strings.Contains(note, identity.String()[:30]) {
			t.Errorf("a note repeats a secret: %s", note)
		}
	}
}

// TestKeyring opens vaults as their passphrase or identity turns up, before them or after.
func TestKeyring(t *testing.T) {
	v, made := lockedVolume(t)
	csv := "KeyID,RecoveryKey\n" + made.Recovery[0].ID.String() + "," + made.Recovery[0].Password + "\n"
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	take := func(t *testing.T, a *agent, files map[string][]byte) {
		t.Helper()
		root := t.TempDir()
		for name, data := range files {
			put(t, root, name, data)
		}
		before := a.keys.changes
		a.takeKeys(context.Background(), readKeyFiles(root, "the media"))
		if a.keys.changes == before {
			t.Error("no change was noticed")
		}
	}
	opens := func(t *testing.T, a *agent) {
		t.Helper()
		if u := v.findKey(context.Background(), a.keys.sources); u.err != nil || u.method != "vault on the media" {
			t.Errorf("%+v", u)
		}
	}
	forIdentity := map[string][]byte{"bootmend/keys.age": sealedKeys(t, csv, vault.Options{Recipients: []age.Recipient{identity.Recipient()}})}
	stick := map[string][]byte{"identity.txt": []byte(identity.String())}
	t.Run("identity last", func(t *testing.T) {
		a := testAgent(t)
		take(t, a, forIdentity)
		if !a.keys.wantsIdentity() {
			t.Error("no identity is wanted")
		}
		take(t, a, stick)
		opens(t, a)
		if a.keys.wantsIdentity() {
			t.Error("an identity is still wanted")
		}
	})
	t.Run("identity first", func(t *testing.T) {
		a := testAgent(t)
		take(t, a, stick)
		take(t, a, forIdentity)
		opens(t, a)
	})
	sealed := map[string][]byte{"bootmend/keys.age": sealedKeys(t, csv, vault.Options{Recipients: passphraseRecipient(t)})}
	t.Run("passphrase", func(t *testing.T) {
		a := testAgent(t)
		take(t, a, sealed)
		take(t, a, sealed) // the same again, on another stick
		if len(a.keys.withPassphrase()) != 1 || a.keys.wantsIdentity() {
			t.Fatalf("%d vaults want a passphrase", len(a.keys.withPassphrase()))
		}
		for _, wrong := range tryPassphrase(a.keys.withPassphrase(), "correct house battery") {
			if wrong.err == nil {
				t.Error("a wrong passphrase opens the vault")
			}
		}
		for _, r := range tryPassphrase(a.keys.withPassphrase(), testPassphrase) {
			a.settle(r.sealedVault, r.opened, r.err)
		}
		opens(t, a)
		// Looking again does not ask again.
		a.keys.forget()
		take(t, a, sealed)
		opens(t, a)
		a.keys.wipe()
		if u := v.findKey(context.Background(), a.keys.sources); u.err == nil {
			t.Error("a wiped vault opens the volume")
		}
	})
	t.Run("expired", func(t *testing.T) {
		a := testAgent(t)
		old := time.Now().Add(-48 * time.Hour)
		expired := map[string][]byte{"bootmend/keys.age": sealedKeys(t, csv, vault.Options{Recipients: []age.Recipient{identity.Recipient()}, Created: old, Expires: old.Add(time.Hour)})}
		take(t, a, stick)
		take(t, a, expired)
		if len(a.keys.sources)+len(a.keys.sealed) > 0 || !strings.Contains(string(a.log.Bytes()), "has expired") {
			t.Errorf("sources %v, log %s", a.keys.sources, a.log.Bytes())
		}
		take(t, a, expired)
		if len(a.keys.sources)+len(a.keys.sealed) > 0 {
			t.Error("the second time it is taken")
		}
	})
	t.Run("wrong key", func(t *testing.T) {
		a := testAgent(t)
		take(t, a, map[string][]byte{"bootmend/keys.csv": []byte("KeyID,RecoveryKey\n" + made.Recovery[0].ID.String() + "," + wrongPassword + "\n")})
		u := v.findKey(context.Background(), a.keys.sources)
		if u.err == nil || !strings.Contains(u.err.Error(), "key list on the media") || strings.Contains(u.err.Error(), wrongPassword[:13]) {
			t.Errorf("%v", u.err)
		}
	})
}

func TestDelay(t *testing.T) {
	for wrong, want := range map[int]time.Duration{0: 0, 2: 0, 3: 5 * time.Second, 4: 10 * time.Second, 5: 20 * time.Second, 7: time.Minute, 1000: time.Minute} {
		if got := delay(wrong); got != want {
			t.Errorf("after %d wrong passphrases: %v", wrong, got)
		}
	}
}

func TestEnoughMemory(t *testing.T) {
	if availableMemory() < 1<<20 {
		t.Errorf("%d bytes available", availableMemory())
	}
	s, err := vault.Read(bytes.NewReader(sealedKeys(t, "KeyID,RecoveryKey\n,"+wrongPassword+"\n", vault.Options{Recipients: passphraseRecipient(t)})), "keys.age")
	if err != nil {
		t.Fatal(err)
	}
	if err := enoughMemory(sealedVault{Sealed: s}); err != nil {
		t.Error(err)
	}
}
