package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/image/initramfs/modtable"
)

// drivers loads kernel modules: those that the machine's devices ask for by modalias, now and as devices
// appear, and the few that no device asks for.
type drivers struct {
	table  *modtable.Table
	mu     sync.Mutex
	loads  map[string]func() error // one for each module, runs once
	events int                     // a netlink socket
	// first and later are loads that wait for a processor; waiting is told of each.
	first, later []func()
	waiting      *sync.Cond
	// busy counts loads under way, last is when anything last happened (Unix nanoseconds): devices may still
	// appear while one is not zero or the other not long ago.
	busy atomic.Int32
	last atomic.Int64
	// appeared gets a value when a block device comes or goes.
	appeared chan struct{}
}

// always are modules that a device does not name, in the order in which they are wanted: the media's file systems, then
// the ciphers, device-mapper's targets and Windows' file system.
var always = []string{
	"isofs", "vfat", "nls_cp437", "nls_ascii",
	"aesni-intel", "xts", "cbc", "ecb", "aes_generic", "dm-crypt", "dm-zero", "ntfs3",
}

func loadDrivers() (*drivers, error) {
	table, err := modtable.Load(moduleDir())
	if err != nil {
		return nil, fmt.Errorf("the media's kernel modules: %w", err)
	}
	d := &drivers{table: table, loads: map[string]func() error{}, appeared: make(chan struct{}, 1)}
	d.waiting = sync.NewCond(&d.mu)
	// The kernel would start /sbin/modprobe, which there is none, each time it misses a module.
	_ = os.WriteFile("/proc/sys/kernel/modprobe", []byte("\n"), 0)

	if d.events, err = listen(); err != nil {
		return nil, fmt.Errorf("listening for devices: %w", err)
	}
	go d.follow()
	d.background(true, d.coldplug)
	for range runtime.NumCPU() {
		go d.work()
	}
	for _, name := range always {
		d.background(false, func() { _ = d.load(name) }) // what is missing shows where it is needed
	}
	return d, nil
}

// noDrivers is for a kernel without module files: what it drives by itself still works.
func noDrivers() *drivers {
	return &drivers{appeared: make(chan struct{}, 1)}
}

// background has a load run soon, and counts it. What is urgent overtakes everything else: after its driver is loaded, a
// disk takes its time to answer, in which the other drivers can be loaded.
func (d *drivers) background(urgent bool, load func()) {
	d.busy.Add(1)
	counted := func() {
		load()
		d.last.Store(time.Now().UnixNano())
		d.busy.Add(-1)
	}
	d.mu.Lock()
	if urgent {
		d.first = append(d.first, counted)
	} else {
		d.later = append(d.later, counted)
	}
	d.mu.Unlock()
	d.waiting.Signal()
}

// loadPatience is how long a load may keep the next one waiting: after that it waits itself, for its hardware.
const loadPatience = 50 * time.Millisecond

// work runs loads one after the other, for one processor.
func (d *drivers) work() {
	for {
		load := d.next()
		done := make(chan struct{})
		go func() {
			load()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(loadPatience):
		}
	}
}

func (d *drivers) next() (load func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.first)+len(d.later) == 0 {
		d.waiting.Wait()
	}
	queue := &d.first
	if len(*queue) == 0 {
		queue = &d.later
	}
	load = (*queue)[0]
	*queue = (*queue)[1:]
	return load
}

// quiet reports whether nothing has been loaded and no disk has appeared for the given time.
func (d *drivers) quiet(period time.Duration) bool {
	return d.busy.Load() == 0 && time.Since(time.Unix(0, d.last.Load())) >= period
}

// coldplug loads the drivers of all devices that are there already.
func (d *drivers) coldplug() {
	files, _ := filepath.Glob("/sys/bus/*/devices/*/modalias")
	seen := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		alias := strings.TrimSpace(string(data))
		if err != nil || alias == "" || seen[alias] {
			continue
		}
		seen[alias] = true
		d.probe(alias)
	}
}

// probe loads, in the background, whatever drives a device of this modalias.
func (d *drivers) probe(alias string) {
	for _, name := range d.table.Match(alias) {
		d.background(leadsToDisk(alias), func() { _ = d.load(name) })
	}
}

// leadsToDisk reports whether a device of this modalias is a disk or a drive, or has some behind it: a PCI device's
// base class 01 is mass storage, 0805 the controller of memory cards, 0C03 that of USB (PCI Code and ID Assignment
// Specification, 1.2 and 1.9); a USB interface's class 08 is mass storage.
func leadsToDisk(alias string) bool {
	bus, device, _ := strings.Cut(alias, ":")
	switch bus {
	case "scsi", "vmbus", "virtio", "mmc":
		return true
	case "pci":
		return strings.Contains(device, "bc01") || strings.Contains(device, "bc08sc05") || strings.Contains(device, "bc0Csc03")
	case "usb":
		return strings.Contains(device, "ic08")
	}
	return false
}

// load loads a module with all that it needs, in order. Loading twice is harmless.
func (d *drivers) load(name string) error {
	if d.table == nil {
		return nil
	}
	var err error
	for _, module := range d.table.Deps(name) {
		// A failure of a soft dependency means nothing; one of a hard dependency makes the module itself fail.
		err = d.loadOne(module)
	}
	return err
}

func moduleDir() string { return "/lib/modules/" + kernelRelease() }

func (d *drivers) loadOne(name string) error {
	d.mu.Lock()
	once, ok := d.loads[name]
	if !ok {
		once = sync.OnceValue(func() error { return insert(d.table.Path(name)) })
		d.loads[name] = once
	}
	d.mu.Unlock()
	return once()
}

// unpack is safe for concurrent use.
var unpack = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
})

// maxModule bounds a module's size; the largest graphics drivers have some 20 MB.
const maxModule = 64 << 20

func insert(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.HasSuffix(path, ".zst") {
		decoder, err := unpack()
		if err != nil {
			return err
		}
		if data, err = decoder.DecodeAll(data, nil); err != nil {
			return fmt.Errorf("unpacking %s: %w", filepath.Base(path), err)
		}
	}
	if err := unix.InitModule(data, ""); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("loading %s: %w", filepath.Base(path), err)
	}
	return nil
}

// listen opens the kernel's device events (netlink(7), NETLINK_KOBJECT_UEVENT).
func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1, err
	}
	const room = 4 << 20 // a busy start must not lose events
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (d *drivers) follow() {
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(d.events, buf, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return
		}
		event := parseEvent(buf[:n])
		if alias := event["MODALIAS"]; alias != "" && event["ACTION"] == "add" {
			d.probe(alias)
		}
		if event["SUBSYSTEM"] == "block" {
			d.last.Store(time.Now().UnixNano())
			select {
			case d.appeared <- struct{}{}:
			default:
			}
		}
	}
}

// parseEvent reads "add@/devices/…" followed by NUL-ended KEY=value pairs.
func parseEvent(data []byte) map[string]string {
	event := map[string]string{}
	for _, pair := range bytes.Split(data, []byte{0}) {
		if key, value, ok := strings.Cut(string(pair), "="); ok {
			event[key] = value
		}
	}
	return event
}
