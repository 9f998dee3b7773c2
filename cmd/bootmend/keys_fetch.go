package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

func newKeysFetchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Fetch recovery keys from a directory",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("keys fetch: name where from: ad or entra")
		},
	}
	cmd.AddCommand(newKeysFetchADCommand(), newKeysFetchEntraCommand())
	return cmd
}

// fetchOptions are what all sources have in common.
type fetchOptions struct {
	output string
	filter keyFilter
}

func (o *fetchOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.output, "output", "o", "", "CSV file to write, readable by you alone; - for the standard output")
	o.filter.AddFlags(f, "")
}

// write filters what a source gave, tells what is missing, and writes the rest.
func (o *fetchOptions) write(out, messages io.Writer, list *keys.List) error {
	for _, p := range list.Problems {
		id := ""
		if !p.ID.IsZero() {
			id = fmt.Sprintf(" (key ID %s)", p.ID)
		}
		fmt.Fprintf(messages, "bootmend: %s%s\n", p.Reason, id)
	}
	if list.Len() == 0 {
		return &nothingToDo{withHint(errors.New("there are no recovery keys"), "check that the computers store their keys there")}
	}
	list, err := o.filter.choose(messages, list)
	if err != nil {
		return err
	}
	return writeKeyList(out, messages, o.output, list)
}

// askPassword reads a password from a file, or asks on the terminal. It is never on the command line, where other
// users see it.
func askPassword(ctx context.Context, messages io.Writer, file, who string) (string, error) {
	if file != "" {
		return readPassphraseFile(file)
	}
	return askHidden(ctx, messages, "Password of "+who+": ", "write the password into a file that only you can read, and name it with --password-file; or - for the standard input")
}
