package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
)

type keysCheckOptions struct {
	json bool
}

func (o *keysCheckOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.json, "json", false, "print JSON")
}

func newKeysCheckCommand() *cobra.Command {
	var opts keysCheckOptions
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check files of recovery keys before they are needed",
		Long: `Check files of recovery keys: how many there are and of how many computers, and each row that gives
none, with its line and the reason. Every group of six digits has a check digit, so that mistyped
keys are found. No digit of a key is printed.

` + keyFormats + `

It ends with status 1 if a row gives no key, or not all that it should, or if there is no key at all.
` + exitHelp,
		Example: `  bootmend keys check BitLockerKeys.csv
  bootmend keys check --json share/recovery-keys/
  ldapsearch -b DC=example,DC=com '(objectClass=msFVE-RecoveryInformation)' | bootmend keys check -`,
		Args: someArguments("files or folders of recovery keys"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKeysCheck(cmd.Context(), cmd.OutOrStdout(), args, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// keysStatus is what --json prints.
type keysStatus struct {
	Keys        int `json:"keys"`         // recovery passwords
	StartupKeys int `json:"startup_keys"` // .BEK files
	Computers   int `json:"computers"`    // that keys name
	Several     int `json:"computers_with_several_keys"`
	WithoutID   int `json:"keys_without_id"`
	Unnamed     int `json:"keys_without_id_and_computer"`
	Duplicates  int `json:"duplicates"`
	// Contradictions are IDs that rows give different keys for.
	Contradictions []bitlocker.GUID `json:"contradictions"`
	Invalid        int              `json:"invalid_keys"`
	WithoutKey     int              `json:"rows_without_key"`
	// IDsWithoutKey are those that a row names and no row has a key for.
	IDsWithoutKey []bitlocker.GUID `json:"ids_without_key"`
	Problems      []keys.RowError  `json:"problems"`
}

func checkKeys(list *keys.List) keysStatus {
	s := keysStatus{Keys: len(list.Entries), StartupKeys: len(list.StartupKeys), Duplicates: list.Duplicates, Problems: list.Problems,
		Contradictions: []bitlocker.GUID{}, IDsWithoutKey: []bitlocker.GUID{}}
	if s.Problems == nil {
		s.Problems = []keys.RowError{}
	}
	type first struct {
		password bitlocker.RecoveryPassword
		told     bool
	}
	byID := make(map[bitlocker.GUID]first, len(list.Entries))
	byComputer := make(map[string]int, len(list.Entries))
	for _, e := range list.Entries {
		if e.Computer != "" {
			byComputer[strings.ToLower(e.Computer)]++
		}
		if !e.HasID {
			s.WithoutID++
			if e.Computer == "" {
				s.Unnamed++
			}
			continue
		}
		if f, ok := byID[e.ID]; !ok {
			byID[e.ID] = first{password: e.Password}
		} else if f.password != e.Password && !f.told {
			byID[e.ID] = first{f.password, true}
			s.Contradictions = append(s.Contradictions, e.ID)
		}
	}
	s.Computers = len(byComputer)
	for _, n := range byComputer {
		if n > 1 {
			s.Several++
		}
	}
	told := map[bitlocker.GUID]bool{}
	for _, p := range list.Problems {
		switch p.Kind {
		case keys.InvalidKey:
			s.Invalid++
		case keys.NoKey:
			s.WithoutKey++
		}
		if _, found := byID[p.ID]; !p.ID.IsZero() && !found && !told[p.ID] && p.Kind != keys.InvalidID {
			told[p.ID] = true
			s.IDsWithoutKey = append(s.IDsWithoutKey, p.ID)
		}
	}
	return s
}

func runKeysCheck(ctx context.Context, w io.Writer, paths []string, opts keysCheckOptions) error {
	list, err := mergeKeyLists(ctx, paths)
	if err != nil {
		return err
	}
	status := checkKeys(list)
	if opts.json {
		err = writeJSON(w, status)
	} else {
		err = printKeysStatus(w, status)
	}
	switch {
	case err != nil:
		return err
	case list.Len() == 0:
		return withHint(fmt.Errorf("%s: no usable key", strings.Join(paths, ", ")), "export the keys again, or look at \"bootmend keys check --help\" for what can be read")
	case len(list.Problems) > 0 || len(status.Contradictions) > 0:
		return withHint(fmt.Errorf("%s: not every row gives its key", strings.Join(paths, ", ")), "the other %d keys can be used as they are", list.Len())
	}
	return nil
}

func printKeysStatus(w io.Writer, s keysStatus) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, n int, note string) { fmt.Fprintf(table, "%s\t%d\t%s\n", name, n, note) }
	row("Recovery keys", s.Keys, "")
	if s.StartupKeys > 0 {
		row("Startup keys", s.StartupKeys, "")
	}
	row("Computers", s.Computers, "")
	if s.Several > 0 {
		row("  with several keys", s.Several, "each is kept")
	}
	if s.WithoutID > 0 {
		row("Keys without ID", s.WithoutID, "found by computer name")
	}
	if s.Unnamed > 0 {
		row("  nor computer", s.Unnamed, "tried one after the other")
	}
	if s.Duplicates > 0 {
		row("Duplicates", s.Duplicates, "kept once")
	}
	if s.Invalid > 0 {
		row("Invalid keys", s.Invalid, "")
	}
	if s.WithoutKey > 0 {
		row("Rows without key", s.WithoutKey, "")
	}
	if n := len(s.IDsWithoutKey); n > 0 {
		row("IDs without key", n, "no row has a key for them")
	}
	if n := len(s.Contradictions); n > 0 {
		row("Contradictions", n, "rows give different keys for one ID; each is tried")
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, p := range s.Problems {
		id := ""
		if !p.ID.IsZero() {
			id = " (key ID " + p.ID.String() + ")"
		}
		if _, err := fmt.Fprintf(w, "%s%s\n", p, id); err != nil {
			return err
		}
	}
	for _, id := range s.Contradictions {
		if _, err := fmt.Fprintf(w, "key ID %s has several keys\n", id); err != nil {
			return err
		}
	}
	return nil
}
