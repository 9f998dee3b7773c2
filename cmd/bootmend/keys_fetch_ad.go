package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker/keys/ad"
)

type keysFetchADOptions struct {
	fetchOptions
	server       string
	bases        []string
	user         string
	passwordFile string
	kerberos     bool
	caFile       string
	noTLS        bool
}

func (o *keysFetchADOptions) AddFlags(f *pflag.FlagSet) {
	o.fetchOptions.AddFlags(f)
	f.StringVar(&o.server, "server", "", "domain controller: a name, ldaps://NAME, or ldap://NAME, which goes on to TLS")
	f.StringArrayVar(&o.bases, "base", nil, "DN to search below (may be repeated; default: the whole domain)")
	f.StringVar(&o.user, "user", "", "who logs in, such as user@example.com; the password is asked for")
	f.StringVar(&o.passwordFile, "password-file", "", "file with the password in its first line; - for the standard input")
	f.BoolVar(&o.kerberos, "kerberos", false, "log in with the Kerberos ticket of kinit; on Windows, as who is logged on")
	f.StringVar(&o.caFile, "ca-file", "", "PEM file with the authorities that the server's certificate may come from (default: the system's)")
	f.BoolVar(&o.noTLS, "no-tls", false, "with ldap://: do without TLS; whoever sees the network sees the keys")
}

func newKeysFetchADCommand() *cobra.Command {
	var opts keysFetchADOptions
	cmd := &cobra.Command{
		Use:   "ad --server HOST -o OUT",
		Short: "Fetch recovery keys from Active Directory",
		Long: `Fetch the recovery keys that computers have stored in Active Directory, over LDAP with TLS. Whoever
logs in needs the right to read msFVE-RecoveryInformation objects: domain administrators have it,
others where it was delegated to them.

The password is asked for on the terminal, or read from a file; never give it on the command line,
where others see it. The keys in the output are readable: seal them, or keep them as safe as keys.
` + exitHelp,
		Example: `  bootmend keys fetch ad --server dc1.example.com --user admin@example.com -o keys.csv
  bootmend keys fetch ad --server dc1.example.com --kerberos --base OU=Berlin,DC=example,DC=com -o berlin.csv
  bootmend keys fetch ad --server ldap://dc1.example.com --ca-file ca.pem --user EXAMPLE\admin --ou Berlin -o berlin.csv`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case opts.server == "":
				return usagef("keys fetch ad: --server HOST is missing")
			case opts.output == "":
				return usagef("keys fetch ad: -o OUT is missing")
			case opts.kerberos == (opts.user != ""):
				return usagef("keys fetch ad: say who logs in, with --user or with --kerberos")
			case opts.kerberos && opts.passwordFile != "":
				return usagef("keys fetch ad: --kerberos takes no password")
			}
			return runKeysFetchAD(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runKeysFetchAD(ctx context.Context, out, messages io.Writer, opts *keysFetchADOptions) error {
	source, err := opts.source()
	if err != nil {
		return err
	}
	if !opts.kerberos {
		password, err := askPassword(ctx, messages, opts.passwordFile, opts.user)
		if err != nil {
			return err
		}
		source.Login = ad.Simple{Name: opts.user, Password: ad.NewPassword(password)}
	}
	progress, finish := newCounter(messages, "reading "+source.URL)
	if progress != nil {
		source.Progress = func(n int) { progress(int64(n), -1) }
	}
	list, err := source.Keys(ctx)
	finish()
	if err != nil {
		return explainAD(err)
	}
	return opts.write(out, messages, list)
}

// source is what the flags name, with a ticket as the login.
func (o *keysFetchADOptions) source() (*ad.Source, error) {
	source := &ad.Source{URL: o.server, Plain: o.noTLS, Bases: o.bases, Login: ad.Kerberos{}}
	if !strings.Contains(source.URL, "://") {
		source.URL = "ldaps://" + source.URL
	}
	if o.noTLS && !strings.HasPrefix(source.URL, "ldap://") {
		return nil, usagef("keys fetch ad: --no-tls goes with ldap:// only")
	}
	if o.caFile != "" {
		pem, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, err
		}
		source.Roots = x509.NewCertPool()
		if !source.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", o.caFile)
		}
	}
	return source, nil
}

// explainAD adds the next step to what a directory says.
func explainAD(err error) error {
	switch {
	case errors.Is(err, ad.ErrLogin):
		return withHint(err, "check name and password; a name has the form user@example.com, EXAMPLE\\user or that of a DN")
	case errors.Is(err, ad.ErrTLS):
		return withHint(err, "name the server as its certificate does, and with --ca-file the authority that it comes from, if the system does not know it")
	case errors.Is(err, ad.ErrNoRight):
		return withHint(err, "log in as a domain administrator, or as someone to whom reading msFVE-RecoveryInformation was delegated")
	}
	return err
}
