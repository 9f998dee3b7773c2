package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

// mergeKeyLists reads the key files and folders that the person named.
func mergeKeyLists(ctx context.Context, paths []string) (*keys.List, error) {
	var lists []*keys.List
	for _, path := range paths {
		list, err := readKeyPath(ctx, path)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	if len(lists) == 1 {
		return lists[0], nil
	}
	return keys.Merge(lists...), nil
}

func readKeyPath(ctx context.Context, path string) (*keys.List, error) {
	if path == "-" {
		return keys.Read(os.Stdin, "standard input")
	}
	return keys.ReadPath(ctx, path)
}

// readKeyLists merges key files and chooses from them. What is left out is told; no key at all is an error.
func readKeyLists(ctx context.Context, messages io.Writer, paths []string, filter *keyFilter) (*keys.List, error) {
	all, err := mergeKeyLists(ctx, paths)
	if err != nil {
		return nil, err
	}
	for _, p := range all.Problems {
		left := "left out"
		if p.Kind == keys.InvalidID {
			left = "without ID"
		}
		fmt.Fprintf(messages, "bootmend: %s, line %d %s: %s\n", p.File, p.Line, left, p.Reason)
	}
	if all.Len() == 0 {
		return nil, withHint(errors.New("the key files hold no usable key"), "\"bootmend keys check FILE\" tells what is in them")
	}
	return filter.choose(messages, all)
}

// keyFilter holds the flags that choose keys.
type keyFilter struct {
	keys.Filter
	idFile string
	prefix string
}

// AddFlags adds the flags; prefix comes before their names where others would be mistaken for them.
func (o *keyFilter) AddFlags(f *pflag.FlagSet, prefix string) {
	o.prefix = prefix
	f.StringArrayVar(&o.Computers, prefix+"computer", nil, "only keys of computers with this name, * and ? being wildcards (may be repeated)")
	f.StringArrayVar(&o.OUs, prefix+"ou", nil, "only keys of computers in this organizational unit, a name or a DN (may be repeated)")
	f.StringArrayVar(&o.IDs, prefix+"id", nil, "only the key with this ID, or the first 8 digits of it (may be repeated)")
	f.StringVar(&o.idFile, prefix+"id-file", "", "only keys whose IDs are in this file, one a line")
}

// empty reports whether no flag of the filter was given.
func (o *keyFilter) empty() bool {
	return len(o.Computers)+len(o.OUs)+len(o.IDs) == 0 && o.idFile == ""
}

// choose applies the filter. A value that no key fits is told, and if no key is left that is an error.
func (o *keyFilter) choose(messages io.Writer, all *keys.List) (*keys.List, error) {
	if o == nil {
		return all, nil
	}
	filter, err := o.filter()
	if err != nil {
		return nil, err
	}
	chosen, unused, err := filter.Apply(all)
	if err != nil {
		return nil, &usageError{err}
	}
	for _, v := range unused {
		fmt.Fprintf(messages, "bootmend: no key fits %q\n", v)
	}
	if chosen.Len() == 0 {
		return nil, withHint(fmt.Errorf("none of %d keys fits what was asked for", all.Len()), "leave a --%scomputer, --%sou or --%sid out", o.prefix, o.prefix, o.prefix)
	}
	return chosen, nil
}

func (o *keyFilter) filter() (keys.Filter, error) {
	filter := o.Filter
	if o.idFile == "" {
		return filter, nil
	}
	data, err := os.ReadFile(o.idFile)
	if err != nil {
		return filter, err
	}
	before := len(filter.IDs)
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			filter.IDs = append(filter.IDs, line)
		}
	}
	if len(filter.IDs) == before {
		return filter, fmt.Errorf("%s holds no key ID", o.idFile)
	}
	return filter, nil
}

// someArguments checks that there is at least one.
func someArguments(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s takes %s", cmd.CommandPath(), what)
		}
		return nil
	}
}
