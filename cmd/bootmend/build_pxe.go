package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/image/netboot"
)

func newBuildPXECommand() *cobra.Command {
	var opts buildOptions
	var pe winpeOptions
	var server, wimboot string
	cmd := &cobra.Command{
		Use:   "pxe -o DIR",
		Short: "Build the folder of a boot server",
		Long: `Build the folder that a boot server gives out over TFTP, or HTTP for UEFI HTTP boot, so that machines
start from the network: UEFI, with Secure Boot left on, and BIOS. The folder must be the root of what
the server gives out. Its folder "snippets" has configurations to paste into dnsmasq, ISC DHCP, Kea,
nginx, tftpd-hpa and iPXE. Who has no boot server runs "bootmend serve" instead.

Anyone on the network can fetch the folder, so keys go into it only in a vault, whose passphrase is
asked for at each machine. Take the folder off the server when the work is done.

A machine with UEFI goes on to Windows by itself. One with a BIOS starts from the network again for as
long as that is offered to it.

With --env winpe the folder starts Microsoft's Windows PE instead, made of what --winpe names, by way of iPXE
and wimboot, with UEFI and with a BIOS: have iPXE run "chain http://server/boot.ipxe".

The folder is replaced if bootmend made it; any other is left alone.
` + exitHelp,
		Example: `  bootmend build pxe -o /srv/tftp/bootmend --server 192.0.2.10
  bootmend build pxe -o heal --keys BitLockerKeys.csv --expires 14d
  bootmend build pxe -o /srv/www/heal --env winpe --winpe Win11.iso --wimboot wimboot`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output == "" {
				return usagef("build pxe: -o DIR is missing")
			}
			if opts.unprotectedKeys {
				return usagef("build pxe: --unprotected-keys: anybody can read what is on a boot server; leave it out, and the keys go into a vault")
			}
			if err := pe.check("build pxe", &opts); err != nil {
				return err
			}
			switch {
			case pe.env == winpeEnv && wimboot == "":
				return usagef("build pxe: --env winpe needs --wimboot FILE: the loader of ipxe.org/wimboot, which may not come with bootmend")
			case pe.env != winpeEnv && wimboot != "":
				return usagef("build pxe: --wimboot is for Windows PE: add --env winpe")
			case pe.env == winpeEnv && cmd.Flags().Changed("server"):
				return usagef("build pxe: --server is for the Linux environment: of Windows PE, iPXE finds all files beside boot.ipxe")
			case pe.env == winpeEnv:
				return runBuildPXEWinPE(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts, &pe, wimboot)
			}
			addr, err := netip.ParseAddr(server)
			if err != nil || !addr.Is4() {
				return usagef("build pxe: --server %q is not an IPv4 address", server)
			}
			return runBuildPXE(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts, addr)
		},
	}
	opts.AddFlags(cmd.Flags())
	pe.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&wimboot, "wimboot", "", "for --env winpe: your copy of wimboot, the loader of Windows PE for iPXE")
	cmd.Flags().Lookup("output").Usage = "folder to write"
	cmd.Flags().StringVar(&server, "server", "192.0.2.10", "address of the boot server, for the configurations in the folder")
	return cmd
}

func runBuildPXE(ctx context.Context, out, messages io.Writer, opts *buildOptions, server netip.Addr) error {
	spec, err := opts.spec(ctx, messages)
	if err != nil {
		return err
	}
	progress, finish := newProgress(messages, "writing "+opts.output)
	info, err := netboot.Write(ctx, opts.output, spec, server, progress)
	finish()
	if err != nil {
		return err
	}
	return printNetboot(out, opts, info)
}

func runBuildPXEWinPE(ctx context.Context, out, messages io.Writer, opts *buildOptions, pe *winpeOptions, wimboot string) error {
	source, err := pe.open()
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // read only
	opts.windowsPE = true
	spec, err := opts.spec(ctx, messages)
	if err != nil {
		return err
	}
	tree, err := source.network(ctx, spec, wimboot)
	if err != nil {
		return err
	}
	progress, finish := newProgress(messages, "writing "+opts.output)
	info, err := netboot.WriteWindowsPE(ctx, opts.output, tree, progress)
	finish()
	if err != nil {
		return err
	}
	return printNetboot(out, opts, info)
}

func printNetboot(out io.Writer, opts *buildOptions, info netboot.Info) error {
	if opts.json {
		return writeJSON(out, info)
	}
	_, err := fmt.Fprintf(out, "%s: %.1f MiB in %d files, media number %s\n", opts.output, float64(info.Size)/(1<<20), info.Files, info.MediaID)
	return err
}
