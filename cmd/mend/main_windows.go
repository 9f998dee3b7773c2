// Mend is the agent that runs on the broken machine. For Windows it is a program that an administrator starts in Safe
// Mode, or that Windows PE starts by itself: it finds the Windows volumes, has manage-bde unlock them, plans,
// quarantines, verifies, logs, takes Safe Mode back and restarts the machine.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

// version is set by the build.
var version = "development"

const usage = `mend: heals the Windows of this machine that a faulty driver file keeps from starting

Run it as an administrator in Safe Mode, from the stick that set it. It quarantines what the rule packs on the stick
name, takes Safe Mode back, and restarts the machine. Windows PE starts it by itself.

  mend.exe [-dry-run] [-stay] [-media FOLDER]

`

func main() {
	flags := flag.NewFlagSet("mend", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	dryRun := flags.Bool("dry-run", false, "look and plan, change nothing")
	stay := flags.Bool("stay", false, "do not restart the machine")
	media := flags.String("media", "", "`folder` that holds the folder bootmend (default: where mend.exe lies, else the stick BOOTMEND)")
	if err := flags.Parse(os.Args[1:]); err != nil || flags.NArg() > 0 {
		if err == nil {
			flags.Usage()
		}
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	a := newAgent(*media)
	a.dryRun = a.dryRun || *dryRun
	status := a.run(ctx)
	stopped := ctx.Err() != nil
	stop()
	if *stay || stopped {
		os.Exit(status)
	}
	if err := a.finish(status); err != nil {
		a.say("The machine could not be restarted: %s. Restart it by hand; all is written.", oneLine(err))
		os.Exit(exitFailed)
	}
	os.Exit(status)
}

// agent is one run on one machine.
type agent struct {
	log      *remediate.Log
	started  remediate.Run
	mediaDir string // holds the folder bootmend; "" where there is none
	stick    string // the root of a stick with further keys and drivers, in Windows PE; "" where there is none
	config   config.Config
	packs    []*remediate.Pack
	badRules int
	keys     keyFiles
	dryRun   bool
	// tools are Windows' own programs.
	tools tools
	// live is the drive of the Windows that runs this program; "" in Windows PE.
	live string
	// taken counts, by rule pack, what the volumes of this machine have given.
	taken map[string]int
}

func newAgent(mediaDir string) *agent {
	a := &agent{taken: map[string]int{}, tools: findTools()}
	if !inPE() {
		a.live = filepath.VolumeName(os.Getenv("SystemRoot"))
	}
	a.say("bootmend %s: heals Windows machines that a faulty driver file keeps from starting", version)
	var err error
	if a.started, err = remediate.NewRun(time.Now(), version, rand.Reader); err != nil {
		panic(err) // no randomness
	}
	a.started.Machine = readIdentity()
	a.say("This machine: %s", describe(a.started.Machine))
	a.log = remediate.NewLog(a.started)
	a.log.Add(remediate.BootEvent{ToolVersion: version, Media: environment()})
	a.log.Add(a.started.Machine)
	if a.mediaDir = mediaDir; a.mediaDir == "" {
		a.mediaDir = awaitMedia()
	}
	a.readMedia()
	return a
}

// readMedia takes in what the stick or Windows PE brings.
func (a *agent) readMedia() {
	if a.mediaDir == "" {
		a.say("No folder bootmend is found: the packaged rules are used, and no keys.")
		a.config, a.packs = config.Default(), defaultPacks()
		return
	}
	a.say("Media %s", a.mediaDir)
	var notes []string
	var note string
	if a.config, note = readConfig(a.mediaDir); note != "" {
		notes = append(notes, note)
	}
	var more []string
	a.packs, a.badRules, more = readRules(a.mediaDir, a.config.AllowUnsignedRules)
	a.keys = readKeyFiles(a.mediaDir, "the media")
	for _, note := range append(append(notes, more...), a.keys.notes...) {
		a.say("%s", note)
		a.log.Errorf("reading the media", "%s", note)
	}
	if a.keys.any() {
		a.say("With %s", &a.keys)
	}
	a.dryRun = a.config.DryRun
}

// say prints a line; names from a disk cannot steer the terminal.
func (a *agent) say(format string, args ...any) {
	fmt.Println(harmless(fmt.Sprintf(format, args...)))
}

// finish restarts or stops the machine, as the media say.
func (a *agent) finish(status int) error {
	action, pause := a.config.OnSuccess, a.config.Countdown
	if status == exitFailed {
		action = a.config.OnFailure
	}
	if action == config.Wait || a.dryRun {
		return nil
	}
	a.say("%s in %s.", map[config.Action]string{config.Reboot: "Restarting", config.PowerOff: "Powering off"}[action], pause)
	time.Sleep(pause)
	return a.tools.end(action)
}
