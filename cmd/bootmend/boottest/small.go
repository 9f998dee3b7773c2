package boottest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// SmallOptions describes a disk with one small Windows volume and nothing else: for tests that need many disks, or odd
// ones, and that don't go on to start Windows.
type SmallOptions struct {
	Size       int64  // of the volume; 24 MiB if zero
	Bare       bool   // the volume is the whole disk, else the first partition of an MBR
	Files      []File // [SmallWindows] if nil
	SectorSize int    // 512 if zero
	Encrypted  bool
	BitLocker  fvetest.Options

	Change func(root string) error   // what else is done to the mounted volume
	Patch  func(v *NTFSImage) error  // what is done to it when it is no longer mounted
	Disk   func(disk *os.File) error // what is done to the disk at last
}

const (
	smallSize  = 24 * mib
	smallStart = mib
)

// SmallWindows is the least that is recognised as a Windows installation, with two faulty files among others that stay.
func SmallWindows() []File {
	file := func(path string, data []byte) File {
		return File{Path: path, Time: installed, Fate: Stays, Data: data}
	}
	hive := append([]byte("regf"), make([]byte, 4092)...)
	files := []File{
		file("Windows/System32/ntoskrnl.exe", append([]byte("MZ"), contents("ntoskrnl", 20000)...)),
		file("Windows/System32/config/SYSTEM", hive),
		file("Windows/System32/config/SOFTWARE", hive),
		file(CrowdStrike+"CSAgent.sys", append([]byte("MZ"), contents("CSAgent", 30000)...)),
		file("ProgramData/Microsoft/Windows/caches.db", contents("caches", 3000)),
		file("Users/Grace/Documents/letter.txt", []byte("not a byte of this may change\r\n")),
	}
	return append(files, SmallFaulty()...)
}

// SmallFaulty are the channel files of [SmallWindows]: two faulty ones and one that is corrected.
func SmallFaulty() []File {
	return []File{
		{CrowdStrike + "C-00000291-00000000-00000030.sys", incident, Quarantined, make([]byte, 40960)},
		{CrowdStrike + "C-00000291-00000000-00000032.sys", incident, Quarantined, channelFile("32", 291, 40960)},
		{CrowdStrike + "C-00000291-00000000-00000033.sys", corrected, Stays, channelFile("33", 291, 41004)},
	}
}

// MakeSmall makes such a disk at path.
func MakeSmall(ctx context.Context, path string, o SmallOptions) (_ *WindowsDisk, err error) {
	if err := need("mkntfs", "ntfs-3g", "umount"); err != nil {
		return nil, err
	}
	if o.Size == 0 {
		o.Size = smallSize
	}
	if o.SectorSize == 0 {
		o.SectorSize = 512
	}
	if o.Files == nil {
		o.Files = SmallWindows()
	}
	d := &WindowsDisk{Path: path, Files: o.Files, Start: smallStart, Size: o.Size, Options: DiskOptions{Plain: !o.Encrypted, SectorSize: o.SectorSize}}
	if o.Bare {
		d.Start = 0
	}
	volume := path + ".volume"
	defer func() { _ = os.Remove(volume) }()
	if err := makeNTFS(ctx, volume, o.Size, "Windows", int(d.Start), o.SectorSize, o.Files); err != nil {
		return nil, err
	}
	if o.Change != nil {
		if err := withNTFS(ctx, volume, false, o.Change); err != nil {
			return nil, err
		}
	}
	if err := o.patch(volume); err != nil {
		return nil, err
	}
	disk, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	if err := disk.Truncate(d.Start + o.Size + smallEnd(o)); err != nil {
		return nil, err
	}
	if !o.Bare {
		if err := writeMBR(disk, o.SectorSize, d.Start, o.Size, 0x07); err != nil {
			return nil, err
		}
	}
	if err := d.writeSmall(disk, volume, o); err != nil {
		return nil, err
	}
	if o.Disk != nil {
		return d, o.Disk(disk)
	}
	return d, nil
}

// smallEnd is the room behind the last partition.
func smallEnd(o SmallOptions) int64 {
	if o.Bare {
		return 0
	}
	return mib
}

func (o *SmallOptions) patch(volume string) (err error) {
	v, err := openNTFS(volume)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if o.Encrypted && o.BitLocker.Metadata == (fvetest.Options{}).Metadata {
		if o.BitLocker.Metadata, err = v.reserve(o.Size); err != nil {
			return err
		}
	}
	if o.Patch != nil {
		return o.Patch(v)
	}
	return nil
}

func (d *WindowsDisk) writeSmall(disk *os.File, volume string, o SmallOptions) error {
	clear, err := os.Open(volume)
	if err != nil {
		return err
	}
	defer func() { _ = clear.Close() }()
	target := io.NewOffsetWriter(disk, d.Start)
	if !o.Encrypted {
		_, err := io.Copy(target, clear)
		return err
	}
	b := o.BitLocker
	b.TPM, b.SectorSize = true, o.SectorSize
	if len(b.RecoveryPasswords) == 0 {
		b.RecoveryPasswords = []string{""}
	}
	if d.Volume, err = fvetest.Format(target, clear, o.Size, b); err != nil {
		return fmt.Errorf("encrypt %s: %w", filepath.Base(d.Path), err)
	}
	d.KeyID, d.Password = d.Volume.Recovery[0].ID.String(), d.Volume.Recovery[0].Password
	return nil
}

// writeMBR writes a partition table with one entry.
func writeMBR(disk io.WriterAt, sector int, start, size int64, kind byte) error {
	mbr := make([]byte, 512)
	copy(mbr[440:], []byte{0x91, 0x02, 0x07, 0x19}) // disk signature
	entry := mbr[446:]
	entry[4] = kind
	binary.LittleEndian.PutUint32(entry[8:], uint32(start/int64(sector)))
	binary.LittleEndian.PutUint32(entry[12:], uint32(size/int64(sector)))
	mbr[510], mbr[511] = 0x55, 0xAA
	_, err := disk.WriteAt(mbr, 0)
	return err
}
