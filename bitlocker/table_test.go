package bitlocker_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/xts"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// TestTableLayout compares with the segments that cryptsetup's lib/bitlk
// makes for the same places.
func TestTableLayout(t *testing.T) {
	v := makeVolume(t, testSize, fvetest.Options{Metadata: [3]int64{1 << 20, 2 << 20, 3 << 20}})
	_, m, key := v.open(t)
	table, err := m.Table(key, "/dev/sda2")
	if err != nil {
		t.Fatal(err)
	}
	const crypt = "crypt aes-xts-plain64 [redacted]"
	want := []string{
		"0 16 " + crypt + " 2176 /dev/sda2 2176", // the header, from behind the first copy
		"16 2032 " + crypt + " 16 /dev/sda2 16",
		"2048 144 zero", // the first copy and the header
		"2192 1904 " + crypt + " 2192 /dev/sda2 2192",
		"4096 128 zero",
		"4224 1920 " + crypt + " 4224 /dev/sda2 4224",
		"6144 128 zero",
		"6272 1920 " + crypt + " 6272 /dev/sda2 6272",
	}
	if got := fmt.Sprint(table); got != fmt.Sprint(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, dev := range []string{"", "/dev/a b", "/dev/a\nb"} {
		if _, err := m.Table(key, dev); err == nil {
			t.Errorf("device %q is accepted", dev)
		}
	}
}

// kernel reads the mapped device as device-mapper does from the table's text,
// with other people's ciphers.
func kernel(t testing.TB, disk io.ReaderAt, table []bitlocker.Target) []byte {
	t.Helper()
	var out []byte
	for _, target := range table {
		if target.Start*512 != uint64(len(out)) {
			t.Fatalf("target starts at sector %d after %d bytes", target.Start, len(out))
		}
		b := make([]byte, target.Length*512)
		f := strings.Fields(target.Params)
		switch target.Type {
		case "zero":
		case "linear":
			kernelRead(t, disk, b, f[0], f[1])
		case "crypt":
			kernelRead(t, disk, b, f[3], f[4])
			size := 512
			if len(f) > 5 {
				if strings.Join(f[5:], " ") != "2 sector_size:4096 iv_large_sectors" {
					t.Fatalf("options %q", f[5:])
				}
				size = 4096
			}
			key, err := hex.DecodeString(f[1])
			if err != nil {
				t.Fatal(err)
			}
			iv, err := strconv.ParseUint(f[2], 10, 63)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(b); i += size {
				// dm-crypt counts 512-byte sectors from iv_offset, and divides
				// with iv_large_sectors.
				kernelDecrypt(t, f[0], key, b[i:i+size], (iv+uint64(i)/512)/uint64(size/512))
			}
		default:
			t.Fatalf("target type %q", target.Type)
		}
		out = append(out, b...)
	}
	return out
}

func kernelRead(t testing.TB, disk io.ReaderAt, b []byte, dev, sector string) {
	t.Helper()
	n, err := strconv.ParseInt(sector, 10, 63)
	if err != nil || dev != "/dev/x" {
		t.Fatalf("device %q, sector %q", dev, sector)
	}
	if _, err := disk.ReadAt(b, n*512); err != nil {
		t.Fatal(err)
	}
}

func kernelDecrypt(t testing.TB, spec string, key, b []byte, sector uint64) {
	t.Helper()
	switch spec {
	case "aes-xts-plain64":
		c, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		c.Decrypt(b, b, sector)
		return
	case "aes-cbc-eboiv":
	default:
		t.Fatalf("cipher %q", spec)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, 16)
	binary.LittleEndian.PutUint64(iv, sector*uint64(len(b)))
	block.Encrypt(iv, iv)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(b, b)
}

// TestTableContent leaves out the diffuser, for which there is no code of
// others; its table differs from CBC's in name and key only.
func TestTableContent(t *testing.T) {
	for name, opts := range kinds() {
		if opts.Method == bitlocker.MethodElephant128 || opts.Method == bitlocker.MethodElephant256 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := makeVolume(t, testSize, opts)
			_, m, key := v.open(t)
			table, err := m.Table(key, "/dev/x")
			if err != nil {
				t.Fatal(err)
			}
			linear := 0
			for _, target := range table {
				if target.Type == "linear" {
					linear++
				}
			}
			if (linear > 0) != (opts.EncryptedSize > 0) {
				t.Errorf("%d linear targets: %s", linear, table)
			}
			if got := kernel(t, v.disk, table); !bytes.Equal(got, v.content) {
				t.Error("the table maps other content")
			}
		})
	}
}
