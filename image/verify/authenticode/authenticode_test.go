package authenticode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/assets"
)

func programs(t testing.TB) map[string][]byte {
	t.Helper()
	bundle, err := assets.OpenBundle()
	if err != nil {
		t.Skipf("signed programs come with the boot bundle: %v", err)
	}
	out := map[string][]byte{}
	for _, name := range []string{assets.Shim, assets.Grub, assets.Kernel} {
		if out[name], err = bundle.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestBundle: the chain that Secure Boot asks for, from Microsoft to the kernel.
func TestBundle(t *testing.T) {
	data := programs(t)
	shim, err := Parse(data[assets.Shim])
	if err != nil {
		t.Fatal(err)
	}
	vendor, err := shim.VendorCertificates()
	if err != nil || len(vendor) != 1 {
		t.Fatalf("%v, %v", vendor, err)
	}
	signatures, err := shim.Signatures()
	if err != nil || len(signatures) == 0 {
		t.Fatal(err)
	}
	for _, s := range signatures {
		if by := s.IssuedBy(MicrosoftUEFI); by == nil || !strings.Contains(by.Subject.CommonName, "UEFI CA") {
			t.Errorf("signer %v: not Microsoft's", s.Signer.Subject)
		}
	}
	for _, name := range []string{assets.Grub, assets.Kernel} {
		p, err := Parse(data[name])
		if err != nil {
			t.Fatal(err)
		}
		signatures, err := p.Signatures()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if by := signatures[0].IssuedBy(vendor[0].Equal, vendor...); by == nil {
			t.Errorf("%s: shim does not vouch for %v", name, signatures[0].Signer.Subject)
		}
		if by := signatures[0].IssuedBy(MicrosoftUEFI, vendor...); by != nil {
			t.Errorf("%s: Microsoft vouches for it: %v", name, by.Subject)
		}
	}
}

// TestEveryByteCounts: a change anywhere but in the fields that the hash leaves out makes the signature invalid.
func TestEveryByteCounts(t *testing.T) {
	grub := programs(t)[assets.Grub]
	p, err := Parse(grub)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{10, p.layout.checksum - 1, p.layout.checksum + 4, p.layout.headers, len(grub) / 2, p.layout.certs - 1} {
		b := bytes.Clone(grub)
		b[at] ^= 1
		if p, err := Parse(b); err == nil {
			if _, err := p.Signatures(); err == nil {
				t.Errorf("a change of byte %d was not noticed", at)
			}
		}
	}
	b := bytes.Clone(grub)
	b[p.layout.checksum] ^= 1
	if p, err := Parse(b); err != nil {
		t.Error(err)
	} else if _, err := p.Signatures(); err != nil {
		t.Errorf("the checksum is not part of the hash: %v", err)
	}
}

// TestMalformed: hostile tables end with an error.
func TestMalformed(t *testing.T) {
	grub := programs(t)[assets.Grub]
	p, err := Parse(grub)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(b []byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"cut":              func(b []byte) []byte { return b[:len(b)-8] },
		"huge certificate": func(b []byte) []byte { binary.LittleEndian.PutUint32(b[p.layout.certs:], 1<<31); return b },
		"no length":        func(b []byte) []byte { clear(b[p.layout.certs : p.layout.certs+4]); return b },
		"past the end":     func(b []byte) []byte { binary.LittleEndian.PutUint32(b[p.layout.directory:], 1<<31); return b },
		"nothing past the end": func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[p.layout.directory:], 1<<30)
			return b
		},
		"no table": func(b []byte) []byte {
			clear(b[p.layout.directory : p.layout.directory+8])
			return b[:p.layout.certs]
		},
	} {
		b := edit(bytes.Clone(grub))
		p, err := Parse(b)
		if err == nil {
			_, err = p.Signatures()
		}
		if err == nil || name == "no table" && !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse: whatever the bytes, no panic.
func FuzzParse(f *testing.F) {
	// A whole program is too long to be varied: its headers, a little of it and its signatures.
	for _, data := range programs(f) {
		p, err := Parse(data)
		if err != nil {
			f.Fatal(err)
		}
		small := append(bytes.Clone(data[:p.layout.headers]), data[p.layout.certs:]...)
		binary.LittleEndian.PutUint32(small[p.layout.directory:], uint32(p.layout.headers))
		f.Add(small)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		signatures, _ := p.Signatures()
		for _, s := range signatures {
			s.IssuedBy(MicrosoftUEFI)
		}
		_, _ = p.VendorCertificates()
	})
}
