package boottest

import (
	"context"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDisplay sits before the machine's own screen: a phone could read computer name and key ID from it, the number pad
// types, and the result colours the whole screen. The serial console has the plain lines of the same all the time.
func TestDisplay(t *testing.T) {
	if _, err := exec.LookPath("zbarimg"); err != nil {
		t.Skip("zbarimg (Debian package zbar-tools) is not installed")
	}
	for name, firmware := range map[string]Firmware{"uefi": UEFI, "bios": BIOS} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, DiskOptions{})
			m := boot(t, Options{Firmware: firmware, Media: media(t, "", "--on-success", "wait"), Disks: []Disk{{Path: disk.Path}}})
			m.expect(`Recovery key for (\S+)`, patience)
			m.expect("key: ", patience)
			m.picture(name+"-question", m.reads(disk.KeyID))

			m.press("s")
			m.expect("NOT HEALED", patience)
			m.expect("Your choice", patience)
			m.picture(name+"-not-ok", coloured(func(r, g, _ uint32) bool { return r > 0x8000 && g < 0x6000 }))

			m.press("l")
			m.expect("This machine: ", patience)
			m.expect("go on   Q: enough", patience)
			m.press("spc")
			m.expect("Any key: back", patience)
			m.press("spc")
			m.expect("Your choice", patience)
			m.press("k")
			m.expect("key: ", patience)
			groups := strings.Split(disk.Password, "-")
			m.press("delete", "up")
			for _, digit := range groups[0] {
				m.press("kp_" + string(digit))
			}
			m.press(strings.Split(groups[1]+mistyped(groups[2]), "")...)
			m.expect("group 3 is not valid", patience)
			m.picture(name+"-mistyped", m.reads(disk.KeyID))
			m.press(strings.Split(strings.Join(groups[2:], ""), "")...)
			m.healed()
			m.expect("Your choice", patience)
			m.picture(name+"-healed", coloured(func(r, g, _ uint32) bool { return g > 0x8000 && r < 0x6000 }))
			m.press("p")
			if err := m.WaitPowerOff(patience); err != nil {
				t.Fatal(err)
			}
			m.noDefect()
			examine(t, disk, true)
		})
	}
}

func (m machine) press(keys ...string) {
	m.t.Helper()
	check(m.t, m.SendKeys(keys...))
}

// picture waits until the screen shows what it should. With BOOTMEND_SCREENSHOTS, it is kept there.
func (m machine) picture(name string, shows func(path string) bool) {
	m.t.Helper()
	dir := os.Getenv("BOOTMEND_SCREENSHOTS")
	if dir == "" {
		dir = m.t.TempDir()
	}
	check(m.t, os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, name+".png")
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		check(m.t, m.Screenshot(path))
		if shows(path) {
			return
		}
		if time.Now().After(end) {
			m.t.Errorf("the screen does not show %s", name)
			return
		}
	}
}

// reads scans the QR code on the screen as a phone would.
func (m machine) reads(keyID string) func(string) bool {
	return func(path string) bool {
		out, err := run(context.Background(), "zbarimg", "-q", "--raw", path)
		return err == nil && strings.Contains(string(out), strings.ToUpper(keyID))
	}
}

// coloured looks whether more than half of the screen has a colour.
func coloured(is func(r, g, b uint32) bool) func(string) bool {
	return func(path string) bool {
		f, err := os.Open(path)
		if err != nil {
			return false
		}
		defer f.Close()
		var picture image.Image
		if picture, err = png.Decode(f); err != nil {
			return false
		}
		bounds, n := picture.Bounds(), 0
		for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
			for x := bounds.Min.X; x < bounds.Max.X; x++ {
				if r, g, b, _ := picture.At(x, y).RGBA(); is(r, g, b) {
					n++
				}
			}
		}
		return 2*n > bounds.Dx()*bounds.Dy()
	}
}
