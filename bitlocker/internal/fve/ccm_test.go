package fve

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCCMVectors are packet vectors of RFC 3610, section 8: 8 bytes of
// associated data in front of the packet, a tag of 8 or 10 bytes behind it.
func TestCCMVectors(t *testing.T) {
	for _, v := range []struct {
		name, nonce, packet, want string
		tag                       int
	}{
		{"1", "00000003020100a0a1a2a3a4a5", "0001020304050607 08090a0b0c0d0e0f101112131415161718191a1b1c1d1e",
			"588c979a61c663d2f066d0c2c0f989806d5f6b61dac384 17e8d12cfdf926e0", 8},
		{"2", "00000004030201a0a1a2a3a4a5", "0001020304050607 08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"72c91a36e135f8cf291ca894085c87e3cc15c439c9e43a3b a091d56e10400916", 8},
		{"3", "00000005040302a0a1a2a3a4a5", "0001020304050607 08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
			"51b1e5f44a197d1da46b0f8e2d282ae871e838bb64da859657 4adaa76fbd9fb0c5", 8},
		{"7", "00000009080706a0a1a2a3a4a5", "0001020304050607 08090a0b0c0d0e0f101112131415161718191a1b1c1d1e",
			"0135d1b2c95f41d5d1d4fec185d166b8094e999dfed96c 048c56602c97acbb7490", 10},
	} {
		packet, want := unhex(t, v.packet), unhex(t, v.want)
		plain := packet[8:]
		c, err := newCCM(unhex(t, "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"), unhex(t, v.nonce), v.tag, len(plain))
		if err != nil {
			t.Fatal(err)
		}
		c.aad = packet[:8]
		data := make([]byte, len(plain))
		c.ctr(data, plain)
		if got := append(data, c.tag(plain, v.tag)...); !bytes.Equal(got, want) {
			t.Errorf("packet %s: got %x, want %x", v.name, got, want)
		}
	}
}

// TestCCMRoundTrip covers all sizes around the block size, and that a change
// anywhere is noticed.
func TestCCMRoundTrip(t *testing.T) {
	key, nonce := bytes.Repeat([]byte{7}, 32), []byte("twelve bytes")
	for n := range 70 {
		plain := bytes.Repeat([]byte{byte(n)}, n)
		tag, data, err := Seal(key, nonce, plain, TagSize)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Open(key, nonce, tag, data)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: got %x, %v", n, got, err)
		}
		all := append(bytes.Clone(tag), data...)
		for i := range all {
			all[i] ^= 0x10
			if _, err := Open(key, nonce, all[:TagSize], all[TagSize:]); !errors.Is(err, ErrTag) {
				t.Fatalf("%d bytes, byte %d changed: %v", n, i, err)
			}
			all[i] ^= 0x10
		}
	}
	if _, err := Open(key[:5], nonce, make([]byte, 16), nil); err == nil || errors.Is(err, ErrTag) {
		t.Errorf("key of 5 bytes: %v", err)
	}
	if _, err := Open(key, nonce[:3], make([]byte, 16), nil); err == nil || errors.Is(err, ErrTag) {
		t.Errorf("nonce of 3 bytes: %v", err)
	}
}
