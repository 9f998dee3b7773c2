package boottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Where the media hold what GRUB loads; the menu says the rest.
const (
	mediaKernel = "bootmend/vmlinuz"
	mediaMenu   = "boot/grub/grub.cfg"
)

// directArgs makes QEMU load the media's own kernel and initramfs with the command line of the menu's first entry, as
// GRUB would.
func (o Options) directArgs() ([]string, error) {
	if o.Media == "" {
		return nil, errors.New("a direct boot takes its kernel from media, and there are none")
	}
	dir := filepath.Join(o.Dir, "direct")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := unpackBootFiles(context.Background(), o.Media, dir); err != nil {
			return nil, fmt.Errorf("boot files of %s: %w", o.Media, err)
		}
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil, err
	}
	return []string{
		"-machine", "q35", "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"),
		"-append", strings.TrimSpace(string(cmdline) + " " + o.KernelArgs),
	}, nil
}

// unpackBootFiles puts the kernel, the initramfs with its segments joined, and the kernel's command line into dir.
func unpackBootFiles(ctx context.Context, media, dir string) error {
	tmp := dir + ".tmp"
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	menu, err := fromMedia(ctx, media, mediaMenu, tmp)
	if err != nil {
		return err
	}
	cmdline, segments, err := bootLines(menu)
	if err != nil {
		return err
	}
	kernel, err := fromMedia(ctx, media, mediaKernel, tmp)
	if err != nil {
		return err
	}
	var initrd bytes.Buffer
	for _, segment := range segments {
		data, err := fromMedia(ctx, media, segment, tmp)
		if err != nil {
			return err
		}
		initrd.Write(data)
		for initrd.Len()%4 != 0 { // a cpio archive begins at a multiple of 4
			initrd.WriteByte(0)
		}
	}
	for name, data := range map[string][]byte{"vmlinuz": kernel, "initrd": initrd.Bytes(), "cmdline": []byte(cmdline)} {
		if err := os.WriteFile(filepath.Join(tmp, name), data, 0o600); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// bootLines reads the menu: the words behind the kernel's name without the entry's own ($1), and the segments of the
// initramfs.
func bootLines(menu []byte) (cmdline string, segments []string, err error) {
	for line := range strings.Lines(string(menu)) {
		words := strings.Fields(line)
		switch {
		case len(words) > 1 && words[0] == "linux":
			cmdline = strings.TrimSpace(strings.ReplaceAll(strings.Join(words[2:], " "), "$1", ""))
		case len(words) > 1 && words[0] == "initrd":
			segments = words[1:]
		}
	}
	if !strings.Contains(cmdline, "bootmend.media=") || len(segments) == 0 {
		return "", nil, fmt.Errorf("%s does not say what to load:\n%s", mediaMenu, menu)
	}
	return cmdline, segments, nil
}

// fromMedia reads a file of an ISO, or else of the first partition of a stick, by way of work.
func fromMedia(ctx context.Context, media, name, work string) ([]byte, error) {
	to := filepath.Join(work, "file")
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name = strings.TrimPrefix(name, "/")
	iso, err := isISO(media)
	if err != nil {
		return nil, err
	}
	if iso {
		_, err = run(ctx, "xorriso", "-osirrox", "on", "-indev", media, "-extract", "/"+name, to)
	} else {
		var start int64
		if start, err = firstPartition(ctx, media); err == nil {
			_, err = run(ctx, "mcopy", "-i", media+"@@"+strconv.FormatInt(start, 10), "::/"+name, to)
		}
	}
	data, readErr := os.ReadFile(to)
	if readErr != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, readErr))
	}
	return data, nil // xorriso's status is not zero for a warning about the boot sector, either
}

func isISO(media string) (bool, error) {
	f, err := os.Open(media)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	magic := make([]byte, 5)
	_, err = f.ReadAt(magic, 16*2048+1)
	return string(magic) == "CD001", err
}

// firstPartition is the offset in bytes of a disk image's first partition.
func firstPartition(ctx context.Context, image string) (int64, error) {
	out, err := run(ctx, "sgdisk", "-i", "1", image)
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(out), "First sector: ")
	var first int64
	if _, err := fmt.Sscan(after, &first); err != nil {
		return 0, fmt.Errorf("first partition of %s: %w in %s", image, err, out)
	}
	return first * 512, nil
}
