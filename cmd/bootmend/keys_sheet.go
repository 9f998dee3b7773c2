package main

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker/keys/sheet"
	"github.com/bootmend/bootmend/image/output"
)

type keysSheetOptions struct {
	output string
	title  string
	code   string
	filter keyFilter
}

func (o *keysSheetOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.output, "output", "o", "", "HTML file to write, readable by you alone")
	f.StringVar(&o.title, "title", "Recovery keys", "headline of the page")
	f.StringVar(&o.code, "code", string(sheet.Both), "kind of bar code: code128, qr or both")
	o.filter.AddFlags(f, "")
}

func newKeysSheetCommand() *cobra.Command {
	var opts keysSheetOptions
	cmd := &cobra.Command{
		Use:   "sheet FILE... -o OUT.html",
		Short: "Print recovery keys as bar codes for a scanner",
		Long: `Make a page of bar codes to print, one machine a row. A bar-code scanner that counts as a keyboard
types the 48 digits into Windows' recovery screen, or where bootmend's media ask for a key; dashes
are not needed, and an Enter that the scanner adds does no harm. Every scanner reads Code 128.

The page is one file that loads nothing from elsewhere: open it in a browser and print it. The keys
on it can be read by anyone: choose with --computer, --ou or --id what its bearer needs, and destroy
it afterwards.

` + keyFormats + `
` + exitHelp,
		Example: `  bootmend keys sheet keys.csv -o third-floor.html --computer 'BER-3-*' --title 'Berlin, third floor'
  bootmend keys sheet keys.csv -o one.html --id 8F716353 --code qr`,
		Args: someArguments("files or folders of recovery keys"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch c := sheet.Code(opts.code); {
			case opts.output == "":
				return usagef("keys sheet: -o OUT.html is missing")
			case c != sheet.Code128 && c != sheet.QR && c != sheet.Both:
				return usagef("keys sheet: unknown kind of bar code %q", opts.code)
			}
			return runKeysSheet(cmd.Context(), cmd.ErrOrStderr(), args, &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runKeysSheet(ctx context.Context, messages io.Writer, paths []string, opts *keysSheetOptions) error {
	list, err := readKeyLists(ctx, messages, paths, &opts.filter)
	if err != nil {
		return err
	}
	if n := len(list.StartupKeys); n > 0 {
		fmt.Fprintf(messages, "bootmend: %s left out: nobody types those\n", plural(n, "startup key"))
	}
	f, err := output.Create(opts.output, true)
	if err != nil {
		return err
	}
	defer f.Discard()
	w := bufio.NewWriter(f)
	if err := sheet.Write(w, list, opts.title, sheet.Code(opts.code)); err != nil {
		return f.Explain(err, 0)
	}
	if err := w.Flush(); err != nil {
		return f.Explain(err, 0)
	}
	if err := f.Commit(); err != nil {
		return f.Explain(err, 0)
	}
	fmt.Fprintf(messages, "bootmend: %s on %s: print it, and destroy file and paper after use\n", plural(len(list.Entries), "recovery key"), opts.output)
	return nil
}
