package boottest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/remediate/hive"
)

// servicePack disables one driver more than it allows itself.
const servicePack = `apiVersion: bootmend/v1
id: service
title: A driver that cannot be moved
blastRadius: {maxFiles: 1}
rules:
  - {id: filter, service: baddrv, action: disable-service}
  - {id: twin, service: badtwin, action: disable-service}
`

// systemHive is a SYSTEM hive with two drivers that start with the system.
func systemHive() ([]byte, error) {
	h, err := hive.New("ROOT")
	if err != nil {
		return nil, err
	}
	set := func(path, name string, value uint32) {
		if err != nil {
			return
		}
		var k hive.Key
		k, err = h.Root()
		for _, step := range strings.Split(path, `\`) {
			if err != nil {
				return
			}
			if next, findErr := k.Subkey(step); findErr == nil {
				k = next
			} else {
				k, err = k.CreateSubkey(step)
			}
		}
		if err == nil {
			err = k.SetDWORD(name, value)
		}
	}
	set("Select", "Current", 1)
	set("Select", "Default", 1)
	set(`ControlSet001\Services\BadDrv`, "Start", 0)
	set(`ControlSet001\Services\BadTwin`, "Start", 1)
	set(`ControlSet001\Services\Disk`, "Start", 0)
	if err != nil {
		return nil, err
	}
	return h.Bytes()
}

// TestDisableService disables drivers by a signed pack of a site. It goes beyond its blast radius, which a person first
// refuses and then agrees to; at last it is undone from the menu.
func TestDisableService(t *testing.T) {
	parallel(t)
	check(t, need("hivexregedit"))
	system, err := systemHive()
	check(t, err)
	files := SmallWindows()
	for i := range files {
		if files[i].Path == "Windows/System32/config/SYSTEM" {
			files = append(files[:i], files[i+1:]...)
			break
		}
	}
	disk, err := MakeSmall(context.Background(), filepath.Join(t.TempDir(), "disk.img"), SmallOptions{Files: files, Change: func(root string) error {
		path := filepath.Join(root, "Windows/System32/config/SYSTEM")
		if err := os.WriteFile(path, system, 0o600); err != nil {
			return err
		}
		return guardFile(path)
	}})
	check(t, err)
	disk.Known = []string{"Windows/System32/config/SYSTEM"}
	before, untouched := storeText(t, system), sum(t, disk.Path)

	dir := t.TempDir()
	pack, key := filepath.Join(dir, "service.yaml"), filepath.Join(dir, "site")
	check(t, os.WriteFile(pack, []byte(servicePack), 0o600))
	bootmend(t, "rules", "keygen", "-o", key, "--no-password")
	bootmend(t, "rules", "sign", pack, "--key", key+".key")
	m := boot(t, Options{Firmware: Direct, Disks: []Disk{{Path: disk.Path}},
		Media: media(t, "", "--countdown", "0s", "--on-success", "wait", "--rules", pack, "--rules-key", key+".pub")})

	m.expect("beyond the blast radius: rule pack service wants 2 ", patience)
	m.expect("Type YES", patience)
	m.send("no\r")
	m.expect("NOT HEALED: .*nobody agreed to that. Nothing was changed", patience)
	m.expect("Your choice: ", patience)
	if sum(t, disk.Path) != untouched {
		t.Error("the disk was changed although nobody agreed")
	}
	m.send("t")
	m.expect("Type YES", patience)
	m.send("YES\r")
	m.expect("disabled: service BadDrv", patience)
	m.expect("HEALED: 1 Windows", patience)
	m.expect("Your choice: ", patience)
	after := storeText(t, hiveOf(t, disk))
	disabled := strings.NewReplacer(`"Start"=dword:00000000`, `"Start"=dword:00000004`, `"Start"=dword:00000001`, `"Start"=dword:00000004`)
	want := section(before, "BadDrv", disabled.Replace)
	want = section(want, "BadTwin", disabled.Replace)
	if after != want {
		t.Errorf("SYSTEM is\n%s\nwant\n%s", after, want)
	}

	m.send("u")
	m.expect("1  repair of .* and 2 services", patience)
	m.send("1")
	m.expect("starts again: service BadDrv", patience)
	m.expect("Type YES", patience)
	m.send("yes\r")
	m.expect("UNDONE: .*2 services", patience)
	m.expect("Your choice: ", patience)
	m.send("p")
	check(t, m.WaitPowerOff(patience))
	m.noDefect()
	m.Close()
	if got := storeText(t, hiveOf(t, disk)); got != before {
		t.Errorf("undone, SYSTEM is\n%s\nwant\n%s", got, before)
	}
}

// section changes the lines of one key in an export of hivexregedit.
func section(text, key string, change func(string) string) string {
	start := strings.Index(text, `\`+key+"]")
	end := start + strings.Index(text[start:]+"\n[", "\n[")
	return text[:start] + change(text[start:end]) + text[end:]
}

func hiveOf(t *testing.T, disk *WindowsDisk) (data []byte) {
	t.Helper()
	check(t, withWindows(context.Background(), disk, func(root string) (err error) {
		data, err = os.ReadFile(filepath.Join(root, "Windows/System32/config/SYSTEM"))
		return err
	}))
	return data
}
