package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

func newBuildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build recovery media",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("build: name the kind of media: iso, usb or pxe")
		},
	}
	cmd.AddCommand(newBuildISOCommand(), newBuildUSBCommand(), newBuildPXECommand())
	return cmd
}

// buildOptions are what all kinds of media have in common.
type buildOptions struct {
	output          string
	keys            []string
	list            *keys.List // what was read of keys already, for media that get a part of it
	keyFilter       keyFilter
	vault           vaultOptions
	unprotectedKeys bool
	rules           rulesOptions
	policy          string
	config          config.Config
	serials         config.Serials
	serialFile      string
	control         string
	windowsPE       bool // the media start that, and need nothing of the Linux environment
	json            bool
}

func (o *buildOptions) AddFlags(f *pflag.FlagSet) {
	o.config = config.Default()
	f.StringVarP(&o.output, "output", "o", "", "file to write")
	f.StringArrayVar(&o.keys, "keys", nil, "file or folder of recovery keys to put on the media in a vault, or a finished vault (may be repeated)")
	o.keyFilter.AddFlags(f, "keys-")
	o.vault.AddFlags(f)
	f.BoolVar(&o.unprotectedKeys, "unprotected-keys", false, "write the keys without a vault, readable by anyone who finds the media")
	o.rules.AddFlags(f)
	f.StringVar(&o.policy, "policy", string(remediate.FaultyOnly), "which files a rule takes: faulty-only or all-matching")
	f.BoolVar(&o.config.DryRun, "dry-run-media", false, "make media that show what they would do and change nothing")
	f.BoolVar(&o.config.DiscardHibernation, "discard-hibernation", false, "make media that also heal a hibernated Windows; what was open in it and not saved is lost")
	f.StringSliceVar((*[]string)(&o.serials), "serial", nil, "heal only the machines with these serial numbers (may be repeated)")
	f.StringVar(&o.serialFile, "serial-file", "", "heal only the machines whose serial numbers are in this file, one a line, beside those of --serial")
	f.StringVar(&o.control, "control", "", "server.yaml of \"bootmend control\": machines ask that server for keys and hand their logs in there")
	f.Var(&o.config.OnSuccess, "on-success", "what a healed machine does")
	f.Var(&o.config.OnFailure, "on-failure", "what a machine does that needs a person")
	f.DurationVar(&o.config.Countdown, "countdown", o.config.Countdown, "how long the result is shown before the machine goes on")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
}

// spec gathers what goes onto the media. Everything that can be wrong with the person's files is found here,
// before anything is written.
func (o *buildOptions) spec(ctx context.Context, messages io.Writer) (image.Spec, error) {
	var spec image.Spec
	policy, err := remediate.ParsePolicy(o.policy)
	if err != nil {
		return spec, &usageError{err}
	}
	o.config.AllMatching = policy == remediate.AllMatching
	o.config.AllowUnsignedRules = o.rules.allowUnsigned
	if o.control != "" {
		if o.config.Server, err = readServerFile(o.control); err != nil {
			return spec, err
		}
		spec.HasToken = true
	}
	if spec.Config, err = o.config.Marshal(); err != nil {
		return spec, &usageError{err}
	}
	if spec.Serials, err = o.machines(); err != nil {
		return spec, err
	}
	if spec.Time, err = sourceDate(); err != nil {
		return spec, err
	}
	packs, trusted, err := o.rules.load(messages)
	if err != nil {
		return spec, err
	}
	spec.Trust, spec.Licences = trusted, assets.Licences()
	for _, p := range packs {
		spec.Rules = append(spec.Rules, p.RulePack)
	}
	toSeal, err := o.readKeys(ctx, messages, &spec)
	if err != nil {
		return spec, err
	}
	if o.windowsPE {
		// Of it, a stick needs GRUB, and that only for a BIOS.
		switch bundle, err := assets.OpenBundle(); {
		case err == nil:
			spec.Bundle = bundle
		case !errors.Is(err, assets.ErrNoBundle):
			return spec, err
		}
		if toSeal != nil {
			spec.Vault, err = o.vault.seal(ctx, messages, toSeal)
		}
		return spec, err
	}
	if o.config.DryRun {
		// Said twice: the agent must know it even if it cannot read the media that it was started from.
		spec.KernelArgs = dryRunArg
	}
	spec.GrubConfig = assets.GrubConfig
	if spec.Agent.Size, spec.Agent.Open, err = assets.Mend(); err != nil {
		return spec, err
	}
	if spec.WindowsAgent.Size, spec.WindowsAgent.Open, err = assets.MendExe(); err != nil {
		return spec, err
	}
	bundle, err := assets.OpenBundle()
	if err != nil {
		return spec, err
	}
	spec.Bundle = bundle
	if toSeal != nil {
		// Last, since it may ask for a passphrase: nobody types one for nothing.
		spec.Vault, err = o.vault.seal(ctx, messages, toSeal)
	}
	return spec, err
}

// machines are those that the media are for; nil is all of them.
func (o *buildOptions) machines() (config.Serials, error) {
	if o.serials != nil && len(o.serials) == 0 {
		return nil, usagef("--serial: is empty, so that no machine would be healed: leave the flag out to heal all")
	}
	for i, serial := range o.serials {
		if err := config.CheckSerial(serial); err != nil {
			return nil, &usageError{fmt.Errorf("--serial, number %d: %w", i+1, err)}
		}
	}
	if o.serialFile == "" {
		return o.serials, nil
	}
	data, err := os.ReadFile(o.serialFile)
	if err != nil {
		return nil, err
	}
	listed, err := config.ParseSerials(data)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", o.serialFile, err), "write a serial number a line, in UTF-8; leave the flag out to heal all machines")
	}
	return append(slices.Clone(o.serials), listed...), nil
}

// dryRunArg is the word on the kernel's command line that the agent takes for a dry run.
const dryRunArg = "bootmend.dry-run"

// readKeys reads the key files. A finished vault, and keys that are to stay readable, go into the spec; keys that are
// still to be sealed are returned.
func (o *buildOptions) readKeys(ctx context.Context, messages io.Writer, spec *image.Spec) (toSeal *keys.List, err error) {
	flag := o.vault.used()
	switch {
	case len(o.keys) == 0 && o.list == nil && flag != "":
		return nil, usagef("%s protects keys, but no key file is named with --keys", flag)
	case len(o.keys) == 0 && o.list == nil:
		return nil, nil
	case o.unprotectedKeys && flag != "":
		return nil, usagef("%s makes a vault, and --unprotected-keys makes none: leave one of them out", flag)
	}
	sealed, err := o.finishedVault()
	if err != nil {
		return nil, err
	}
	if sealed != nil {
		fmt.Fprintf(messages, "bootmend: %s goes onto the media as it is\n", sealed.Name())
		spec.Vault = sealed.Bytes()
		return nil, nil
	}
	if _, err := o.vault.check(time.Now()); err != nil {
		return nil, err
	}
	list := o.list
	if list == nil {
		if list, err = readKeyLists(ctx, messages, o.keys, &o.keyFilter); err != nil {
			return nil, err
		}
	}
	for i := range list.Entries {
		list.Entries[i].Container = "" // served the choice; who finds the media need not know it
	}
	if !o.unprotectedKeys {
		return list, nil
	}
	fmt.Fprintf(messages, "bootmend: warning: %s go onto the media readable: whoever finds it can open these computers; keep it locked away and erase it afterwards\n", countKeys(list))
	var csv bytes.Buffer
	if err := list.WriteCSV(&csv); err != nil {
		return nil, err
	}
	spec.Keys = csv.Bytes()
	return nil, nil
}

// finishedVault is the vault that --keys names; nil if it names key files.
func (o *buildOptions) finishedVault() (*vault.Sealed, error) {
	for _, name := range o.keys {
		if name == "-" {
			continue
		}
		sealed, err := readVault(name)
		switch {
		case errors.Is(err, vault.ErrNotVault):
			continue
		case err != nil:
			return nil, err
		case len(o.keys) > 1:
			return nil, withHint(fmt.Errorf("%s is a vault, which cannot be joined with other key files", name),
				"open it with \"bootmend keys open\", or copy it into the folder bootmend/keys of a finished stick")
		case !o.keyFilter.empty():
			return nil, usagef("%s is sealed already, so that no keys can be chosen from it: choose when it is made", name)
		case o.unprotectedKeys || o.vault.used() != "":
			return nil, usagef("%s is sealed already: leave out %s", name, cmp.Or(o.vault.used(), "--unprotected-keys"))
		}
		return sealed, nil
	}
	return nil, nil
}

// sourceDate is the date of everything on the media: SOURCE_DATE_EPOCH, or a fixed one, so that the same
// inputs always give the same bytes.
func sourceDate() (time.Time, error) {
	value := os.Getenv("SOURCE_DATE_EPOCH")
	if value == "" {
		return time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC), nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, withHint(fmt.Errorf("SOURCE_DATE_EPOCH is %q", value), "set it to seconds since 1970, or unset it")
	}
	return time.Unix(seconds, 0).UTC(), nil
}
