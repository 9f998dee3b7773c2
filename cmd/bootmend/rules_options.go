package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/trust"
)

// rulesOptions say which rule packs are used beside the packaged ones, and whose signatures are believed.
type rulesOptions struct {
	files         []string
	keys          []string
	allowUnsigned bool
}

func (o *rulesOptions) AddFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.files, "rules", nil, "rule pack to add to the packaged ones (may be repeated)")
	o.addTrustFlags(f)
}

func (o *rulesOptions) addTrustFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.keys, "rules-key", nil, "minisign public key whose signatures on rule packs are believed (may be repeated)")
	f.BoolVar(&o.allowUnsigned, "allow-unsigned-rules", false, "also use rule packs without a signature that is believed")
}

// rulePack is a pack that was read, with what is known of it.
type rulePack struct {
	image.RulePack
	pack    *remediate.Pack
	verdict trust.Verdict
}

// store is what the options trust, and the keys as they were read.
func (o *rulesOptions) store() (*trust.Store, [][]byte, error) {
	store, err := trust.NewStore(assets.DefaultRules())
	if err != nil {
		return nil, nil, err
	}
	store.AllowUnsigned = o.allowUnsigned
	var keys [][]byte
	for _, name := range o.keys {
		data, err := readLimited(name, ruleFileLimit)
		if err != nil {
			return nil, nil, err
		}
		if _, err := store.AddKey(data); err != nil {
			return nil, nil, withHint(fmt.Errorf("%s: %w", name, err), "minisign's public keys are in files that end in .pub")
		}
		keys = append(keys, data)
	}
	return store, keys, nil
}

// ruleFileLimit is more than any pack, key or signature has.
const ruleFileLimit = 4 << 20

// load reads the packaged packs and those of the person, checks each as the agent will, and tells on messages which
// are used without a signature that is believed.
func (o *rulesOptions) load(messages io.Writer) (packs []rulePack, keys [][]byte, err error) {
	store, keys, err := o.store()
	if err != nil {
		return nil, nil, err
	}
	packaged := assets.DefaultRules()
	names, err := fs.Glob(packaged, "*.yaml")
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]string{} // pack ID → file
	add := func(name string, data, signature []byte) error {
		p := rulePack{RulePack: image.RulePack{Name: filepath.Base(name), Data: data, Signature: signature}}
		if p.pack, err = remediate.ParsePack(data, name); err != nil {
			return err
		}
		if p.verdict, err = store.Verify(data, signature); err != nil {
			return untrusted(name, err)
		}
		if other := seen[p.pack.ID]; other != "" {
			return withHint(fmt.Errorf("rule packs %s and %s have the same id %q", other, name, p.pack.ID), "give each pack an id of its own, or leave one of them out")
		}
		seen[p.pack.ID] = name
		if p.verdict.Origin == trust.Allowed {
			fmt.Fprintf(messages, "bootmend: rule pack %s is used although it %s\n", name, p.verdict.Problem)
		}
		packs = append(packs, p)
		return nil
	}
	for _, name := range names {
		data, err := fs.ReadFile(packaged, name)
		if err == nil {
			err = add(name, data, nil)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	for _, name := range o.files {
		data, signature, err := readPack(name)
		if err == nil {
			err = add(name, data, signature)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return packs, keys, nil
}

// parsed are the packs alone.
func parsed(packs []rulePack) []*remediate.Pack {
	all := make([]*remediate.Pack, len(packs))
	for i := range packs {
		all[i] = packs[i].pack
	}
	return all
}

// readPack reads a pack and the signature beside it; that is nil where there is none.
func readPack(name string) (data, signature []byte, err error) {
	if data, err = readLimited(name, ruleFileLimit); err != nil {
		return nil, nil, err
	}
	signature, err = readLimited(name+trust.Extension, ruleFileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return data, nil, nil
	}
	return data, signature, err
}

// untrusted explains what to do about a pack that is refused.
func untrusted(name string, err error) error {
	err = fmt.Errorf("rule pack %s is refused: it %w", name, err)
	switch {
	case errors.Is(err, trust.ErrUnsigned):
		return withHint(err, "sign it with \"bootmend rules sign\" or minisign and name the public key with --rules-key; or accept it as it is with --allow-unsigned-rules")
	case errors.Is(err, trust.ErrUnknownKey):
		return withHint(err, "if you know whose key that is, name its public key with --rules-key")
	}
	return withHint(err, "get the pack and its %s file from its author again", trust.Extension)
}

// readLimited reads a file of a kind that is never large.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, limit>>20)
	}
	return data, nil
}
