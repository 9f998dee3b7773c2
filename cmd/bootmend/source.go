package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate/disk"
)

// source is a disk, image or bare volume that the person named, opened for reading only.
type source struct {
	path    string
	file    *os.File
	volumes []disk.Volume
}

func openSource(path string) (_ *source, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, withHint(fmt.Errorf("%s is a folder", path), "name a volume, a disk, or an image of either")
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 && !info.Mode().IsRegular() {
		return nil, withHint(fmt.Errorf("%s: this system does not tell the device's size", path), "make an image of the device and name that")
	}
	if size == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	volumes, err := disk.Volumes(f, size)
	if errors.Is(err, disk.ErrNoPartitions) {
		// A BitLocker volume with a damaged first sector looks like nothing at all.
		return nil, withHint(fmt.Errorf("%s: %w", path, err), "name a BitLocker volume, a disk that has one, or a raw image of either (convert others with qemu-img)")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &source{path, f, volumes}, nil
}

func (s *source) Close() error { return s.file.Close() }

// bitLocker lists the BitLocker volumes, or only the one in the partition asked for.
func (s *source) bitLocker(partition int) ([]disk.Volume, error) {
	var found []disk.Volume
	for _, v := range s.volumes {
		if partition != 0 && v.Number != partition {
			continue
		}
		if v.Kind == disk.BitLocker {
			found = append(found, v)
		} else if partition != 0 {
			return nil, fmt.Errorf("%s: partition %d holds %s: %w", s.path, partition, v.Kind, bitlocker.ErrNotBitLocker)
		}
	}
	if len(found) == 0 && partition != 0 {
		return nil, fmt.Errorf("%s has no partition %d", s.path, partition)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s holds %s: %w", s.path, s.kinds(), bitlocker.ErrNotBitLocker)
	}
	return found, nil
}

func (s *source) kinds() string {
	var names []string
	for _, v := range s.volumes {
		names = append(names, v.Kind.String())
	}
	return strings.Join(names, ", ")
}

func (s *source) section(v disk.Volume) *io.SectionReader {
	return io.NewSectionReader(s.file, v.Offset, v.Size)
}

// where names a volume of the source in messages.
func (s *source) where(v disk.Volume) string {
	if v.Number == 0 {
		return s.path
	}
	return fmt.Sprintf("%s, partition %d", s.path, v.Number)
}
