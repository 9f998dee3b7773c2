package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

// readKeyLists merges the key files and folders that the person named. What is left out is told; none at all is
// an error.
func readKeyLists(ctx context.Context, messages io.Writer, paths []string) (*keys.List, error) {
	var lists []*keys.List
	for _, path := range paths {
		list, err := keys.ReadPath(ctx, path)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	all := keys.Merge(lists...)
	for _, p := range all.Problems {
		fmt.Fprintf(messages, "bootmend: %s, line %d left out: %s\n", p.File, p.Line, p.Reason)
	}
	if all.Len() == 0 {
		return nil, withHint(errors.New("the key files hold no usable key"), "\"bootmend keys check FILE\" tells what is in them")
	}
	return all, nil
}
