package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/image/output"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/trust"
)

type rulesSignOptions struct {
	key            string
	passphraseFile string
	comment        string
}

func (o *rulesSignOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.key, "key", "", "minisign secret key to sign with")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "file whose first line is the secret key's password (default: ask on the terminal)")
	f.StringVar(&o.comment, "comment", "", "what the signature says in words (default: the file's name and the time)")
}

func newRulesSignCommand() *cobra.Command {
	var opts rulesSignOptions
	cmd := &cobra.Command{
		Use:   "sign FILE... --key KEY",
		Short: "Sign rule packs",
		Long: `Sign rule packs: the signature goes beside each pack, as FILE.minisig. It is one of minisign
(https://jedisct1.github.io/minisign/), and either program reads the other's keys and signatures.
A pack with a mistake is not signed.
` + exitHelp,
		Example: `  bootmend rules sign incident.yaml --key rules.key`,
		Args:    someArguments("a rule pack"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.key == "" {
				return usagef("rules sign: --key KEY is missing")
			}
			return runRulesSign(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runRulesSign(ctx context.Context, w, messages io.Writer, files []string, opts rulesSignOptions) error {
	packs := make([][]byte, len(files))
	for i, name := range files {
		data, err := readLimited(name, ruleFileLimit)
		if err != nil {
			return err
		}
		if _, err := remediate.ParsePack(data, name); err != nil {
			return err
		}
		packs[i] = data
	}
	secret, err := readLimited(opts.key, ruleFileLimit)
	if err != nil {
		return err
	}
	password := ""
	if trust.NeedsPassword(secret) {
		if password, err = readPassword(ctx, messages, opts.passphraseFile, "Password of "+opts.key+": "); err != nil {
			return err
		}
	}
	key, err := trust.ParseSecretKey(secret, password)
	if err != nil {
		return fmt.Errorf("%s: %w", opts.key, err)
	}
	for i, name := range files {
		comment := opts.comment
		if comment == "" {
			comment = fmt.Sprintf("timestamp:%d\tfile:%s", time.Now().Unix(), filepath.Base(name))
		}
		signature, err := key.Sign(packs[i], comment)
		if err != nil {
			return &usageError{err}
		}
		if err := writeWhole(name+trust.Extension, signature, false); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s%s: signed with key %s\n", name, trust.Extension, key.KeyID())
	}
	return nil
}

type rulesKeygenOptions struct {
	output         string
	passphraseFile string
	noPassword     bool
}

func (o *rulesKeygenOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.output, "output", "o", "", "name of the two files, without .key and .pub")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "file whose first line becomes the secret key's password (default: ask on the terminal)")
	f.BoolVar(&o.noPassword, "no-password", false, "leave the secret key without a password, for keys that a safe or a build server guards")
}

func newRulesKeygenCommand() *cobra.Command {
	var opts rulesKeygenOptions
	cmd := &cobra.Command{
		Use:   "keygen -o NAME",
		Short: "Make a key pair to sign rule packs with",
		Long: `Make a key pair to sign rule packs with: NAME.key signs and stays with you, NAME.pub is what others
name with --rules-key. Both are in minisign's formats. Existing files are not replaced.
` + exitHelp,
		Example: `  bootmend rules keygen -o rules`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output == "" {
				return usagef("rules keygen: -o NAME is missing")
			}
			if opts.noPassword && opts.passphraseFile != "" {
				return usagef("rules keygen: --no-password and --passphrase-file exclude each other")
			}
			return runRulesKeygen(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runRulesKeygen(ctx context.Context, w, messages io.Writer, opts rulesKeygenOptions) error {
	secretFile, publicFile := opts.output+".key", opts.output+".pub"
	for _, name := range []string{secretFile, publicFile} {
		if _, err := os.Lstat(name); err == nil {
			return withHint(fmt.Errorf("%s exists already", name), "a signing key is never replaced: choose another name, or move the old key away")
		}
	}
	password := ""
	if !opts.noPassword {
		var err error
		if password, err = newPassword(ctx, messages, opts.passphraseFile); err != nil {
			return err
		}
	}
	public, secret, id, err := trust.GenerateKey(rand.Reader, password)
	if err != nil {
		return err
	}
	if err := createNew(secretFile, secret, 0o600); err != nil {
		return err
	}
	if err := createNew(publicFile, public, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: keep this secret\n%s: key %s, for --rules-key\n", secretFile, publicFile, id)
	return err
}

// createNew writes a file that must not exist yet.
func createNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// writeWhole writes a file that appears whole or not at all; private keeps it from other users.
func writeWhole(name string, data []byte, private bool) error {
	f, err := output.Create(name, private)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(data); err != nil {
		return f.Explain(err, int64(len(data)))
	}
	return f.Commit()
}

// readPassword takes the first line of a file, or asks on the terminal.
func readPassword(ctx context.Context, messages io.Writer, file, question string) (string, error) {
	if file != "" {
		return readPassphraseFile(file)
	}
	return askHidden(ctx, messages, question, "name a file with --passphrase-file")
}

// newPassword asks for a password twice.
func newPassword(ctx context.Context, messages io.Writer, file string) (string, error) {
	password, err := readPassword(ctx, messages, file, "New password for the secret key: ")
	if err != nil || file != "" {
		return password, err
	}
	if password == "" {
		return "", withHint(errors.New("the password is empty"), "--no-password makes a key without one")
	}
	again, err := readPassword(ctx, messages, "", "The same again: ")
	if err == nil && again != password {
		err = errors.New("the two passwords are not the same")
	}
	return password, err
}
