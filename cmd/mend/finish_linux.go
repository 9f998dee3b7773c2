package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/disk"
)

// finish tells the result, writes the logs, and does what the configuration says. It returns when the person
// wants another try.
func (a *agent) finish(ctx context.Context, verdicts []verdict) {
	success := a.summary(verdicts)
	a.endSafeMode(verdicts, success)
	a.saveLogs(verdicts)
	settings := a.settings()
	action, pause := settings.OnSuccess, settings.Countdown
	if !success {
		action, pause = settings.OnFailure, max(settings.Countdown, failurePause)
	}
	if ctx.Err() != nil { // Ctrl-Alt-Del
		a.end(config.Reboot)
	}
	if success && action == config.Reboot {
		a.goToWindows(ctx, verdicts)
	}
	switch action {
	case config.Wait:
		a.menu(ctx, verdicts)
	default:
		if a.countdown(ctx, action, pause) {
			a.end(action)
		}
		a.menu(ctx, verdicts)
	}
}

// noWindows implements site.
func (a *agent) noWindows() string {
	message := "no Windows found"
	if len(a.disks) == 0 {
		message = "no disk found"
		a.con.note(red, "There is no disk in this machine that can be seen.")
	} else {
		a.con.note(red, "No Windows was found on %s.", count(len(a.disks), "disk"))
	}
	a.advise()
	return strings.Join(append([]string{message}, a.reasons()...), "; ")
}

// reasons are why a disk with Windows may be there and not be found.
func (a *agent) reasons() (list []string) {
	for _, h := range a.hidden {
		list = append(list, h.What)
	}
	for _, name := range slices.Sorted(maps.Keys(a.foreign)) {
		list = append(list, name+" is "+a.foreign[name].What+".")
	}
	return list
}

// advise is the same with what to do about it.
func (a *agent) advise() {
	for _, h := range a.hidden {
		a.con.line("  %s %s", h.What, h.Next)
	}
	for _, name := range slices.Sorted(maps.Keys(a.foreign)) {
		a.con.line("  %s is %s. %s", name, a.foreign[name].What, a.foreign[name].Next)
	}
	if len(a.hidden)+len(a.foreign) == 0 {
		a.con.line("  If this machine has a RAID controller, its driver may be missing here. In the firmware set-up, look for the storage mode and for disabled disks.")
	}
}

// saveLogs writes the log to the media and to each volume that was changed anyway.
func (a *agent) saveLogs(verdicts []verdict) {
	defer a.reportToServer()
	where, err := a.media.saveLog(a.started, a.log.Bytes())
	switch {
	case err != nil:
		a.con.line("The log could not be written to the media: %s", oneLine(err))
	case where != "":
		a.con.line("Log on the media: %s", where)
	}
	for _, v := range verdicts {
		if v.outcome != healed {
			continue
		}
		if err := a.logToWindows(v.volume); err != nil {
			a.con.line("The log could not be written to %s: %s", v.volume.title(), oneLine(err))
		}
	}
}

func (a *agent) logToWindows(v *volume) error {
	tree, err := v.open(false)
	if err != nil {
		return err
	}
	_, err = remediate.WriteLogFile(volumeDir, remediate.WindowsLogDir, a.started, a.log.Bytes())
	if closeErr := tree.close(err == nil); err == nil {
		err = closeErr
	}
	return err
}

// leave sends the machine on to Windows unchanged, unless a person stops it.
func (a *agent) leave(ctx context.Context, reason string) {
	var verdicts []verdict
	for _, v := range a.volumes {
		verdicts = append(verdicts, verdict{outcome: spared, volume: v, text: "left as it is"})
	}
	a.log.Add(remediate.ResultEvent{Outcome: remediate.OutcomeLeft, Message: "left as it is: " + reason})
	a.saveLogs(nil)
	if a.countdown(ctx, config.Reboot, leavePause) {
		a.goToWindows(ctx, verdicts)
		a.end(config.Reboot)
	}
	a.menu(ctx, verdicts)
}

// goToWindows arranges that the next start goes to Windows although the media is still in.
func (a *agent) goToWindows(ctx context.Context, verdicts []verdict) {
	i := slices.IndexFunc(verdicts, verdict.isWindows)
	if i < 0 {
		i = slices.IndexFunc(verdicts, verdict.needsPerson) // a locked volume is likely to be one
	}
	if i < 0 {
		return
	}
	if a.firmware == nil {
		v := verdicts[i]
		if j := slices.IndexFunc(verdicts, func(v verdict) bool { return v.outcome == healed }); j >= 0 {
			v = verdicts[j] // when it comes here again, it is healed
		}
		a.withoutFirmware(ctx, v)
		return
	}
	entry, err := a.firmware.bootWindowsNext(verdicts[i].volume.Disk)
	if err != nil {
		a.con.line("The firmware could not be told to start Windows next (%s). Remove the media before the machine restarts.", oneLine(err))
		return
	}
	a.con.line("The next start goes to %s.", entry)
}

// withoutFirmware is the same on a machine with a BIOS, which can't be told: a disc is ejected; a stick must
// be pulled, which a machine that was just healed need not wait for: it comes here once more, and all others would come
// again and again.
func (a *agent) withoutFirmware(ctx context.Context, v verdict) {
	if a.media == nil {
		return
	}
	if a.media.network {
		a.withoutNetwork(ctx, v)
		return
	}
	if a.media.eject() {
		a.con.line("The disc is ejected, so that the next start goes to Windows.")
		return
	}
	state := map[outcome]string{
		healedBefore: "is healed", spared: "is left as it is", clean: "has nothing to heal", planned: "was only looked at",
	}[v.outcome]
	if state == "" {
		a.con.line("Pull the stick while the machine restarts, or it starts from it again.")
		return
	}
	a.con.note(bold, "Pull the stick now: this machine %s and goes on to Windows as soon as the stick is out. (Enter goes on at once.)", state)
	a.con.beep()
	// Whatever ends the question, the machine goes on.
	_ = a.con.ask(ctx, &screen.Choice{Letters: string(screen.Enter)}, &watch{every: 250 * time.Millisecond, look: func() error {
		if a.media.gone() {
			return errAgain
		}
		return nil
	}})
}

// withoutNetwork is the same where the network started the machine. bootmend's own boot server leaves a machine alone
// that it has just served; with another one it comes here again and must not do so for ever.
func (a *agent) withoutNetwork(ctx context.Context, v verdict) {
	if v.outcome != healedBefore {
		a.con.line("If this machine starts from the network again, choose its disk in the firmware's boot menu.")
		return
	}
	a.con.note(bold, "This machine is healed, and the network has started it again. Choose its disk in the firmware's boot menu, or unplug the network cable; then press Enter to restart it.")
	a.con.beep()
	_ = a.con.ask(ctx, &screen.Choice{Letters: string(screen.Enter)}, nil) // whatever ends it, the machine goes on
}

// menu is what a person can do; it returns for another try.
func (a *agent) menu(ctx context.Context, verdicts []verdict) {
	hibernated := hibernatedOf(verdicts)
	first := ""
	if len(hibernated) > 0 {
		first = "H  heal although Windows is hibernated: its session is lost"
	}
	for {
		choice, err := a.choose(ctx, verdicts, first, "U  undo a repair")
		if err != nil {
			a.end(config.Reboot)
		}
		switch choice {
		case 't', 'd':
			a.forceDry = choice == 'd'
			a.again(ctx)
			return
		case 'k':
			a.again(ctx)
			a.keys.passed = true // not the passphrase of a vault
			return
		case 'u':
			a.undo(ctx)
		case 's':
			a.safeMode(ctx, verdicts)
		case 'h':
			if a.giveUpSessions(ctx, hibernated) {
				a.again(ctx)
				return
			}
		case 'w':
			a.goToWindows(ctx, verdicts)
			a.end(config.Reboot)
		case 'p':
			a.end(config.PowerOff)
		case 'f':
			if a.firmware == nil {
				a.con.line("This machine was started by a BIOS: press its set-up key at power-on.")
				continue
			}
			if err := a.firmware.setupNext(); err != nil {
				a.con.line("%s", oneLine(err))
				continue
			}
			a.end(config.Reboot)
		}
	}
}

// hibernatedOf lists the volumes that were refused since their Windows is hibernated.
func hibernatedOf(verdicts []verdict) (list []*volume) {
	for _, v := range verdicts {
		if v.hibernated {
			list = append(list, v.volume)
		}
	}
	return list
}

// giveUpSessions asks whether hibernated sessions may be lost.
func (a *agent) giveUpSessions(ctx context.Context, list []*volume) bool {
	for _, v := range list {
		a.con.line("  %s: programs and documents that were open when this Windows was hibernated are lost as if it had been switched off.", v.title())
	}
	if !a.confirm(ctx, "Windows cannot resume this session any more afterwards. Type YES to give it up and heal: ") {
		a.con.line("Nothing was changed.")
		return false
	}
	a.forceDry = false
	for _, v := range list {
		a.discard[v.Name] = true
	}
	return true
}

// again forgets what was found, so that a stick plugged in since or a repaired disk is seen afresh.
func (a *agent) again(ctx context.Context) {
	unlocked := a.volumes
	a.con.stepTo(screen.Find)
	a.con.show(nil, screen.Plain)
	a.media, a.disks, a.volumes, a.broken, a.badRules = nil, map[string]bool{}, nil, nil, 0
	a.handsOff, a.foreign = map[string]bool{}, map[string]*disk.Foreign{}
	a.keys.forget()
	a.seen, a.firstSeen = map[string]bool{}, map[string]time.Time{}
	a.discover(ctx)
	for _, v := range a.volumes {
		for _, old := range unlocked {
			if old.Name == v.Name && old.key != nil && v.meta != nil && old.meta.VolumeID == v.meta.VolumeID {
				v.key, v.method, v.keyID = old.key, old.method, old.keyID
			}
		}
	}
}

// end leaves the machine in order and restarts or stops it. It does not return.
func (a *agent) end(action config.Action) {
	for _, v := range a.volumes {
		if v.key != nil {
			v.key.Wipe()
		}
	}
	a.keys.wipe()
	unix.Sync()
	a.con.drain()
	command := unix.LINUX_REBOOT_CMD_RESTART
	if action == config.PowerOff {
		command = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	if err := unix.Reboot(command); err != nil {
		a.con.note(red, "The machine could not be restarted: %v. Switch it off by hand; all is written.", err)
	}
	select {}
}
