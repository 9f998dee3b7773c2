package boottest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// DiskOptions says what is on a broken machine's disk. The zero value is a faulty Windows on a BitLocker volume
// that a recovery password opens.
type DiskOptions struct {
	Plain    bool // no BitLocker
	ClearKey bool // BitLocker suspended: the key lies on the volume
	Healthy  bool // the incident passed by
	Dirty    bool // Windows marked the volume for a check when it crashed

	// SectorSize is that of the disk and of everything on it; 512 if zero. Attach the disk with the same, see
	// [Disk.SectorSize].
	SectorSize int
	// Part of the Windows volume that is encrypted, in percent; 0 is all of it. Windows was switched off on the way.
	EncryptedPercent int
	// BitLocker has the cipher, further protectors and the like. A recovery password and a TPM's protector are
	// always added, as they are on real machines.
	BitLocker fvetest.Options
}

// WindowsDisk is a disk made by MakeDisk, and what must be found on it.
type WindowsDisk struct {
	Path     string
	Files    []File
	Known    []string // further files, which the test compares itself
	Start    int64    // of the Windows volume, in bytes
	Size     int64
	KeyID    string // of the recovery password's protector
	Password string
	Volume   *fvetest.Result // all protectors, the startup key file among them; nil where there is no BitLocker
	Options  DiskOptions
}

// The disk's layout as Windows Setup makes it, but small.
const (
	mib           = 1 << 20
	espStart      = 1 * mib
	espSize       = 48 * mib // FAT32 needs 65,525 clusters
	msrStart      = espStart + espSize
	msrSize       = 16 * mib
	windowsStart  = msrStart + msrSize
	windowsSize   = 192 * mib
	recoveryStart = windowsStart + windowsSize
	recoverySize  = 8 * mib
	diskSize      = recoveryStart + recoverySize + mib
)

// MakeDisk makes a disk at path: an EFI system partition with the stand-in for Windows Boot Manager, which a BIOS
// finds in the first sector, a reserved partition, Windows, and the recovery environment's partition.
func MakeDisk(ctx context.Context, path string, o DiskOptions) (*WindowsDisk, error) {
	if err := need("sgdisk", "mkfs.fat", "mcopy", "mmd", "mkntfs", "ntfs-3g", "umount"); err != nil {
		return nil, err
	}
	files, err := windowsTree(o.Healthy)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(filepath.Dir(path), "disk")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()

	d := &WindowsDisk{Path: path, Files: files, Start: windowsStart, Size: windowsSize, Options: o}
	if err := d.partition(ctx); err != nil {
		return nil, err
	}
	if err := d.writeESP(ctx, work); err != nil {
		return nil, err
	}
	windows := filepath.Join(work, "windows")
	if err := makeNTFS(ctx, windows, windowsSize, "Windows", windowsStart, d.sectorSize(), files); err != nil {
		return nil, err
	}
	if err := prepareVolume(windows, &d.Options); err != nil {
		return nil, err
	}
	recovery := filepath.Join(work, "recovery")
	winre := []File{{Path: "Recovery/WindowsRE/winre.wim", Time: installed, Data: contents("winre", mib)}}
	if err := makeNTFS(ctx, recovery, recoverySize, "Recovery", recoveryStart, d.sectorSize(), winre); err != nil {
		return nil, err
	}
	disk, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(d.writeVolumes(disk, windows, recovery), disk.Close()); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *WindowsDisk) sectorSize() int {
	if d.Options.SectorSize == 0 {
		return 512
	}
	return d.Options.SectorSize
}

// partitions are what Windows Setup makes.
var partitions = []struct {
	start, size int
	kind        string // as sgdisk has it
	guid        gpt.Type
	name        string
}{
	{espStart, espSize, "ef00", gpt.EFISystemPartition, "EFI system partition"},
	{msrStart, msrSize, "0c01", gpt.MicrosoftReserved, "Microsoft reserved partition"},
	{windowsStart, windowsSize, "0700", gpt.MicrosoftBasicData, "Basic data partition"},
	{recoveryStart, recoverySize, "2700", "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", "Recovery"},
}

const diskGUID = "0291B007-0000-4000-8000-00000000000"

func (d *WindowsDisk) partition(ctx context.Context) error {
	if err := os.WriteFile(d.Path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(d.Path, diskSize); err != nil {
		return err
	}
	if d.sectorSize() == 512 {
		args := []string{"--clear", "--set-alignment=1", "--disk-guid=" + diskGUID + "0"}
		for i, p := range partitions {
			n := strconv.Itoa(i + 1)
			args = append(args, fmt.Sprintf("--new=%s:%d:%d", n, p.start/512, (p.start+p.size)/512-1),
				"--typecode="+n+":"+p.kind, "--change-name="+n+":"+p.name, "--partition-guid="+n+":"+diskGUID+n)
		}
		if _, err := run(ctx, "sgdisk", append(args, d.Path)...); err != nil {
			return err
		}
	}
	disk, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if d.sectorSize() != 512 {
		err = d.partitionLarge(disk)
	}
	if err == nil {
		_, err = disk.WriteAt(standInBootSector(), 0) // the partition table starts at byte 446, far behind it
	}
	if err == nil {
		_, err = disk.WriteAt([]byte{0x80}, 446) // some BIOSes start no disk without an active partition
	}
	return errors.Join(err, disk.Close())
}

// partitionLarge does what sgdisk can do to a device only, not to an image: a table with other sectors than 512 bytes.
func (d *WindowsDisk) partitionLarge(disk *os.File) error {
	sector := d.sectorSize()
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, GUID: diskGUID + "0"}
	for i, p := range partitions {
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(p.start / sector), End: uint64((p.start+p.size)/sector - 1),
			Type: p.guid, Name: p.name, GUID: diskGUID + strconv.Itoa(i+1),
		})
	}
	return table.Write(disk, diskSize)
}

func (d *WindowsDisk) writeESP(ctx context.Context, work string) error {
	files, err := standInFiles(ctx)
	if err != nil {
		return err
	}
	kind := "32"
	if d.sectorSize() != 512 {
		kind = "16" // as few clusters as there are then make no FAT32
	}
	if _, err := run(ctx, "mkfs.fat", "-F", kind, "-S", strconv.Itoa(d.sectorSize()), "-s", "1", "-i", "02912024", "--invariant",
		"-n", "SYSTEM", "--offset", strconv.Itoa(espStart/d.sectorSize()), d.Path, strconv.Itoa(espSize/1024)); err != nil {
		return err
	}
	image := d.Path + "@@" + strconv.Itoa(espStart)
	tree := filepath.Join(work, "esp")
	for name, data := range files {
		if err := (File{Path: name, Time: installed, Data: data}).write(tree); err != nil {
			return err
		}
	}
	_, err = run(ctx, "mcopy", "-s", "-m", "-i", image, filepath.Join(tree, "EFI"), "::")
	return err
}

// writeVolumes encrypts Windows into its partition, and puts the recovery environment beside it, which is never
// encrypted.
func (d *WindowsDisk) writeVolumes(disk *os.File, windows, recovery string) error {
	re, err := os.Open(recovery)
	if err != nil {
		return err
	}
	defer func() { _ = re.Close() }()
	if _, err := io.Copy(io.NewOffsetWriter(disk, recoveryStart), re); err != nil {
		return err
	}
	clear, err := os.Open(windows)
	if err != nil {
		return err
	}
	defer func() { _ = clear.Close() }()
	target := io.NewOffsetWriter(disk, windowsStart)
	if d.Options.Plain {
		_, err := io.Copy(target, clear)
		return err
	}
	o := d.Options.BitLocker
	if len(o.RecoveryPasswords) == 0 {
		o.RecoveryPasswords = []string{""}
	}
	o.TPM = true // as on every real machine; it opens nothing
	o.ClearKey = o.ClearKey || d.Options.ClearKey
	o.SectorSize = d.sectorSize()
	if d.Options.EncryptedPercent != 0 {
		o.EncryptedSize = windowsSize / 100 * int64(d.Options.EncryptedPercent) / mib * mib
	}
	made, err := fvetest.Format(target, clear, windowsSize, o)
	if err != nil {
		return fmt.Errorf("encrypt the Windows partition: %w", err)
	}
	d.Volume = made
	d.KeyID, d.Password = made.Recovery[0].ID.String(), made.Recovery[0].Password
	return nil
}

// makeNTFS makes a volume image with files.
func makeNTFS(ctx context.Context, path string, size int64, label string, start, sector int, files []File) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(path, size); err != nil {
		return err
	}
	if _, err := run(ctx, "mkntfs", "-q", "-Q", "-F", "-T", "-s", strconv.Itoa(sector), "-c", "4096", "-H", "255", "-S", "63",
		"-p", strconv.Itoa(start/sector), "-L", label, path); err != nil {
		return err
	}
	return withNTFS(ctx, path, false, func(root string) error {
		for _, f := range files {
			if err := f.write(root); err != nil {
				return err
			}
		}
		return nil
	})
}

// withNTFS mounts the volume image at path for as long as use runs.
func withNTFS(ctx context.Context, path string, readOnly bool, use func(root string) error) error {
	options := "rw,compression,streams_interface=none"
	if readOnly {
		options = "ro,streams_interface=none"
	}
	return withNTFSOptions(ctx, path, options, use)
}

func withNTFSOptions(ctx context.Context, path, options string, use func(root string) error) (err error) {
	root, err := os.MkdirTemp("", "ntfs")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(root) }()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("ntfs-3g needs /dev/fuse: %w", ErrUnavailable)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("mounting with ntfs-3g needs root: %w", ErrUnavailable)
	}
	if _, err := run(ctx, "ntfs-3g", "-o", options, path, root); err != nil {
		return err
	}
	defer func() {
		_, unmountErr := run(context.WithoutCancel(ctx), "umount", root)
		for i := 0; unmountErr == nil && i < 100 && inUse(path); i++ {
			time.Sleep(20 * time.Millisecond) // ntfs-3g writes the rest after umount has returned
		}
		err = errors.Join(err, unmountErr)
	}()
	return use(root)
}
