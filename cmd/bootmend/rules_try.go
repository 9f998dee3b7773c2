package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/disk"
	"github.com/bootmend/bootmend/remediate/ntfsfs"
)

type rulesTestOptions struct {
	policy    string
	keyFile   string
	partition int
	json      bool
}

func (o *rulesTestOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.policy, "policy", string(remediate.FaultyOnly), "which files a rule takes: faulty-only or all-matching")
	f.StringVar(&o.keyFile, "key-file", "", "file with the key of a BitLocker volume (default: ask on the terminal)")
	f.IntVar(&o.partition, "partition", 0, "look at this partition only")
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func newRulesTestCommand() *cobra.Command {
	var opts rulesTestOptions
	cmd := &cobra.Command{
		Use:   "test PACK TREE",
		Short: "Try a rule pack out on a disk, an image or a folder, which is only read",
		Long: `Try a rule pack out: show what it would do, and why each near miss is not a hit. Nothing is written.

TREE is a folder with a Windows volume's files, a mounted volume, a disk, a volume, or an image of either.
NTFS is read here by bootmend itself, through BitLocker too, so no administrator rights are needed for an
image. The pack needs no signature for that.
` + exitHelp,
		Example: `  bootmend rules test incident.yaml disk.img --key-file keys.csv
  bootmend rules test incident.yaml /mnt/windows
  sudo bootmend rules test incident.yaml /dev/nvme0n1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("rules test takes two arguments: a rule pack, and a folder, disk or image")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRulesTest(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], args[1], opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// trialStatus is one volume as --json prints it.
type trialStatus struct {
	Volume string `json:"volume"`
	*remediate.Trial
}

func runRulesTest(ctx context.Context, w, messages io.Writer, packFile, tree string, opts rulesTestOptions) error {
	policy, err := remediate.ParsePolicy(opts.policy)
	if err != nil {
		return &usageError{err}
	}
	data, err := readLimited(packFile, ruleFileLimit)
	if err != nil {
		return err
	}
	pack, err := remediate.ParsePack(data, packFile)
	if err != nil {
		return err
	}
	var all []trialStatus
	err = eachTree(ctx, messages, tree, opts, func(where string, fsys fs.FS) error {
		trial, err := remediate.Try(ctx, fsys, []*remediate.Pack{pack}, policy)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		all = append(all, trialStatus{where, trial})
		return nil
	})
	if err != nil {
		return err
	}
	hits := 0
	for i, t := range all {
		hits += len(t.Plan.Actions)
		if opts.json {
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := printTrial(w, t); err != nil {
			return err
		}
	}
	if opts.json {
		if err := writeJSON(w, all); err != nil {
			return err
		}
	}
	if hits == 0 {
		return &nothingToDo{fmt.Errorf("the pack takes nothing of %s", tree)}
	}
	return nil
}

// eachTree calls use with every file tree that a path stands for.
func eachTree(ctx context.Context, messages io.Writer, tree string, opts rulesTestOptions, use func(where string, fsys fs.FS) error) error {
	tree = drivePath(tree)
	info, err := os.Stat(tree)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if opts.partition != 0 || opts.keyFile != "" {
			return usagef("%s is a folder: --partition and --key-file are for disks and images", tree)
		}
		return use(tree, os.DirFS(tree))
	}
	src, err := openSource(tree)
	if err != nil {
		return err
	}
	defer src.Close()
	secret, err := readSecret(opts.keyFile)
	if err != nil {
		return err
	}
	found := 0
	for _, v := range src.volumes {
		if opts.partition != 0 && v.Number != opts.partition || v.Kind != disk.NTFS && v.Kind != disk.BitLocker {
			continue
		}
		err := withClear(ctx, messages, src, v, secret, func(r io.ReaderAt, size int64) error {
			fsys, err := ntfsfs.Open(ctx, r, size)
			if err != nil {
				return fmt.Errorf("%s: %w", src.where(v), err)
			}
			if len(src.volumes) > 1 && opts.partition == 0 {
				// Of a whole disk, the volumes without Windows are of no interest.
				if _, err := remediate.FindWindows(fsys); errors.Is(err, remediate.ErrNoWindows) {
					return nil
				}
			}
			found++
			return use(src.where(v), fsys)
		})
		if err != nil {
			return err
		}
	}
	if found == 0 {
		return errNoWindowsThere(tree)
	}
	return nil
}

// withClear calls use with the clear content of a volume.
func withClear(ctx context.Context, messages io.Writer, src *source, v disk.Volume, s secret, use func(r io.ReaderAt, size int64) error) error {
	section := src.section(v)
	if v.Kind != disk.BitLocker {
		return use(section, v.Size)
	}
	m, err := bitlocker.ReadMetadata(section, v.Size)
	if err != nil {
		return fmt.Errorf("%s: %w", src.where(v), err)
	}
	key, protector, err := unlock(ctx, messages, m, s)
	if err != nil {
		return explainLocked(fmt.Errorf("%s: %w", src.where(v), err), m)
	}
	defer key.Wipe()
	if protector != nil {
		fmt.Fprintf(messages, "bootmend: %s: unlocked by %s %s\n", src.where(v), protector.Kind, protector.ID)
	}
	clear, err := bitlocker.OpenVolume(section, m, key)
	if err != nil {
		return fmt.Errorf("%s: %w", src.where(v), err)
	}
	return use(clear, clear.Size())
}

func printTrial(w io.Writer, t trialStatus) error {
	switch {
	case t.Windows == nil:
		fmt.Fprintf(w, "%s: no Windows here, taken as a part of one\n", t.Volume)
	case t.Windows.ComputerName != "":
		fmt.Fprintf(w, "%s: %s on %s, in %s\n", t.Volume, t.Windows.Version, remediate.Printable(t.Windows.ComputerName), remediate.Printable(t.Windows.Root))
	default:
		fmt.Fprintf(w, "%s: %s, in %s\n", t.Volume, t.Windows.Version, remediate.Printable(t.Windows.Root))
	}
	if t.Windows != nil && t.Windows.Hibernated {
		fmt.Fprintf(w, "note: a repair would refuse this volume: %s\n", t.Windows.Hibernation)
	}
	if err := t.Plan.WriteText(w); err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		list  []remediate.Finding
	}{{"notes", t.Notes}, {"near misses by name", t.NearMisses}} {
		if len(part.list) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s:\n", part.title)
		for _, f := range part.list {
			fmt.Fprintf(w, "  %s\n    %s (rule %s)\n", remediate.Printable(f.Path), f.Why, f.Rule)
		}
	}
	return nil
}
