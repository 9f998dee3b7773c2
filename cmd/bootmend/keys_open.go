package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/image/output"
)

type keysOpenOptions struct {
	output         string
	passphraseFile string
	identities     []string
	json           bool
}

func (o *keysOpenOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.output, "output", "o", "", "key list to write, with the keys in the clear; - is the standard output")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "file with the vault's passphrase in its first line (default: ask on the terminal)")
	f.StringArrayVar(&o.identities, "identity", nil, "file with an age identity or an SSH private key (may be repeated)")
	f.BoolVar(&o.json, "json", false, "print what the vault holds, without keys, as JSON")
}

// openedVault is what keys open tells of a vault.
type openedVault struct {
	Keys        int        `json:"keys"`
	StartupKeys int        `json:"startup_keys"`
	Created     *time.Time `json:"created,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Expired     bool       `json:"expired"`
	Problems    int        `json:"problems"`
}

func newKeysOpenCommand() *cobra.Command {
	var opts keysOpenOptions
	cmd := &cobra.Command{
		Use:   "open VAULT",
		Short: "Open a vault, to look at its dates or to get the keys out",
		Long: `Open a vault with its passphrase, asked for on the terminal, or with an identity. Without -o nothing is
written: it makes sure that the vault opens, and tells how many keys it holds and when it expires.

With -o the keys are written as a key list that everybody can read who gets at the file; it is made
readable for you alone. "age -d" opens a vault as well.
` + exitHelp,
		Example: `  bootmend keys open keys.age
  bootmend keys open keys.age -o keys.csv --identity identity.txt`,
		Args: oneArgument("a vault"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.json && opts.output == "-" {
				return usagef("keys open: --json and -o - both want the standard output")
			}
			return runKeysOpen(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runKeysOpen(ctx context.Context, out, messages io.Writer, path string, opts *keysOpenOptions) error {
	sealed, err := readVault(path)
	if err != nil {
		return err
	}
	v, err := openVault(ctx, messages, sealed, opts.passphraseFile, opts.identities)
	if err != nil {
		return err
	}
	defer v.Wipe()
	list := v.List()
	for _, p := range list.Problems {
		fmt.Fprintf(messages, "bootmend: %s, line %d left out: %s\n", path, p.Line, p.Reason)
	}
	result := openedVault{Keys: len(list.Entries), StartupKeys: len(list.StartupKeys), Problems: len(list.Problems)}
	if !v.Created.IsZero() {
		result.Created = &v.Created
	}
	if !v.Expires.IsZero() {
		result.Expires, result.Expired = &v.Expires, time.Now().After(v.Expires)
	}
	if result.Expired {
		fmt.Fprintf(messages, "bootmend: this vault expired on %s: machines refuse it\n", v.Expires.Local().Format("2006-01-02 15:04 MST"))
	}
	if err := opts.write(out, list); err != nil {
		return err
	}
	switch {
	case opts.json:
		return writeJSON(out, result)
	case opts.output == "-":
		return nil
	}
	text := fmt.Sprintf("%s: %s", path, countKeys(list))
	if result.Expires != nil {
		text += ", good until " + v.Expires.Local().Format("2006-01-02 15:04 MST")
	}
	_, err = fmt.Fprintln(out, text)
	return err
}

// write writes the key list where it is wanted, for its owner alone.
func (o *keysOpenOptions) write(out io.Writer, list *keys.List) error {
	switch o.output {
	case "":
		return nil
	case "-":
		return list.WriteCSV(out)
	}
	f, err := output.Create(o.output, true)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := list.WriteCSV(f); err != nil {
		return f.Explain(err, 1)
	}
	if err := f.Commit(); err != nil {
		return f.Explain(err, 1)
	}
	return nil
}

func readVault(path string) (*vault.Sealed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sealed, err := vault.Read(f, path)
	if errors.Is(err, vault.ErrNotVault) {
		return nil, withHint(err, "\"bootmend keys seal\" makes a vault of key files")
	}
	return sealed, err
}

// openVault opens a vault with what the person has: a passphrase, asked for unless it is in a file, or identities.
func openVault(ctx context.Context, messages io.Writer, sealed *vault.Sealed, passphraseFile string, identityFiles []string) (*vault.Vault, error) {
	if !sealed.WantsPassphrase() {
		if len(identityFiles) == 0 {
			return nil, withHint(fmt.Errorf("vault %s is opened by an identity, not by a passphrase", sealed.Name()), "name the file that the identity is in with --identity")
		}
		var identities []age.Identity
		for _, name := range identityFiles {
			list, err := readIdentities(name)
			if err != nil {
				return nil, err
			}
			identities = append(identities, list...)
		}
		v, err := sealed.Identity(identities...)
		if errors.Is(err, vault.ErrIdentity) {
			err = withHint(fmt.Errorf("%s: sealed for other identities than those given", sealed.Name()), "name the identity that belongs to one of the vault's recipients")
		}
		return v, err
	}
	if len(identityFiles) > 0 {
		return nil, usagef("vault %s is opened by a passphrase: leave out --identity", sealed.Name())
	}
	var passphrase string
	var err error
	if passphraseFile != "" {
		passphrase, err = readPassphraseFile(passphraseFile)
	} else {
		passphrase, err = askHidden(ctx, messages, "Passphrase of "+sealed.Name()+": ", "name a file with --passphrase-file")
	}
	if err != nil {
		return nil, err
	}
	return sealed.Passphrase(passphrase)
}

func readIdentities(name string) ([]age.Identity, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return vault.ReadIdentities(f, name)
}
