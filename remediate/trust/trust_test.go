package trust

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

const pack = "apiVersion: bootmend/v1\nid: p\n"

type pair struct {
	public, secret []byte
	id             string
	key            SecretKey
}

func newPair(t testing.TB) pair {
	t.Helper()
	var p pair
	var err error
	if p.public, p.secret, p.id, err = GenerateKey(rand.Reader, ""); err != nil {
		t.Fatal(err)
	}
	if p.key, err = ParseSecretKey(p.secret, ""); err != nil {
		t.Fatal(err)
	}
	if p.key.KeyID() != p.id {
		t.Fatalf("key ID %s, want %s", p.key.KeyID(), p.id)
	}
	return p
}

func (p pair) sign(t testing.TB, data string) []byte {
	t.Helper()
	sig, err := p.key.Sign([]byte(data), "made for a test")
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestVerify(t *testing.T) {
	ours, other := newPair(t), newPair(t)
	good := ours.sign(t, pack)
	edited := bytes.Replace(good, []byte("made for a test"), []byte("made for a jest"), 1)
	if bytes.Equal(good, edited) {
		t.Fatal("nothing replaced")
	}
	for name, tc := range map[string]struct {
		pack string
		sig  []byte
		want error
		text string
	}{
		"packaged":        {"packaged pack", nil, nil, ""},
		"packaged edited": {"packaged pack ", nil, ErrUnsigned, ""},
		"signed":          {pack, good, nil, ""},
		"signed, CRLF":    {pack, bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), nil, ""},
		"unsigned":        {pack, nil, ErrUnsigned, ""},
		"pack changed":    {pack + " ", good, ErrChanged, ours.id},
		"comment changed": {pack, edited, ErrChanged, ours.id},
		"other's key":     {pack, other.sign(t, pack), ErrUnknownKey, "trusted: " + ours.id},
		"empty":           {pack, []byte{}, ErrMalformed, ""},
		"text":            {pack, []byte("a\nb\nc\nd\n"), ErrMalformed, ""},
		"cut":             {pack, good[:len(good)/2], ErrMalformed, ""},
		"huge":            {pack, bytes.Repeat([]byte("x"), maxSignatureSize+1), ErrMalformed, "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := NewStore(fstest.MapFS{"a.yaml": {Data: []byte("packaged pack")}, "b.txt": {Data: []byte(pack)}})
			if err != nil {
				t.Fatal(err)
			}
			if id, err := s.AddKey(ours.public); err != nil || id != ours.id {
				t.Fatalf("%s, %v", id, err)
			}
			v, err := s.Verify([]byte(tc.pack), tc.sig)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if tc.want == nil && (v.Origin == Signed) != (tc.sig != nil) {
				t.Errorf("origin %s", v.Origin)
			}
			if v.Origin == Signed && (v.KeyID != ours.id || v.Comment != "made for a test") {
				t.Errorf("verdict %+v", v)
			}
			if tc.text != "" && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%q is not in %q", tc.text, err)
			}
			s.AllowUnsigned = true
			if v, err = s.Verify([]byte(tc.pack), tc.sig); err != nil || (tc.want != nil) != (v.Origin == Allowed && v.Problem != "") {
				t.Errorf("allowed: %+v, %v", v, err)
			}
		})
	}
}

func TestAddKey(t *testing.T) {
	p := newPair(t)
	lines := strings.Split(string(p.public), "\n")
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"file":       {p.public, ""},
		"CRLF":       {bytes.ReplaceAll(p.public, []byte("\n"), []byte("\r\n")), ""},
		"line":       {[]byte(lines[1]), ""},
		"secret key": {p.secret, "this is a secret key"},
		"empty":      {nil, "not a minisign public key"},
		"text":       {[]byte("hello"), "not a minisign public key"},
		"huge":       {bytes.Repeat([]byte("A"), maxKeySize+1), "this file has more"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := new(Store).AddKey(tc.data)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestSecretKeyShowsNothing(t *testing.T) {
	p := newPair(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, p.key); got != "secret key (withheld)" {
			t.Errorf("%s shows %s", verb, got)
		}
	}
	if _, err := p.key.Sign([]byte(pack), "two\nlines"); err == nil {
		t.Error("a comment of two lines was signed")
	}
}

// TestPassword protects a secret key, which takes a gibibyte of memory.
func TestPassword(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds and 1 GiB")
	}
	public, secret, _, err := GenerateKey(rand.Reader, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !NeedsPassword(secret) || NeedsPassword(newPair(t).secret) {
		t.Error("NeedsPassword")
	}
	if _, err := ParseSecretKey(secret, "wrong horse"); !errors.Is(err, ErrPassword) {
		t.Errorf("wrong password: %v", err)
	}
	key, err := ParseSecretKey(secret, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	verifies(t, public, pair{key: key}.sign(t, pack))
}

func verifies(t *testing.T, public, sig []byte) {
	t.Helper()
	var s Store
	if _, err := s.AddKey(public); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Verify([]byte(pack), sig); err != nil || v.Origin != Signed {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestMinisign lets minisign's own program verify our signatures, and verifies its own, of both kinds.
func TestMinisign(t *testing.T) {
	minisign, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("minisign is not installed")
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		if data != nil {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return name
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(minisign, args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("minisign %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	p := newPair(t)
	data := file("p.yaml", []byte(pack))
	run("-V", "-p", file("ours.pub", p.public), "-m", data, "-x", file("ours.minisig", p.sign(t, pack)))

	public, secret := file("theirs.pub", nil), file("theirs.key", nil)
	run("-G", "-W", "-p", public, "-s", secret)
	for name, flag := range map[string]string{"hashed": "-H", "legacy": "-l"} {
		sig := file(name+".minisig", nil)
		run("-S", flag, "-s", secret, "-m", data, "-x", sig)
		verifies(t, read(public), read(sig))
	}
	// Their secret key signs here, ours there.
	key, err := ParseSecretKey(read(secret), "")
	if err != nil {
		t.Fatal(err)
	}
	verifies(t, read(public), pair{key: key}.sign(t, pack))
	run("-S", "-s", file("ours.key", p.secret), "-m", data, "-x", file("x.minisig", nil))
	verifies(t, p.public, read(file("x.minisig", nil)))
}

func FuzzVerify(f *testing.F) {
	p := newPair(f)
	good := p.sign(f, pack)
	f.Add([]byte(pack), good, p.public)
	f.Add([]byte(pack), []byte("untrusted comment: x\nRWQ\ntrusted comment: y\nAAAA\n"), p.public)
	f.Add([]byte(pack), []byte{}, []byte("RWQ"))
	f.Fuzz(func(t *testing.T, data, sig, key []byte) {
		var s Store
		if _, err := s.AddKey(key); err != nil && len(s.keys) != 0 {
			t.Error("a key was added in spite of its error")
		}
		if _, err := s.AddKey(p.public); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Verify(data, sig); err == nil && v.Origin == Signed && v.KeyID == p.id && string(data) != pack {
			t.Errorf("%q counts as signed", data)
		}
		_, _ = ParseSecretKey(key, "") // a protected key cannot arise here within the test's time
	})
}
