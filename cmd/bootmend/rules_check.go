package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/trust"
)

type rulesCheckOptions struct {
	rules rulesOptions
	json  bool
}

func (o *rulesCheckOptions) AddFlags(f *pflag.FlagSet) {
	o.rules.addTrustFlags(f)
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func newRulesCheckCommand() *cobra.Command {
	var opts rulesCheckOptions
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check rule packs for mistakes, and their signatures",
		Long: `Check rule packs: every mistake is told with its line and column. The signature, FILE.minisig beside the
pack, is checked against the public keys given with --rules-key. A pack fails the check if media would
leave it out: if it has a mistake, or no signature that is believed (--allow-unsigned-rules accepts that).
` + exitHelp,
		Example: `  bootmend rules check incident.yaml --allow-unsigned-rules
  bootmend rules check *.yaml --rules-key vendor.pub`,
		Args: someArguments("a rule pack"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRulesCheck(cmd.OutOrStdout(), args, &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// packStatus is one pack as --json prints it.
type packStatus struct {
	File      string         `json:"file"`
	OK        bool           `json:"ok"`
	ID        string         `json:"id,omitempty"`
	Title     string         `json:"title,omitempty"`
	Rules     int            `json:"rules,omitempty"`
	SHA256    string         `json:"sha256,omitempty"`
	Signature *trust.Verdict `json:"signature,omitempty"`
	Errors    []packMistake  `json:"errors,omitempty"`
}

// packMistake has a line and a column, from 1, where the mistake is in the pack itself.
type packMistake struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Reason string `json:"reason"`
}

var errRulesCheck = errors.New("not every rule pack is in order")

func runRulesCheck(w io.Writer, files []string, opts *rulesCheckOptions) error {
	store, _, err := opts.rules.store()
	if err != nil {
		return err
	}
	all := make([]packStatus, len(files))
	for i, name := range files {
		if all[i], err = checkPack(store, name); err != nil {
			return err
		}
	}
	failed := slices.ContainsFunc(all, func(s packStatus) bool { return !s.OK })
	if opts.json {
		err = writeJSON(w, all)
	} else {
		printPackStatus(w, all)
	}
	if err == nil && failed {
		err = errRulesCheck
	}
	return err
}

func checkPack(store *trust.Store, name string) (packStatus, error) {
	s := packStatus{File: name}
	data, signature, err := readPack(name)
	if err != nil {
		return s, err
	}
	pack, err := remediate.ParsePack(data, name)
	for _, mistake := range remediate.PackErrors(err) {
		s.Errors = append(s.Errors, packMistake{mistake.Line, mistake.Column, mistake.Reason})
	}
	if pack != nil {
		s.ID, s.Title, s.Rules, s.SHA256 = pack.ID, pack.Title, len(pack.Rules), pack.SHA256
	}
	verdict, err := store.Verify(data, signature)
	if err != nil {
		s.Errors = append(s.Errors, packMistake{Reason: "it " + err.Error()})
	} else {
		s.Signature = &verdict
	}
	s.OK = len(s.Errors) == 0
	return s, nil
}

func printPackStatus(w io.Writer, all []packStatus) {
	for _, s := range all {
		for _, e := range s.Errors {
			if e.Line > 0 {
				fmt.Fprintf(w, "%s:%d:%d: %s\n", s.File, e.Line, e.Column, e.Reason)
			} else {
				fmt.Fprintf(w, "%s: %s\n", s.File, e.Reason)
			}
		}
		if s.OK {
			fmt.Fprintf(w, "%s: in order: %s, %s, %s\n", s.File, s.ID, plural(s.Rules, "rule"), s.Signature)
		}
	}
}
