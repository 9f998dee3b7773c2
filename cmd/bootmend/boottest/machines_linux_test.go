package boottest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// What ntfs-3g.probe says of a volume that is to be written to (its manual, "EXIT CODES").
const (
	probeFine  = 0
	probeInUse = 14 // hibernated, or the journal is not closed
)

// probed makes sure that ntfs-3g takes the volume of a disk for what the test takes it for.
func probed(t *testing.T, d *WindowsDisk, want int) {
	t.Helper()
	check(t, need("ntfs-3g.probe"))
	check(t, withVolume(context.Background(), d, func(volume string) error {
		_, err := run(context.Background(), "ntfs-3g.probe", "--readwrite", volume)
		var exit *exec.ExitError
		if got := 0; errors.As(err, &exit) {
			if got = exit.ExitCode(); got != want {
				t.Errorf("ntfs-3g.probe: exit status %d, want %d: %v", got, want, err)
			}
			return nil
		} else if err == nil && got != want {
			t.Errorf("ntfs-3g.probe finds nothing wrong, want exit status %d", want)
		}
		return err
	}))
}

// newSmall makes a disk, see [SmallOptions].
func newSmall(t *testing.T, o SmallOptions) *WindowsDisk {
	t.Helper()
	skipShort(t)
	disk, err := MakeSmall(context.Background(), filepath.Join(t.TempDir(), "disk.img"), o)
	check(t, err)
	return disk
}

// awake are the files of a disk with the session given up.
func awake(d *WindowsDisk) *WindowsDisk {
	after := *d
	after.Known = []string{"hiberfil.sys"}
	return &after
}

// givenUp makes sure that of a session nothing but the signature has changed, and that Windows will check the volume.
func givenUp(t *testing.T, d *WindowsDisk) {
	t.Helper()
	check(t, withVolume(context.Background(), d, func(volume string) error {
		if dirty, err := isDirty(volume); err != nil || !dirty {
			t.Errorf("Windows will not check the volume (%v)", err)
		}
		return withNTFS(context.Background(), volume, true, func(root string) error {
			data, err := os.ReadFile(filepath.Join(root, "hiberfil.sys"))
			if err == nil && !bytes.Equal(data, session("wake")) {
				t.Errorf("hiberfil.sys begins with %q", data[:8])
			}
			return err
		})
	}))
}

// TestHibernated has two hibernated Windows, one of them on BitLocker: they are refused, and not a byte is written; in
// the menu a person then gives the sessions up, on the second thought.
func TestHibernated(t *testing.T) {
	parallel(t)
	plain := newSmall(t, SmallOptions{Change: hibernate})
	locked := newSmall(t, SmallOptions{Change: hibernate, Encrypted: true})
	probed(t, plain, probeInUse)
	probed(t, locked, probeInUse)
	before := sum(t, plain.Path) + sum(t, locked.Path)
	m := boot(t, Options{Firmware: Direct, Media: media(t, keyList(locked), "--countdown", "0s", "--on-success", "wait"),
		Disks: []Disk{{Path: plain.Path, Bus: AHCI}, {Path: locked.Path, Bus: AHCI}}})
	for range 2 {
		m.expect("NOT HEALED: .*hibernated or was shut down with Fast Startup.*Start Windows once more and let it resume, or shut it down fully", patience)
	}
	m.expect("H  heal although Windows is hibernated: its session is lost", patience)
	m.expect("Your choice: ", patience)
	m.send("h")
	m.expect("documents that were open .* are lost", patience)
	m.expect("Type YES", patience)
	m.send("no\r")
	m.expect("Nothing was changed", patience)
	m.expect("Your choice: ", patience)
	if sum(t, plain.Path)+sum(t, locked.Path) != before {
		t.Error("a disk was changed before anybody agreed")
	}
	m.send("h")
	m.expect("Type YES", patience)
	m.send("YES\r")
	for range 2 {
		m.expect("The hibernated session is given up", patience)
		m.expect("Read back from the disk and verified", patience)
	}
	m.expect("HEALED: 2 Windows", patience)
	m.expect("Your choice: ", patience)
	m.send("p")
	check(t, m.WaitPowerOff(patience))
	m.noDefect()
	m.Close()
	for _, d := range []*WindowsDisk{plain, locked} {
		examine(t, awake(d), true)
		givenUp(t, d)
		probed(t, d, probeFine)
	}
}

// TestDiscardHibernation has media that were built for hibernated machines: nobody is asked.
func TestDiscardHibernation(t *testing.T) {
	parallel(t)
	disk := newSmall(t, SmallOptions{Change: func(root string) error {
		return os.WriteFile(filepath.Join(root, "hiberfil.sys"), session("RSTR"), 0o600)
	}})
	iso := media(t, "", "--countdown", "0s", "--discard-hibernation")
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}})
	m.expect("The hibernated session is given up", patience)
	m.healed()
	m.reset(patience)
	m.noDefect()
	m.Close()
	examine(t, awake(disk), true)
	givenUp(t, disk)
	check(t, withWindows(context.Background(), disk, func(root string) error {
		logs, err := filepath.Glob(filepath.Join(root, LogDir, "logs", "*.jsonl"))
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs: %q, %v", logs, err)
		}
		log, err := os.ReadFile(logs[0])
		if !strings.Contains(string(log), `"session_discarded":"hiberfil.sys holds a session whose resuming was interrupted"`) {
			t.Errorf("the log does not tell of the session:\n%s", log)
		}
		return err
	}))
}

// renamed moves files into other folders, by the beginning of their paths.
func renamed(files []File, from, to string) []File {
	list := bytesKept(files)
	for i, f := range list {
		if rest, ok := strings.CutPrefix(f.Path, from); ok {
			list[i].Path = to + rest
		}
	}
	return list
}

// twoOnOne is a volume with two Windows directories, one of them with a name of its own and spelled as one can.
func twoOnOne() []File {
	spelling := strings.NewReplacer(CrowdStrike+"C-", "WINNT/system32/DRIVERS/crowdstrike/c-", CrowdStrike, "WINNT/system32/DRIVERS/crowdstrike/",
		"Windows/System32/", "WINNT/system32/")
	files := SmallWindows()
	for _, f := range SmallWindows() {
		if strings.HasPrefix(f.Path, "Windows/") {
			f.Path = spelling.Replace(f.Path)
			files = append(files, f)
		}
	}
	return files
}

// journalSize is how long the journal of [journalInUse] was: ntfs3 takes no shorter one.
const journalSize = 0x8a0000

// journalInUse is the beginning of the $LogFile of a Windows that did not close it, of version 2.0; nothing in it is left to be redone.
func journalInUse(t *testing.T) []byte {
	t.Helper()
	path := testdata("ntfs/LogFile_10.bin.xz")
	if path == "" {
		t.Log("no journal of a real Windows here (BOOTMEND_TESTDATA): that part is left out")
		return nil
	}
	packed, err := os.ReadFile(path)
	check(t, err)
	r, err := xz.NewReader(bytes.NewReader(packed))
	check(t, err)
	log, err := io.ReadAll(r)
	check(t, err)
	return log
}

const (
	compressed = 0x800 // FILE_ATTRIBUTE_COMPRESSED
	alias      = "C-0000~1.SYS"
	wofFile    = CrowdStrike + "CSFalcon.exe"
)

// oddFiles are a Windows volume whose files are not all simple.
func oddFiles() []File {
	stays := func(path string, data []byte) File { return File{Path: path, Time: incident, Fate: Stays, Data: data} }
	return append(SmallWindows(),
		stays("Programme/Gemeinsame Dateien/Größe.txt", []byte("Umlaute\r\n")),
		stays("Benutzer/Jürgen/Eigene Dateien/Отчёт – 報告.txt", []byte("andere Schriften\r\n")),
		// Names that Windows itself makes only with \\?\.
		stays(CrowdStrike+"C-00000291-00000000-00000030.sys.", make([]byte, 4096)),
		stays(CrowdStrike+"C-00000291-00000000-00000031.sys ..", channelFile("31", 291, 4096)),
		stays(CrowdStrike+"CSDeviceControl.log", bytes.Repeat([]byte("the same over and over\r\n"), 5000)),
	)
}

// makeOdd compresses two files with NTFS' own compression, one of them faulty; gives a faulty one an 8.3 alias; and makes
// a file as CompactOS leaves them.
func makeOdd(files []File) func(root string) error {
	return func(root string) error {
		at := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
		attribute := make([]byte, 4)
		binary.LittleEndian.PutUint32(attribute, compressed)
		if err := unix.Setxattr(at(CrowdStrike), "system.ntfs_attrib", attribute, 0); err != nil {
			return err
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Path, "CSDeviceControl.log") && !strings.HasSuffix(f.Path, "00000030.sys") {
				continue
			}
			if err := os.Remove(at(f.Path)); err != nil {
				return err
			}
			if err := f.write(root); err != nil {
				return err
			}
			if _, err := unix.Getxattr(at(f.Path), "system.ntfs_attrib", attribute); err != nil {
				return err
			}
			if binary.LittleEndian.Uint32(attribute)&compressed == 0 {
				return fmt.Errorf("%s did not become compressed", f.Path)
			}
		}
		if err := unix.Setxattr(at(CrowdStrike), "system.ntfs_attrib", make([]byte, 4), 0); err != nil {
			return err
		}
		if err := unix.Setxattr(at(CrowdStrike+"C-00000291-00000000-00000032.sys"), "system.ntfs_dos_name", []byte(alias), 0); err != nil {
			return err
		}
		if err := os.WriteFile(at(wofFile), nil, 0o644); err != nil {
			return err
		}
		return unix.Setxattr(at(wofFile), "system.ntfs_reparse_data", wofReparse, 0)
	}
}

// wofReparse is the reparse point of a file that WOF has compressed with XPRESS4K (REPARSE_DATA_BUFFER with
// WOF_EXTERNAL_INFO and FILE_PROVIDER_EXTERNAL_INFO_V1).
var wofReparse = []byte{0x17, 0, 0, 0x80, 16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}

// examineOdd looks at what only ntfs-3g tells of such files.
func examineOdd(t *testing.T, d *WindowsDisk) {
	t.Helper()
	check(t, withWindows(context.Background(), d, func(root string) error {
		at := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
		reparse := make([]byte, 64)
		n, err := unix.Lgetxattr(at(wofFile), "system.ntfs_reparse_data", reparse)
		if err != nil || !bytes.Equal(reparse[:n], wofReparse) {
			t.Errorf("the reparse point of %s: %x, %v", wofFile, reparse[:max(n, 0)], err)
		}
		if _, err := os.Lstat(at(CrowdStrike + alias)); err == nil {
			t.Errorf("the faulty file is still there as %s", alias)
		}
		moved, err := filepath.Glob(at(QuarantineDir + "/*/" + CrowdStrike + "*.quarantined"))
		if err != nil || len(moved) != 2 {
			t.Fatalf("in quarantine: %q, %v", moved, err)
		}
		for _, name := range moved {
			if n, err := unix.Getxattr(name, "system.ntfs_dos_name", reparse); err == nil && n > 0 {
				t.Errorf("%s has an alias: %s", name, reparse[:n])
			}
			attribute := make([]byte, 4)
			_, err := unix.Getxattr(name, "system.ntfs_attrib", attribute)
			if is, want := binary.LittleEndian.Uint32(attribute)&compressed != 0, strings.Contains(name, "00000030"); err != nil || is != want {
				t.Errorf("%s: compressed %t, want %t (%v)", name, is, want, err)
			}
		}
		return nil
	}))
}

// makeJunction turns the folder of the channel files into a junction to another folder, with a faulty file there.
func makeJunction(root string) error {
	at := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
	if err := os.Rename(at(CrowdStrike), at("Elsewhere")); err != nil {
		return err
	}
	if err := os.Mkdir(at(CrowdStrike), 0o755); err != nil {
		return err
	}
	var target []byte
	for _, c := range utf16.Encode([]rune(`\??\C:\Elsewhere`)) {
		target = binary.LittleEndian.AppendUint16(target, c)
	}
	// REPARSE_DATA_BUFFER of a mount point: where the two names lie and how long they are, then the names.
	data := []byte{3, 0, 0, 0xA0}
	data = binary.LittleEndian.AppendUint16(data, uint16(8+len(target)+4))
	data = append(data, 0, 0, 0, 0)
	data = binary.LittleEndian.AppendUint16(data, uint16(len(target)))
	data = binary.LittleEndian.AppendUint16(data, uint16(len(target)+2))
	data = append(data, 0, 0)
	data = append(append(data, target...), 0, 0, 0, 0)
	return unix.Setxattr(at(strings.TrimSuffix(CrowdStrike, "/")), "system.ntfs_reparse_data", data, 0)
}

// at writes a signature somewhere on a disk.
func at(off int64, signature string) func(*os.File) error {
	return func(disk *os.File) error {
		if off < 0 {
			end, err := disk.Seek(0, io.SeekEnd)
			if err != nil {
				return err
			}
			off += end
		}
		_, err := disk.WriteAt([]byte(signature), off)
		return err
	}
}

// leftAlone are disks that hold a faulty Windows, and on which all the same nothing may be written, with what is said.
func leftAlone(t *testing.T) map[string]*WindowsDisk {
	t.Helper()
	small := func(o SmallOptions) *WindowsDisk {
		o.Size = 12 * mib
		return newSmall(t, o)
	}
	const md = "\xfc\x4e\x2b\xa9\x01\x00\x00\x00"
	return map[string]*WindowsDisk{
		// Version 1.0 lies at the end: each half of a mirror looks like a disk of its own.
		"part of a Linux software RAID (md)": small(SmallOptions{Disk: at(-8192, md)}),
		"part of an Intel RAID (RST) set":    small(SmallOptions{Disk: at(-1024, "Intel Raid ISM Cfg Sig. 1.3.00")}),
		"a dynamic disk of Windows":          small(SmallOptions{Disk: at(6*512, "PRIVHEAD")}),
	}
}

// named are disks whose contents nobody here can read.
func named(t *testing.T) map[string]*WindowsDisk {
	t.Helper()
	blank := func(change func(*os.File) error) *WindowsDisk {
		d := &WindowsDisk{Path: filepath.Join(t.TempDir(), "disk.img")}
		check(t, os.WriteFile(d.Path, contents("encrypted", 2*mib), 0o600))
		f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
		check(t, err)
		check(t, errors.Join(change(f), f.Close()))
		return d
	}
	return map[string]*WindowsDisk{
		"part of a Storage Spaces pool": blank(func(f *os.File) error {
			table := &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, GUID: diskGUID + "0", Partitions: []*gpt.Partition{
				{Index: 1, Start: 64, End: 3000, Type: "E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D", Name: "Storage pool", GUID: diskGUID + "1"}}}
			return table.Write(f, 2*mib)
		}),
		"encrypted with Symantec (PGP) Drive Encryption":  blank(at(0, "\xeb\x48\x90PGPGUARD")),
		"encrypted with VeraCrypt":                        blank(at(6, " VeraCrypt Boot Loader")),
		"encrypted with Check Point Full Disk Encryption": blank(at(90, "Protect")),
	}
}

// sums are those of disks on which nothing may change.
func sums(t *testing.T, disks map[string]*WindowsDisk) map[string]string {
	t.Helper()
	list := map[string]string{}
	for name, d := range disks {
		list[name] = sum(t, d.Path)
	}
	return list
}

// TestManyDisks has one machine with a Windows on each of many disks, none of which is simple, between disks that are
// none of ours. The first disk holds data only.
func TestManyDisks(t *testing.T) {
	parallel(t)
	data := newSmall(t, SmallOptions{Size: 12 * mib, Files: []File{
		{Path: "Backup/" + CrowdStrike + "C-00000291-00000000-00000032.sys", Time: incident, Fate: Stays, Data: channelFile("32", 291, 40960)}}})
	journal := journalInUse(t)
	unclean := func(v *NTFSImage) error {
		if journal == nil {
			return nil
		}
		return v.giveLog(40*mib, journal, journalSize)
	}
	odd := oddFiles()
	healed := map[string]*WindowsDisk{
		"mbr":     newSmall(t, SmallOptions{Encrypted: true}),
		"4kn":     newSmall(t, SmallOptions{Encrypted: true, SectorSize: 4096}),
		"sd":      newSmall(t, SmallOptions{Encrypted: true, Size: 30 * mib}),
		"unclean": newSmall(t, SmallOptions{Files: twoOnOne(), Size: 40 * mib, Patch: func(v *NTFSImage) error { return errors.Join(unclean(v), v.markDirty()) }}),
		"log":     newSmall(t, SmallOptions{Size: 40 * mib, Patch: unclean}),
		"odd":     newSmall(t, SmallOptions{Files: odd, Change: makeOdd(odd)}),
	}
	healed["odd"].Known = []string{wofFile}
	if journal != nil {
		probed(t, healed["log"], probeInUse)
		probed(t, healed["unclean"], probeInUse)
	}
	junction := newSmall(t, SmallOptions{Change: makeJunction})
	junction.Files = renamed(junction.Files, CrowdStrike, "Elsewhere/")
	for i := range junction.Files {
		junction.Files[i].Fate = Stays
	}
	junction.Known = []string{strings.TrimSuffix(CrowdStrike, "/")}
	alone, others := leftAlone(t), named(t)
	still := map[string]*WindowsDisk{"data": data, "junction": junction}
	maps.Copy(still, alone)
	maps.Copy(still, others)
	before := sums(t, still)

	attached := []Disk{{Path: data.Path, Bus: SCSI}, {Path: healed["sd"].Path, Bus: SDCard}, {Path: healed["4kn"].Path, Bus: SCSI, SectorSize: 4096}}
	for _, name := range []string{"mbr", "unclean", "log", "odd"} {
		attached = append(attached, Disk{Path: healed[name].Path, Bus: SCSI})
	}
	for _, name := range slices.Sorted(maps.Keys(still)) {
		if name != "data" {
			attached = append(attached, Disk{Path: still[name].Path, Bus: SCSI})
		}
	}
	keys := "KeyID,RecoveryKey\n"
	for _, name := range []string{"mbr", "4kn", "sd"} {
		keys += healed[name].KeyID + "," + healed[name].Password + "\n"
	}
	m := boot(t, Options{Firmware: Direct, Media: media(t, keys, "--countdown", "0s", "--on-success", "wait"), Disks: attached,
		Extra: []string{"-device", "am53c974"}})
	m.expect("Your choice: ", 2*patience)
	said := m.Transcript()
	m.noDefect()
	m.Close()
	for name := range others {
		if !strings.Contains(said, " is "+name) {
			t.Errorf("not said: a disk is %s", name)
		}
	}
	for name := range alone {
		if !strings.Contains(said, " is "+name+": left alone") {
			t.Errorf("not said: a disk is %s and left alone", name)
		}
	}
	for _, want := range []string{
		"no driver for the storage controller AMD, SCSI (PCI 1022:2020",
		"is a link or reparse point, which is never followed",
		"Windows had marked this volume for a check",
		"HEALED: 6 Windows installations",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s", want)
		}
	}
	for name, sum := range sums(t, still) {
		if before[name] != sum {
			t.Errorf("%s was changed", name)
		}
	}
	for name, d := range healed {
		t.Run(name, func(t *testing.T) {
			examine(t, d, true)
			probed(t, d, probeFine)
		})
	}
	examineOdd(t, healed["odd"])
	check(t, withVolume(context.Background(), healed["unclean"], func(volume string) error {
		dirty, err := isDirty(volume)
		if !dirty {
			t.Error("Windows will not check the volume that it had marked")
		}
		return err
	}))
}

// fill leaves a volume with so many bytes free, and so many free file records, of which each new file and folder takes one.
func fill(records, room int) func(root string) error {
	return func(root string) error {
		note := func(kind string, n int) string {
			return filepath.Join(root, "Users/Grace", fmt.Sprintf("%s %d.txt", kind, n))
		}
		for i := range records {
			if err := os.WriteFile(note("spare", i), nil, 0o600); err != nil {
				return err
			}
		}
		spare := filepath.Join(root, "Users/Grace/spare.bin")
		if err := os.WriteFile(spare, make([]byte, room), 0o600); err != nil {
			return err
		}
		if err := fillWith(filepath.Join(root, "Users/Grace/video.bin")); err != nil {
			return err
		}
		for i, err := 0, error(nil); !errors.Is(err, unix.ENOSPC); i++ {
			if err = os.WriteFile(note("note", i), nil, 0o600); err != nil && !errors.Is(err, unix.ENOSPC) {
				return err
			}
		}
		for i := range records {
			if err := os.Remove(note("spare", i)); err != nil {
				return err
			}
		}
		return os.Remove(spare)
	}
}

// fillWith writes a file until there is no room left.
func fillWith(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for block := make([]byte, 64<<10); err == nil; _, err = f.Write(block) {
	}
	for block := make([]byte, 4<<10); err == nil; _, err = f.Write(block) {
	}
	if errors.Is(err, unix.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// TestHinderedMachines has disks that hinder the repair: each time the machine says what is wrong and what to do, and no
// file is lost.
func TestHinderedMachines(t *testing.T) {
	parallel(t)
	var record int64
	disks := map[string]*WindowsDisk{
		"readonly": newSmall(t, SmallOptions{Size: 12 * mib}),
		// No cluster is free, but file records: of those that files have had, or only those that ntfs-3g keeps back.
		"full":   newSmall(t, SmallOptions{Size: 12 * mib, Change: fill(24, 0)}),
		"filled": newSmall(t, SmallOptions{Size: 12 * mib, Change: fill(0, 0)}),
		"norecord": newSmall(t, SmallOptions{Size: 12 * mib, Change: fill(0, 0), Patch: func(v *NTFSImage) error {
			return v.useRecords()
		}}),
		"badwrites": newSmall(t, SmallOptions{Size: 12 * mib, Change: func(root string) error {
			var st unix.Stat_t
			err := unix.Stat(filepath.Join(root, CrowdStrike, "C-00000291-00000000-00000032.sys"), &st)
			record = int64(st.Ino)
			return err
		}}),
		// ntfs3 keeps 100 clusters back for $MFT.
		"nearly full": newSmall(t, SmallOptions{Size: 12 * mib, Change: fill(24, 512<<10)}),
	}
	if journal := journalInUse(t); journal != nil {
		disks["journal"] = newSmall(t, SmallOptions{Patch: func(v *NTFSImage) error { return v.giveLog(smallSize, journal, 4*mib) }})
	}
	before := sums(t, disks)
	var list []Disk
	for _, name := range slices.Sorted(maps.Keys(disks)) {
		d := Disk{Path: disks[name].Path, Bus: SCSI}
		switch name {
		case "readonly":
			d.ReadOnly = true
		case "badwrites":
			at, err := recordAt(disks[name], record)
			check(t, err)
			d.BadWrites = [][2]int64{{at / 512, 2}}
		}
		list = append(list, d)
	}
	m := boot(t, Options{Firmware: Direct, Media: media(t, "", "--countdown", "0s"), Disks: list})
	m.expect("Your choice: ", 2*patience)
	m.noDefect()
	m.Close()
	said := m.Transcript()
	for want, n := range map[string]int{
		`NOT HEALED: .*no file was moved: the volume is full\. Make some room on it`:                                        1,
		`NOT HEALED: .*refuses writes: look for a write-protection switch`:                                                  1,
		`NOT HEALED: .*input/output error.*The disk is failing: copy what is needed from it.* goes on with it`:              1,
		`NOT HEALED: .*journal of this volume cannot be read here.*Start Windows' own recovery environment.*Then boot this`: min(1, len(disks)-6),
	} {
		if got := len(regexp.MustCompile(want).FindAllString(said, -1)); got != n {
			t.Errorf("said %d times, want %d: %s", got, n, want)
		}
	}
	after := sums(t, disks)
	for _, name := range []string{"readonly", "journal"} {
		if after[name] != before[name] {
			t.Errorf("%s was changed", name)
		}
	}
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			found, err := lookAfterCut(context.Background(), d)
			check(t, err)
			for _, p := range found.problems {
				t.Error(p)
			}
			if want := slices.Contains([]string{"nearly full", "full", "filled"}, name); found.healed != want {
				t.Errorf("healed %t, want %t", found.healed, want)
			}
			if name != "norecord" {
				return
			}
			check(t, withWindows(context.Background(), d, func(root string) error {
				rest, err := filepath.Glob(filepath.Join(root, "ProgramData", "bootmend*"))
				if len(rest) > 0 {
					t.Errorf("left on a full volume: %q", rest)
				}
				return err
			}))
		})
	}
	// The disk gets well again, as one does whose cable was loose.
	secondBoot(t, []*WindowsDisk{disks["badwrites"]})
}

// TestNothingToOpen has a machine on which a Windows may be that nobody here can reach: it says why and what to do.
func TestNothingToOpen(t *testing.T) {
	parallel(t)
	disks := named(t)
	maps.Copy(disks, leftAlone(t))
	before := sums(t, disks)
	var list []Disk
	for _, name := range slices.Sorted(maps.Keys(disks)) {
		list = append(list, Disk{Path: disks[name].Path, Bus: SCSI})
	}
	stick := mediaStick(t, "")
	m := boot(t, Options{Firmware: Direct, Media: stick, Medium: USB, Disks: list, Extra: []string{"-device", "am53c974"}})
	m.expect(`No Windows was found on 7 disks\.`, patience)
	m.expect("Your choice: ", patience)
	m.noDefect()
	_, no, _ := strings.Cut(m.Transcript(), "No Windows was found")
	m.Close()
	for _, want := range []string{
		"has no driver for the storage controller AMD", "start Windows' own recovery environment",
		"Intel RAID (RST) set. Writing to one disk of a set would damage the set",
		"dynamic disk of Windows. Its volumes may span", "Storage Spaces pool. Only Windows reads a pool",
		"Symantec (PGP) Drive Encryption. bootmend cannot open it: unlock or decrypt it",
	} {
		if !strings.Contains(no, want) {
			t.Errorf("not said: %s\n%s", want, no)
		}
	}
	for name, sum := range sums(t, disks) {
		if before[name] != sum {
			t.Errorf("the disk that is %s was changed", name)
		}
	}
	start, err := firstPartition(context.Background(), stick)
	check(t, err)
	log, err := run(context.Background(), "mtype", "-i", fmt.Sprintf("%s@@%d", stick, start), "::/bootmend/logs/*.jsonl")
	check(t, err)
	if want := `"outcome":"needs-person","message":"no Windows found; This medium has no driver`; !strings.Contains(string(log), want) {
		t.Errorf("the log on the stick does not hold %s:\n%s", want, log)
	}
}
