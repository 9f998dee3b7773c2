package vault

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
	"github.com/bootmend/bootmend/bitlocker/keys"
)

const (
	passphrase   = "correct horse battery"
	quickFactor  = 10 // of scrypt, for tests
	volumeSize   = fvetest.MinSize
	otherKey     = "110011-220022-330033-440044-550055-660066-111111-222222"
	computerName = "FRONTDESK-7"
)

var (
	created = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	expires = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
)

// memory is a disk of fixed size.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// volume makes a BitLocker volume.
func volume(t testing.TB, o fvetest.Options) (*bitlocker.Metadata, *fvetest.Result) {
	t.Helper()
	dst := make(memory, volumeSize)
	o.Description = computerName + " C: 7/19/2024"
	made, err := fvetest.Format(dst, bytes.NewReader(make([]byte, volumeSize)), volumeSize, o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bitlocker.ReadMetadata(bytes.NewReader(dst), volumeSize)
	if err != nil {
		t.Fatal(err)
	}
	return m, made
}

func list(t testing.TB, csv string) *keys.List {
	t.Helper()
	l, err := keys.Read(strings.NewReader(csv), "test.csv")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func startupKeys(t testing.TB, bek []byte) []keys.StartupKey {
	t.Helper()
	k, err := keys.ParseStartupKey(bek)
	if err != nil {
		t.Fatal(err)
	}
	return []keys.StartupKey{k}
}

func withPassphrase(t testing.TB) age.Recipient {
	t.Helper()
	r, err := NewPassphrase(passphrase, quickFactor)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func seal(t testing.TB, l *keys.List, o Options) *Sealed {
	t.Helper()
	var out bytes.Buffer
	if err := Seal(&out, l, o); err != nil {
		t.Fatal(err)
	}
	return read(t, out.Bytes())
}

func read(t testing.TB, data []byte) *Sealed {
	t.Helper()
	s, err := Read(bytes.NewReader(data), "keys.age")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPassphrase(t *testing.T) {
	s := seal(t, list(t, "KeyID,RecoveryKey,ComputerName\n11111111-2222-3333-4444-555555555555,"+otherKey+",PC-1\n"),
		Options{Recipients: []age.Recipient{withPassphrase(t)}, Created: created, Expires: expires})
	if !s.WantsPassphrase() || s.Memory() != 1<<20 {
		t.Errorf("wants a passphrase: %t, memory %d", s.WantsPassphrase(), s.Memory())
	}
	for _, wrong := range []string{"", "Correct horse battery", passphrase + " "} {
		if _, err := s.Passphrase(wrong); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Identity(identity); !errors.Is(err, ErrIdentity) {
		t.Errorf("an identity: %v", err)
	}
	v, err := s.Passphrase(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Created.Equal(created) || !v.Expires.Equal(expires) || v.Len() != 1 {
		t.Errorf("created %v, expires %v, %d keys", v.Created, v.Expires, v.Len())
	}
	if text := fmt.Sprintf("%v %+v %#v %s", v, v, v, v); strings.Contains(text, otherKey[:20]) {
		t.Error("printing the vault shows a key")
	}
}

// TestUnlock looks keys up among others', in every way that a volume may name them.
func TestUnlock(t *testing.T) {
	m, made := volume(t, fvetest.Options{RecoveryPasswords: []string{""}, StartupKey: true})
	id, key := made.Recovery[0].ID.String(), made.Recovery[0].Password
	const others = "11111111-2222-3333-4444-555555555555," + otherKey + ",PC-1\n" +
		"FFFFFFFF-2222-3333-4444-555555555555," + otherKey + ",\"Reception, \"\"new\"\"\"\n"
	for name, test := range map[string]struct {
		list *keys.List
		want error
	}{
		"by key ID":             {list: list(t, "KeyID,RecoveryKey,ComputerName\n"+others+id+","+key+",\n")},
		"by computer":           {list: list(t, "KeyID,RecoveryKey,ComputerName\n"+others+","+key+",frontdesk-7\n")},
		"second of the same ID": {list: list(t, "KeyID,RecoveryKey\n"+id+","+otherKey+"\n"+id+","+key+"\n")},
		"startup key":           {list: &keys.List{StartupKeys: startupKeys(t, made.BEK)}},
		"not there":             {list: list(t, "KeyID,RecoveryKey,ComputerName\n"+others), want: bitlocker.ErrNoProtector},
		"wrong key":             {list: list(t, "KeyID,RecoveryKey\n"+id+","+otherKey+"\n"), want: bitlocker.ErrWrongKey},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := seal(t, test.list, Options{Recipients: []age.Recipient{withPassphrase(t)}, Created: created}).Passphrase(passphrase)
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Problems) > 0 {
				t.Error(v.Problems)
			}
			opened, protector, err := v.Unlock(context.Background(), m)
			if !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err == nil && (opened == nil || protector == nil) {
				t.Error("no key")
			}
			text := v.text
			v.Wipe()
			if len(bytes.Trim(text, "\x00")) > 0 {
				t.Error("Wipe left something of the vault")
			}
		})
	}
}

// TestRoundTrip gets everything out again that was sealed.
func TestRoundTrip(t *testing.T) {
	_, made := volume(t, fvetest.Options{StartupKey: true})
	in := list(t, "KeyID,RecoveryKey,ComputerName\n"+
		"22222222-2222-3333-4444-555555555555,"+otherKey+",\"a, \"\"b\"\"\"\n"+
		"11111111-2222-3333-4444-555555555555,"+otherKey+",PC-1\n"+
		","+otherKey+",PC-2\n")
	in.Entries[0].Computer += "\n"
	in.StartupKeys = startupKeys(t, made.BEK)
	v, err := seal(t, in, Options{Recipients: []age.Recipient{withPassphrase(t)}, Created: created}).Passphrase(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	// What "age -d" gives is a key list like any other.
	if plain, err := keys.Read(bytes.NewReader(v.text), "keys.csv"); err != nil || len(plain.Entries) != 3 || len(plain.StartupKeys) != 1 || len(plain.Problems) != 0 {
		t.Errorf("as a key list: %d keys, %d startup keys, %v, %v", len(plain.Entries), len(plain.StartupKeys), plain.Problems, err)
	}
	var got []string
	for _, e := range v.List().Entries {
		if e.Password.Reveal() != otherKey {
			t.Errorf("line %d: another key", e.Line)
		}
		got = append(got, fmt.Sprintf("%d %s %s", e.Line, idText(e), e.Computer))
	}
	want := []string{"5  PC-2", "6 11111111-2222-3333-4444-555555555555 PC-1", `7 22222222-2222-3333-4444-555555555555 a, "b"`}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
	if k := v.List().StartupKeys; len(k) != 1 || k[0].ID != made.StartupKey || !bytes.Equal(k[0].Data.Reveal(), made.BEK) {
		t.Error("the startup key is another one")
	}
}

func TestExpiry(t *testing.T) {
	v := &Vault{Created: created, Expires: expires}
	for name, test := range map[string]struct {
		now     time.Time
		expired bool
		early   bool
	}{
		"in time":                    {now: created.Add(time.Hour)},
		"clock in local time, early": {now: created.Add(-12 * time.Hour)},
		"clock in local time, late":  {now: expires.Add(14 * time.Hour)},
		"expired":                    {now: expires.Add(14*time.Hour + time.Second), expired: true},
		"clock without battery":      {now: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), early: true},
	} {
		err := v.CheckExpiry(test.now)
		if errors.Is(err, ErrExpired) != test.expired || v.ClockTooEarly(test.now) != test.early {
			t.Errorf("%s: %v, clock too early: %t", name, err, v.ClockTooEarly(test.now))
		}
		if test.expired && !strings.Contains(err.Error(), "2026-12-01 00:00 UTC") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&Vault{Created: created}).CheckExpiry(expires.AddDate(100, 0, 0)); err != nil {
		t.Error("without a date:", err)
	}
}

func TestCheckPassphrase(t *testing.T) {
	for passphrase, want := range map[string]string{
		"short":           "5 characters",
		"":                "0 characters",
		"größe 1234567":   "cannot be typed",
		"tab\tulator1234": "cannot be typed",
		" leading blank":  "blank",
		"long enough":     "",
	} {
		err := CheckPassphrase(passphrase)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", passphrase, err)
		}
		if err != nil && len(passphrase) > 5 && strings.Contains(err.Error(), passphrase) {
			t.Errorf("%q is repeated in the error", passphrase)
		}
	}
}

// sshKey makes a key pair as ssh-keygen writes it.
func sshKey(t *testing.T, protection string) (public, private string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if protection == "" {
		block, err = ssh.MarshalPrivateKey(key, "test")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "test", []byte(protection))
	}
	if err != nil {
		t.Fatal(err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(sshPub)), string(pem.EncodeToMemory(block))
}

func TestIdentities(t *testing.T) {
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	sshPublic, sshPrivate := sshKey(t, "")
	var utf16le strings.Builder
	for _, u := range utf16.Encode([]rune("\ufeff# key\r\n" + x25519.String() + "\r\n")) {
		utf16le.Write([]byte{byte(u), byte(u >> 8)})
	}
	for name, test := range map[string]struct{ recipient, identity string }{
		"X25519":      {x25519.Recipient().String(), x25519.String()},
		"age-keygen":  {x25519.Recipient().String(), "# created: 2026-11-22\n# public key: x\n" + x25519.String() + "\n"},
		"UTF-16":      {x25519.Recipient().String(), utf16le.String()},
		"second line": {x25519.Recipient().String(), hybrid.String() + "\r\n\r\n" + x25519.String() + "\r\n"},
		"hybrid":      {hybrid.Recipient().String(), "\ufeff" + hybrid.String()},
		"SSH":         {sshPublic, sshPrivate},
	} {
		t.Run(name, func(t *testing.T) {
			recipients, err := ReadRecipients(strings.NewReader("# public\r\n"+test.recipient+"\r\n"), "recipients")
			if err != nil {
				t.Fatal(err)
			}
			s := seal(t, list(t, "KeyID,RecoveryKey\n,"+otherKey+"\n"), Options{Recipients: recipients, Created: created})
			if s.WantsPassphrase() {
				t.Error("wants a passphrase")
			}
			if _, err := s.Passphrase(passphrase); !errors.Is(err, ErrPassphrase) {
				t.Errorf("a passphrase: %v", err)
			}
			identities, err := ReadIdentities(strings.NewReader(test.identity), "identity.txt")
			if err != nil {
				t.Fatal(err)
			}
			if v, err := s.Identity(identities...); err != nil || v.Len() != 1 {
				t.Fatalf("%v, %v", v, err)
			}
		})
	}
}

func TestIdentityErrors(t *testing.T) {
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, locked := sshKey(t, "secret")
	for name, test := range map[string]struct {
		text, want string
		not        bool
	}{
		"nothing":       {"", "neither", true},
		"comments":      {"# a\n", "neither", true},
		"other text":    {"KeyID,RecoveryKey\n", "line 1", true},
		"binary":        {"\x00\x01\x02", "neither", true},
		"cut off":       {x25519.String()[:40], "mistyped or cut off", false},
		"locked SSH":    {locked, "passphrase itself", false},
		"broken SSH":    {"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "not an SSH", true},
		"plugin":        {"AGE-PLUGIN-YUBIKEY-1QQQ", "plugins", false},
		"much too long": {strings.Repeat("x", maxIdentity+1), "larger", false},
	} {
		_, err := ReadIdentities(strings.NewReader(test.text), "identity.txt")
		if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrNotIdentity) != test.not {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), x25519.String()[20:30]) {
			t.Errorf("%s: the error repeats the identity", name)
		}
	}
	for text, want := range map[string]string{
		x25519.String():           "secret key",
		"age1nonsense":            "not a public key",
		"ssh-dss AAAA":            "ssh-ed25519",
		"":                        "no public key",
		"yubikey or some such":    "not a public key",
		"# only\n\n# comments\n ": "no public key",
	} {
		if _, err := ReadRecipients(strings.NewReader(text), "r"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("recipient %.12q: %v", text, err)
		}
	}
}

// TestMixed must not make a vault that opens with less than people think.
func TestMixed(t *testing.T) {
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Seal(&out, &keys.List{}, Options{Recipients: []age.Recipient{withPassphrase(t), x25519.Recipient()}}); err == nil {
		t.Error("a passphrase and a recipient in one vault")
	}
	if err := Seal(&out, &keys.List{}, Options{}); err == nil {
		t.Error("a vault without recipients")
	}
}

func TestReadErrors(t *testing.T) {
	good := seal(t, list(t, "KeyID,RecoveryKey\n,"+otherKey+"\n"), Options{Recipients: []age.Recipient{withPassphrase(t)}}).Bytes()
	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"empty":         {nil, ErrNotVault},
		"CSV":           {[]byte("KeyID,RecoveryKey\n"), ErrNotVault},
		"header only":   {good[:30], nil},
		"other version": {bytes.Replace(good, []byte("/v1"), []byte("/v9"), 1), nil},
	} {
		_, err := Read(bytes.NewReader(test.data), "keys.age")
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{
		"cut off": good[:len(good)-1],
		"changed": append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
	} {
		if _, err := read(t, data).Passphrase(passphrase); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A vault that asks for more memory than a machine has.
	greedy := bytes.Replace(good, []byte(fmt.Sprintf(" %d\n", quickFactor)), []byte(" 30\n"), 1)
	if _, err := read(t, greedy).Passphrase(passphrase); err == nil || errors.Is(err, ErrPassphrase) {
		t.Errorf("work factor 30: %v", err)
	}
}

func TestParse(t *testing.T) {
	row := "11111111-2222-3333-4444-555555555555," + otherKey + ",,PC-1\n"
	for name, test := range map[string]struct {
		text, want string
		problems   int
	}{
		"good":          {"# bootmend vault 1\n" + columns + "\n" + row, "", 0},
		"CRLF":          {"# bootmend vault 1\r\n# created 2026-11-22T09:00:00Z\r\n" + columns + "\r\n" + strings.ReplaceAll(row, "\n", "\r\n"), "", 0},
		"newer":         {"# bootmend vault 2\n" + columns + "\n", "newer bootmend", 0},
		"no heading":    {"# bootmend vault 1\n", "line 2: the heading", 0},
		"unknown field": {"# bootmend vault 1\n# colour red\n" + columns, "line 2: neither", 0},
		"bad date":      {"# bootmend vault 1\n# expires tomorrow\n", "line 2: the date", 0},
		"bad base64":    {"# bootmend vault 1\n" + columns + "\n11111111-2222-3333-4444-555555555555,,??,\n" + row, "", 1},
		"bad key file":  {"# bootmend vault 1\n" + columns + "\n11111111-2222-3333-4444-555555555555,,AAAA,\n" + row, "", 1},
		"bad rows":      {"# bootmend vault 1\n" + columns + "\n,\n" + row[1:] + row + strings.ToLower("ABCDEF") + row[6:] + "\n", "", 4},
	} {
		v, err := parse([]byte(test.text), "keys.age")
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil && (v.Len() != 1 || len(v.Problems) != test.problems) {
			t.Errorf("%s: %d keys, problems %v", name, v.Len(), v.Problems)
		}
		if err == nil && v.List().Entries[0].Computer != "PC-1" {
			t.Errorf("%s: computer %q", name, v.List().Entries[0].Computer)
		}
	}
	// A row of the right shape whose digits are wrong is named when it is needed.
	m, made := volume(t, fvetest.Options{})
	v, err := parse([]byte("# bootmend vault 1\n"+columns+"\n"+made.Recovery[0].ID.String()+",110012"+otherKey[6:]+",,\n"), "keys.age")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Unlock(context.Background(), m); err == nil || !strings.Contains(err.Error(), "line 3: group 1") {
		t.Error(err)
	}
	if problems := v.List().Problems; len(problems) != 1 || problems[0].Line != 3 {
		t.Error(problems)
	}
}

// TestForeign opens what the age program makes of key lists of any kind.
func TestForeign(t *testing.T) {
	m, made := volume(t, fvetest.Options{})
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	text := "\ufeffKey ID;Recovery Password\r\n{" + strings.ToLower(made.Recovery[0].ID.String()) + "};" + made.Recovery[0].Password + "\r\nx;y\r\n"
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, x25519.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(text))
	if err := errors.Join(err, w.Close(), armored.Close()); err != nil {
		t.Fatal(err)
	}
	v, err := read(t, out.Bytes()).Identity(x25519)
	if err != nil {
		t.Fatal(err)
	}
	if v.Len() != 1 || len(v.Problems) != 1 {
		t.Errorf("%d keys, problems %v", v.Len(), v.Problems)
	}
	if _, _, err := v.Unlock(context.Background(), m); err != nil {
		t.Error(err)
	}
}

// TestAgeProgram lets the age program open our vault, and us open its.
func TestAgeProgram(t *testing.T) {
	program, err := exec.LookPath("age")
	if err != nil {
		t.Skip("age is not installed: apt-get install age")
	}
	dir := t.TempDir()
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	sshPublic, sshPrivate := sshKey(t, "")
	for name, test := range map[string]struct{ recipient, identity string }{
		"X25519": {x25519.Recipient().String(), x25519.String() + "\n"},
		"SSH":    {sshPublic, sshPrivate},
	} {
		t.Run(name, func(t *testing.T) {
			identity := filepath.Join(dir, name+".txt")
			if err := os.WriteFile(identity, []byte(test.identity), 0o600); err != nil {
				t.Fatal(err)
			}
			recipient, err := ParseRecipient(test.recipient)
			if err != nil {
				t.Fatal(err)
			}
			csv := "KeyID,RecoveryKey,ComputerName\n11111111-2222-3333-4444-555555555555," + otherKey + ",PC-1\n"
			sealed := seal(t, list(t, csv), Options{Recipients: []age.Recipient{recipient}, Created: created, Expires: expires})

			cmd := exec.Command(program, "-d", "-i", identity)
			cmd.Stdin = bytes.NewReader(sealed.Bytes())
			opened, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := list(t, string(opened)); len(got.Entries) != 1 || len(got.Problems) != 0 || got.Entries[0].Password.Reveal() != otherKey {
				t.Errorf("age -d gives %d keys, problems %v", len(got.Entries), got.Problems)
			}

			cmd = exec.Command(program, "-e", "-r", test.recipient)
			cmd.Stdin = strings.NewReader(csv)
			data, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			identities, err := ReadIdentities(strings.NewReader(test.identity), "identity")
			if err != nil {
				t.Fatal(err)
			}
			if v, err := read(t, data).Identity(identities...); err != nil || v.Len() != 1 {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
}

// manyKeys is a list of n keys with computer names.
func manyKeys(n int) *keys.List {
	source := rand.New(rand.NewChaCha8([32]byte{}))
	l := &keys.List{Entries: make([]keys.Entry, n)}
	for i := range l.Entries {
		var digits [8]string
		for g := range digits {
			digits[g] = fmt.Sprintf("%06d", 11*source.IntN(1<<16))
		}
		p, err := bitlocker.ParseRecoveryPassword(strings.Join(digits[:], ""))
		if err != nil {
			panic(err)
		}
		e := &l.Entries[i]
		e.HasID, e.Password, e.Computer = true, p, fmt.Sprintf("CLIENT-%06d", i)
		for b := range e.ID {
			e.ID[b] = byte(source.Uint32())
		}
	}
	return l
}

func TestMany(t *testing.T) {
	l := manyKeys(5000)
	v, err := seal(t, l, Options{Recipients: []age.Recipient{withPassphrase(t)}}).Passphrase(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range l.Entries {
		m := &bitlocker.Metadata{Protectors: []bitlocker.Protector{{ID: e.ID, Kind: bitlocker.ProtectorRecoveryPassword}}}
		found, err := v.find(m)
		if err != nil || len(found.Entries) != 1 || found.Entries[0].Password != e.Password || found.Entries[0].Computer != e.Computer {
			t.Fatalf("key ID %s: %d keys, %v", e.ID, len(found.Entries), err)
		}
	}
}

// TestLimits: what is sealed can be opened, and what could not be opened is not sealed.
func TestLimits(t *testing.T) {
	_, made := volume(t, fvetest.Options{StartupKey: true})
	one := startupKeys(t, made.BEK)
	l := &keys.List{StartupKeys: slices.Repeat(one, 20_000)}
	v, err := seal(t, l, Options{Recipients: []age.Recipient{withPassphrase(t)}}).Passphrase(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if v.Len() != 20_000 || len(v.Problems) != 0 {
		t.Errorf("%d startup keys of 20000, %d problems", v.Len(), len(v.Problems))
	}
	long := manyKeys(3)
	for i := range long.Entries {
		long.Entries[i].Computer = strings.Repeat("x", maxSize/3)
	}
	for want, l := range map[string]*keys.List{
		"100001 startup keys are more than the 100000": {StartupKeys: slices.Repeat(one, keys.MaxStartupKeys+1)},
		"1000001 keys are more than the 1000000":       {Entries: make([]keys.Entry, maxRows+1)},
		"more than a vault holds, 128 MiB":             long,
	} {
		if err := Seal(io.Discard, l, Options{Recipients: []age.Recipient{withPassphrase(t)}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// BenchmarkOpen is what a machine does after the passphrase was typed: derive the key, open a vault of 100,000 keys,
// find the one that is needed by its ID and by its computer.
func BenchmarkOpen(b *testing.B) {
	l := manyKeys(100_000)
	recipient, err := NewPassphrase(passphrase, WorkFactor)
	if err != nil {
		b.Fatal(err)
	}
	s := seal(b, l, Options{Recipients: []age.Recipient{recipient}})
	wanted := l.Entries[77_777]
	m := &bitlocker.Metadata{ComputerName: wanted.Computer, Protectors: []bitlocker.Protector{{ID: wanted.ID, Kind: bitlocker.ProtectorRecoveryPassword}}}
	b.SetBytes(int64(len(s.Bytes())))
	for b.Loop() {
		v, err := s.Passphrase(passphrase)
		if err != nil {
			b.Fatal(err)
		}
		if found, err := v.find(m); err != nil || len(found.Entries) != 2 {
			b.Fatal(len(found.Entries), err)
		}
		v.Wipe()
	}
}

// BenchmarkOpenIdentity is the same without the derivation, which alone takes most of the time above.
func BenchmarkOpenIdentity(b *testing.B) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	s := seal(b, manyKeys(100_000), Options{Recipients: []age.Recipient{identity.Recipient()}})
	b.SetBytes(int64(len(s.Bytes())))
	for b.Loop() {
		v, err := s.Identity(identity)
		if err != nil {
			b.Fatal(err)
		}
		v.Wipe()
	}
}
