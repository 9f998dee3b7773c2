package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/disk"
)

// media is the stick or disc that this machine was started from. It is read once and not kept open, so that it
// may be pulled at any time.
type media struct {
	block attach.Block
	// root is where its files are while they are read.
	root string
	// network: there is no medium, its files came with the initramfs.
	network bool
	config  config.Config
	keys    keyFiles
	packs   []*remediate.Pack
	// badRules counts rule packs that could not be read or are not trusted: what they would have healed is not known.
	badRules int
	serials  config.Serials
	// notes are what a person should know of the media's files.
	notes []string
}

const mediaDir = "/run/media"

// bootParameters are what the boot loader passed on the kernel's command line.
type bootParameters struct {
	mediaID string
	dryRun  bool
	// listed says that the media have a list of the machines that they are for.
	listed bool
}

func readBootParameters() bootParameters {
	data, _ := os.ReadFile("/proc/cmdline") // without it, the defaults hold
	return parseBootParameters(string(data))
}

func parseBootParameters(cmdline string) bootParameters {
	var p bootParameters
	for _, word := range strings.Fields(cmdline) {
		if id, ok := strings.CutPrefix(word, "bootmend.media="); ok {
			p.mediaID = id
		}
		p.dryRun = p.dryRun || word == "bootmend.dry-run"
		p.listed = p.listed || word == "bootmend.serials"
	}
	return p
}

// readMedia reads the files of b if it is the medium with the given ID. It returns nil for anything else: other
// bootmend sticks may be plugged in too.
func readMedia(b attach.Block, kind disk.Kind, id string) *media {
	fsType := attach.ISO9660
	if kind == disk.FAT {
		fsType = attach.FAT
	}
	if err := attach.Mount(b.Device, mediaDir, fsType, true); err != nil {
		return nil
	}
	defer func() { _ = attach.Unmount(mediaDir) }() // mounted read-only
	found, err := os.ReadFile(filepath.Join(mediaDir, "bootmend/media.id"))
	if err != nil || id == "" || strings.TrimSpace(string(found)) != id {
		return nil
	}
	m := &media{block: b, root: mediaDir}
	m.read()
	return m
}

// netMediaDir is where the initramfs of a network boot has the files of media.
const netMediaDir = "/" + config.NetMediaDir

// readNetMedia reads the files that came over the network. It returns nil where the machine was started from a medium.
func readNetMedia(id string) *media {
	found, err := os.ReadFile(filepath.Join(netMediaDir, "bootmend/media.id"))
	if err != nil || id == "" || strings.TrimSpace(string(found)) != id {
		return nil
	}
	m := &media{root: netMediaDir, network: true}
	m.read()
	return m
}

// String names the medium.
func (m *media) String() string {
	if m.network {
		return "from the network"
	}
	return m.block.Name
}

// read takes in the media's files. What is missing or malformed is noted and has a safe default; a
// configuration that cannot be read turns the run into a dry run, since it may have asked for one.
func (m *media) read() {
	var note string
	if m.config, note = readConfig(m.root); note != "" {
		m.note("%s", note)
	}
	if m.serials, note = readSerials(m.root); note != "" {
		m.note("%s", note)
	}
	m.keys = readKeyFiles(m.root, "the media")
	var notes []string
	m.packs, m.badRules, notes = readRules(m.root, m.config.AllowUnsignedRules)
	m.notes = append(m.notes, notes...)
}

func (m *media) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// saveLog writes the log onto the media where some part of it can be written: a stick's FAT partition with a
// bootmend/logs folder. It returns where it went; "" where nothing can be written, which is no error for a CD.
func (m *media) saveLog(run remediate.Run, data []byte) (string, error) {
	if m == nil || m.network || m.block.HardwareReadOnly {
		return "", nil
	}
	blocks, err := attach.List()
	if err != nil {
		return "", err
	}
	for _, b := range blocks {
		if b.Disk != m.block.Disk || b.Partition == 0 {
			continue
		}
		where, err := saveLogOn(b, run, data)
		if where != "" || err != nil {
			return where, err
		}
	}
	return "", nil
}

func saveLogOn(b attach.Block, run remediate.Run, data []byte) (_ string, err error) {
	const dir = "/run/logs"
	if err := attach.Mount(b.Device, dir, attach.FAT, true); err != nil {
		return "", nil // not a FAT partition
	}
	info, statErr := os.Stat(filepath.Join(dir, remediate.MediaLogDir))
	if err := attach.Unmount(dir); err != nil {
		return "", err
	}
	if statErr != nil || !info.IsDir() {
		return "", nil
	}
	if err := attach.Mount(b.Device, dir, attach.FAT, false); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, attach.Unmount(dir)) }()
	where, err := remediate.WriteLogFile(dir, remediate.MediaLogDir, run, data)
	if err != nil {
		return "", err
	}
	return where, attach.SyncFS(dir)
}

// eject opens the tray of the drive that the media is in, so that the next start goes to the disk.
func (m *media) eject() bool {
	const cdromEject = 0x5309 // linux/cdrom.h, CDROMEJECT
	if m == nil || !strings.HasPrefix(m.block.Name, "sr") {
		return false
	}
	f, err := os.OpenFile(m.block.Device, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), cdromEject, 0) == nil
}

// gone reports whether the media has been pulled.
func (m *media) gone() bool {
	if m == nil {
		return true
	}
	_, err := os.Stat("/sys/class/block/" + m.block.Name)
	return err != nil
}

// readStick looks for keys on a stick that is not the medium. It is mounted read-only, and only for that.
func readStick(b attach.Block, kind disk.Kind, load func(module string) error) keyFiles {
	const dir = "/run/stick"
	fsType := attach.FAT
	if kind == disk.ExFAT {
		fsType = attach.ExFAT
		_ = load("exfat") // what is missing shows at once
	}
	if err := attach.Mount(b.Device, dir, fsType, true); err != nil {
		return keyFiles{}
	}
	defer func() { _ = attach.Unmount(dir) }() // mounted read-only
	return readKeyFiles(dir, "stick "+b.Name)
}
