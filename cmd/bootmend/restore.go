package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/remediate"
)

type restoreOptions struct {
	rules  rulesOptions
	attach attachOptions
	run    string
	dryRun bool
	yes    bool
	trust  bool
	json   bool
}

// asked is what the undo is held against.
func (o *restoreOptions) asked(packs []*remediate.Pack) remediate.RestoreOptions {
	return remediate.RestoreOptions{Packs: packs, TrustRecord: o.trust}
}

func (o *restoreOptions) AddFlags(f *pflag.FlagSet) {
	o.rules.AddFlags(f)
	o.attach.AddFlags(f)
	f.StringVar(&o.run, "run", "", "undo this repair only, such as 20240719T181500Z-1a2b3c4d")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be undone and change nothing")
	f.BoolVar(&o.yes, "yes", false, "undo without being asked")
	f.BoolVar(&o.trust, "trust-record", false, "also undo a repair whose record others than administrators could have written; look at it with --dry-run first")
	f.BoolVar(&o.json, "json", false, "print what was undone as JSON")
}

func newRestoreCommand() *cobra.Command {
	var opts restoreOptions
	cmd := &cobra.Command{
		Use:   "restore PATH",
		Short: "Undo repairs on a disk that is attached to this computer",
		Long: `Undo what "bootmend repair" or the media did: each file in the quarantine goes back to its place, bit for
bit what it was, and services start again as they did. A place that something else has taken since is left alone.

Since the record lies on the broken machine's own disk, it is believed only if nobody but administrators
could have written it (or with --trust-record, once you have looked at it), and a file goes only where a rule pack could have taken it from: the packs that the
repair was made with have to be given, unless they are packaged.

PATH is what "bootmend repair" takes.
` + exitHelp,
		Example: `  sudo bootmend restore /dev/sdb --key-file keys.csv
  bootmend restore --dry-run /mnt/windows
  bootmend restore E: --run 20240719T181500Z-1a2b3c4d`,
		Args: oneArgument("a disk, a partition or the folder of a mounted volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRestore(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// restored is one repair as --json prints it.
type restored struct {
	Volume string                   `json:"volume"`
	Run    string                   `json:"run"`
	Plan   *remediate.RestoreResult `json:"plan,omitempty"`
	Result *remediate.RestoreResult `json:"result,omitempty"`
	Error  string                   `json:"error,omitempty"`

	volume attachedVolume
	dir    string
}

func runRestore(ctx context.Context, w, messages io.Writer, where string, opts *restoreOptions) error {
	packs, _, err := opts.rules.load(messages)
	if err != nil {
		return err
	}
	volumes, release, err := attachedVolumes(ctx, messages, where, opts.attach)
	if err != nil {
		return err
	}
	defer release()
	out := w
	if opts.json {
		out = io.Discard
	}
	var all []*restored
	windows := 0
	for _, v := range volumes {
		found, err := planRestores(ctx, out, v, opts.asked(parsed(packs)), opts.run)
		if errors.Is(err, remediate.ErrNoWindows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", v.where(), err)
		}
		windows++
		all = append(all, found...)
	}
	switch {
	case windows == 0:
		return errNoWindowsThere(where)
	case len(all) == 0 && opts.run != "":
		return fmt.Errorf("%s: there is no repair %s that holds anything", where, opts.run)
	case len(all) == 0:
		return &nothingToDo{fmt.Errorf("%s: no repair to undo", where)}
	}
	err = carryOutRestores(ctx, out, messages, all, opts.asked(parsed(packs)), opts)
	if opts.json {
		err = errors.Join(writeJSON(w, all), err)
	}
	return err
}

// planRestores lists the repairs of a volume and what undoing them would do.
func planRestores(ctx context.Context, out io.Writer, v attachedVolume, asked remediate.RestoreOptions, run string) (all []*restored, err error) {
	err = within(v, true, func(dir string) error {
		tree := os.DirFS(dir)
		w, err := remediate.FindWindows(tree)
		if err != nil {
			return err
		}
		records, err := remediate.Healed(tree)
		if err != nil {
			return err
		}
		for _, r := range records {
			if run != "" && path.Base(r.Dir) != path.Base(run) {
				continue
			}
			if w.Hibernated {
				return errHibernated(v.where(), w)
			}
			one := &restored{Volume: v.where(), Run: path.Base(r.Dir), volume: v, dir: r.Dir}
			one.Plan, err = remediate.PlanRestore(ctx, dir, r.Dir, asked)
			if errors.Is(err, remediate.ErrUnguarded) {
				err = fmt.Errorf("%w, or give --trust-record", err)
			}
			if err != nil {
				one.Error = err.Error()
			}
			all = append(all, one)
			fmt.Fprintf(out, "%s: repair of %s, run %s\n", v.where(), r.Manifest.Time.UTC().Format(time.DateTime+" MST"), one.Run)
			printRestore(out, one.Plan, "to put back", "to start again")
			if one.Plan == nil {
				fmt.Fprintf(out, "  cannot be undone: %v\n", err)
			}
		}
		return nil
	})
	return all, err
}

func printRestore(out io.Writer, r *remediate.RestoreResult, back, starts string) {
	if r == nil {
		return
	}
	for _, p := range r.Restored {
		fmt.Fprintf(out, "  %s: %s\n", back, remediate.Printable(p))
	}
	for _, s := range r.Services {
		fmt.Fprintf(out, "  %s: service %s\n", starts, remediate.Printable(s))
	}
	for _, f := range r.Elsewhere {
		fmt.Fprintf(out, "  not of this run: %s: %s\n", remediate.Printable(f.Path), f.Reason)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(out, "  stays as it is: %s: %s\n", remediate.Printable(f.Path), f.Reason)
	}
}

func carryOutRestores(ctx context.Context, out, messages io.Writer, all []*restored, asked remediate.RestoreOptions, opts *restoreOptions) error {
	var todo []*restored
	var errs []error
	for _, one := range all {
		switch {
		case one.Plan != nil && len(one.Plan.Restored)+len(one.Plan.Services) > 0:
			todo = append(todo, one)
		case one.Error != "":
			errs = append(errs, fmt.Errorf("%s: run %s: %s", one.Volume, one.Run, one.Error))
		}
	}
	if len(todo) == 0 && len(errs) == 0 {
		return &nothingToDo{errors.New("nothing is left to undo")}
	}
	if len(todo) == 0 {
		return errors.Join(errs...)
	}
	if opts.dryRun {
		return errors.Join(errs...)
	}
	if !opts.yes {
		const hint = "look at it with --dry-run, and add --yes to undo without being asked"
		if err := confirm(ctx, messages, "What kept this Windows from starting comes back with it. Undo? Type yes: ", hint); err != nil {
			return err
		}
	}
	run, err := remediate.NewRun(time.Now(), version, rand.Reader)
	if err != nil {
		return err
	}
	for _, one := range todo {
		err := one.undo(ctx, run, asked)
		if one.Result != nil {
			printRestore(out, &remediate.RestoreResult{Restored: one.Result.Restored, Services: one.Result.Services}, "back in place", "starts again")
		}
		if err != nil {
			one.Error = err.Error()
			errs = append(errs, fmt.Errorf("%s: run %s: %w", one.Volume, one.Run, err))
		}
	}
	return errors.Join(errs...)
}

// undo carries one plan out, reads it back, and leaves a log on the volume.
func (one *restored) undo(ctx context.Context, run remediate.Run, asked remediate.RestoreOptions) error {
	log := remediate.NewLog(run)
	log.Add(remediate.BootEvent{ToolVersion: version, Media: "undo on an attached disk"})
	err := within(one.volume, false, func(dir string) error {
		var err error
		one.Result, err = remediate.Restore(ctx, dir, one.dir, asked)
		return err
	})
	if one.Result == nil {
		return err
	}
	log.Add(remediate.RestoreEvent{Device: one.Volume, Result: one.Result})
	verifyErr := within(one.volume, true, func(dir string) error { return remediate.VerifyRestore(ctx, dir, one.Result, asked) })
	logErr := within(one.volume, false, func(dir string) error {
		_, err := remediate.WriteLogFile(dir, remediate.WindowsLogDir, run, log.Bytes())
		return err
	})
	return errors.Join(err, verifyErr, logErr)
}
