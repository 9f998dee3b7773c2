package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/trust"
)

type rulesShowOptions struct {
	keys []string
	json bool
}

func (o *rulesShowOptions) AddFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.keys, "rules-key", nil, "minisign public key whose signatures on rule packs are believed (may be repeated)")
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func newRulesShowCommand() *cobra.Command {
	var opts rulesShowOptions
	cmd := &cobra.Command{
		Use:   "show [FILE...]",
		Short: "Show rule packs in plain words",
		Long: `Show what rule packs do, in plain words: the packaged ones, and after them those that are named.
` + exitHelp,
		Example: `  bootmend rules show
  bootmend rules show incident.yaml --rules-key vendor.pub`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRulesShow(cmd.OutOrStdout(), args, &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runRulesShow(w io.Writer, files []string, opts *rulesShowOptions) error {
	// Shown is every pack that can be read; whether it is believed is part of what is shown.
	rules := rulesOptions{files: files, keys: opts.keys, allowUnsigned: true}
	packs, _, err := rules.load(io.Discard)
	if err != nil {
		return err
	}
	if opts.json {
		type shown struct {
			File      string          `json:"file"`
			Signature any             `json:"signature"`
			Pack      *remediate.Pack `json:"pack"`
		}
		var all []shown
		for _, p := range packs {
			all = append(all, shown{p.Name, p.verdict, p.pack})
		}
		return writeJSON(w, all)
	}
	for i, p := range packs {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %s\n", p.pack.ID, p.pack.Title)
		origin := p.verdict.String()
		if p.verdict.Origin == trust.Allowed {
			origin = "not trusted: it " + p.verdict.Problem
		}
		fmt.Fprintf(w, "  %s, %s\n", p.Name, origin)
		if p.pack.Description != "" {
			fmt.Fprintf(w, "  %s\n", strings.Join(strings.Fields(p.pack.Description), " "))
		}
		for _, line := range p.pack.Explain() {
			fmt.Fprintf(w, "  - %s\n", line)
		}
	}
	return nil
}
