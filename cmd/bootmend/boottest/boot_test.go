package boottest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// patience is for one step of a machine under emulation, on a computer that does other things too.
const patience = 3 * time.Minute

// defect is what the machine must not have said.
const defect = `defect of its own|stopped unexpectedly|panic:`

// TestBoot boots the media against a broken machine, once for each way in which a machine may be put together. The
// media is never taken out by the test, but for the stick of a BIOS, where nothing else helps.
func TestBoot(t *testing.T) {
	for name, test := range map[string]struct {
		firmware Firmware
		medium   Medium
		bus      Bus
		disk     DiskOptions
	}{
		"uefi-cd-nvme":         {UEFI, CD, NVMe, DiskOptions{}},
		"uefi-usb-virtio":      {UEFI, USB, Virtio, DiskOptions{Dirty: true}},
		"secureboot-usb-nvme":  {SecureBoot, USB, NVMe, DiskOptions{}},
		"secureboot-cd-ahci":   {SecureBoot, CD, AHCI, DiskOptions{}},
		"bios-cd-ahci":         {BIOS, CD, AHCI, DiskOptions{}},
		"bios-usb-nvme":        {BIOS, USB, NVMe, DiskOptions{}},
		"uefi-cd-ahci-plain":   {UEFI, CD, AHCI, DiskOptions{Plain: true}},
		"uefi-cd-nvme-clear":   {UEFI, CD, NVMe, DiskOptions{ClearKey: true}},
		"bios-cd-virtio-plain": {BIOS, CD, Virtio, DiskOptions{Plain: true, Dirty: true}},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, test.disk)
			keys := ""
			if !test.disk.Plain && !test.disk.ClearKey {
				keys = keyList(disk)
			}
			iso := media(t, keys, "--countdown", "0s")
			m := boot(t, Options{Firmware: test.firmware, Media: iso, Medium: test.medium, Disks: []Disk{{Path: disk.Path, Bus: test.bus}}})
			m.healed()
			t.Logf("healed and restarted after %s", elapsed(m.reset(patience)))
			m.noDefect()
			if found := LeakedKey(disk.Password, []byte(m.Transcript())); disk.Password != "" && found != "" {
				t.Errorf("the console showed %s of the recovery password", found)
			}
			examine(t, disk, true)
			if test.medium == USB {
				stickLog(t, iso)
			}
			if test.firmware == BIOS && test.medium == CD {
				// A BIOS cannot be told what to start, so the agent ejects the disc. A drive's tray stays open when the
				// machine restarts, but QEMU's would close with the disc in it.
				if open, err := m.TrayOpen(); err != nil || !open {
					t.Fatalf("the disc was not ejected (%v)", err)
				}
				if err := m.PullMedia(); err != nil {
					t.Fatal(err)
				}
			}

			// Booted again on its own, with the media still in.
			m.resume()
			if test.firmware == BIOS && test.medium == USB {
				m.expect("nothing is left to heal", patience)
				m.expect("Pull the stick now", patience)
				if err := m.PullMedia(); err != nil {
					t.Fatal(err)
				}
				m.reset(patience)
				m.resume()
			}
			m.expect(StandIn, patience)
			if err := m.WaitPowerOff(patience); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestBootAgain switches a healed machine on anew, with the media in: it says so and goes on to Windows.
func TestBootAgain(t *testing.T) {
	for name, firmware := range map[string]Firmware{"uefi": UEFI, "secureboot": SecureBoot} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, DiskOptions{})
			o := Options{Dir: t.TempDir(), Firmware: firmware, Media: media(t, keyList(disk), "--countdown", "0s"), Disks: []Disk{{Path: disk.Path}}}
			first := boot(t, o)
			first.healed()
			first.reset(patience)
			first.resume()
			first.expect(StandIn, patience)
			first.Close()
			before := sum(t, disk.Path)

			second := boot(t, o)
			second.expect("nothing is left to heal", patience)
			second.reset(patience)
			second.resume()
			second.expect(StandIn, patience)
			second.noDefect()
			second.Close()
			if sum(t, disk.Path) != before {
				t.Error("the second boot changed the disk")
			}
			examine(t, disk, true)
		})
	}
}

// TestTypedKey has no key on the media: it is typed on the serial console, with one wrong digit first.
func TestTypedKey(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	m := boot(t, Options{Firmware: Direct, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path}}})
	typeKey(m, disk)
	m.healed()
	m.reset(patience)
	examine(t, disk, true)
}

// typeKey answers the prompt, with a mistake in the third group.
func typeKey(m machine, disk *WindowsDisk) {
	m.t.Helper()
	m.expect("Recovery key for ", patience)
	m.expect(disk.KeyID, patience)
	m.expect("key: ", patience)
	groups := strings.Split(disk.Password, "-")
	m.send(groups[0] + "-" + groups[1] + "-" + mistyped(groups[2]))
	m.expect("group 3 is not valid", patience)
	time.Sleep(500 * time.Millisecond) // a person has to read that; what comes at once is the rest of a scan, and dropped
	m.send(strings.Join(groups[2:], ""))
	m.expect("Unlocking|Unlocked", patience)
}

// mistyped is the group with its last digit wrong.
func mistyped(group string) string {
	last := (group[5]-'0'+1)%10 + '0'
	return group[:5] + string(last)
}

// TestWrongKeyOnMedia has a list that names the volume with somebody else's key: the person is asked, as above.
func TestWrongKeyOnMedia(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	keys := "KeyID,RecoveryKey\n" + disk.KeyID + "," + wrongPassword + "\n"
	m := boot(t, Options{Firmware: Direct, Media: media(t, keys, "--countdown", "0s"), Disks: []Disk{{Path: disk.Path}}})
	typeKey(m, disk)
	m.healed()
	m.reset(patience)
	examine(t, disk, true)
}

// TestBadLineInKeyList has a list with lines that are none; the good one still works.
func TestBadLineInKeyList(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	keys := "KeyID,RecoveryKey\n" +
		"{nonsense},111111-222222\n" +
		"11111111-2222-3333-4444-555555555555,111112-222222-333333-444444-555555-666666-111111-222222\n" +
		strings.ToLower(disk.KeyID) + "," + strings.ReplaceAll(disk.Password, "-", "") + "\n"
	m := boot(t, Options{Firmware: Direct, Media: media(t, keys, "--countdown", "0s"), Disks: []Disk{{Path: disk.Path}}})
	m.healed()
	m.reset(patience)
	examine(t, disk, true)
}

// TestDryRun changes not a byte of the disk, although the volume is opened and would be healed.
func TestDryRun(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{Dirty: true})
	before := sum(t, disk.Path)
	m := boot(t, Options{Firmware: Direct, Media: media(t, keyList(disk), "--dry-run-media", "--on-success", "poweroff", "--countdown", "0s"),
		Disks: []Disk{{Path: disk.Path}}})
	m.expect("to quarantine: .*C-00000291-", patience)
	m.expect("DRY RUN", patience)
	if err := m.WaitPowerOff(patience); err != nil {
		t.Fatal(err)
	}
	m.noDefect()
	m.Close()
	if sum(t, disk.Path) != before {
		t.Error("a dry run changed the disk")
	}
}

// TestNothingToHeal leaves a machine alone that the incident passed by.
func TestNothingToHeal(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{Healthy: true})
	before := sum(t, disk.Path)
	m := boot(t, Options{Firmware: SecureBoot, Media: media(t, keyList(disk), "--countdown", "0s"), Disks: []Disk{{Path: disk.Path}}})
	m.expect("[Nn]othing to heal", patience)
	m.reset(patience)
	m.resume()
	m.expect(StandIn, patience)
	m.noDefect()
	m.Close()
	if sum(t, disk.Path) != before {
		t.Error("the disk of a healthy machine was changed")
	}
}

// TestStickStays has a BIOS start a stick that leaves the disk as it is: the machine would come back to it for ever, so it
// waits until the stick is out.
func TestStickStays(t *testing.T) {
	for name, test := range map[string]struct {
		disk  DiskOptions
		flags []string
		want  string
	}{
		"healthy": {DiskOptions{Plain: true, Healthy: true}, nil, "Pull the stick now: this machine has nothing to heal"},
		"dry run": {DiskOptions{Plain: true}, []string{"--dry-run-media"}, "Pull the stick now: this machine was only looked at"},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, test.disk)
			before := sum(t, disk.Path)
			m := boot(t, Options{Firmware: Direct, Medium: USB, Media: mediaStick(t, "", append(test.flags, "--countdown", "0s")...), Disks: []Disk{{Path: disk.Path}}})
			m.expect(test.want, patience)
			if err := m.PullMedia(); err != nil {
				t.Fatal(err)
			}
			m.reset(patience)
			m.noDefect()
			m.Close()
			if sum(t, disk.Path) != before {
				t.Error("the disk was changed")
			}
		})
	}
}

// TestNoDisk tells a person what is wrong, and waits.
func TestNoDisk(t *testing.T) {
	for name, test := range map[string]struct {
		firmware Firmware
		medium   Medium
		build    func(t *testing.T, keys string, flags ...string) string
	}{
		"uefi": {UEFI, CD, media}, "bios": {BIOS, CD, media}, "stick": {Direct, USB, mediaStick},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			m := boot(t, Options{Firmware: test.firmware, Medium: test.medium, Media: test.build(t, "", "--countdown", "0s")})
			m.expect("no disk", patience)
			m.expect("Your choice", patience)
			m.noDefect()
			m.send("p")
			if err := m.WaitPowerOff(patience); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestReadOnlyDisk must not be taken for healed: what reached only the memory is gone after the restart.
func TestReadOnlyDisk(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{Plain: true})
	before := sum(t, disk.Path)
	m := boot(t, Options{Firmware: Direct, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path, Bus: Virtio, ReadOnly: true}}})
	m.expect("NOT HEALED", patience)
	m.expect("Your choice", patience)
	m.noDefect()
	m.Close()
	if sum(t, disk.Path) != before {
		t.Error("a read-only disk changed")
	}
}

// TestScreen types the key on the machine's own keyboard.
func TestScreen(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	m := boot(t, Options{Firmware: BIOS, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path, Bus: AHCI}}})
	m.expect("key: ", patience)
	if err := m.SendKeys(strings.Split(strings.ReplaceAll(disk.Password, "-", ""), "")...); err != nil {
		t.Fatal(err)
	}
	m.healed()
	m.reset(patience)
	examine(t, disk, true)
}

// healed waits for the repair, and fails at once where the machine asks a person instead.
func (m machine) healed() {
	m.t.Helper()
	if found := m.expect(`quarantined: .*C-00000291-|Recovery key for .*|NOT HEALED.*|Your choice`, patience); !strings.HasPrefix(found[0], "quarantined") {
		m.t.Fatalf("the machine was not healed, but said %q", found[0])
	}
}

func (m machine) noDefect() {
	m.t.Helper()
	if m.Seen(defect) {
		m.t.Error("the agent met a defect of its own")
	}
}

// examine looks at the disk with other people's programs.
func examine(t *testing.T, disk *WindowsDisk, healed bool) {
	t.Helper()
	found, err := Examine(context.Background(), disk, healed)
	check(t, err)
	for _, problem := range found.Problems {
		t.Error(problem)
	}
	stays, moved := 0, 0
	for _, file := range disk.Files {
		if file.Fate == Quarantined && healed {
			moved++
		} else {
			stays++
		}
	}
	if found.Untouched != stays || found.Moved != moved {
		t.Errorf("%d files untouched and %d in quarantine, want %d and %d", found.Untouched, found.Moved, stays, moved)
	}
	if !healed {
		return
	}
	if len(found.Logs) == 0 {
		t.Error("no log on the Windows volume")
	}
	for name, log := range found.Logs {
		checkLog(t, name, log)
	}
}

// TestDamagedRules boots media whose rule pack cannot be read: that must not pass for a machine with nothing to heal.
func TestDamagedRules(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{Plain: true})
	before := sum(t, disk.Path)
	iso := media(t, "", "--countdown", "0s")
	data, err := os.ReadFile(iso)
	check(t, err)
	damaged := bytes.ReplaceAll(data, []byte("apiVersion: bootmend/v1"), []byte("apiVersion: bootmend/v9"))
	if bytes.Equal(damaged, data) {
		t.Fatal("no rule pack on the media")
	}
	check(t, os.WriteFile(iso, damaged, 0o600))
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}})
	m.expect("rule pack 01-.* is left out: it has no signature", patience)
	m.expect("NOT COMPLETE: 1 rule pack", patience)
	m.expect("Your choice: ", patience)
	m.Close()
	if sum(t, disk.Path) != before {
		t.Error("the disk changed")
	}
}

// stickLog reads the log that a run leaves on the FAT partition of the stick it was started from.
func stickLog(t *testing.T, stick string) {
	t.Helper()
	start, err := firstPartition(context.Background(), stick)
	check(t, err)
	log, err := run(context.Background(), "mtype", "-i", fmt.Sprintf("%s@@%d", stick, start), "::/bootmend/logs/*.jsonl")
	check(t, err)
	checkLog(t, "the stick's log", log)
	if !bytes.Contains(log, []byte(`"outcome":"healed"`)) {
		t.Errorf("the stick's log does not say that the machine was healed:\n%s", log)
	}
}

// checkLog reads a log as JSON Lines that name this machine.
func checkLog(t *testing.T, name string, log []byte) {
	t.Helper()
	for i, line := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil {
			t.Errorf("%s, line %d: %v: %s", name, i+1, err, line)
		} else if event["schema"] == nil {
			t.Errorf("%s, line %d: no schema: %s", name, i+1, line)
		}
	}
	for _, identity := range []string{DefaultSerial, DefaultProduct} {
		if !bytes.Contains(log, []byte(identity)) {
			t.Errorf("%s does not name the machine as %s", name, identity)
		}
	}
	if !bytes.Contains(bytes.ToLower(log), []byte(DefaultUUID)) {
		t.Errorf("%s does not hold the machine's UUID", name)
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	s, err := Sum(path)
	check(t, err)
	return s
}

// parallel lets as many boots overlap as there are processors, since a machine has one.
func parallel(t *testing.T) {
	t.Helper()
	skipShort(t)
	t.Parallel()
}
