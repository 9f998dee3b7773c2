package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/disk"
)

// How long the machine is given to show its devices. A disk or stick appears within these times of the last
// sign of life; nothing waits while there is work to do.
const (
	settleTime    = 300 * time.Millisecond // after the last event, once media and a volume are there
	diskPatience  = 12 * time.Second       // for a disk that has not shown up
	mediaPatience = 30 * time.Second       // for the medium, which must be somewhere
	hangPatience  = 90 * time.Second       // for a driver that does not come back
	pollTime      = 20 * time.Millisecond
	rescanTime    = 250 * time.Millisecond // for what the kernel has not told of
)

// agent is one run on one machine.
type agent struct {
	common
	drivers  *drivers
	firmware *firmware
	boot     bootParameters
	media    *media
	identity remediate.Identity

	// seen are block devices that have been looked at; disks those that may hold Windows.
	seen      map[string]bool
	firstSeen map[string]time.Time
	disks     map[string]bool // by name
	// guarded are disks that the kernel refuses writes to because it was told to here.
	guarded map[string]bool
	// handsOff are disks on which nothing that looks like a volume may be written to; foreign are they, and other devices
	// on which another program keeps something, by name.
	handsOff map[string]bool
	foreign  map[string]*disk.Foreign
	// hidden are reasons why not all disks are seen.
	hidden []attach.Hidden
	// discard are volumes whose hibernated session a person has given up.
	discard map[string]bool
}

// work is the worker process: it never returns while the machine is up.
func work() {
	// A run is short and the machine has room: collecting garbage at every 4 MB would cost more than it gives.
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT)
	defer stop()
	a := &agent{common: common{con: openConsole(), keys: newKeyring()}, seen: map[string]bool{}, disks: map[string]bool{}, firstSeen: map[string]time.Time{}, guarded: map[string]bool{},
		handsOff: map[string]bool{}, foreign: map[string]*disk.Foreign{}, discard: map[string]bool{}}
	a.site = a
	defer func() {
		if p := recover(); p != nil {
			a.con.note(red, "bootmend met a defect of its own: %v", p)
			for _, line := range strings.Split(strings.TrimSpace(strings.ReplaceAll(stack(), "\t", "  ")), "\n") {
				a.con.line("%s", line)
			}
			a.con.drain()
			os.Exit(1)
		}
	}()
	_, _ = unix.Klogctl(kernelConsoleOff, nil) // the kernel's own lines would run through ours
	a.con.note(bold, "bootmend %s: heals Windows machines that a faulty driver file keeps from starting", version)
	a.prepare()
	a.discover(ctx)
	for {
		for reason := a.consult(ctx); reason != ""; reason = a.consult(ctx) {
			a.leave(ctx, reason)
		}
		verdicts := a.healAll(ctx)
		a.finish(ctx, verdicts)
	}
}

func (a *agent) prepare() {
	a.boot = readBootParameters()
	a.identity = readIdentity()
	var err error
	if a.started, err = remediate.NewRun(time.Now(), version, rand.Reader); err != nil {
		panic(err)
	}
	a.started.Machine = a.identity
	a.log = remediate.NewLog(a.started)
	a.con.begin(describe(a.identity))
	a.con.line("This machine: %s", describe(a.identity))
	if a.drivers, err = loadDrivers(); err != nil {
		a.con.note(red, "%v. Only what the kernel drives by itself will be found.", err)
		a.drivers = noDrivers()
	}
	a.wake = a.drivers.appeared
	_ = a.drivers.load("efivarfs")
	a.firmware = openFirmware()
	a.log.Add(a.bootEvent())
	a.log.Add(a.identity)
}

// discover looks at devices as they appear, until the medium and a volume are there and nothing has happened
// for a moment, or patience ends. Keys are looked for in the background from the first moment on.
func (a *agent) discover(ctx context.Context) {
	began := time.Now()
	if m := readNetMedia(a.boot.mediaID); m != nil {
		a.useMedia(ctx, m)
	}
	for more := true; more; {
		a.scan(ctx)
		more = a.awaitDevice(ctx, began)
	}
	if a.media == nil {
		a.con.note(red, "The medium that this machine was started from is not found; its keys and settings are not available. If it is a stick, try another USB port.")
		a.packs = defaultPacks()
		if a.boot.listed {
			a.serials = config.Serials{} // whom it is for is not known
		}
		a.search(ctx)
	}
	a.hidden = attach.HiddenDisks()
	for _, h := range a.hidden {
		a.con.note(red, "%s", h.What)
		a.log.Errorf("looking for disks", "%s", h.What)
	}
}

// awaitDevice returns when there may be something new to look at, or with false when waiting longer is of no use.
func (a *agent) awaitDevice(ctx context.Context, began time.Time) (more bool) {
	again := rescanTime
	if a.pending() {
		again = pollTime
	}
	rescan := time.After(again)
	for !a.complete(time.Since(began)) {
		select {
		case <-a.drivers.appeared:
			return true
		case <-rescan:
			return true
		case <-time.After(pollTime):
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// complete reports whether waiting longer is of no use.
func (a *agent) complete(waited time.Duration) bool {
	patience := settleTime
	switch {
	case a.media == nil && a.boot.mediaID != "":
		patience = mediaPatience
	case len(a.volumes) == 0 || a.pending() || a.keys.wantsIdentity():
		patience = diskPatience
	}
	return waited > patience && a.drivers.quiet(settleTime) || waited > hangPatience
}

// pending reports whether a device is there that could not be opened yet.
func (a *agent) pending() bool {
	for name := range a.firstSeen {
		if !a.seen[name] {
			return true
		}
	}
	return false
}

// scan looks at every block device that it has not seen yet.
func (a *agent) scan(ctx context.Context) {
	a.takeServerKeys(ctx)
	blocks, err := attach.List()
	if err != nil {
		return
	}
	a.forgetPulled(blocks)
	partitioned := map[string]bool{}
	for _, b := range blocks {
		partitioned[b.Disk] = partitioned[b.Disk] || b.Partition > 0
	}
	for _, b := range blocks {
		if a.seen[b.Name] {
			continue
		}
		a.seen[b.Name] = true
		if _, ok := a.firstSeen[b.Name]; !ok {
			a.firstSeen[b.Name] = time.Now()
		}
		if a.guarded[b.Disk] {
			b.HardwareReadOnly = false
		}
		a.inspect(ctx, b, partitioned[b.Name])
	}
}

// forgetPulled lets a stick be looked at again that is pulled and plugged in anew, maybe with other files.
func (a *agent) forgetPulled(blocks []attach.Block) {
	for name := range a.seen {
		if !slices.ContainsFunc(blocks, func(b attach.Block) bool { return b.Name == name }) {
			delete(a.seen, name)
			delete(a.firstSeen, name)
			delete(a.guarded, name)
			delete(a.handsOff, name)
			delete(a.foreign, name)
			delete(a.discard, name) // the next disk of that name has a session of its own
		}
	}
}

// notReady is the answer of a device that the kernel lists already but cannot open yet, as disks do for a
// moment while they start.
func notReady(err error) bool {
	return errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT)
}

func (a *agent) inspect(ctx context.Context, b attach.Block, partitioned bool) {
	if a.media != nil && b.Disk == a.media.block.Disk || a.handsOff[b.Disk] {
		return
	}
	if b.Partition == 0 && !b.HardwareReadOnly {
		// From here on the kernel refuses writes to this disk, until a plan needs one.
		err := attach.SetReadOnly(b.Device, true)
		if notReady(err) && time.Since(a.firstSeen[b.Name]) < diskPatience {
			a.seen[b.Name] = false
			return
		}
		a.guarded[b.Disk] = err == nil
	}
	v, kind, err := identify(b)
	if notReady(err) && time.Since(a.firstSeen[b.Name]) < diskPatience {
		a.seen[b.Name] = false
		return
	}
	if errors.Is(err, unix.ENOMEDIUM) {
		return // an empty drive
	}
	if a.media == nil && (kind == disk.ISO9660 || kind == disk.FAT) {
		if m := readMedia(b, kind, a.boot.mediaID); m != nil {
			a.useMedia(ctx, m)
			return
		}
	}
	if kind == disk.FAT || kind == disk.ExFAT {
		a.useStick(ctx, b, kind)
	}
	if b.Partition == 0 && !strings.HasPrefix(b.Name, "sr") {
		a.disks[b.Name] = true
		a.con.line("Disk %s: %s, %s", b.Name, b.Model, sizeText(b.Size))
		a.log.Add(remediate.DiskEvent{Device: b.Device, Model: b.Model, Size: b.Size, Note: a.recognise(b)})
	} else if note := a.recognise(b); note != "" {
		a.log.Add(remediate.VolumeEvent{Device: b.Device, Kind: kind.String(), Size: b.Size, Note: note})
	}
	if a.handsOff[b.Name] {
		return
	}
	if err != nil {
		a.con.note(red, "  %s: %s", b.Name, oneLine(err))
		a.log.Add(remediate.ErrorEvent{Step: "looking at the disk", Device: b.Device, Message: oneLine(err)})
		if kind == disk.BitLocker {
			a.broken = append(a.broken, verdict{outcome: failed, volume: &volume{Block: b, kind: kind}, text: b.Name + ": " + oneLine(err)})
		}
		return
	}
	if v == nil || b.Partition == 0 && partitioned {
		return
	}
	a.volumes = append(a.volumes, v)
	found := remediate.VolumeEvent{Device: b.Device, Kind: kind.String(), Size: b.Size}
	if v.meta != nil {
		found.ID, found.Description = v.meta.VolumeID.String(), v.meta.Description
	}
	a.log.Add(found)
	if v.meta == nil {
		return
	}
	a.con.line("  BitLocker volume %s: %s, %s", v.title(), v.meta.Method, v.meta.State)
	for _, problem := range v.meta.Problems {
		a.con.line("  note: %s", problem)
	}
	if a.media != nil {
		v.search(ctx, a.keys.sources)
	}
}

// recognise looks for what another program keeps on a disk or partition, and says so.
func (a *agent) recognise(b attach.Block) string {
	if b.Partition == 0 && strings.HasPrefix(b.Name, "sr") {
		return ""
	}
	f := foreign(b)
	if f == nil {
		return ""
	}
	a.foreign[b.Name], a.handsOff[b.Name] = f, f.HandsOff
	rest := ""
	if f.HandsOff {
		rest = ": left alone"
	}
	a.con.line("  %s is %s%s", b.Name, f.What, rest)
	return f.What
}

// useMedia takes over the media's settings and lets its keys be tried on what was found before it.
func (a *agent) useMedia(ctx context.Context, m *media) {
	a.media, a.packs, a.badRules, a.serials = m, m.packs, m.badRules, m.serials
	delete(a.disks, m.block.Disk) // a stick shows as a disk before its partition shows what it is
	if !m.network && !m.block.HardwareReadOnly {
		a.guarded[m.block.Disk] = attach.SetReadOnly("/dev/"+m.block.Disk, false) != nil // for the log
	}
	for _, note := range m.notes {
		a.con.note(red, "%s", note)
		a.log.Errorf("reading the media", "%s", note)
	}
	if m.keys.any() {
		a.con.line("Media %s with %s", m, &m.keys)
	} else {
		a.con.line("Media %s, without recovery keys", m)
	}
	a.takeKeys(ctx, m.keys)
	a.search(ctx)
	a.useServer(ctx, m.config.Server)
}

// useStick looks for keys on a stick, or any other small file system, that is not the medium.
func (a *agent) useStick(ctx context.Context, b attach.Block, kind disk.Kind) {
	found := readStick(b, kind, a.drivers.load)
	if found.any() {
		a.con.line("Stick %s with %s", b.Name, &found)
	}
	a.takeKeys(ctx, found)
}

// search begins to look for the keys of all volumes that wait for one.
func (a *agent) search(ctx context.Context) {
	for _, v := range a.volumes {
		if v.meta != nil && v.key == nil && v.unlocking == nil && (!v.searched || v.tried < len(a.keys.sources)) {
			v.search(ctx, a.keys.sources)
		}
	}
}

// search tries the sources that have not been tried yet. It runs beside everything else: deriving a key takes longer
// than loading all drivers.
func (v *volume) search(ctx context.Context, sources []keySource) {
	untried := sources[v.tried:]
	v.tried, v.searched = len(sources), true
	outcome := make(chan unlocked, 1)
	v.unlocking = outcome
	go func() { outcome <- v.findKey(ctx, untried) }()
}

// tryKeys implements site.
func (a *agent) tryKeys(ctx context.Context, v *volume) error {
	if v.searched && !v.undecided(a.keys.sources) {
		return errSkip
	}
	return a.awaitKey(ctx, v)
}

// tryRecovery implements site.
func (a *agent) tryRecovery(ctx context.Context, v *volume, password bitlocker.RecoveryPassword) error {
	return v.take(v.tryRecovery(ctx, password))
}

// tryPassword implements site.
func (a *agent) tryPassword(ctx context.Context, v *volume, password string) error {
	return v.take(v.tryPassword(ctx, password))
}

// awaitKey waits for the search that began when the volume was found, and for those that what has turned up since
// gives reason to.
func (a *agent) awaitKey(ctx context.Context, v *volume) error {
	for {
		if v.unlocking == nil {
			v.search(ctx, a.keys.sources)
		}
		select {
		case u := <-v.unlocking:
			v.unlocking = nil
			err := v.take(u)
			if err != nil && !errors.Is(err, errSkip) {
				a.con.note(red, "  %s", oneLine(err))
				a.log.Add(remediate.UnlockEvent{Device: v.Device, Source: "key list", Reason: oneLine(err)})
			}
			if err == nil || v.tried == len(a.keys.sources) {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dryRun implements site.
func (a *agent) dryRun() bool {
	return a.forceDry || a.serverDry || a.boot.dryRun || a.settings().DryRun
}

// settings implements site.
func (a *agent) settings() config.Config {
	if a.media == nil {
		return config.Default()
	}
	return a.media.config
}

func (a *agent) bootEvent() remediate.BootEvent {
	e := remediate.BootEvent{ToolVersion: version, Kernel: kernelRelease(), Firmware: "bios", Media: a.boot.mediaID, DryRun: a.boot.dryRun}
	if a.firmware != nil {
		secure := a.firmware.secureBoot()
		e.Firmware, e.SecureBoot = "uefi", &secure
	}
	return e
}
