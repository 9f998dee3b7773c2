package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/iso"
)

func newBuildISOCommand() *cobra.Command {
	var opts buildOptions
	var pe winpeOptions
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

With --env winpe the image starts Microsoft's Windows PE instead, made of what --winpe names: for computers
whose firmware trusts Microsoft's own certificate only, or whose disks need a driver of Windows, which
--drivers puts into it. It is a disc for UEFI, and for a BIOS where the source has etfsboot.com; for sticks,
"bootmend build usb" takes the same flags.

The same inputs give the same bytes; SOURCE_DATE_EPOCH dates what is on the media. A vault that is
made on the way differs each time; a finished one does not.
` + exitHelp,
		Example: `  bootmend build iso -o heal.iso
  bootmend build iso -o heal.iso --keys BitLockerKeys.csv --expires 14d
  bootmend build iso -o heal.iso --keys BitLockerKeys.csv --recipient age1...
  bootmend build iso -o look.iso --dry-run-media --on-success wait
  bootmend build iso -o heal.iso --env winpe --winpe Win11.iso --drivers drivers`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output == "" {
				return usagef("build iso: -o FILE is missing")
			}
			if err := pe.check("build iso", &opts); err != nil {
				return err
			}
			return runBuildISO(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts, &pe)
		},
	}
	opts.AddFlags(cmd.Flags())
	pe.AddFlags(cmd.Flags())
	return cmd
}

func runBuildISO(ctx context.Context, out, messages io.Writer, opts *buildOptions, pe *winpeOptions) error {
	source, err := pe.chosen()
	if err != nil {
		return err
	}
	defer source.close()
	opts.windowsPE = source != nil
	spec, err := opts.spec(ctx, messages)
	if err != nil {
		return err
	}
	progress, finish := newProgress(messages, "writing "+opts.output)
	info, err := writeISO(ctx, opts.output, spec, source, progress)
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

// writeISO writes the image of Windows PE where there is a source of it, and of the Linux environment otherwise.
func writeISO(ctx context.Context, path string, spec image.Spec, source *winpeSource, progress func(done, total int64)) (iso.Info, error) {
	if source == nil {
		return iso.Write(ctx, path, spec, progress)
	}
	disc, err := source.disc(ctx, spec)
	if err != nil {
		return iso.Info{}, err
	}
	return iso.WriteWindowsPE(ctx, path, disc, progress)
}
