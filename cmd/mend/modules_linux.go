package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	// busy counts loads under way, last is when anything last happened (Unix nanoseconds): devices may still
	// appear while one is not zero or the other not long ago.
	busy atomic.Int32
	last atomic.Int64
	// appeared gets a value when a block device comes or goes.
	appeared chan struct{}
}

// always are modules that a device does not name: the file systems, device-mapper's targets and the ciphers.
var always = []string{
	"isofs", "vfat", "nls_cp437", "nls_ascii", "ntfs3", "dm-crypt", "dm-zero",
	"aesni-intel", "xts", "cbc", "ecb", "aes_generic", "efivarfs",
}

func loadDrivers() (*drivers, error) {
	table, err := modtable.Load(moduleDir())
	if err != nil {
		return nil, fmt.Errorf("the media's kernel modules: %w", err)
	}
	d := &drivers{table: table, loads: map[string]func() error{}, appeared: make(chan struct{}, 1)}
	// The kernel would start /sbin/modprobe, which there is none, each time it misses a module.
	_ = os.WriteFile("/proc/sys/kernel/modprobe", []byte("\n"), 0)

	if d.events, err = listen(); err != nil {
		return nil, fmt.Errorf("listening for devices: %w", err)
	}
	go d.follow()
	d.background(d.coldplug)
	for _, name := range always {
		d.background(func() { _ = d.load(name) }) // what is missing shows where it is needed
	}
	return d, nil
}

// noDrivers is for a kernel without module files: what it drives by itself still works.
func noDrivers() *drivers {
	return &drivers{appeared: make(chan struct{}, 1)}
}

// background runs a load and counts it.
func (d *drivers) background(load func()) {
	d.busy.Add(1)
	go func() {
		load()
		d.last.Store(time.Now().UnixNano())
		d.busy.Add(-1)
	}()
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
		d.background(func() { _ = d.load(name) })
	}
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
