package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/image/output"
)

type keysSealOptions struct {
	output string
	filter keyFilter
	vault  vaultOptions
}

func (o *keysSealOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.output, "output", "o", "", "file to write")
	o.filter.AddFlags(f, "")
	o.vault.AddFlags(f)
}

func newKeysSealCommand() *cobra.Command {
	var opts keysSealOptions
	cmd := &cobra.Command{
		Use:   "seal FILE... -o OUT",
		Short: "Seal keys in a vault that a passphrase or a second stick opens",
		Long: `Seal the keys of key files in a vault: a file of the age format, which only a passphrase opens, or the
identity that belongs to a public key named with --recipient. "bootmend build --keys" puts a finished
vault onto media as it is, so that who builds them need not be able to open it.

The passphrase is asked for twice on the terminal. It is typed at each machine on a keyboard that
counts as an American one, so letters, digits and blanks are best.

An identity is the secret half of a public key: "age-keygen -o identity.txt" makes both. Put
identity.txt into the root or the bootmend folder of a second stick; a machine opens the vault as
soon as both sticks are in.

--expires seals a date in, from which on the machines refuse the vault. It retires forgotten sticks.
It does not stop a person who knows the passphrase and opens the vault with other programs, or who
sets a machine's clock back. Since Windows keeps the clock in local time, which bootmend cannot see,
a machine may go on for up to 26 hours after the date.
` + exitHelp,
		Example: `  bootmend keys seal keys.csv -o keys.age --expires 14d
  bootmend keys seal keys.csv *.BEK -o keys.age --recipient age1...
  bootmend build iso -o heal.iso --keys keys.age`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("keys seal: name at least one key file")
			}
			if opts.output == "" {
				return usagef("keys seal: -o OUT is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKeysSeal(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args, &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runKeysSeal(ctx context.Context, out, messages io.Writer, files []string, opts *keysSealOptions) error {
	if _, err := opts.vault.check(time.Now()); err != nil {
		return err
	}
	list, err := readKeyLists(ctx, messages, files, &opts.filter)
	if err != nil {
		return err
	}
	f, err := output.Create(opts.output, true)
	if err != nil {
		return err
	}
	defer f.Discard()
	sealed, err := opts.vault.seal(ctx, messages, list)
	if err != nil {
		return err
	}
	if _, err := f.Write(sealed); err != nil {
		return f.Explain(err, int64(len(sealed)))
	}
	if err := f.Commit(); err != nil {
		return f.Explain(err, int64(len(sealed)))
	}
	_, err = fmt.Fprintf(out, "%s: %s\n", opts.output, countKeys(list))
	return err
}
