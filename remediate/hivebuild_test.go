package remediate

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"
)

// hiveKey is a registry key to build a hive from: values are string (REG_SZ) or
// uint32 (REG_DWORD).
type hiveKey struct {
	values map[string]any
	keys   map[string]*hiveKey
}

// at returns the key at a path below k, making what is missing.
func (k *hiveKey) at(path string) *hiveKey {
	for _, name := range strings.Split(path, `\`) {
		if k.keys == nil {
			k.keys = make(map[string]*hiveKey)
		}
		if k.keys[name] == nil {
			k.keys[name] = &hiveKey{}
		}
		k = k.keys[name]
	}
	return k
}

func (k *hiveKey) set(name string, value any) {
	if k.values == nil {
		k.values = make(map[string]any)
	}
	k.values[name] = value
}

// buildHive lays a key out as a registry hive (regf 1.5), as much of it as a
// reader needs.
func buildHive(root *hiveKey) []byte {
	b := &hiveBuilder{bins: make([]byte, 32)}
	offset := b.key("ROOT", root)
	copy(b.bins, "hbin")
	size := (len(b.bins) + 4095) &^ 4095
	b.bins = append(b.bins, make([]byte, size-len(b.bins))...)
	binary.LittleEndian.PutUint32(b.bins[8:], uint32(size))
	head := make([]byte, 4096)
	copy(head, "regf")
	binary.LittleEndian.PutUint32(head[0x14:], 1)
	binary.LittleEndian.PutUint32(head[0x18:], 5)
	binary.LittleEndian.PutUint32(head[0x20:], 1)
	binary.LittleEndian.PutUint32(head[0x24:], offset)
	binary.LittleEndian.PutUint32(head[0x28:], uint32(size))
	return append(head, b.bins...)
}

type hiveBuilder struct{ bins []byte }

// cell adds an allocated cell and returns its offset.
func (b *hiveBuilder) cell(data []byte) uint32 {
	offset := len(b.bins)
	size := (len(data) + 4 + 7) &^ 7
	b.bins = binary.LittleEndian.AppendUint32(b.bins, uint32(-int32(size)))
	b.bins = append(b.bins, data...)
	b.bins = append(b.bins, make([]byte, size-4-len(data))...)
	return uint32(offset)
}

func (b *hiveBuilder) key(name string, k *hiveKey) uint32 {
	le := binary.LittleEndian
	const none = ^uint32(0)
	subkeys, values := none, none
	if len(k.keys) > 0 {
		list := le.AppendUint16([]byte("li"), uint16(len(k.keys)))
		for name, sub := range k.keys {
			list = le.AppendUint32(list, b.key(name, sub))
		}
		subkeys = b.cell(list)
	}
	if len(k.values) > 0 {
		var list []byte
		for name, v := range k.values {
			list = le.AppendUint32(list, b.value(name, v))
		}
		values = b.cell(list)
	}
	nk := make([]byte, 0x4c)
	copy(nk, "nk\x20\x00")
	le.PutUint32(nk[0x14:], uint32(len(k.keys)))
	le.PutUint32(nk[0x1c:], subkeys)
	le.PutUint32(nk[0x20:], none)
	le.PutUint32(nk[0x24:], uint32(len(k.values)))
	le.PutUint32(nk[0x28:], values)
	le.PutUint16(nk[0x48:], uint16(len(name)))
	return b.cell(append(nk, name...))
}

func (b *hiveBuilder) value(name string, v any) uint32 {
	le := binary.LittleEndian
	vk := make([]byte, 0x14)
	copy(vk, "vk")
	le.PutUint16(vk[2:], uint16(len(name)))
	switch v := v.(type) {
	case uint32:
		le.PutUint32(vk[4:], 4|1<<31)
		le.PutUint32(vk[8:], v)
		le.PutUint32(vk[12:], 4)
	case string:
		var data []byte
		for _, u := range utf16.Encode([]rune(v + "\x00")) {
			data = le.AppendUint16(data, u)
		}
		le.PutUint32(vk[4:], uint32(len(data)))
		le.PutUint32(vk[8:], b.cell(data))
		le.PutUint32(vk[12:], 1)
	}
	le.PutUint16(vk[16:], 1)
	return b.cell(append(vk, name...))
}

func systemHive(computer string) []byte {
	root := &hiveKey{}
	root.at(`Select`).set("Current", uint32(2))
	root.at(`ControlSet001\Control\ComputerName\ComputerName`).set("ComputerName", "OTHER")
	root.at(`ControlSet002\Control\ComputerName\ComputerName`).set("ComputerName", computer)
	return buildHive(root)
}

func softwareHive(values map[string]any) []byte {
	root := &hiveKey{}
	root.at(`Microsoft\Windows NT\CurrentVersion`).values = values
	return buildHive(root)
}

func TestComputerName(t *testing.T) {
	for in, want := range map[string]string{
		"WS-0001": "WS-0001", "LT-ÄRGER-3": "LT-ÄRGER-3", "evil\x1b[2J\n": "evil[2J", strings.Repeat("x", 300): strings.Repeat("x", 256),
	} {
		if got, err := computerName(bytes.NewReader(systemHive(in))); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	root := &hiveKey{}
	root.at(`ControlSet001\Services\Tcpip\Parameters`).set("Hostname", "from-tcpip")
	if got, err := computerName(bytes.NewReader(buildHive(root))); err != nil || got != "from-tcpip" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := computerName(bytes.NewReader(systemHive(strings.Repeat("x", 100000)))); err == nil {
		t.Errorf("a name of 100,000 characters: %d", len(got))
	}
}

func TestWindowsVersion(t *testing.T) {
	for _, tc := range []struct {
		values map[string]any
		want   string
	}{
		{map[string]any{"ProductName": "Windows 10 Pro", "DisplayVersion": "23H2", "CurrentBuildNumber": "22631", "UBR": uint32(3880)}, "Windows 11 Pro 23H2 (build 22631.3880)"},
		{map[string]any{"ProductName": "Windows 10 Enterprise", "ReleaseId": "1809", "CurrentBuild": "17763"}, "Windows 10 Enterprise 1809 (build 17763)"},
		{map[string]any{"ProductName": "Windows Server 2022 Standard", "CurrentBuildNumber": "20348"}, "Windows Server 2022 Standard (build 20348)"},
		{map[string]any{"EditionID": "Professional"}, "Windows"},
	} {
		if v, err := windowsVersion(bytes.NewReader(softwareHive(tc.values))); err != nil || v.String() != tc.want {
			t.Errorf("got %q, %v, want %q", v, err, tc.want)
		}
	}
}
