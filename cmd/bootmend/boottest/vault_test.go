package boottest

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"filippo.io/age"

	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

const passphrase = "correct horse battery"

// quick makes trying a passphrase fast enough for an emulated machine.
const quick = "--work-factor=12"

// private writes a file that only its owner may read, and returns its path.
func private(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	check(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// TestVaultPassphrase types the passphrase of a vault on the serial console, at first a wrong one. Nothing that the
// machine leaves behind holds a key or the passphrase.
func TestVaultPassphrase(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	iso := media(t, "", "--keys", private(t, "keys.csv", keyList(disk)), "--passphrase-file", private(t, "pass", passphrase+"\n"),
		"--expires", "1w", quick, "--countdown", "0s")
	m := boot(t, Options{Firmware: Direct, Media: iso, Medium: USB, Disks: []Disk{{Path: disk.Path}}})
	m.expect("The vault on the media is sealed", patience)
	m.expect("passphrase: ", patience)
	m.send("correct house battery\r")
	m.expect(`\*{21}`, patience)
	m.expect("This passphrase is wrong", patience)
	m.expect("passphrase: ", patience)
	m.send("\tcorrecr\x7ft horse battery\r") // Tab shows it on the screen alone
	m.expect("Opened the vault on the media: 2 recovery keys", patience)
	m.expect("by vault on the media, key ID "+disk.KeyID, patience)
	m.healed()
	t.Logf("healed and restarted after %s", elapsed(m.reset(patience)))
	m.noDefect()
	if text := m.Transcript(); strings.Contains(text, "horse") || strings.Contains(text, "house") {
		t.Error("the serial console showed the passphrase")
	} else if leak := LeakedKey(disk.Password, []byte(text)); leak != "" {
		t.Errorf("the console showed %s of the recovery password", leak)
	}
	examine(t, disk, true)
	stickLog(t, iso)
	m.Close()
	clearVolume := filepath.Join(t.TempDir(), "clear")
	volume := filepath.Join(t.TempDir(), "volume")
	check(t, cutOut(disk.Path, volume, windowsStart, windowsSize))
	_, err := run(context.Background(), "dislocker-file", "-q", "-V", volume, "-p"+disk.Password, "--", clearVolume)
	check(t, err)
	for name, path := range map[string]string{"the disk": disk.Path, "the opened volume": clearVolume, "the stick": iso} {
		f, err := os.Open(path)
		check(t, err)
		found, err := scanForKey(f, disk.Password)
		check(t, err)
		if found != "" {
			t.Errorf("%s holds %s of the recovery password", name, found)
		}
		check(t, f.Close())
	}
}

// TestVaultIdentity opens a vault with the identity on a second stick, without anybody at the machine.
func TestVaultIdentity(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	identity, err := age.GenerateX25519Identity()
	check(t, err)
	iso := media(t, "", "--keys", private(t, "keys.csv", keyList(disk)), "--recipient", identity.Recipient().String(), "--countdown", "0s")
	second := stick(t, map[string]string{"bootmend/identity.txt": "# public key: " + identity.Recipient().String() + "\r\n" + identity.String() + "\r\n"})
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}, Extra: append(second.drive(), second.device()...)})
	m.expect("by vault on the media, key ID "+disk.KeyID, patience)
	m.healed()
	m.reset(patience)
	m.noDefect()
	examine(t, disk, true)
	if m.Seen("AGE-SECRET-KEY") {
		t.Error("the console showed the identity")
	}
}

// TestVaultExpired has a vault whose time is over by the machine's clock: it is refused, and a typed key heals.
func TestVaultExpired(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	iso := media(t, "", "--keys", private(t, "keys.csv", keyList(disk)), "--passphrase-file", private(t, "pass", passphrase),
		"--expires", "1h", quick, "--countdown", "0s")
	now := time.Now().UTC().Add(48 * time.Hour).Format("2006-01-02T15:04:05")
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}, Extra: []string{"-rtc", "base=" + now}})
	m.expect("passphrase: ", patience)
	m.send(passphrase + "\r")
	m.expect("The vault on the media is refused: the vault has expired", patience)
	typeKey(m, disk)
	m.healed()
	m.reset(patience)
	m.noDefect()
	examine(t, disk, true)
}

// TestVaultPassed has a person who does not know the passphrase, but the password of the volume.
func TestVaultPassed(t *testing.T) {
	parallel(t)
	const password = "Überholt 7"
	disk := newDisk(t, DiskOptions{BitLocker: fvetest.Options{Passwords: []string{password}}})
	iso := media(t, "", "--keys", private(t, "keys.csv", keyList(disk)), "--passphrase-file", private(t, "pass", passphrase), quick, "--countdown", "0s")
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}})
	m.expect("passphrase: ", patience)
	m.send("\r")
	m.expect("P types the volume's password", patience)
	m.expect("key: ", patience)
	m.send("p")
	m.expect("password: ", patience)
	m.send("Überholt 6\r")
	m.expect("This password does not open the volume", patience)
	m.expect("key: ", patience)
	m.send("p")
	m.expect("password: ", patience)
	m.send(password + "\r")
	m.expect("by typed password, key ID "+disk.Volume.Passwords[0].ID.String(), patience)
	m.healed()
	m.reset(patience)
	if m.Seen("berholt") {
		t.Error("the serial console showed the password")
	}
	examine(t, disk, true)
}

// TestLateStick plugs sticks in while the machine asks for a key: one of somebody else's keys changes nothing, and one
// with the startup key as Windows stores it, hidden in the root, or with the text file that Windows saves there, heals.
func TestLateStick(t *testing.T) {
	for name, test := range map[string]struct {
		options fvetest.Options
		make    func(*testing.T, map[string]string) usbStick
		files   func(*WindowsDisk) map[string]string
		source  string
	}{
		"startup-key": {
			options: fvetest.Options{StartupKey: true},
			make:    stick,
			files: func(d *WindowsDisk) map[string]string {
				return map[string]string{d.Volume.StartupKey.String() + ".BEK": string(d.Volume.BEK)}
			},
			source: `key file \S+\.BEK on stick \w+`,
		},
		"saved-key-exfat": {
			make: exFATStick,
			files: func(d *WindowsDisk) map[string]string {
				return map[string]string{"BitLocker-Wiederherstellungsschlüssel " + d.KeyID + ".TXT": "\ufeffIdentifier:\r\n\r\n\t" + d.KeyID + "\r\n\r\nRecovery Key:\r\n\r\n\t" + d.Password + "\r\n"}
			},
			source: `key file BitLocker\S+ \S+\.TXT on stick \w+`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, DiskOptions{BitLocker: test.options})
			other := stick(t, map[string]string{"keys.txt": "no identity", "bootmend/keys.csv": "KeyID,RecoveryKey\n11111111-2222-3333-4444-555555555555," + wrongPassword + "\n"})
			right := test.make(t, test.files(disk))
			right.id = "right"
			m := boot(t, Options{Firmware: Direct, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path}},
				Extra: append(other.drive(), right.drive()...)})
			m.expect("key: ", patience)
			other.plug(m)
			m.expect("Stick sd[a-z]1? with 1 recovery key", patience)
			m.expect("key: ", patience)
			right.plug(m)
			m.expect("by "+test.source+", key ID ", patience)
			m.healed()
			m.reset(patience)
			m.noDefect()
			examine(t, disk, true)
		})
	}
}

// TestDroppedKey has an administrator copy what Windows saved into the folder for keys of a finished stick.
func TestDroppedKey(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	medium := mediaStick(t, "", "--countdown", "0s")
	start, err := firstPartition(context.Background(), medium)
	check(t, err)
	saved := string(utf16le("\ufeffIdentifier:\r\n\r\n\t" + disk.KeyID + "\r\n\r\nRecovery Key:\r\n\r\n\t" + disk.Password + "\r\n"))
	for name, text := range map[string]string{"Reception PC.txt": saved, "notes.docx": "PK\x03\x04 no key"} {
		_, err := run(context.Background(), "mcopy", "-i", medium+"@@"+strconv.FormatInt(start, 10), private(t, name, text), "::/bootmend/keys/")
		check(t, err)
	}
	m := boot(t, Options{Firmware: Direct, Media: medium, Medium: USB, Disks: []Disk{{Path: disk.Path}}})
	m.expect(`by key file Reception PC\.txt on the media, key ID `+disk.KeyID, patience)
	m.healed()
	m.reset(patience)
	m.noDefect()
	if leak := LeakedKey(disk.Password, []byte(m.Transcript())); leak != "" {
		t.Errorf("the console showed %s of the recovery password", leak)
	}
	examine(t, disk, true)
}

// usbStick is a stick beside the medium.
type usbStick struct {
	id, path string
}

// stick makes a stick with one FAT partition and these files.
func stick(t *testing.T, files map[string]string) usbStick {
	t.Helper()
	skipShort(t)
	check(t, need("mkfs.fat", "mcopy", "mattrib"))
	volume := stickVolume(t)
	_, err := run(context.Background(), "mkfs.fat", volume)
	check(t, err)
	tree := t.TempDir()
	for name, text := range files {
		check(t, (File{Path: name, Time: installed, Data: []byte(text)}).write(tree))
	}
	entries, err := os.ReadDir(tree)
	check(t, err)
	for _, e := range entries {
		_, err := run(context.Background(), "mcopy", "-s", "-i", volume, filepath.Join(tree, e.Name()), "::")
		check(t, err)
		if strings.HasSuffix(e.Name(), ".BEK") {
			_, err := run(context.Background(), "mattrib", "+h", "+s", "+r", "-i", volume, "::/"+e.Name()) // as Windows does
			check(t, err)
		}
	}
	return partitioned(t, volume, 0x0e)
}

// exFATStick is a stick with one exFAT partition and a file in its root.
func exFATStick(t *testing.T, files map[string]string) usbStick {
	t.Helper()
	skipShort(t)
	check(t, need("mkfs.exfat"))
	volume := stickVolume(t)
	_, err := run(context.Background(), "mkfs.exfat", volume)
	check(t, err)
	data, err := os.ReadFile(volume)
	check(t, err)
	for name, text := range files {
		addToExFAT(data, name, text)
	}
	check(t, os.WriteFile(volume, data, 0o600))
	return partitioned(t, volume, 0x07)
}

// addToExFAT adds a small file to the root of a volume that mkfs.exfat has made, for there is no tool that does this
// without mounting (Microsoft, "exFAT file system specification", sections 3.1, 6.2 and 7.4 to 7.7).
func addToExFAT(volume []byte, name, text string) {
	le := binary.LittleEndian
	sector := 1 << volume[0x6c]
	cluster := sector << volume[0x6d]
	heap := int(le.Uint32(volume[0x58:])) * sector
	at := func(n uint32) []byte { return volume[heap+int(n-2)*cluster:] }
	const free = 100 // a cluster far behind what mkfs.exfat uses
	copy(at(free), text)

	units := utf16.Encode([]rune(name))
	names := (len(units) + 14) / 15
	set := make([]byte, 32*(2+names))
	set[0], set[1] = 0x85, byte(1+names)
	stream := set[32:]
	stream[0], stream[1], stream[3] = 0xc0, 3, byte(len(units)) // allocated, without FAT chain
	var hash uint16
	for _, b := range utf16le(strings.ToUpper(name)) {
		hash = hash<<15 | hash>>1
		hash += uint16(b)
	}
	le.PutUint16(stream[4:], hash)
	le.PutUint64(stream[8:], uint64(len(text)))
	le.PutUint32(stream[20:], free)
	le.PutUint64(stream[24:], uint64(len(text)))
	for i := range names {
		set[64+32*i] = 0xc1
	}
	for i, u := range units {
		le.PutUint16(set[64+32*(i/15)+2+2*(i%15):], u)
	}
	var sum uint16
	for i, b := range set {
		if i != 2 && i != 3 {
			sum = sum<<15 | sum>>1
			sum += uint16(b)
		}
	}
	le.PutUint16(set[2:], sum)
	root := at(le.Uint32(volume[0x60:]))
	for root[0] != 0 {
		root = root[32:]
	}
	copy(root, set)
}

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

const stickSize = 16 << 20

func stickVolume(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	check(t, os.WriteFile(path, nil, 0o600))
	check(t, os.Truncate(path, stickSize))
	return path
}

// partitioned puts a volume behind a partition table of the old kind, as sticks have it.
func partitioned(t *testing.T, volume string, kind byte) usbStick {
	t.Helper()
	const start = 1 << 20
	table := make([]byte, start)
	entry := table[446:]
	entry[4] = kind
	binary.LittleEndian.PutUint32(entry[8:], start/512)
	binary.LittleEndian.PutUint32(entry[12:], stickSize/512)
	table[510], table[511] = 0x55, 0xaa
	data, err := os.ReadFile(volume)
	check(t, err)
	path := filepath.Join(t.TempDir(), "stick.img")
	check(t, os.WriteFile(path, append(table, data...), 0o600))
	return usbStick{"second", path}
}

// drive is QEMU's arguments for a stick that is not plugged in yet, device those that plug it in from the beginning.
func (s usbStick) drive() []string {
	return []string{"-drive", "if=none,format=raw,cache=unsafe,id=" + s.id + "-drive,file=" + s.path}
}

func (s usbStick) device() []string {
	return []string{"-device", "usb-storage,bus=xhci.0,removable=on,id=" + s.id + ",drive=" + s.id + "-drive"}
}

// plug plugs the stick into a running machine.
func (s usbStick) plug(m machine) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	check(m.t, m.qmp.run(ctx, "device_add", map[string]any{
		"driver": "usb-storage", "bus": "xhci.0", "id": s.id, "drive": s.id + "-drive", "removable": true,
	}))
}

// scanForKey looks for a recovery password in anything, however large: its digits in a row, whatever stands between
// them (dashes, blanks, the zeros of UTF-16), three groups being enough; and the 16 bytes that they stand for.
func scanForKey(r io.Reader, password string) (string, error) {
	groups := strings.Split(password, "-")
	var raw []byte
	for _, g := range groups {
		n, err := strconv.Atoi(g)
		if err != nil {
			return "", err
		}
		raw = binary.LittleEndian.AppendUint16(raw, uint16(n/11))
	}
	const overlap = 32
	var digits, kept []byte
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(r, buf)
		kept = append(kept, buf[:n]...)
		if bytes.Contains(kept, raw) {
			return "the binary form", nil
		}
		kept = slices.Clone(kept[max(0, len(kept)-overlap):])
		for _, b := range buf[:n] {
			if b >= '0' && b <= '9' {
				digits = append(digits, b)
			}
		}
		for i := 0; i+2 < len(groups); i++ {
			if bytes.Contains(digits, []byte(groups[i]+groups[i+1]+groups[i+2])) {
				return "groups " + strconv.Itoa(i+1) + " to " + strconv.Itoa(i+3), nil
			}
		}
		digits = slices.Clone(digits[max(0, len(digits)-overlap):])
		if err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = nil
			}
			return "", err
		}
	}
}

// TestScanForKey makes sure that the scan above would find a key.
func TestScanForKey(t *testing.T) {
	const password = "110011-220022-330033-440044-550055-660066-111111-222222"
	raw := []byte{0x11, 0x27, 0x22, 0x4e, 0x33, 0x75, 0x44, 0x9c, 0x55, 0xc3, 0x66, 0xea, 0x75, 0x27, 0xea, 0x4e}
	for name, test := range map[string]struct {
		hidden string
		found  bool
	}{
		"as it is":       {password, true},
		"without dashes": {strings.ReplaceAll(password, "-", ""), true},
		"blanks":         {strings.ReplaceAll(password, "-", "  "), true},
		"lines":          {strings.ReplaceAll(password, "-", "\r\n"), true},
		"UTF-16":         {string(utf16le(password)), true},
		"three groups":   {"440044-550055-660066", true},
		"binary":         {string(raw), true},
		"two groups":     {"440044-550055", false},
		"another":        {wrongPassword, false},
	} {
		for _, at := range []int{0, 1<<20 - 20, 1 << 20, 3<<20 - 1} { // across the borders of what is read at once
			data := append(bytes.Repeat([]byte{0xa5}, at), test.hidden...)
			found, err := scanForKey(bytes.NewReader(append(data, bytes.Repeat([]byte{0x5a}, 1000)...)), password)
			if err != nil || (found != "") != test.found {
				t.Errorf("%s at %d: found %q, %v", name, at, found, err)
			}
		}
	}
}
