package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/usb"
)

type buildUSBOptions struct {
	buildOptions
	winpe winpeOptions
	size  byteSize
}

func (o *buildUSBOptions) AddFlags(f *pflag.FlagSet) {
	o.buildOptions.AddFlags(f)
	o.winpe.AddFlags(f)
	f.Var(&o.size, "size", "size of the image, such as 8GB as sticks are sold, or 7600MiB (default: as small as fits a stick of 256 MB, or the files)")
}

func newBuildUSBCommand() *cobra.Command {
	var opts buildUSBOptions
	cmd := &cobra.Command{
		Use:   "usb -o FILE",
		Short: "Build the image of a USB stick",
		Long: `Build the image of a USB stick that boots with UEFI, UEFI with Secure Boot, and BIOS, for sticks from
256 MB up. Its one partition, BOOTMEND, shows on every Windows PC: newer key files can be put into
bootmend/keys and rule packs into bootmend/rules of a finished stick, and each machine that it healed
leaves a log in bootmend/logs.

The image is a sparse file: it takes no more room than the files in it. "bootmend flash" writes it to
sticks and lets the partition fill each; any program that copies byte for byte will do, too.

With --env winpe the stick starts Microsoft's Windows PE instead, made of what --winpe names: for computers
whose firmware trusts Microsoft's own certificate only, or whose disks need a driver of Windows, which
--drivers puts onto the stick. Such a stick starts with UEFI, and with a BIOS where the source has bootmgr.
"bootmend winpe info" tells whether a Windows PE will do: it must have manage-bde.

The same inputs give the same bytes; SOURCE_DATE_EPOCH dates what is on the media.
` + exitHelp,
		Example: `  bootmend build usb -o heal.img
  bootmend build usb -o heal.img --keys BitLockerKeys.csv --expires 14d
  bootmend build usb -o heal.img --size 8GB --on-failure poweroff
  bootmend build usb -o heal.img --env winpe --winpe C:\WinPE_amd64 --drivers drivers`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output == "" {
				return usagef("build usb: -o FILE is missing")
			}
			if opts.size != 0 && opts.size < usb.MinSize {
				return usagef("build usb: --size %s is too small: 256MB is the smallest", &opts.size)
			}
			if err := opts.winpe.check("build usb", &opts.buildOptions); err != nil {
				return err
			}
			return runBuildUSB(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runBuildUSB(ctx context.Context, out, messages io.Writer, opts *buildUSBOptions) error {
	source, err := opts.winpe.chosen()
	if err != nil {
		return err
	}
	defer source.close()
	opts.windowsPE = source != nil
	write, err := stickWriter(ctx, source)
	if err != nil {
		return err
	}
	spec, err := opts.spec(ctx, messages)
	if err != nil {
		return err
	}
	progress, finish := newProgress(messages, "writing "+opts.output)
	info, err := write(ctx, opts.output, spec, opts.size.sectors(), progress)
	finish()
	if err != nil {
		return err
	}
	if opts.json {
		return writeJSON(out, info)
	}
	if info.UEFIOnly {
		fmt.Fprintf(messages, "bootmend: "+uefiOnly+"\n", opts.output)
	}
	_, err = fmt.Fprintf(out, "%s: stick of %.0f MB, %.1f MiB of it written, media number %s\n",
		opts.output, float64(info.Size)/1e6, float64(info.Written)/(1<<20), info.MediaID)
	return err
}

// uefiOnly tells of sticks that no BIOS starts.
const uefiOnly = "%s starts with UEFI only: \"bootmend winpe info\" says what is missing for a BIOS"

// stickWriter writes sticks that start Windows PE where there is a source of it, and the Linux environment otherwise.
// What can be wrong with the source shows here, before anybody types a passphrase.
func stickWriter(ctx context.Context, source *winpeSource) (func(context.Context, string, image.Spec, int64, func(done, total int64)) (usb.Info, error), error) {
	if source == nil {
		return usb.Write, nil
	}
	when, err := sourceDate()
	if err != nil {
		return nil, err
	}
	pe, err := source.stick(ctx, when)
	return func(ctx context.Context, path string, spec image.Spec, size int64, progress func(done, total int64)) (usb.Info, error) {
		return usb.WriteWindowsPE(ctx, path, spec, pe, size, progress)
	}, err
}

// stickLayer lays sticks out as stickWriter writes them, for devices in place of an image file.
func stickLayer(ctx context.Context, source *winpeSource) (func(context.Context, image.Spec) (*image.Tree, error), error) {
	if source == nil {
		return func(ctx context.Context, spec image.Spec) (*image.Tree, error) { return spec.StickTree(ctx) }, nil
	}
	when, err := sourceDate()
	if err != nil {
		return nil, err
	}
	pe, err := source.stick(ctx, when)
	return func(ctx context.Context, spec image.Spec) (*image.Tree, error) {
		return spec.WindowsPEStickTree(ctx, pe)
	}, err
}

// byteSize is a flag for a count of bytes, with a unit: MB, GB, TB as sticks are sold, MiB, GiB, TiB (or M, G, T)
// as memory is.
type byteSize int64

var byteUnits = map[string]float64{
	"": 1, "B": 1, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
}

// String implements pflag.Value.
func (s *byteSize) String() string {
	switch {
	case *s == 0:
		return ""
	case *s%1e6 == 0:
		return fmt.Sprintf("%dMB", *s/1e6)
	}
	return fmt.Sprintf("%dB", int64(*s))
}

// Set implements pflag.Value.
func (s *byteSize) Set(text string) error {
	at := strings.LastIndexAny(text, "0123456789.") + 1
	unit, ok := byteUnits[strings.ToUpper(strings.TrimSpace(text[at:]))]
	n, err := strconv.ParseFloat(text[:at], 64)
	if !ok || err != nil || n <= 0 || n*unit >= math.MaxInt64 {
		return fmt.Errorf("%q is not a size such as 8GB or 512MiB", text)
	}
	*s = byteSize(n * unit)
	return nil
}

// Type implements pflag.Value.
func (*byteSize) Type() string { return "size" }

// sectors is the size in whole sectors of any device.
func (s *byteSize) sectors() int64 { return int64(*s) / 4096 * 4096 }
