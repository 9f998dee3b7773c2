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
	a := newAgent(openConsole(stop), *media)
	a.forceDry, a.stay = *dryRun, *stay
	status := a.work(ctx)
	stop()
	a.con.close()
	os.Exit(status)
}

// agent is one run on one machine.
type agent struct {
	common
	mediaDir string // holds the folder bootmend; "" where there is none
	stick    string // the root of a stick with further keys and drivers, in Windows PE; "" where there is none
	config   config.Config
	stay     bool // do not restart the machine
	passed   bool // in the menu, the person would rather type a key than the passphrase of a vault
	// tools are Windows' own programs.
	tools tools
	// live is the drive of the Windows that runs this program; "" in Windows PE.
	live string
	// seen are the drives that have been looked at, read those that keys were looked for on.
	seen, read map[string]bool
}

func newAgent(con *console, mediaDir string) *agent {
	a := &agent{common: common{con: con, keys: newKeyring(), wake: make(chan struct{}, 1)}, tools: findTools(), mediaDir: mediaDir}
	a.site = a
	if !inPE() {
		a.live = filepath.VolumeName(os.Getenv("SystemRoot"))
	}
	a.con.note(bold, "bootmend %s: heals Windows machines that a faulty driver file keeps from starting", version)
	var err error
	if a.started, err = remediate.NewRun(time.Now(), version, rand.Reader); err != nil {
		panic(err) // no randomness
	}
	a.started.Machine = readIdentity()
	a.con.begin(describe(a.started.Machine))
	a.con.line("This machine: %s", describe(a.started.Machine))
	a.log = remediate.NewLog(a.started)
	a.log.Add(remediate.BootEvent{ToolVersion: version, Media: environment()})
	a.log.Add(a.started.Machine)
	return a
}

// readMedia takes in what the stick or Windows PE brings.
func (a *agent) readMedia(ctx context.Context) {
	if _, err := os.Stat(a.mediaDir); a.mediaDir != "" && err != nil {
		a.mediaDir = "" // pulled since
	}
	if a.mediaDir == "" {
		a.mediaDir = awaitMedia()
	}
	if a.mediaDir == "" {
		a.config, a.packs, a.badRules, a.serials = config.Default(), defaultPacks(), 0, nil
		if !inPE() {
			a.con.note(red, "No folder bootmend is found: the packaged rules are used, and no keys.")
			return
		}
		// All media with Windows PE have one, which may say that nothing is to be changed, or on certain machines only.
		a.config.DryRun, a.config.OnSuccess = true, config.Wait
		a.con.note(red, "The media's folder bootmend is not found. Nothing is changed, since the settings are in it. Plug the stick into another USB port, and try again.")
		a.log.Errorf("reading the media", "the folder bootmend is not found")
		return
	}
	var notes []string
	var note string
	if a.config, note = readConfig(a.mediaDir); note != "" {
		notes = append(notes, note)
	}
	if a.serials, note = readSerials(a.mediaDir); note != "" {
		notes = append(notes, note)
	}
	var more []string
	a.packs, a.badRules, more = readRules(a.mediaDir, a.config.AllowUnsignedRules)
	found := readKeyFiles(a.mediaDir, "the media")
	for _, note := range append(notes, more...) {
		a.con.note(red, "%s", note)
		a.log.Errorf("reading the media", "%s", note)
	}
	if found.any() {
		a.con.line("Media %s with %s", a.mediaDir, &found)
	} else {
		a.con.line("Media %s, without recovery keys", a.mediaDir)
	}
	a.takeKeys(ctx, found)
	a.useServer(ctx, a.config.Server)
}
