package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/image/output"
)

type keysConvertOptions struct {
	output string
	filter keyFilter
}

func (o *keysConvertOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.output, "output", "o", "", "CSV file to write, readable by you alone; - for the standard output")
	o.filter.AddFlags(f, "")
}

func newKeysConvertCommand() *cobra.Command {
	var opts keysConvertOptions
	cmd := &cobra.Command{
		Use:   "convert FILE... -o OUT",
		Short: "Merge files of recovery keys into one CSV file",
		Long: `Merge files of recovery keys into one CSV file with the columns KeyID and RecoveryKey and, where they
are known, ComputerName, OrganizationalUnit and StartupKey. Keys that are in several files are
written once. Rows that give no key are told and left out. The keys in the file are readable.

` + keyFormats + `
` + exitHelp,
		Example: `  bootmend keys convert entra.json ad.ldif -o keys.csv
  bootmend keys convert keys.csv -o berlin.csv --ou Berlin --computer 'LT-*'`,
		Args: someArguments("files or folders of recovery keys"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.output == "" {
				return usagef("keys convert: -o OUT is missing")
			}
			return runKeysConvert(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args, &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runKeysConvert(ctx context.Context, out, messages io.Writer, paths []string, opts *keysConvertOptions) error {
	list, err := readKeyLists(ctx, messages, paths, &opts.filter)
	if err != nil {
		return err
	}
	return writeKeyList(out, messages, opts.output, list)
}

// writeKeyList writes the canonical table to a file that only its owner can read, or to out.
func writeKeyList(out, messages io.Writer, path string, list *keys.List) error {
	if path == "-" {
		return list.WriteCSV(out)
	}
	if err := writeKeyFile(path, list); err != nil {
		return err
	}
	fmt.Fprintf(messages, "bootmend: %s written to %s, readable by you alone; keep it as safe as the keys\n", countKeys(list), path)
	return nil
}

func writeKeyFile(path string, list *keys.List) error {
	f, err := output.Create(path, true)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := list.WriteCSV(f); err != nil {
		return f.Explain(err, 0)
	}
	if err := f.Commit(); err != nil {
		return f.Explain(err, 0)
	}
	return nil
}
