package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

// work does all of it, and returns the exit status.
func (a *agent) work(ctx context.Context) int {
	for {
		a.prepare(ctx)
		status, again := a.once(ctx)
		if !again {
			return status
		}
		a.con.stepTo(screen.Find)
		a.con.show(nil, screen.Plain)
	}
}

// once is one try; again says that a person wants another.
func (a *agent) once(ctx context.Context) (status int, again bool) {
	var verdicts []verdict
	action, pause := config.Wait, a.config.Countdown
	if reason := a.consult(ctx); reason != "" {
		verdicts, status, action, pause = a.spare(ctx, reason), exitNothing, config.Reboot, leavePause
		if !inPE() {
			action = config.Wait
		}
	} else {
		verdicts = a.healAll(ctx)
		if ctx.Err() != nil {
			a.log.Add(remediate.ResultEvent{Outcome: remediate.OutcomeFailed, Message: "stopped by a person"})
			a.saveLogs(verdicts)
			return exitFailed, false
		}
		success := a.summary(verdicts)
		switch {
		case !success:
			status, action = exitFailed, a.config.OnFailure
			if a.con.over == nil {
				pause = max(pause, failurePause)
			}
		case !slices.ContainsFunc(verdicts, func(v verdict) bool { return v.outcome == healed || v.outcome == planned }):
			status, action = exitNothing, a.config.OnSuccess
		default:
			status, action = exitDone, a.config.OnSuccess
		}
		if success && !a.dryRun() {
			if _, restart := a.endSafeMode(ctx); !restart {
				action = config.Wait // it would come back here
			}
		}
	}
	a.saveLogs(verdicts)
	if ctx.Err() != nil || a.stay {
		return status, false
	}
	if action == config.Reboot && !a.dryRun() && status != exitFailed {
		a.goToWindows()
	}
	if action != config.Wait && !a.dryRun() && a.countdown(ctx, action, pause) {
		if ctx.Err() != nil {
			return status, false
		}
		return a.end(action, status), false
	}
	if !inPE() || a.con.over != nil {
		return status, false
	}
	return a.menu(ctx, verdicts, status)
}

// spare leaves the machine as it is, since the server wants it so.
func (a *agent) spare(ctx context.Context, reason string) (verdicts []verdict) {
	a.site.scan(ctx)
	for _, v := range a.volumes {
		verdicts = append(verdicts, verdict{outcome: spared, volume: v, text: "left as it is"})
	}
	a.log.Add(remediate.ResultEvent{Outcome: remediate.OutcomeLeft, Message: "left as it is: " + reason})
	return verdicts
}

// goToWindows arranges that the next start goes to Windows although the medium of Windows PE is still in. Windows itself
// comes by itself.
func (a *agent) goToWindows() {
	if !inPE() {
		return
	}
	entry, err := bootWindowsNext()
	if err != nil {
		a.con.line("The firmware could not be told to start Windows next (%s). Pull the medium while the machine restarts, or it starts from it again.", oneLine(err))
		return
	}
	a.con.line("The next start goes to %s.", entry)
}

// end restarts or stops the machine, and returns the exit status, for Windows takes a moment to.
func (a *agent) end(action config.Action, status int) int {
	a.keys.wipe()
	if err := a.tools.end(action); err != nil {
		a.con.note(red, "The machine could not be restarted: %s. Restart it by hand; all is written.", oneLine(err))
		return exitFailed
	}
	return status
}

// menu is what a person can do in Windows PE; again is another try.
func (a *agent) menu(ctx context.Context, verdicts []verdict, status int) (_ int, again bool) {
	for {
		choice, err := a.choose(ctx, verdicts, "", "C  command prompt")
		if err != nil {
			return status, false
		}
		switch choice {
		case 't', 'd':
			a.forceDry = choice == 'd'
			return status, true
		case 'k':
			a.passed = true
			return status, true
		case 's':
			a.safeMode(ctx)
		case 'w':
			a.goToWindows()
			return a.end(config.Reboot, status), false
		case 'f':
			if err := setupNext(); err != nil {
				a.con.line("%s", oneLine(err))
				continue
			}
			return a.end(config.Reboot, status), false
		case 'p':
			return a.end(config.PowerOff, status), false
		case 'c':
			return status, false
		}
	}
}

// safeMode is the way out for a machine whose key nobody has, as in the agent for Linux; here bcdedit sets it.
func (a *agent) safeMode(ctx context.Context) {
	a.con.line("")
	a.con.note(bold, "Safe Mode without a recovery key")
	a.con.line("Windows will start in Safe Mode, where the faulty driver is not loaded. It opens BitLocker by itself, so no key is needed, but you must " +
		"be able to sign in as an administrator of that machine. In Safe Mode, run mend.exe from the media: it heals, and takes Safe Mode back. Or delete the " +
		"faulty file, and choose B here or run \"bcdedit /deletevalue {default} safeboot\".")
	choice, err := a.con.choose(ctx, "N: with network   M: minimal   B: take it back   Q: change nothing  ", "nmbq")
	if err != nil || choice == 'q' {
		return
	}
	if a.dryRun() {
		a.con.line("  Dry run: nothing is changed.")
		return
	}
	const entry = "{default}"
	if choice == 'b' {
		if taken, _ := a.endSafeMode(ctx); !taken {
			a.con.line("It was not set.")
		}
		return
	}
	mode := map[byte]string{'n': "network", 'm': "minimal"}[choice]
	err = a.tools.setSafeMode(ctx, entry, mode)
	e := remediate.SafeModeEvent{Device: "boot configuration", Set: true, OK: err == nil, Mode: mode, Entry: entry}
	if err != nil {
		e.Reason = oneLine(err)
		a.con.note(red, "NOT SET: %s. Windows starts as before.", oneLine(err))
	} else {
		a.con.note(green, "SAFE MODE SET: Windows starts in Safe Mode from now on (%s). Choose W to go there.", mode)
	}
	a.log.Add(e)
	a.saveLogs(nil)
}

// saveLogs writes the log to each volume that was changed, to the stick, where there is a folder for it, and to the
// server.
func (a *agent) saveLogs(verdicts []verdict) {
	for _, v := range verdicts {
		if v.outcome != healed {
			continue
		}
		if _, err := remediate.WriteLogFile(v.volume.root(), remediate.WindowsLogDir, a.started, a.log.Bytes()); err != nil {
			a.con.line("The log could not be written to %s: %s", v.volume.title(), oneLine(err))
		}
	}
	for _, root := range []string{a.mediaDir, a.stick} {
		if root == "" {
			continue
		}
		if info, err := os.Stat(filepath.Join(root, filepath.FromSlash(remediate.MediaLogDir))); err != nil || !info.IsDir() {
			continue
		}
		where, err := remediate.WriteLogFile(root, remediate.MediaLogDir, a.started, a.log.Bytes())
		if err != nil {
			a.con.line("The log could not be written to the media: %s", oneLine(err))
			continue
		}
		a.con.line("Log on the media: %s", where)
	}
	a.reportToServer()
}
