package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/image/iso"
)

func newBuildISOCommand() *cobra.Command {
	var opts buildOptions
	cmd := &cobra.Command{
		Use:   "iso -o FILE",
		Short: "Build an ISO image for discs, virtual machines, remote consoles and sticks",
		Long: `Build an ISO image that boots as a disc and, written byte for byte to a stick, as a stick: with UEFI,
UEFI with Secure Boot, and BIOS. It needs no network and no administrator rights.

Booted, it heals the machine without asking, as long as the keys it needs are on it. Without keys,
the key is asked for at each machine, on its screen and on its serial console. Tap Esc while the
machine starts for a menu.

Keys go onto the media in a vault, whose passphrase is asked for twice here and once at each machine;
or, with --recipient, in one that an identity on a second stick opens without a word. "bootmend keys
seal --help" tells more.

The same inputs give the same bytes; SOURCE_DATE_EPOCH dates what is on the media. A vault that is
made on the way differs each time; a finished one does not.
` + exitHelp,
		Example: `  bootmend build iso -o heal.iso
  bootmend build iso -o heal.iso --keys BitLockerKeys.csv --expires 14d
  bootmend build iso -o heal.iso --keys BitLockerKeys.csv --recipient age1...
  bootmend build iso -o look.iso --dry-run-media --on-success wait`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output == "" {
				return usagef("build iso: -o FILE is missing")
			}
			return runBuildISO(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runBuildISO(ctx context.Context, out, messages io.Writer, opts *buildOptions) error {
	spec, err := opts.spec(ctx, messages)
	if err != nil {
		return err
	}
	progress, finish := newProgress(messages, "writing "+opts.output)
	info, err := iso.Write(ctx, opts.output, spec, progress)
	finish()
	if err != nil {
		return err
	}
	if opts.json {
		return writeJSON(out, info)
	}
	_, err = fmt.Fprintf(out, "%s: %.1f MiB, SHA-256 %s\n", opts.output, float64(info.Size)/(1<<20), info.SHA256)
	return err
}
