package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/remediate"
)

type repairOptions struct {
	rules  rulesOptions
	attach attachOptions
	policy string
	dryRun bool
	yes    bool
	beyond bool
	json   bool
}

func (o *repairOptions) AddFlags(f *pflag.FlagSet) {
	o.rules.AddFlags(f)
	o.attach.AddFlags(f)
	f.StringVar(&o.policy, "policy", string(remediate.FaultyOnly), "which files a rule takes: faulty-only or all-matching")
	f.BoolVar(&o.dryRun, "dry-run", false, "show the plan and change nothing")
	f.BoolVar(&o.yes, "yes", false, "carry the plan out without being asked")
	f.BoolVar(&o.beyond, "beyond-blast-radius", false, "also carry out what is beyond the blast radius of a rule pack")
	f.BoolVar(&o.json, "json", false, "print the plans and results as JSON")
}

func (o *attachOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.keyFile, "key-file", "", "file with the key of a BitLocker volume (default: ask on the terminal)")
	f.IntVar(&o.partition, "partition", 0, "work on this partition only")
}

func newRepairCommand() *cobra.Command {
	var opts repairOptions
	cmd := &cobra.Command{
		Use:   "repair PATH",
		Short: "Repair Windows on a disk that is attached to this computer",
		Long: `Do to an attached disk what the media do to the machine that they boot: look for Windows, show the plan,
ask, move the faulty files into the quarantine, read the result back, and write the log to the volume.

PATH is a disk or a partition (on Linux, as root), or the folder or drive letter at which the Windows volume
is mounted. BitLocker volumes of a disk are opened with --key-file. A hibernated Windows is not written to.
"bootmend restore" takes it back.
` + exitHelp,
		Example: `  sudo bootmend repair /dev/sdb --key-file keys.csv
  bootmend repair --dry-run /mnt/windows
  bootmend repair E:`,
		Args: oneArgument("a disk, a partition or the folder of a mounted volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRepair(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// repaired is one volume as --json prints it.
type repaired struct {
	Volume  string             `json:"volume"`
	Windows *remediate.Windows `json:"windows"`
	Plan    *remediate.Plan    `json:"plan"`
	Result  *remediate.Result  `json:"result,omitempty"`
	Log     string             `json:"log,omitempty"`
	Error   string             `json:"error,omitempty"`

	volume attachedVolume
	log    *remediate.Log
}

// repairing is one run of the command.
type repairing struct {
	opts     *repairOptions
	packs    []*remediate.Pack
	policy   remediate.Policy
	run      remediate.Run
	taken    map[string]int
	out      io.Writer
	messages io.Writer
}

func runRepair(ctx context.Context, w, messages io.Writer, path string, opts *repairOptions) error {
	r := &repairing{opts: opts, taken: map[string]int{}, out: w, messages: messages}
	if opts.json {
		r.out = io.Discard
	}
	var err error
	if r.policy, err = remediate.ParsePolicy(opts.policy); err != nil {
		return &usageError{err}
	}
	packs, _, err := opts.rules.load(messages)
	if err != nil {
		return err
	}
	r.packs = parsed(packs)
	if r.run, err = remediate.NewRun(time.Now(), version, rand.Reader); err != nil {
		return err
	}
	volumes, release, err := attachedVolumes(ctx, messages, path, opts.attach)
	if err != nil {
		return err
	}
	defer release()
	var all []*repaired
	for _, v := range volumes {
		one, err := r.plan(ctx, v)
		if err != nil {
			return err
		}
		if one != nil {
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return errNoWindowsThere(path)
	}
	err = r.carryOut(ctx, path, all)
	if opts.json {
		err = errors.Join(writeJSON(w, all), err)
	}
	return err
}

// plan looks at a volume and shows what is to be done; nil is a volume without Windows.
func (r *repairing) plan(ctx context.Context, v attachedVolume) (_ *repaired, err error) {
	dir, done, err := v.open(true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done(true)) }()
	tree := os.DirFS(dir)
	one := &repaired{Volume: v.where(), volume: v, log: remediate.NewLog(r.run)}
	if one.Windows, err = remediate.FindWindows(tree); errors.Is(err, remediate.ErrNoWindows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", v.where(), err)
	}
	if one.Plan, err = remediate.Evaluate(ctx, tree, r.packs, r.policy); err != nil {
		return nil, fmt.Errorf("%s: %w", v.where(), err)
	}
	one.Plan.Measure(r.packs, r.taken)
	for pack, n := range one.Plan.Taken() {
		r.taken[pack] += n
	}
	fmt.Fprintf(r.out, "%s: %s\n", v.where(), describeWindows(one.Windows))
	if err := one.Plan.WriteText(r.out); err != nil {
		return nil, err
	}
	if earlier, err := remediate.Healed(tree); err == nil && len(earlier) > 0 && one.Plan.Empty() {
		fmt.Fprintf(r.out, "repaired on %s\n", earlier[len(earlier)-1].Manifest.Time.UTC().Format(time.DateTime+" MST"))
	}
	return one, nil
}

// describeWindows names an installation in one line.
func describeWindows(w *remediate.Windows) string {
	text := w.Version.String()
	if w.ComputerName != "" {
		text += " on " + remediate.Printable(w.ComputerName)
	}
	return text + ", in " + remediate.Printable(w.Root)
}

// carryOut asks and does what is planned, on one volume after the other.
func (r *repairing) carryOut(ctx context.Context, path string, all []*repaired) error {
	var todo []*repaired
	files := 0
	for _, one := range all {
		if n := len(one.Plan.Problems); n > 0 && one.Plan.Empty() {
			return fmt.Errorf("%s: %s could not be looked at, so it is not known whether there is something to repair: %s: %s",
				one.Volume, plural(n, "place"), remediate.Printable(one.Plan.Problems[0].Path), one.Plan.Problems[0].Why)
		}
		if one.Plan.Empty() {
			continue
		}
		if one.Windows.Hibernated {
			return errHibernated(one.Volume, one.Windows)
		}
		todo = append(todo, one)
		files += len(one.Plan.Actions)
	}
	switch {
	case len(todo) == 0:
		return &nothingToDo{fmt.Errorf("%s: nothing to repair", path)}
	case r.opts.dryRun:
		return nil
	}
	if !r.opts.yes {
		if err := confirm(ctx, r.messages, fmt.Sprintf("Do this, in %s? Type yes: ", plural(files, "place")), "look at the plan with --dry-run, and add --yes to carry it out without being asked"); err != nil {
			return err
		}
	}
	for _, one := range todo {
		if err := r.approve(ctx, one); err != nil {
			return err
		}
	}
	var errs []error
	for _, one := range todo {
		if err := r.repair(ctx, one); err != nil {
			one.Error = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", one.Volume, err))
		}
	}
	return errors.Join(errs...)
}

// approve asks once more where a plan goes beyond the blast radius.
func (r *repairing) approve(ctx context.Context, one *repaired) error {
	if len(one.Plan.Beyond) == 0 {
		return nil
	}
	one.Plan.Approved = "--beyond-blast-radius"
	if r.opts.beyond {
		return nil
	}
	one.Plan.Approved = "typed on the terminal"
	err := confirm(ctx, r.messages, fmt.Sprintf("%s: %s. This is more than was foreseen. Type YES to do it nevertheless: ", one.Volume, one.Plan.Beyond[0]),
		"add --beyond-blast-radius if the plan is right all the same; or correct the rule pack")
	if err != nil {
		return fmt.Errorf("%s: %w: %s: %w", one.Volume, remediate.ErrBeyondRadius, one.Plan.Beyond[0], err)
	}
	return nil
}

// repair carries one plan out, reads it back, and leaves the log on the volume.
func (r *repairing) repair(ctx context.Context, one *repaired) error {
	run := r.run
	run.Machine.ComputerName = one.Windows.ComputerName
	one.log.Add(remediate.BootEvent{ToolVersion: version, Media: "repair of an attached disk"})
	one.log.Add(run.Machine)
	one.log.Add(one.Windows)
	one.log.Add(remediate.PlanEvent{Device: one.Volume, Plan: one.Plan})
	err := within(one.volume, false, func(dir string) error {
		var err error
		one.Result, err = remediate.Quarantine(ctx, dir, one.Plan, run)
		return err
	})
	if one.Result == nil {
		return err
	}
	one.log.Add(remediate.QuarantineEvent{Device: one.Volume, Result: one.Result})
	verifyErr := within(one.volume, true, func(dir string) error { return remediate.Verify(ctx, os.DirFS(dir), one.Result) })
	check := remediate.VerifyEvent{Device: one.Volume, OK: verifyErr == nil}
	result := remediate.ResultEvent{Outcome: remediate.OutcomeHealed}
	if verifyErr != nil {
		check.Reason = verifyErr.Error()
	}
	one.log.Add(check)
	err = errors.Join(err, verifyErr)
	if n := len(one.Plan.Problems); n > 0 {
		err = errors.Join(err, fmt.Errorf("%s could not be looked at, so it is not known whether there is more to repair: %s: %s",
			plural(n, "place"), remediate.Printable(one.Plan.Problems[0].Path), one.Plan.Problems[0].Why))
	}
	if err != nil {
		result = remediate.ResultEvent{Outcome: remediate.OutcomeFailed, Message: err.Error()}
	}
	one.log.Add(result)
	logErr := within(one.volume, false, func(dir string) error {
		var err error
		one.Log, err = remediate.WriteLogFile(dir, remediate.WindowsLogDir, run, one.log.Bytes())
		return err
	})
	if logErr != nil {
		fmt.Fprintf(r.messages, "bootmend: %s: the log could not be written: %v\n", one.Volume, logErr)
	}
	if one.Result.Unguarded != "" {
		fmt.Fprintf(r.messages, "bootmend: %s: %s\n", one.Volume, one.Result.Unguarded)
	}
	fmt.Fprintf(r.out, "%s: in quarantine: %s, in %s\n", one.Volume, plural(len(one.Result.Moved), "file"), one.Result.Dir)
	if n := len(one.Result.Disabled); n > 0 {
		fmt.Fprintf(r.out, "%s: no longer starting: %s\n", one.Volume, plural(n, "service"))
	}
	if err == nil {
		fmt.Fprintf(r.out, "%s: read back and verified\n", one.Volume)
	}
	return err
}

// within opens a volume for as long as use runs.
func within(v attachedVolume, readonly bool, use func(dir string) error) error {
	dir, done, err := v.open(readonly)
	if err != nil {
		return err
	}
	err = use(dir)
	return errors.Join(err, done(err == nil))
}
