package boottest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Firmware is what the machine starts with.
type Firmware string

// The firmwares: OVMF, OVMF with Microsoft's keys enrolled and Secure Boot enforcing, and SeaBIOS. Direct leaves out
// firmware and GRUB, for tests that are about neither: QEMU loads the kernel of the media, which are attached as
// ever. It is a machine with a BIOS to the agent, saves some eight seconds, and after a reset boots the media again.
const (
	UEFI       Firmware = "uefi"
	SecureBoot Firmware = "secureboot"
	BIOS       Firmware = "bios"
	Direct     Firmware = "direct"
)

// Bus is how a disk is attached.
type Bus string

// The buses a Windows machine's disk is found on.
const (
	NVMe   Bus = "nvme"
	AHCI   Bus = "ahci"
	Virtio Bus = "virtio"
	SCSI   Bus = "scsi" // virtio-scsi; up to 256 disks share one controller
	SDCard Bus = "sd"   // what eMMC is but for a few bits: QEMU 7.2 has none; the size is a power of two
)

// Medium is how the boot media is attached.
type Medium string

// The media: an optical drive and a USB stick.
const (
	CD  Medium = "cd"
	USB Medium = "usb"
)

// Disk is one disk of the machine.
type Disk struct {
	Path     string // raw image
	Bus      Bus    // "" is NVMe
	ReadOnly bool   // the machine cannot write to it, and is told so
	// SectorSize is the smallest piece that can be read or written: 0 is 512, 4096 makes a "4Kn" disk.
	SectorSize int
	// WriteLog, if not empty, is a file that records every write and flush in their order, see [ReadWriteLog].
	WriteLog string
	// BadWrites are ranges of 512-byte sectors, first and number, that fail to be written.
	BadWrites [][2]int64
}

// Options describes a machine. The zero value of each field is a sensible machine, but without disk or media.
type Options struct {
	Dir      string // private files of the machine; the UEFI variables stay here from one boot to the next
	Firmware Firmware
	Media    string // ISO, first in the boot order
	Medium   Medium
	ReadOnly bool // the stick is write-protected
	Disks    []Disk
	Memory   int    // MiB
	CPU      string // QEMU's -cpu

	KernelArgs string // further words on the kernel's command line; Direct only

	Serial, UUID, Product string // SMBIOS identity

	Limit time.Duration // the machine is stopped after this
	Extra []string      // further arguments
}

// Identity of the machines under test, for looking it up in the log.
const (
	DefaultSerial  = "BM-0291-TEST"
	DefaultUUID    = "5a1b2c3d-0291-4e5f-8a9b-0c1d2e3f4a5b"
	DefaultProduct = "Latitude 0291"
)

// defaultCPU is the fastest of QEMU 7.2's models for hashing and AES under emulation (a key stretch in Go: 4.8 s, against
// 5.4 with qemu64 and 6.6 without AVX). It goes without cmpxchg16b: that instruction was once seen to leave an address in
// the flags, of which the kernel crashed.
const defaultCPU = "max,-cx16"

// ErrUnavailable means that this computer lacks a program or a file that the machine needs; tests skip.
var ErrUnavailable = errors.New("not available here")

func (o Options) withDefaults() Options {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	if o.Firmware == "" {
		o.Firmware = UEFI
	}
	if o.Medium == "" {
		o.Medium = CD
	}
	if o.Memory == 0 {
		o.Memory = 1024
	}
	if o.Limit == 0 {
		o.Limit = 5 * time.Minute
	}
	set(&o.CPU, os.Getenv("BOOTMEND_CPU"))
	set(&o.CPU, defaultCPU)
	set(&o.Serial, DefaultSerial)
	set(&o.UUID, DefaultUUID)
	set(&o.Product, DefaultProduct)
	return o
}

// Machine is a running virtual machine. Its clock stands still until Start returns it.
type Machine struct {
	*Console
	options Options
	cmd     *exec.Cmd
	qmp     *qmp
	cancel  context.CancelFunc
	ended   chan struct{}
	stderr  strings.Builder
	started time.Time
}

// Start switches a machine on. The guest's reset pauses it (see [Machine.WaitReset]); its power-off ends it.
func Start(ctx context.Context, o Options) (*Machine, error) {
	o = o.withDefaults()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, fmt.Errorf("qemu-system-x86_64: %w: install qemu-system-x86", ErrUnavailable)
	}
	args, err := o.args()
	if err != nil {
		return nil, err
	}
	// A socket's path is limited to about 100 bytes, so it does not go into the test's own directory.
	sockets, err := os.MkdirTemp("", "boottest")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(sockets, "qmp")
	args = append(args, "-qmp", "unix:"+socket+",server=on,wait=off", "-S")

	ctx, cancel := context.WithTimeout(ctx, o.Limit)
	m := &Machine{options: o, cancel: cancel, ended: make(chan struct{})}
	m.cmd = exec.CommandContext(ctx, qemu, args...)
	m.cmd.Stderr = &m.stderr
	m.cmd.SysProcAttr = noOrphan()
	m.cmd.WaitDelay = 5 * time.Second
	stdin, err := m.cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	// Not StdoutPipe: Wait would close it under the reader, and lose the last lines before a power-off.
	out, stdout := io.Pipe()
	m.cmd.Stdout = stdout
	m.Console = NewConsole(out, stdin)
	if err := m.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", qemu, err)
	}
	go func() {
		err := m.cmd.Wait()
		if ctx.Err() != nil {
			err = fmt.Errorf("machine stopped after %v: %w", o.Limit, ctx.Err())
		}
		_ = stdout.CloseWithError(err) // always nil
		_ = os.RemoveAll(sockets)
		close(m.ended)
	}()
	m.qmp, err = dialQMP(ctx, socket, m.ended)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(m.stderr.String()))
	}
	if err := m.cont(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close switches the machine off and waits until QEMU has let go of the disks.
func (m *Machine) Close() {
	if m.qmp != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = m.qmp.run(ctx, "quit", nil) // the answer may be lost as QEMU ends
		cancel()
		select {
		case <-m.ended:
		case <-time.After(5 * time.Second):
		}
		m.qmp.close()
	}
	m.cancel()
	<-m.ended
}

// Kill ends the machine as a power cut does: nothing in it gets to run any more.
func (m *Machine) Kill() error {
	err := m.cmd.Process.Kill()
	<-m.ended
	return err
}

// running is false once the machine is gone.
func (m *Machine) running() bool {
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// WaitReset waits until the guest resets the machine, and tells how long it ran since power-on or the last [Machine.Resume].
// The machine stands still then, as at the moment of the reset, so that media may be pulled or the disk be looked at.
func (m *Machine) WaitReset(timeout time.Duration) (time.Duration, error) {
	event, err := m.waitEnd(timeout)
	if err != nil {
		return 0, err
	}
	if event.Data.Reason != "guest-reset" {
		return 0, fmt.Errorf("machine ended with %q, want a reset", event.Data.Reason)
	}
	return event.at.Sub(m.started), nil
}

// WaitPowerOff waits until the guest switches the machine off.
func (m *Machine) WaitPowerOff(timeout time.Duration) error {
	event, err := m.waitEnd(timeout)
	if err != nil {
		return err
	}
	if event.Data.Reason != "guest-shutdown" {
		return fmt.Errorf("machine ended with %q, want power-off", event.Data.Reason)
	}
	return nil
}

func (m *Machine) waitEnd(timeout time.Duration) (qmpEvent, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case event := <-m.qmp.events:
			if event.Event == "SHUTDOWN" {
				return event, nil
			}
		case <-m.Fatal():
			return qmpEvent{}, m.fatalError()
		case <-m.ended:
			return qmpEvent{}, fmt.Errorf("qemu ended: %s", strings.TrimSpace(m.stderr.String()))
		case <-timer.C:
			return qmpEvent{}, fmt.Errorf("machine still runs after %v", timeout)
		}
	}
}

// Resume lets the machine come up again after a reset.
func (m *Machine) Resume() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// Otherwise QEMU would take our own reset, too, as a reason to stop.
	if err := m.qmp.run(ctx, "set-action", map[string]any{"reboot": "reset"}); err != nil {
		return err
	}
	said := m.length()
	if err := m.qmp.run(ctx, "system_reset", nil); err != nil {
		return err
	}
	if err := m.cont(ctx); err != nil {
		return err
	}
	// SeaBIOS resets the machine by itself at each start but the first, since its copy in memory is used up, and may do
	// so more than once. It is done with that when anything is seen on the console.
	if m.options.Firmware == BIOS {
		m.awaitOutput(said, time.Minute)
	}
	return m.qmp.run(ctx, "set-action", map[string]any{"reboot": "shutdown"})
}

// cont sets the clock going. QEMU resets when it comes to it, and refuses to go on before.
func (m *Machine) cont(ctx context.Context) error {
	for {
		m.started = time.Now()
		err := m.qmp.run(ctx, "cont", nil)
		if err == nil || !strings.Contains(err.Error(), "Resetting the Virtual Machine is required") {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Status is QEMU's word for what the machine is doing: running, shutdown, paused.
func (m *Machine) Status() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var answer struct {
		Status string `json:"status"`
	}
	if err := m.qmp.ask(ctx, "query-status", nil, &answer); err != nil {
		return err.Error()
	}
	return answer.Status
}

// PullMedia takes the disc out of its drive or the stick out of its port.
func (m *Machine) PullMedia() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if m.options.Medium == USB {
		return m.qmp.run(ctx, "device_del", map[string]any{"id": "media"})
	}
	return m.qmp.run(ctx, "eject", map[string]any{"id": "media", "force": true})
}

// TrayOpen tells whether the disc has been ejected.
func (m *Machine) TrayOpen() (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var drives []struct {
		Device   string `json:"device"`
		TrayOpen bool   `json:"tray_open"`
	}
	if err := m.qmp.ask(ctx, "query-block", nil, &drives); err != nil {
		return false, err
	}
	for _, drive := range drives {
		if drive.Device == "media-drive" {
			return drive.TrayOpen, nil
		}
	}
	return false, errors.New("machine has no disc drive")
}

// SendKeys presses keys of the machine's keyboard one after another, named as QEMU's QKeyCode.
func (m *Machine) SendKeys(keys ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, key := range keys {
		press := map[string]any{"keys": []any{map[string]any{"type": "qcode", "data": key}}}
		if err := m.qmp.run(ctx, "send-key", press); err != nil {
			return err
		}
		time.Sleep(150 * time.Millisecond) // the key is held for 100 ms
	}
	return nil
}

// Screenshot stores what the screen shows as a PNG file.
func (m *Machine) Screenshot(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return m.qmp.run(ctx, "screendump", map[string]any{"filename": path, "format": "png"})
}

// CmdlineQuoted is the command that was run, for pasting into a shell.
func (m *Machine) CmdlineQuoted() string {
	quoted := make([]string, len(m.cmd.Args))
	for i, arg := range m.cmd.Args {
		quoted[i] = arg
		if strings.ContainsAny(arg, " '\"$&;()*?") {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// args is QEMU's command line but for the control socket.
func (o Options) args() ([]string, error) {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-nic", "none",
		// One processor: with two, the kernel's clock code panics now and then under emulation.
		"-accel", "tcg", "-smp", "1", "-cpu", o.CPU, "-m", strconv.Itoa(o.Memory),
		"-rtc", "base=utc",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-action", "reboot=shutdown,shutdown=pause",
		"-smbios", "type=1,manufacturer=Bootmend Test,product=" + o.Product + ",serial=" + o.Serial + ",uuid=" + o.UUID,
	}
	firmware, err := o.firmwareArgs()
	if err != nil {
		return nil, err
	}
	args = append(args, firmware...)
	// QEMU gives a kernel of its own ([Direct]) the boot index 0.
	if slices.ContainsFunc(o.Disks, func(d Disk) bool { return d.Bus == SCSI }) {
		args = append(args, "-device", "virtio-scsi-pci,id=scsi")
	}
	for i, disk := range o.Disks {
		id := "disk" + strconv.Itoa(i)
		device := ",drive=" + id + ",bootindex=" + strconv.Itoa(i+2)
		if disk.SectorSize != 0 {
			size := strconv.Itoa(disk.SectorSize)
			device += ",logical_block_size=" + size + ",physical_block_size=" + size
		}
		switch disk.Bus {
		case NVMe, "":
			device = "nvme,serial=WD" + strconv.Itoa(i) + device
		case AHCI:
			device = "ide-hd,bus=ide." + strconv.Itoa(i) + device
		case Virtio:
			device = "virtio-blk-pci" + device
		case SCSI:
			device = "scsi-hd,bus=scsi.0" + device
		case SDCard:
			args = append(args, "-device", "sdhci-pci")
			device = "sd-card,drive=" + id
		default:
			return nil, fmt.Errorf("disk %s: unknown bus %q", disk.Path, disk.Bus)
		}
		args = append(append(args, disk.backend(id)...), "-device", device)
	}
	// A keyboard and a stick share the port of every machine of the last fifteen years.
	args = append(args, "-device", "qemu-xhci,id=xhci", "-device", "usb-kbd,bus=xhci.0")
	if o.Media != "" {
		args = append(args, "-drive", "if=none,format=raw,id=media-drive,file="+o.Media+o.mediaMode())
		switch o.Medium {
		case USB:
			args = append(args, "-device", "usb-storage,bus=xhci.0,id=media,removable=on,drive=media-drive,bootindex=1")
		default:
			args = append(args, "-device", "ide-cd,bus=ide.5,id=media,drive=media-drive,bootindex=1")
		}
	}
	return append(args, o.Extra...), nil
}

// backend is the image file and what stands between it and the machine.
func (d Disk) backend(id string) []string {
	file := id + "-file"
	switch {
	case d.WriteLog != "":
		// Flushes must get as far as the log, which cache=unsafe would prevent.
		return []string{
			"-blockdev", "driver=file,node-name=" + file + ",filename=" + d.Path,
			"-blockdev", "driver=file,node-name=" + id + "-log,filename=" + d.WriteLog,
			"-blockdev", "driver=blklogwrites,node-name=" + id + ",file=" + file + ",log=" + id + "-log,log-sector-size=512",
		}
	case len(d.BadWrites) > 0:
		debug := "driver=blkdebug,node-name=" + id + ",image=" + file
		n := 0
		for _, r := range d.BadWrites {
			for sector := r[0]; sector < r[0]+r[1]; sector++ {
				debug += fmt.Sprintf(",inject-error.%d.event=none,inject-error.%d.iotype=write,inject-error.%d.errno=5,inject-error.%d.sector=%d", n, n, n, n, sector)
				n++
			}
		}
		return []string{"-blockdev", "driver=file,node-name=" + file + ",filename=" + d.Path, "-blockdev", debug}
	}
	drive := "if=none,format=raw,cache=unsafe,id=" + id + ",file=" + d.Path
	if d.ReadOnly {
		drive += ",readonly=on"
	}
	return []string{"-drive", drive}
}

// mediaMode keeps the disc read-only; a stick is writable, and the log may go there.
func (o Options) mediaMode() string {
	if o.Medium == USB && !o.ReadOnly {
		return ",cache=unsafe"
	}
	return ",readonly=on"
}
