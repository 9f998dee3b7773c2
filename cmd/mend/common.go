//go:build linux || windows

package main

import (
	"context"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

// version is set by the build.
var version = "development"

// common is what the agents for Linux and for Windows are made of, both.
type common struct {
	con     *console
	log     *remediate.Log
	started remediate.Run
	packs   []*remediate.Pack
	// badRules counts rule packs that could not be read or are not trusted: what they would have healed is not known.
	badRules int
	// serials are the machines that the media are for; nil is all of them.
	serials config.Serials
	// taken counts, by rule pack, what the volumes of this machine have given; a blast radius is a machine's.
	taken map[string]int
	// volumes may hold Windows; broken are those that can't even be looked at.
	volumes []*volume
	broken  []verdict
	// keys is all that may open volumes.
	keys keyring
	// forceDry is set by the menu.
	forceDry bool
	// server is what the media name; nil for none. serverDry is set if it wants a dry run.
	server    *server
	serverDry bool
	// wake gets a value when something may have turned up that scan should look at.
	wake chan struct{}
	site site
}

// site is what each of the two does by the means of its system.
type site interface {
	// scan looks at devices that have appeared.
	scan(ctx context.Context)
	// search lets keys that have turned up be tried on the volumes that wait for one.
	search(ctx context.Context)
	// tryKeys tries them on one volume. The error is errSkip if they do not fit.
	tryKeys(ctx context.Context, v *volume) error
	// tryRecovery and tryPassword open a volume with what a person typed; bitlocker.ErrWrongKey says that it does not fit.
	tryRecovery(ctx context.Context, v *volume, password bitlocker.RecoveryPassword) error
	tryPassword(ctx context.Context, v *volume, password string) error
	// heal looks, plans, changes only what the plan needs, and reads back what it changed.
	heal(ctx context.Context, v *volume) verdict
	// mayDiscard reports whether the hibernated session of a volume may be lost.
	mayDiscard(v *volume) bool
	// noWindows tells why none may have been found, and names the reason.
	noWindows() string
	// settings are those of the media.
	settings() config.Config
	// dryRun reports whether nothing may be changed.
	dryRun() bool
}
