package remediate

import (
	"strings"
	"testing"

	"github.com/bootmend/bootmend/remediate/hive"
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

// buildHive makes a registry hive of a key.
func buildHive(root *hiveKey) []byte {
	h, err := hive.New("ROOT")
	if err != nil {
		panic(err)
	}
	top, err := h.Root()
	if err != nil {
		panic(err)
	}
	root.build(top)
	data, err := h.Bytes()
	if err != nil {
		panic(err)
	}
	return data
}

func (k *hiveKey) build(to hive.Key) {
	for name, v := range k.values {
		err := error(nil)
		switch v := v.(type) {
		case uint32:
			err = to.SetDWORD(name, v)
		case string:
			err = to.SetText(name, v)
		}
		if err != nil {
			panic(err)
		}
	}
	for name, sub := range k.keys {
		made, err := to.CreateSubkey(name)
		if err != nil {
			panic(err)
		}
		sub.build(made)
	}
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
		if got, err := readComputerName(systemHive(in)); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	root := &hiveKey{}
	root.at(`ControlSet001\Services\Tcpip\Parameters`).set("Hostname", "from-tcpip")
	if got, err := readComputerName(buildHive(root)); err != nil || got != "from-tcpip" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := readComputerName(systemHive(strings.Repeat("x", 8000))); err == nil {
		t.Errorf("a name of 8,000 characters: %d", len(got))
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
		if v, err := readVersion(softwareHive(tc.values)); err != nil || v.String() != tc.want {
			t.Errorf("got %q, %v, want %q", v, err, tc.want)
		}
	}
}
