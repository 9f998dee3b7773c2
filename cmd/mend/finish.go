//go:build linux || windows

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

// failurePause leaves time to read what went wrong before a machine that nobody watches goes on.
const failurePause = 30 * time.Second

// leavePause leaves time to read why a machine was left as it is, and to choose otherwise.
const leavePause = 15 * time.Second

// summary prints the result in green or red and reports whether no person is needed.
func (a *common) summary(verdicts []verdict) bool {
	counts := map[outcome]int{}
	success := true
	result := remediate.ResultEvent{Outcome: remediate.OutcomeNeedsPerson}
	for _, v := range verdicts {
		counts[v.outcome]++
		if v.needsPerson() {
			success = false
			result.Message = v.text
			a.con.note(red, "NOT HEALED: %s", v.text)
		}
	}
	if a.badRules > 0 {
		success = false
		result.Message = "a rule pack was left out"
		a.con.note(red, "NOT COMPLETE: %s on the media had to be left out, for the reason above, so this machine may not be healed. Correct it or build the media again.",
			count(a.badRules, "rule pack"))
	}
	windows := counts[clean] + counts[healedBefore] + counts[healed] + counts[planned]
	switch {
	case !success:
	case windows == 0:
		success = false
		result.Message = a.site.noWindows()
	case counts[planned] > 0:
		result.Outcome = remediate.OutcomeDryRun
		a.con.note(green, "DRY RUN: %s would be healed. Nothing was changed.", count(counts[planned], "Windows installation"))
	case counts[healed] > 0:
		result.Outcome = remediate.OutcomeHealed
		a.con.note(green, "HEALED: %s", count(counts[healed], "Windows installation"))
	case counts[healedBefore] > 0:
		result.Outcome = remediate.OutcomeHealedBefore
		a.con.note(green, "OK: this machine is healed already, nothing is left to heal")
	default:
		result.Outcome = remediate.OutcomeNothingToHeal
		a.con.note(green, "OK: nothing to heal on this machine")
	}
	a.log.Add(result)
	a.con.stepTo(screen.Done)
	words, field := resultPage(result.Outcome)
	a.con.show(func(width, room int) []string { return screen.Result(words, width, room) }, field)
	a.con.tone(success)
	return success
}

// resultPage is the result for who stands two metres away.
func resultPage(o remediate.Outcome) (words string, field screen.Field) {
	switch o {
	case remediate.OutcomeHealed:
		return "HEALED", screen.Good
	case remediate.OutcomeHealedBefore, remediate.OutcomeNothingToHeal:
		return "OK", screen.Good
	case remediate.OutcomeDryRun:
		return "DRY RUN", screen.Good
	}
	return "NOT OK", screen.Bad // one row of letters, so that there is room for the reasons
}

// choose shows what a person can do, and returns the letter of what is to be done. first and last are what else one of
// the agents can do, "X  in words"; first may be empty. The log is shown here.
func (a *common) choose(ctx context.Context, verdicts []verdict, first, last string) (byte, error) {
	letters := "tdwfpsl" + strings.ToLower(last[:1])
	key := slices.ContainsFunc(verdicts, func(v verdict) bool { return v.outcome == locked && len(v.volume.recoveryIDs()) > 0 })
	if key {
		letters += "k"
	}
	if first != "" {
		letters += strings.ToLower(first[:1])
	}
	for {
		a.con.line("")
		if key {
			a.con.line("  K  type the recovery key")
		}
		if first != "" {
			a.con.line("  %s", first)
		}
		a.con.line("  T  try again        D  dry run (change nothing)    W  go on to Windows")
		a.con.line("  F  firmware set-up  P  power off                   %s", last)
		a.con.line("  S  Safe Mode, for a machine whose recovery key nobody has")
		a.con.line("  L  look at the log")
		choice, err := a.con.choose(ctx, "Your choice: ", letters)
		if err != nil || choice != 'l' {
			return choice, err
		}
		a.con.show(nil, screen.Plain)
		_ = a.con.ask(ctx, &screen.Review{}, nil) // back to the menu in any case
	}
}

// countdown waits; a key stops it and reports false.
func (a *common) countdown(ctx context.Context, action config.Action, pause time.Duration) bool {
	doing := map[config.Action]string{config.Reboot: "restarting", config.PowerOff: "powering off"}[action]
	if pause <= 0 {
		a.con.line("Now %s.", doing)
		return true
	}
	a.con.line("Now %s in %s. Press M for the menu.", doing, pause)
	soon, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	return a.con.ask(soon, &screen.Choice{Letters: "m"}, nil) != nil
}
