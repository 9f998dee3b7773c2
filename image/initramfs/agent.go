package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// Agent returns the archive with the agent as /init, the mount points and device nodes that it needs
// before it has mounted anything, and the extra files, compressed with zstd.
//
// Compressed, because it costs nothing worth having: what the kernel spends on it, firmware spends otherwise on reading
// more from the media. Packed with LZ4 a program of 11 MB made a start in QEMU's emulation no shorter (11.6 to 11.9 s from
// power-on to the restart, against 11.5 to 11.7 with zstd), and the media 1.7 MiB larger.
func Agent(agent []byte, extra ...File) ([]byte, error) {
	if !bytes.HasPrefix(agent, []byte(elf.ELFMAG)) {
		return nil, errors.New("initramfs: the agent is not an ELF program: build it with GOOS=linux GOARCH=amd64")
	}
	records := []cpio.Record{
		File{Name: "init", Mode: 0o755, Data: agent}.record(),
		// The kernel opens /dev/console for /init before anything is mounted; without it the agent's first
		// words are lost. The others are for an agent that fails to mount devtmpfs.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/kmsg", 0o600, 1, 11),
		cpio.CharDev("dev/null", 0o666, 1, 3),
	}
	for _, dir := range []string{"dev", "mnt", "proc", "run", "sys", "tmp"} {
		records = append(records, cpio.Directory(dir, 0o755))
	}
	for _, f := range extra {
		records = append(records, f.record())
	}
	plain, err := archive(records)
	if err != nil {
		return nil, err
	}
	enc, err := newEncoder(1)
	if err != nil {
		return nil, fmt.Errorf("initramfs: compress the agent: %w", err)
	}
	return enc.EncodeAll(plain, nil), enc.Close()
}

// newEncoder makes zstd frames (RFC 8878) with EncodeAll, several at once. The kernel's decoder takes
// windows of up to 128 MiB (lib/decompress_unzstd.c); 8 MiB is what every decoder must take.
func newEncoder(atOnce int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithEncoderConcurrency(atOnce),
		zstd.WithWindowSize(8<<20))
}
