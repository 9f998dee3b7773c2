package boottest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// TestPowerCut records all that a repair sends to the disk, and then lets the power fail at more than a hundred chosen
// and a hundred random instants: what was flushed is on the disk, of the rest some pieces are and some are not. Each
// time the volume must mount, nothing else may have changed, and each faulty file must be there exactly once; and a
// second boot must finish the work. Instants that leave the same disk are looked at once.
//
// A volume mounts if ntfs-3g mounts it. That refuses one whose $MFTMirr is not what $MFT is, which happens between two
// writes: that of the mark for a check into $Volume and that into its copy. Linux' ntfs3 mounts such a volume, which is
// made sure of by booting each of them, and Windows takes the copy only where the original cannot be read.
//
// The pieces are of 4 KiB, which is the sector that disks have had inside since 2011, and the block that ntfs3 writes.
// What a disk with sectors of 512 bytes would make of it is counted, too, see docs/safety.md.
func TestPowerCut(t *testing.T) {
	for name, test := range map[string]struct {
		disk           SmallOptions
		chosen, random int
		flags          []string
	}{
		"plain": {SmallOptions{Bare: true, Size: 12 * mib}, 120, 120, nil},
		// With a clear key, since deriving one takes a disk five seconds here.
		"bitlocker": {SmallOptions{Bare: true, Size: 12 * mib, Encrypted: true, BitLocker: fvetest.Options{ClearKey: true}}, 20, 20, nil},
		// The session must be given up before anything else of the volume changes.
		"hibernated": {SmallOptions{Bare: true, Size: 12 * mib, Change: hibernate}, 20, 20, []string{"--discard-hibernation"}},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			r := recordRepair(t, test.disk, test.flags...)
			list := r.instants(test.chosen, test.random, 4096)
			var again []*WindowsDisk
			violations, mirrors, left := 0, 0, 0
			seen := map[[32]byte]*cutFindings{}
			for i, at := range list {
				data := r.image(at)
				sum := sha256.Sum256(data)
				found, known := seen[sum]
				if !known {
					disk := r.write(t, fmt.Sprintf("cut-%d.img", i), data)
					var err error
					found, err = lookAfterCut(context.Background(), disk)
					check(t, err)
					seen[sum] = found
					if found.healed && !found.mirror {
						check(t, os.Remove(disk.Path))
					} else {
						again = append(again, disk)
					}
				}
				violations += len(found.problems)
				for _, p := range found.problems {
					t.Errorf("power cut %v: %s", at, p)
				}
				if found.mirror {
					mirrors++
				}
				if !found.healed {
					left++
				}
			}
			t.Logf("%s: %d writes and flushes; %d chosen and %d random power cuts left %d different disks, %d times with work to do: %d violations",
				name, len(r.writes), test.chosen, test.random, len(seen), left, violations)
			unfinished := secondBoot(t, again, test.flags...)
			t.Logf("%s: %d different disks with work left, or with $MFTMirr behind (in %d cuts), booted again: %d did not mount or were not finished",
				name, len(again), mirrors, unfinished)
			if violations+unfinished > 0 {
				t.Errorf("%s: violations: %d", name, violations+unfinished)
			}
			if name == "plain" {
				r.countSmallSectors(t)
			}
		})
	}
}

// recording is a repair with everything that it sent to the disk, in order.
type recording struct {
	disk   *WindowsDisk
	dir    string
	before []byte // the disk
	writes []DiskWrite
}

func recordRepair(t *testing.T, o SmallOptions, flags ...string) *recording {
	t.Helper()
	dir := t.TempDir()
	disk, err := MakeSmall(context.Background(), filepath.Join(dir, "disk.img"), o)
	check(t, err)
	r := &recording{disk: disk, dir: dir}
	r.before, err = os.ReadFile(disk.Path)
	check(t, err)
	log := filepath.Join(dir, "writes.log")
	check(t, os.WriteFile(log, nil, 0o600))
	m := boot(t, Options{Firmware: Direct, Media: media(t, someKeys(disk), append(flags, "--countdown", "0s")...),
		Disks: []Disk{{Path: disk.Path, Bus: SCSI, WriteLog: log}}})
	m.healed()
	m.reset(patience)
	m.Close()
	r.writes, err = ReadWriteLog(log)
	check(t, err)
	if !slices.ContainsFunc(r.writes, func(w DiskWrite) bool { return w.Flush }) {
		t.Fatal("the repair flushed nothing")
	}
	return r
}

// write stores a disk that the power cut left.
func (r *recording) write(t *testing.T, name string, data []byte) *WindowsDisk {
	t.Helper()
	d := *r.disk
	d.Path = filepath.Join(r.dir, name)
	check(t, os.WriteFile(d.Path, data, 0o600))
	return &d
}

func someKeys(disk *WindowsDisk) string {
	if disk.Options.Plain || disk.Volume.ClearKey != (bitlocker.GUID{}) {
		return ""
	}
	return keyList(disk)
}

// instant is a moment at which the power fails: the entries before cut were sent to the disk, and of those that no
// flush had made sure of, the seed decides which pieces of so many bytes came through.
type instant struct {
	cut   int
	piece int64
	seed  uint64
}

func (i instant) String() string {
	return fmt.Sprintf("before entry %d, pieces of %d bytes, seed %d", i.cut, i.piece, i.seed)
}

// Two seeds are special: none and all of the unflushed pieces come through.
const (
	seedNone = iota
	seedAll
	seedRandom
)

// instants are chosen ones, right before each flush is done, when most is at stake, and random ones.
func (r *recording) instants(chosen, random int, piece int64) []instant {
	var list []instant
	for seed := uint64(seedNone); len(list) < chosen; seed++ {
		for i, w := range r.writes {
			if w.Flush && len(list) < chosen {
				list = append(list, instant{i, piece, seed})
			}
		}
	}
	source := rand.New(rand.NewPCG(291, 2024))
	for range random {
		list = append(list, instant{1 + source.IntN(len(r.writes)), piece, seedRandom + source.Uint64N(1<<40)})
	}
	return list
}

// image is the disk as the power cut leaves it.
func (r *recording) image(at instant) []byte {
	disk := bytes.Clone(r.before)
	flushed := 0
	for i, w := range r.writes[:at.cut] {
		if w.Flush {
			flushed = i
		}
	}
	source := rand.New(rand.NewPCG(at.seed, uint64(at.cut)))
	for i, w := range r.writes[:at.cut] {
		for off := int64(0); off < int64(len(w.Data)); off += at.piece {
			sure := i < flushed || w.FUA || at.seed == seedAll
			if sure || at.seed != seedNone && source.IntN(2) == 0 {
				copy(disk[w.Off+off:], w.Data[off:min(off+at.piece, int64(len(w.Data)))])
			}
		}
	}
	return disk
}

// cutFindings is what other people's programs make of a disk after a power cut.
type cutFindings struct {
	problems []string
	mirror   bool // the copy of the first file records was not yet what the records are
	healed   bool // nothing is left to do
}

// lookAfterCut opens the volume with ntfs-3g.
func lookAfterCut(ctx context.Context, disk *WindowsDisk) (*cutFindings, error) {
	f := &cutFindings{}
	volume := disk.Path + ".clear"
	defer func() { _ = os.Remove(volume) }()
	if err := openVolume(ctx, disk, volume); err != nil {
		return nil, err
	}
	look := func(root string) error { return f.look(disk, root) }
	err := withNTFS(ctx, volume, true, look)
	if err != nil && strings.Contains(err.Error(), "$MFTMirr does not match $MFT") {
		// ntfs-3g, unlike Windows and ntfs3, wants the copy to be the same; ntfsfix sees to it.
		f.mirror = true
		_, fixErr := run(ctx, "ntfsfix", volume) // it has corrected the copy also where a hibernated Windows makes it stop then
		if err = withNTFS(ctx, volume, true, look); err != nil {
			err = errors.Join(err, fixErr)
		}
	}
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		f.problem("does not mount: %v", err)
	}
	return f, nil
}

func (f *cutFindings) problem(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

// look walks over all that can be reached: each file that stays must be at its place, each faulty one be one file.
func (f *cutFindings) look(disk *WindowsDisk, root string) error {
	places := map[[32]byte][]string{}
	f.healed = true
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return nil
		}
		var data []byte
		if err == nil {
			data, err = os.ReadFile(name)
		}
		if err != nil {
			// A folder or file that was just being made has a name already and nothing behind it.
			if rel, _ := filepath.Rel(root, name); !strings.Contains(rel, ".tmp") {
				f.problem("unreadable: %v", err)
			}
			return nil
		}
		sum := sha256.Sum256(data)
		places[sum] = append(places[sum], name)
		return nil
	})
	for _, file := range disk.Files {
		at := places[sha256.Sum256(file.Data)]
		old := filepath.Join(root, filepath.FromSlash(file.Path))
		switch {
		case file.Fate == Stays:
			if !slices.Contains(at, old) {
				f.problem("lost or changed: %s", file.Path)
			}
		case len(at) == 0:
			f.problem("lost: %s", file.Path)
		case slices.ContainsFunc(at, func(other string) bool { return !same(at[0], other) }):
			f.problem("more than one file: %s", strings.Join(at, ", "))
		}
		f.healed = f.healed && (file.Fate == Stays || !slices.Contains(at, old))
	}
	f.session(root)
	return err
}

// hibernate makes a Windows volume one with a session to resume.
func hibernate(root string) error {
	return os.WriteFile(filepath.Join(root, "hiberfil.sys"), session("hibr"), 0o600)
}

// session is a hiberfil.sys that begins so.
func session(signature string) []byte {
	return append([]byte(signature), contents("hiberfil", 300_000)...)
}

// session makes sure that where there is something of a repair, the session that Windows would resume is given up.
func (f *cutFindings) session(root string) {
	data, err := os.ReadFile(filepath.Join(root, "hiberfil.sys"))
	if err != nil {
		return // told already, or not hibernated
	}
	begun, _ := filepath.Glob(filepath.Join(root, "ProgramData", "bootmend*")) // the pattern is right
	switch {
	case bytes.Equal(data, session("hibr")) && len(begun) > 0:
		f.problem("the volume was changed while a session could be resumed: %q", begun)
	case !bytes.Equal(data, session("hibr")) && !bytes.Equal(data, session("wake")):
		f.problem("hiberfil.sys is neither as it was nor given up: it begins with %q", data[:8])
	}
}

// same tells whether two names lead to one file.
func same(a, b string) bool {
	ai, errA := os.Stat(a)
	bi, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ai, bi)
}

// disksPerBoot is how many disks one machine gets. With more than ten of them there is a question: the blast radius of
// the packaged rules is 20 files a machine.
const disksPerBoot = 60

// secondBoot boots the disks again, many at once, and examines them. It returns how many are not healed.
func secondBoot(t *testing.T, list []*WindowsDisk, flags ...string) (unfinished int) {
	t.Helper()
	for len(list) > 0 {
		n := min(disksPerBoot, len(list))
		var attached []Disk
		for _, d := range list[:n] {
			attached = append(attached, Disk{Path: d.Path, Bus: SCSI})
		}
		m := boot(t, Options{Firmware: Direct, Media: media(t, someKeys(list[0]), append(flags, "--countdown", "0s")...), Disks: attached})
		for asked := true; asked; {
			found := m.expect(`Type YES|HEALED: .*|NOT HEALED.*|OK: .*`, 2*patience)
			if asked = found[0] == "Type YES"; asked {
				m.send("YES\r")
			} else if strings.HasPrefix(found[0], "NOT") {
				t.Error(found[0])
			}
		}
		m.expect("Now restarting|Your choice", patience)
		m.noDefect()
		m.Close()
		for _, d := range list[:n] {
			problems := examineFinished(t, d)
			for _, p := range problems {
				t.Errorf("%s after the second boot: %s", filepath.Base(d.Path), p)
			}
			if len(problems) > 0 {
				unfinished++
			}
			check(t, os.Remove(d.Path))
		}
		list = list[n:]
	}
	return unfinished
}

// examineFinished tells what is wrong with a disk that was to be healed.
func examineFinished(t *testing.T, d *WindowsDisk) []string {
	t.Helper()
	f, err := lookAfterCut(context.Background(), d)
	check(t, err)
	if !f.healed {
		f.problem("not healed")
	}
	return f.problems
}

// countSmallSectors tells how often a disk whose sectors really are of 512 bytes, and which tears the blocks that it is
// sent, would be left with something that needs chkdsk. NTFS has its journal for that, which only Windows writes.
func (r *recording) countSmallSectors(t *testing.T) {
	t.Helper()
	const cuts = 60
	hurt := 0
	seen := map[[32]byte]bool{}
	for i, at := range r.instants(cuts, cuts, 512) {
		data := r.image(at)
		sum := sha256.Sum256(data)
		hurts, known := seen[sum]
		if !known {
			disk := r.write(t, fmt.Sprintf("small-%d.img", i), data)
			found, err := lookAfterCut(context.Background(), disk)
			check(t, err)
			hurts = len(found.problems) > 0
			seen[sum] = hurts
			check(t, os.Remove(disk.Path))
		}
		if hurts {
			hurt++
		}
	}
	t.Logf("if the disk tore blocks of 4 KiB at 512 bytes: %d of %d power cuts would leave work for chkdsk", hurt, 2*cuts)
}

// TestKill switches the machine off for real, in the middle of the repair.
func TestKill(t *testing.T) {
	parallel(t)
	const kills, step = 3, 250 * time.Millisecond
	var again []*WindowsDisk
	for i := range kills {
		disk, err := MakeSmall(context.Background(), filepath.Join(t.TempDir(), "disk.img"), SmallOptions{Bare: true, Size: 12 * mib})
		check(t, err)
		m := boot(t, Options{Firmware: Direct, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path, Bus: SCSI}}})
		m.expect("to quarantine: .*32.sys", patience)
		time.Sleep(time.Duration(i) * step)
		check(t, m.Kill())
		found, err := lookAfterCut(context.Background(), disk)
		check(t, err)
		for _, p := range found.problems {
			t.Errorf("killed %d: %s", i, p)
		}
		t.Logf("killed %v after the plan: healed %t", time.Duration(i)*step, found.healed)
		if !found.healed {
			again = append(again, disk)
		}
	}
	secondBoot(t, again)
}
