package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/bootmend/bootmend/remediate"
)

// attachedVolume is a volume of a disk that is attached to this computer, or a folder at which one is mounted.
type attachedVolume interface {
	// where names the volume in messages.
	where() string
	// open gives the folder with the volume's files, for writing only if asked to; close is told whether all went
	// well and makes sure that all of it has reached the disk.
	open(readonly bool) (dir string, close func(well bool) error, err error)
}

// mountedTree is a folder at which somebody has mounted the volume, or a drive letter.
type mountedTree string

func (m mountedTree) where() string { return string(m) }

func (m mountedTree) open(bool) (string, func(bool) error, error) {
	return string(m), func(bool) error { return nil }, nil
}

// attachOptions say how an attached disk is opened.
type attachOptions struct {
	keyFile   string
	partition int
}

// attachedVolumes are the volumes that a path stands for. release lets go of their keys.
func attachedVolumes(ctx context.Context, messages io.Writer, path string, opts attachOptions) (volumes []attachedVolume, release func(), err error) {
	path = drivePath(path)
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		if opts.partition != 0 || opts.keyFile != "" {
			return nil, nil, usagef("%s is a folder: --partition and --key-file are for disks", path)
		}
		return []attachedVolume{mountedTree(path)}, func() {}, nil
	}
	return attachedDisk(ctx, messages, path, info, opts)
}

// errNoWindowsThere is what a person named something without Windows for.
func errNoWindowsThere(path string) error {
	return withHint(fmt.Errorf("%s: %w", path, remediate.ErrNoWindows), "name a disk or partition with Windows, or the top folder of its mounted volume")
}

// errHibernated refuses a volume that must not be written to.
func errHibernated(where string, w *remediate.Windows) error {
	return withHint(fmt.Errorf("%s: Windows is hibernated: %s: nothing was changed", where, w.Hibernation),
		"start this Windows once more and let it resume, or shut it down fully")
}

// confirm asks a question on the terminal; the answer yes, spelled out, is one.
func confirm(ctx context.Context, messages io.Writer, question, hint string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return withHint(errors.New("there is no terminal to ask on: nothing was changed"), "%s", hint)
	}
	answer, err := askLine(ctx, messages, question)
	if err == nil && !strings.EqualFold(answer, "yes") {
		err = errors.New("not confirmed, nothing was changed")
	}
	return err
}

// askLine asks a question on the terminal and returns the line that is typed. Ctrl-C ends the waiting.
func askLine(ctx context.Context, messages io.Writer, question string) (string, error) {
	fmt.Fprint(messages, question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n') // nothing read is no
		answer <- strings.TrimSpace(line)
	}()
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		fmt.Fprintln(messages)
		return "", ctx.Err()
	}
}
