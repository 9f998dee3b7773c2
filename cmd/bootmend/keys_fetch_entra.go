package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/entra"
)

type keysFetchEntraOptions struct {
	fetchOptions
	tenant   string
	client   string
	cloud    string
	loginURL string
	graphURL string
}

func (o *keysFetchEntraOptions) AddFlags(f *pflag.FlagSet) {
	o.fetchOptions.AddFlags(f)
	f.StringVar(&o.tenant, "tenant", "", "domain or ID of the tenant (default: that of who logs in)")
	f.StringVar(&o.client, "client-id", "", "ID of an own application that is registered as a public client (default: Microsoft Graph Command Line Tools)")
	f.StringVar(&o.cloud, "cloud", "global", "cloud that the tenant is in: "+strings.Join(slices.Sorted(maps.Keys(entra.Clouds)), ", "))
	f.StringVar(&o.loginURL, "login-url", "", "login server of another cloud, such as https://login.microsoftonline.com")
	f.StringVar(&o.graphURL, "graph-url", "", "Graph of another cloud, such as https://graph.microsoft.com")
}

func newKeysFetchEntraCommand() *cobra.Command {
	var opts keysFetchEntraOptions
	cmd := &cobra.Command{
		Use:   "entra -o OUT",
		Short: "Fetch recovery keys from Microsoft Entra ID",
		Long: `Fetch the recovery keys that computers have stored in Microsoft Entra ID (Azure AD, Intune), through
Microsoft Graph. Log in in a browser, on any device, with the code that is shown. Whoever logs in
needs a role that may read BitLocker keys, such as Cloud Device Administrator, Helpdesk Administrator
or Security Reader; the application needs the delegated permissions BitLockerKey.Read.All and
Device.Read.All.

--cloud usgov is the United States Government's GCC High, dod that of its Department of Defense, china the
one that 21Vianet operates; all others, GCC included, are in the global cloud.

Graph gives one key at a time and makes an entry in the tenant's audit log for each, so that a large
company takes a while; --computer and --id are applied before keys are asked for. Interrupted, or
told to stop with Ctrl-C, it writes what it has: the same command goes on from there, and does not ask
again for keys that OUT has. The keys in OUT are readable: seal them, or keep them as safe as keys.
` + exitHelp,
		Example: `  bootmend keys fetch entra -o keys.csv
  bootmend keys fetch entra --tenant example.com --computer 'BER-*' -o berlin.csv
  bootmend keys fetch entra --cloud usgov --tenant example.us -o keys.csv`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, known := entra.Clouds[opts.cloud]
			switch {
			case opts.output == "":
				return usagef("keys fetch entra: -o OUT is missing")
			case !known:
				return usagef("keys fetch entra: unknown cloud %q", opts.cloud)
			case (opts.loginURL == "") != (opts.graphURL == ""):
				return usagef("keys fetch entra: --login-url and --graph-url go together")
			case len(opts.filter.OUs) > 0:
				return usagef("keys fetch entra: Entra ID has no organizational units: choose with --computer or --id")
			}
			return runKeysFetchEntra(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runKeysFetchEntra(ctx context.Context, out, messages io.Writer, opts *keysFetchEntraOptions) error {
	source := entra.Source{Cloud: entra.Clouds[opts.cloud], Tenant: opts.tenant, Client: opts.client, Version: version}
	if opts.loginURL != "" {
		source.Cloud = entra.Cloud{Login: opts.loginURL, Graph: opts.graphURL}
	}
	var err error
	if source.Filter, err = opts.filter.filter(); err != nil {
		return err
	}
	if source.Known, err = opts.known(ctx, messages); err != nil {
		return err
	}
	source.Prompt = func(address, code string) {
		fmt.Fprintf(messages, "bootmend: open %s in a browser, on any device, and type the code %s\n", address, code)
	}
	if opts.output != "-" {
		source.Checkpoint = func(list *keys.List) error { return writeKeyFile(opts.output, list) }
	}
	progress, finish := newCounter(messages, "fetching keys")
	if progress != nil {
		source.Progress = func(done, total int) { progress(int64(done), int64(total)) }
	}
	list, err := source.Keys(ctx)
	finish()
	if err != nil {
		return opts.partial(messages, list, source.Known, explainEntra(err))
	}
	// The filter was applied already; what it names in vain is told.
	return opts.write(out, messages, list)
}

// known reads what an earlier run has written to the output.
func (o *keysFetchEntraOptions) known(ctx context.Context, messages io.Writer) (*keys.List, error) {
	if o.output == "-" {
		return nil, nil
	}
	list, err := keys.ReadPath(ctx, o.output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case len(list.Entries) == 0:
		return nil, withHint(fmt.Errorf("%s exists and is no list of keys", o.output), "name another file")
	}
	fmt.Fprintf(messages, "bootmend: %s has %s, which are not asked for again\n", o.output, countKeys(list))
	return list, nil
}

// partial writes what there is when something went wrong, if that is more than before.
func (o *keysFetchEntraOptions) partial(messages io.Writer, list, known *keys.List, err error) error {
	before := 0
	if known != nil {
		before = known.Len()
	}
	if o.output == "-" || list.Len() <= before {
		return err
	}
	if writeErr := writeKeyFile(o.output, list); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	fmt.Fprintf(messages, "bootmend: not complete: %s written to %s\n", countKeys(list), o.output)
	return withHint(err, "the same command goes on from there")
}

func explainEntra(err error) error {
	switch {
	case errors.Is(err, entra.ErrLogin):
		return withHint(err, "type the code within 15 minutes; where the tenant does not allow the application, name an own one with --client-id")
	case errors.Is(err, entra.ErrNoRight):
		return withHint(err, "log in with a role such as Cloud Device Administrator, and let an administrator consent to BitLockerKey.Read.All and Device.Read.All for the application")
	}
	return err
}
