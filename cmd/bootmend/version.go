package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/assets"
)

type versionOptions struct {
	bundle bool
	notice bool
	json   bool
}

func newVersionCommand() *cobra.Command {
	var opts versionOptions
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version, and what is in the boot bundle",
		Long: `Show the version of bootmend. With --bundle, list the distribution packages that the embedded
boot bundle was made of; with --notice, their licences and where their source is, and the licences
of the Go modules in bootmend itself.
` + exitHelp,
		Example: `  bootmend version --bundle
  bootmend version --bundle --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVersion(cmd.OutOrStdout(), opts)
		},
	}
	cmd.Flags().BoolVar(&opts.bundle, "bundle", false, "list the packages of the boot bundle")
	cmd.Flags().BoolVar(&opts.notice, "notice", false, "print licences and sources of what the bundle holds, and of bootmend's own modules")
	cmd.Flags().BoolVar(&opts.json, "json", false, "print JSON")
	return cmd
}

// versionInfo is what --json prints.
type versionInfo struct {
	Version string           `json:"version"`
	Go      string           `json:"go"`
	OS      string           `json:"os"`
	Arch    string           `json:"arch"`
	Bundle  *assets.Manifest `json:"bundle,omitempty"`
}

func runVersion(w io.Writer, opts versionOptions) error {
	info := versionInfo{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if opts.bundle || opts.notice {
		bundle, err := assets.OpenBundle()
		if err != nil {
			return err
		}
		if opts.notice {
			notice, err := bundle.ReadFile("NOTICE")
			if err != nil {
				return err
			}
			_, err = w.Write(append(notice, assets.Licences()...))
			return err
		}
		manifest := bundle.Manifest()
		info.Bundle = &manifest
	}
	if opts.json {
		return writeJSON(w, info)
	}
	fmt.Fprintf(w, "bootmend %s (%s, %s/%s)\n", info.Version, info.Go, info.OS, info.Arch)
	if info.Bundle == nil {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PACKAGE\tVERSION\tLICENCE\tSHA-256")
	for _, p := range info.Bundle.Packages {
		if !p.Tool { // --json has those that only helped to make the bundle, too
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", p.Name, p.Version, p.Licence, p.SHA256)
		}
	}
	return table.Flush()
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
