package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/winpe"
)

func newWinPECommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "winpe",
		Short: "Look at what you have of Microsoft's Windows PE",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("winpe: name what to do: info")
		},
	}
	cmd.AddCommand(newWinPEInfoCommand())
	return cmd
}

func newWinPEInfoCommand() *cobra.Command {
	var asJSON bool
	var media string
	cmd := &cobra.Command{
		Use:   "info PATH",
		Short: "Show the images of a boot.wim and whether one of them can heal machines",
		Long: `Show what a Windows PE consists of: its images with version, architecture, languages and
packages, whether one of them can unlock BitLocker volumes, and which boot files are missing.

PATH is the ISO image of a Windows installation medium, the medium copied or mounted, a folder made by
copype, a folder of the ADK, or a boot.wim or winre.wim, to which --winpe-media adds a folder with the
boot files. Nothing is written to any of them.
` + exitHelp,
		Example: `  bootmend winpe info C:\WinPE_amd64
  bootmend winpe info Win11_24H2_English_x64.iso
  bootmend winpe info --json winre.wim --winpe-media /mnt/windows-iso`,
		Args: oneArgument("a WIM, an ISO image or a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runWinPEInfo(cmd.OutOrStdout(), args[0], media, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&media, "winpe-media", "", "folder with the boot files (bootmgr, Boot, EFI), where PATH is a WIM alone")
	return cmd
}

func runWinPEInfo(w io.Writer, path, media string, asJSON bool) error {
	source, err := winpe.Open(path, media)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // read only
	status, err := source.Status()
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(w, status)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, remediate.Printable(fmt.Sprintf(format, args...)))
	}
	row("Found", "%s", status.Kind)
	row("WIM", "%s, %d bytes, compression %s", status.WIM, status.Size, status.Compression)
	for _, i := range status.Images {
		mark := ""
		if i.Index == status.BootIndex {
			mark = ", boots"
		}
		row(fmt.Sprintf("Image %d", i.Index), "%s%s", i.Name, mark)
		if v := i.Windows; v != nil {
			row("  Version", "%d.%d.%d.%d, %s", v.Major, v.Minor, v.Build, v.ServicePack, architecture(v.Architecture))
			row("  Languages", "%s", strings.Join(v.Languages, ", "))
		}
		if len(i.Packages) > 0 {
			row("  Packages", "%s", strings.Join(i.Packages, ", "))
		}
		if i.Problem == "" {
			row("  Usable", "yes")
		} else {
			row("  Usable", "no: %s", i.Problem)
		}
	}
	if status.Use > 0 {
		row("Media", "are made of image %d", status.Use)
	}
	for _, note := range status.Notes {
		row("Note", "%s", note)
	}
	for _, missing := range status.Missing {
		row("Missing", "%s", missing)
	}
	return table.Flush()
}

func architecture(n int) string {
	switch n {
	case 0:
		return "x86"
	case 9:
		return "x64"
	case 12:
		return "ARM64"
	}
	return fmt.Sprintf("architecture %d", n)
}
