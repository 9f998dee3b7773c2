package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/remediate/disk"
)

type keysMatchOptions struct {
	keys      []string
	partition int
	json      bool
}

func (o *keysMatchOptions) AddFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.keys, "keys", nil, "file or folder of recovery keys (may be repeated)")
	f.IntVar(&o.partition, "partition", 0, "look at this partition only")
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func newKeysMatchCommand() *cobra.Command {
	var opts keysMatchOptions
	cmd := &cobra.Command{
		Use:   "match PATH --keys FILE",
		Short: "Find the key of a list that opens a volume",
		Long: `Find the key of a list that opens a BitLocker volume, and try it: by key ID, by computer name, and
keys that name neither one after the other. Where the key stands is printed, the key is not.

PATH is a volume, a whole disk, or an image of either. Nothing is written to it. It ends with
status 1 if a BitLocker volume of it has no key in the list.
` + exitHelp,
		Example: `  bootmend keys match disk.img --keys keys.csv
  sudo bootmend keys match /dev/sdb --keys share/recovery-keys/`,
		Args: oneArgument("a volume, disk or image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(opts.keys) == 0 {
				return usagef("keys match: --keys FILE is missing")
			}
			return runKeysMatch(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// keyMatch is one volume as --json prints it.
type keyMatch struct {
	Path      string          `json:"path"`
	Partition int             `json:"partition,omitempty"`
	Computer  string          `json:"computer_name,omitempty"`
	Opens     bool            `json:"opens"`
	Without   bool            `json:"without_key,omitempty"` // protection is suspended
	KeyID     *bitlocker.GUID `json:"key_id,omitempty"`
	File      string          `json:"file,omitempty"`
	Line      int             `json:"line,omitempty"`
	Owner     string          `json:"key_of_computer,omitempty"` // as the list says
	// Wanted are the IDs of the keys that open the volume.
	Wanted []bitlocker.GUID `json:"wanted,omitempty"`
	Error  string           `json:"error,omitempty"`
}

func runKeysMatch(ctx context.Context, w, messages io.Writer, path string, opts keysMatchOptions) error {
	src, err := openSource(path)
	if err != nil {
		return err
	}
	defer src.Close()
	found, err := src.bitLocker(opts.partition)
	if err != nil {
		return err
	}
	list, err := readKeyLists(ctx, messages, opts.keys, nil)
	if err != nil {
		return err
	}
	var failed error
	var all []keyMatch
	for _, v := range found {
		m, err := matchVolume(ctx, src, v, list)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.Error = err.Error()
			if failed == nil {
				failed = fmt.Errorf("%s: %w", src.where(v), err)
			}
		}
		all = append(all, m)
	}
	if opts.json {
		return errors.Join(writeJSON(w, all), failed)
	}
	for i, m := range all {
		if err := printMatch(w, src.where(found[i]), m); err != nil {
			return err
		}
	}
	if errors.Is(failed, bitlocker.ErrNoProtector) {
		return withHint(failed, "look for the key IDs above where the company keeps its keys")
	}
	return failed
}

func matchVolume(ctx context.Context, src *source, v disk.Volume, list *keys.List) (keyMatch, error) {
	found := keyMatch{Path: src.path, Partition: v.Number}
	m, err := bitlocker.ReadMetadata(src.section(v), v.Size)
	if err != nil {
		return found, err
	}
	found.Computer = m.ComputerName
	for _, p := range m.Protectors {
		if p.Kind == bitlocker.ProtectorRecoveryPassword || p.Kind == bitlocker.ProtectorExternalKey {
			found.Wanted = append(found.Wanted, p.ID)
		}
	}
	if key, _, err := m.UnlockClearKey(); err == nil {
		key.Wipe()
		found.Opens, found.Without = true, true
		return found, nil
	}
	key, match, err := list.Match(ctx, m)
	if err != nil {
		return found, err
	}
	key.Wipe()
	found.Opens, found.KeyID = true, &match.Protector.ID
	found.File, found.Line, found.Owner = match.File, match.Line, match.Computer
	return found, nil
}

func printMatch(w io.Writer, where string, m keyMatch) error {
	name := where
	if m.Computer != "" {
		name += " of " + m.Computer
	}
	var err error
	switch {
	case m.Without:
		_, err = fmt.Fprintf(w, "%s: opens without a key, its protection is suspended\n", name)
	case m.Opens:
		owner := ""
		if m.Owner != "" {
			owner = ", computer " + m.Owner
		}
		_, err = fmt.Fprintf(w, "%s: opened by key ID %s: %s, line %d%s\n", name, m.KeyID, m.File, m.Line, owner)
	default:
		_, err = fmt.Fprintf(w, "%s: not opened: %s\n", name, m.Error)
		for _, id := range m.Wanted {
			if err == nil {
				_, err = fmt.Fprintf(w, "  key ID wanted: %s\n", id)
			}
		}
	}
	return err
}
