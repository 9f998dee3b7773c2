package device

import (
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

// descriptor is a STORAGE_DEVICE_DESCRIPTOR as Windows returns it for a stick: the fixed part, one raw byte, and
// the texts.
func descriptor(vendor, product, serial string, removable bool, bus uint32) []byte {
	b := make([]byte, 37)
	le := binary.LittleEndian
	le.PutUint32(b, 40) // sizeof
	if removable {
		b[10] = 1
	}
	text := func(position int, s string) {
		if s == "" {
			return
		}
		le.PutUint32(b[position:], uint32(len(b)))
		b = append(append(b, s...), 0)
	}
	text(12, vendor)
	text(16, product)
	text(20, "1.00")
	if serial == "" {
		le.PutUint32(b[24:], 1<<32-1)
	}
	text(24, serial)
	le.PutUint32(b[28:], bus)
	le.PutUint32(b[4:], uint32(len(b)))
	return b
}

func TestStorageDescriptor(t *testing.T) {
	for name, c := range map[string]struct {
		raw  []byte
		want storageDescriptor
	}{
		"stick":     {descriptor("SanDisk ", "Cruzer Blade    ", "4C530001230512117380", true, 7), storageDescriptor{"SanDisk Cruzer Blade", "4C530001230512117380", "usb", true}},
		"no serial": {descriptor("", "USB DISK", "", true, 7), storageDescriptor{"USB DISK", "", "usb", true}},
		"nvme":      {descriptor("", "Samsung SSD 970", "0025_3858_91B0.", false, 17), storageDescriptor{"Samsung SSD 970", "0025_3858_91B0.", "nvme", false}},
		"new bus":   {descriptor("", "X", "", false, 99), storageDescriptor{"X", "", "other", false}},
		"spare":     {append(descriptor("A", "B", "C", true, 12), make([]byte, 4000)...), storageDescriptor{"A B", "C", "sd", true}},
	} {
		got, err := parseStorageDescriptor(c.raw)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
	}
	if _, err := parseStorageDescriptor(make([]byte, 35)); err == nil {
		t.Error("a short one is accepted")
	}
}

func TestDiskExtents(t *testing.T) {
	raw, err := hex.DecodeString("02000000" + "00000000" +
		"01000000" + "00000000" + "0000100000000000" + "0000f07f00000000" +
		"03000000" + "00000000" + "0000100000000000" + "0000f07f00000000")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseDiskExtents(raw); err != nil || !reflect.DeepEqual(got, []uint32{1, 3}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseDiskExtents(raw[:40]); err == nil || !strings.Contains(err.Error(), "2 announced in 40 bytes") {
		t.Errorf("cut: %v", err)
	}
	if _, err := parseDiskExtents(nil); err == nil {
		t.Error("nothing is accepted")
	}
}

func TestGeometry(t *testing.T) {
	raw := make([]byte, 40)
	binary.LittleEndian.PutUint32(raw[20:], 512)
	binary.LittleEndian.PutUint64(raw[24:], 15376318464)
	if sector, size, err := parseGeometry(raw); err != nil || sector != 512 || size != 15376318464 {
		t.Errorf("got %d, %d, %v", sector, size, err)
	}
	for _, bad := range [][]byte{nil, raw[:31], make([]byte, 40)} {
		if _, _, err := parseGeometry(bad); err == nil {
			t.Errorf("%x is accepted", bad)
		}
	}
	if n, err := parseDeviceNumber([]byte{7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}); err != nil || n != 2 {
		t.Errorf("device number %d, %v", n, err)
	}
	if _, err := parseDeviceNumber([]byte{2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}); err == nil {
		t.Error("a CD is taken for a disk")
	}
	if n, err := parseLength([]byte{0, 0, 0, 0, 1, 0, 0, 0}); err != nil || n != 1<<32 {
		t.Errorf("length %d, %v", n, err)
	}
	if _, err := parseLength(make([]byte, 8)); err == nil {
		t.Error("a disk of no size is accepted")
	}
}

func FuzzStorage(f *testing.F) {
	f.Add(descriptor("SanDisk ", "Cruzer Blade", "4C53", true, 7))
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStorageDescriptor(b); err == nil && strings.ContainsAny(s.model+s.serial, "\x00\x1b\n") {
			t.Errorf("%+v", s)
		}
		if list, err := parseDiskExtents(b); err == nil && len(list)*24 > len(b) {
			t.Error("more extents than bytes")
		}
		if _, size, err := parseGeometry(b); err == nil && size < 0 {
			t.Error("negative size")
		}
		_, _ = parseDeviceNumber(b)
		_, _ = parseLength(b)
	})
}
