package boottest

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestServeWindowsPE starts machines by way of iPXE, that of QEMU's ROM with a BIOS and Debian's after it was loaded with
// UEFI: a stand-in for wimboot is started with all files, and each is what "build pxe" makes.
func TestServeWindowsPE(t *testing.T) {
	skipShort(t)
	folder := windowsPEFolder(t)
	ipxe, err := unpackDeb(context.Background(), "ipxe")
	check(t, err)
	wimboot := filepath.Join(t.TempDir(), "wimboot")
	write(t, wimboot, standInWimboot())
	bootmend, err := program()
	check(t, err)
	source := []string{"--env", "winpe", "--winpe", folder, "--wimboot", wimboot}
	built := filepath.Join(t.TempDir(), "built")
	if out, err := exec.Command(bootmend, append([]string{"build", "pxe", "-o", built}, source...)...).CombinedOutput(); err != nil {
		t.Fatalf("build pxe: %v: %s", err, out)
	}
	for name, test := range map[string]struct {
		firmware Firmware
		flags    []string
		extra    []string
	}{
		"bios": {BIOS, nil, nil},
		"uefi": {UEFI, []string{"--ipxe", filepath.Join(ipxe, "boot/ipxe.efi")}, nil},
		"http": {UEFI, []string{"--ipxe", filepath.Join(ipxe, "boot/ipxe.efi")}, httpOnly},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			n := newNetwork(t)
			n.dhcp(someAddresses, "--no-ping")
			server := n.start("boot", "serving machines", bootmend, append(append([]string{"serve"}, source...), test.flags...)...)
			m := boot(t, Options{Firmware: test.firmware, Extra: append(n.card(test.firmware), test.extra...)})
			line := StandInWimboot
			if test.firmware == BIOS {
				line += ": ([0-9A-F]{8})" // the size of what iPXE hands over
			}
			found := m.expect(line, patience)
			said := []string{"(BIOS) starts over the network as 10.91.0.1", "has loaded its boot program", "has loaded everything and starts Windows PE"}
			if test.firmware != BIOS {
				said[0] = ") loads iPXE as 10.91.0.1"
			}
			for _, want := range said {
				if !strings.Contains(server.String(), want) {
					t.Errorf("the server has not said %q", want)
				}
			}
			var sum int64
			check(t, filepath.WalkDir(built, func(file string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				want, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				below, err := filepath.Rel(built, file)
				if err != nil {
					return err
				}
				got, err := exec.Command("nsenter", append(n.inside("site"), "curl", "--silent", "--fail", "http://"+path.Join(bootAddress, below))...).Output()
				if err != nil || string(got) != string(want) {
					t.Errorf("%s: %d bytes, want %d, %v", below, len(got), len(want), err)
				}
				switch below {
				case "bootmgr", "bootx64.efi", "bcd", "boot.sdi", "boot.wim":
					sum += int64(len(want))
				}
				return nil
			}))
			if test.firmware != BIOS {
				return
			}
			// iPXE packs each with its name, in whole pages.
			size, err := strconv.ParseInt(found[1], 16, 64)
			if err != nil || size < sum || size > sum+6*4096 {
				t.Errorf("wimboot was given %d bytes for files of %d, %v", size, sum, err)
			}
		})
	}
}

// TestServeWindowsPEWithout leaves a UEFI alone where there is no iPXE for it, and says so.
func TestServeWindowsPEWithout(t *testing.T) {
	parallel(t)
	folder := windowsPEFolder(t)
	wimboot := filepath.Join(t.TempDir(), "wimboot")
	write(t, wimboot, standInWimboot())
	bootmend, err := program()
	check(t, err)
	n := newNetwork(t)
	n.dhcp(someAddresses)
	boot(t, Options{Firmware: UEFI, Extra: n.card(UEFI)})
	n.start("boot", "has no iPXE of its own, left alone", bootmend, "serve", "--env", "winpe", "--winpe", folder, "--wimboot", wimboot)
}
