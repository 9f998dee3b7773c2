//go:build linux || windows

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

// outcome is how the work on one volume ended.
type outcome int

const (
	notWindows   outcome = iota
	clean                // Windows, nothing to heal
	healedBefore         // the same, because it was healed by an earlier run
	healed
	planned // dry run: something would be done
	locked  // no key
	refused // must not be written to
	failed
	spared // left as it was, because the server wants it so
)

// verdict is an outcome with what a person should know.
type verdict struct {
	outcome
	volume *volume
	// text is the reason and the next step for locked, refused and failed.
	text string
	// hibernated says that it was refused because Windows is, which a person may decide otherwise.
	hibernated bool
}

// isWindows reports whether a Windows installation was found, whatever became of it.
func (v verdict) isWindows() bool {
	return v.outcome == clean || v.outcome == healedBefore || v.outcome == healed || v.outcome == planned || v.outcome == refused
}

func (v verdict) needsPerson() bool {
	return v.outcome == locked || v.outcome == refused || v.outcome == failed || v.outcome == spared
}

// healAll works on every volume: first those that open by themselves, then those that need a person.
func (a *common) healAll(ctx context.Context) []verdict {
	verdicts := slices.Clone(a.broken)
	a.taken = map[string]int{}
	var waiting []*volume
	next := 0
	openAll := func() {
		a.site.scan(ctx) // late devices
		for ; next < len(a.volumes); next++ {
			v := a.volumes[next]
			if v.locked() {
				a.con.stepTo(screen.Unlock)
				a.con.line("Unlocking %s ...", v.title())
				if err := a.site.tryKeys(ctx, v); err != nil {
					waiting = append(waiting, v)
					continue
				}
			}
			verdicts = append(verdicts, a.healOne(ctx, v))
			a.site.scan(ctx)
		}
	}
	openAll()
	for i := 0; i < len(waiting); i++ {
		verdicts = a.healWaiting(ctx, waiting[i], verdicts)
		openAll()
	}
	return verdicts
}

// healWaiting asks for the key of a volume that nothing opened so far.
func (a *common) healWaiting(ctx context.Context, v *volume, verdicts []verdict) []verdict {
	a.askServer(ctx, v)
	err := a.site.tryKeys(ctx, v) // something may have turned up meanwhile
	if err != nil && v.looksLikeData() && anyWindows(verdicts) {
		a.con.line("%s stays locked: there is no key for it, and it is not the Windows volume.", v.title())
		return verdicts
	}
	if err != nil {
		err = a.askKey(ctx, v)
	}
	if err != nil {
		text := fmt.Sprintf("%s is locked and no key was given. Wanted: key ID %s", v.title(), strings.Join(v.recoveryIDs(), " or "))
		if len(v.recoveryIDs()) == 0 {
			text = fmt.Sprintf("%s is locked and has no recovery password. Its protectors: %s", v.title(), protectorList(v.meta))
		}
		if !errors.Is(err, errSkip) && !errors.Is(err, errGone) && ctx.Err() == nil {
			text = fmt.Sprintf("%s stays locked: %s", v.title(), oneLine(err))
		}
		a.log.Add(remediate.UnlockEvent{Device: v.device(), Reason: text})
		return append(verdicts, verdict{outcome: locked, volume: v, text: text})
	}
	return append(verdicts, a.healOne(ctx, v))
}

// locked lists the volumes that nothing has opened yet.
func (a *common) locked() (list []*volume) {
	for _, v := range a.volumes {
		if v.locked() {
			list = append(list, v)
		}
	}
	return list
}

func (a *common) healOne(ctx context.Context, v *volume) verdict {
	a.con.stepTo(screen.Look)
	if v.meta != nil {
		a.con.line("Unlocked %s by %s, key ID %s", v.title(), v.method, v.keyID)
		a.log.Add(remediate.UnlockEvent{Device: v.device(), KeyID: v.keyID, Source: v.method, OK: true})
	} else {
		a.con.line("Looking at %s", v.title())
	}
	if reason := a.lateDecision(); reason != "" {
		return verdict{outcome: spared, volume: v, text: v.title() + " is left as it is: " + reason}
	}
	return a.site.heal(ctx, v)
}

func anyWindows(verdicts []verdict) bool {
	for _, v := range verdicts {
		if v.isWindows() && !v.needsPerson() {
			return true
		}
	}
	return false
}

func protectorList(m *bitlocker.Metadata) string {
	var names []string
	for _, p := range m.Protectors {
		names = append(names, p.Kind.String())
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// finding is what a look at a volume gave. A verdict of healed means: there is a plan to carry out.
type finding struct {
	verdict
	windows *remediate.Windows
	plan    *remediate.Plan
}

// look evaluates the rules on the volume that is open at dir.
func (a *common) look(ctx context.Context, v *volume, dir string) finding {
	root := os.DirFS(dir)
	windows, err := remediate.FindWindows(root)
	if errors.Is(err, remediate.ErrNoWindows) {
		return finding{verdict: verdict{outcome: notWindows, volume: v}}
	}
	if err != nil {
		return finding{verdict: a.fail(v, "looking for Windows", err)}
	}
	name := windows.ComputerName
	if name == "" {
		name = "unnamed computer"
	}
	a.con.line("  %s on %s", windows.Version, name)
	a.log.Add(windows)

	plan, err := remediate.Evaluate(ctx, root, a.packs, a.policy())
	if err != nil {
		return finding{verdict: a.fail(v, "evaluating the rules", err)}
	}
	plan.Measure(a.packs, a.taken)
	// The plan is logged with the answer that it may need.
	defer func() { a.log.Add(remediate.PlanEvent{Device: v.device(), Plan: plan}) }()
	f := finding{verdict: verdict{outcome: clean, volume: v}, windows: windows, plan: plan}
	a.showPlan(plan)
	if plan.Empty() {
		if len(plan.Problems) > 0 {
			f.verdict = a.fail(v, "looking for faulty files", errors.New(plan.Problems[0].Path+": "+plan.Problems[0].Why))
			return f
		}
		if a.sayEarlier(root) {
			f.outcome = healedBefore
		}
		return f
	}
	switch {
	case a.site.dryRun():
		a.con.line("  Dry run: nothing is changed.")
		f.outcome = planned
	case windows.Hibernated && !a.site.mayDiscard(v):
		f.verdict = a.refuse(v, "Windows on this volume is hibernated or was shut down with Fast Startup ("+windows.Hibernation+
			"). Writing to it could damage it. Start Windows once more and let it resume, or shut it down fully; then boot this medium again."+
			discardAdvice)
		f.hibernated = true
	case len(plan.Beyond) > 0 && !a.approve(ctx, v, plan):
		f.verdict = a.refuse(v, fmt.Sprintf("%s, and nobody agreed to that. Nothing was changed. Try again and type YES, or correct the rule pack.", plan.Beyond[0]))
	default:
		f.outcome = healed
	}
	if f.outcome == healed || f.outcome == planned {
		for pack, n := range plan.Taken() {
			a.taken[pack] += n
		}
	}
	return f
}

func (a *common) showPlan(plan *remediate.Plan) {
	// Near misses by name only: the log has the whole path.
	for _, kept := range plan.Kept {
		a.con.line("  stays: %s", path.Base(kept.Path))
		a.con.line("    %s", kept.Why)
	}
	for _, action := range plan.Actions {
		a.con.line("  %s: %s", action.Kind.Intent(), action.Target())
		a.con.line("    %s", action.Reason)
	}
	for _, b := range plan.Beyond {
		a.con.note(red, "  beyond the blast radius: %s", b)
	}
	for _, problem := range plan.Problems {
		a.con.note(red, "  not looked at: %s (%s)", problem.Path, problem.Why)
	}
	if plan.Empty() && len(plan.Problems) == 0 {
		a.con.line("  Nothing to heal on this volume.")
	}
}

// sayEarlier tells of repairs that were made before: a machine booted again from the media says why it goes on.
func (a *common) sayEarlier(root fs.FS) bool {
	earlier, err := remediate.Healed(root)
	if err != nil || len(earlier) == 0 {
		return false
	}
	last := earlier[len(earlier)-1].Manifest
	a.con.line("  This machine was healed on %s; nothing is left to heal.", last.Time.UTC().Format(time.DateTime+" MST"))
	return true
}

// approve asks whether a plan may go beyond the blast radius of its rule packs. Where the media are set up for
// machines that nobody watches, no answer in time is a no.
func (a *common) approve(ctx context.Context, v *volume, plan *remediate.Plan) bool {
	if a.site.settings().OnFailure != config.Wait {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, failurePause)
		defer stop()
		a.con.line("  Without an answer within %s, %s is left as it is.", failurePause, v.title())
	}
	if !a.confirm(ctx, "  Type YES to do it nevertheless; anything else changes nothing: ") {
		return false
	}
	plan.Approved = "typed on the console"
	return true
}

// confirm asks a question whose yes has to be spelled out.
func (a *common) confirm(ctx context.Context, question string) bool {
	a.con.beep()
	answer, err := a.con.answer(ctx, question)
	return err == nil && strings.EqualFold(strings.TrimSpace(answer), "yes")
}

// conclude logs and tells what came of a plan: err is what went wrong on the way, verifyErr what reading it back from the
// disk has shown. Where the plan could not see everything, nobody knows whether the machine is healed.
func (a *common) conclude(v *volume, plan *remediate.Plan, result *remediate.Result, err, verifyErr error) verdict {
	a.log.Add(remediate.QuarantineEvent{Device: v.device(), Result: result})
	check := remediate.VerifyEvent{Device: v.device(), OK: verifyErr == nil}
	if verifyErr != nil {
		check.Reason = oneLine(verifyErr)
	}
	a.log.Add(check)
	if verifyErr != nil {
		return a.fail(v, "reading the repair back from the disk", errors.Join(verifyErr, err))
	}
	if result.Unguarded != "" {
		a.con.line("  note: %s", result.Unguarded)
	}
	for _, moved := range result.Moved {
		a.con.line("  quarantined: %s", moved.Path)
	}
	for _, file := range result.PutBack {
		a.con.line("  put back: %s", file)
	}
	for _, service := range result.Disabled {
		a.con.line("  disabled: service %s", service.Name)
	}
	if len(result.Moved)+len(result.PutBack)+len(result.Disabled) > 0 {
		a.con.line("  Read back from the disk and verified.")
	}
	if err != nil {
		return a.fail(v, "quarantining", err)
	}
	if len(plan.Problems) > 0 {
		return a.fail(v, "looking for more faulty files, after what was found is healed", errors.New(plan.Problems[0].Path+": "+plan.Problems[0].Why))
	}
	return verdict{outcome: healed, volume: v}
}

// run names this run in the manifest, with the computer name that Windows itself has.
func (a *common) run(w *remediate.Windows) remediate.Run {
	r := a.started
	r.Machine.ComputerName = w.ComputerName
	return r
}

func (a *common) policy() remediate.Policy {
	if a.site.settings().AllMatching {
		return remediate.AllMatching
	}
	return remediate.FaultyOnly
}

func (a *common) fail(v *volume, step string, err error) verdict {
	text := fmt.Sprintf("%s: %s: %v", strings.TrimSuffix(v.title(), ":"), step, oneLine(err))
	if next := nextStep(err); next != "" {
		text += ". " + next
	}
	a.log.Add(remediate.ErrorEvent{Step: step, Device: v.device(), Message: oneLine(err)})
	return verdict{outcome: failed, volume: v, text: text}
}

// nextStep is what a person can do about a failure, where that is known.
func nextStep(err error) string {
	if errors.Is(err, remediate.ErrFull) {
		return "Make some room on it, a few megabytes are enough: the command prompt of Windows' own recovery environment can delete files, such as those in Windows\\Temp. " +
			"Then boot this medium again."
	}
	return systemNextStep(err)
}

func (a *common) refuse(v *volume, reason string) verdict {
	text := strings.TrimSuffix(v.title(), ":") + ": " + reason
	a.log.Add(remediate.ErrorEvent{Step: "plan", Device: v.device(), Message: reason})
	return verdict{outcome: refused, volume: v, text: text}
}
