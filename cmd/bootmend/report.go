package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/bootmend/bootmend/image/output"
	"github.com/bootmend/bootmend/remediate/report"
)

// reportOptions are the flags of report.
type reportOptions struct {
	format string
	output string
	rotate bool
	json   bool
}

func (o *reportOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.format, "format", "", "table, csv, json or html (default: by the name given to -o, else table)")
	f.StringVarP(&o.output, "output", "o", "", "file to write instead of standard output")
	f.BoolVar(&o.rotate, "rotate", false, "list the recovery keys that were used, as CSV or JSON")
	f.BoolVar(&o.json, "json", false, "the same as --format json")
}

func newReportCommand() *cobra.Command {
	var opts reportOptions
	cmd := &cobra.Command{
		Use:   "report PATH...",
		Short: "Merge the logs of many sticks: what is healed, what needs a person, which keys to rotate",
		Long: `Merge the logs that sticks bring home into one report: how many machines are healed, which
of them need a person and why, and which recovery keys were used and should be rotated.

PATH is a log, or a folder that is searched for logs (*.jsonl): a stick, a share that sticks were
copied to, a mounted Windows volume. The same run may be there any number of times; machines are
told apart by their serial number.

The table is for a terminal, the CSV has a row for each machine, the HTML page needs no network
and may be passed on: it holds key IDs, never keys.
` + exitHelp,
		Example: `  bootmend report /media/*/BOOTMEND
  bootmend report collected-logs -o incident.html
  bootmend report collected-logs --rotate -o rotate.csv
  bootmend report --json collected-logs | jq '.machines[] | select(.needs_person)'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs the path of at least one log or folder with logs", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReport(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// writer is the form in which the report is to be written.
func (o *reportOptions) writer() (func(*report.Report, io.Writer) error, error) {
	format := o.format
	switch {
	case o.json && format != "" && format != "json":
		return nil, usagef("--json contradicts --format %s", format)
	case o.json:
		format = "json"
	case format == "":
		if format = strings.TrimPrefix(strings.ToLower(filepath.Ext(o.output)), "."); format == "htm" {
			format = "html"
		}
	}
	if o.rotate {
		switch format {
		case "json":
			return func(r *report.Report, w io.Writer) error { return writeJSON(w, r.Rotate) }, nil
		case "", "csv", "txt":
			return (*report.Report).WriteRotation, nil
		}
		return nil, usagef("--rotate gives csv or json, not %s", format)
	}
	switch format {
	case "", "table", "txt":
		return (*report.Report).WriteTable, nil
	case "csv":
		return (*report.Report).WriteCSV, nil
	case "json":
		return (*report.Report).WriteJSON, nil
	case "html":
		return (*report.Report).WriteHTML, nil
	}
	return nil, usagef("unknown format %q: use table, csv, json or html", format)
}

// softMemory is where the garbage collector begins to work harder: it falls behind on a busy computer, and what is kept
// of 100,000 machines is a third of this. What a larger report needs, it gets.
const softMemory = 220 << 20

func runReport(ctx context.Context, w, messages io.Writer, paths []string, opts reportOptions) error {
	write, err := opts.writer()
	if err != nil {
		return err
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // GOMEMLIMIT is not set
		debug.SetMemoryLimit(softMemory)
	}
	var logs report.Collector
	unread, err := collectLogs(ctx, messages, &logs, paths)
	if err != nil {
		return err
	}
	r := logs.Report()
	if r.Runs == 0 && unread == 0 {
		return noLogs(paths)
	}
	if opts.output == "" {
		err = write(r, w)
	} else {
		err = writeReport(r, write, opts.output)
	}
	if err == nil && unread > 0 {
		return unreadLogs(unread)
	}
	return err
}

func noLogs(paths []string) error {
	return &nothingToDo{withHint(errors.New("there is no log of bootmend in "+strings.Join(paths, ", ")),
		"sticks keep their logs in bootmend/logs, healed machines in ProgramData\\bootmend\\logs")}
}

func unreadLogs(n int) error {
	return fmt.Errorf("%d of the files could not be read: the report is of the others", n)
}

func writeReport(r *report.Report, write func(*report.Report, io.Writer) error, path string) error {
	f, err := output.Create(path, false)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := write(r, f); err != nil {
		return f.Explain(err, 0)
	}
	return f.Commit()
}

// collectLogs reads all logs of the paths, several at a time. What can't be read is told and counted.
func collectLogs(ctx context.Context, messages io.Writer, logs *report.Collector, paths []string) (unread int, err error) {
	var mu sync.Mutex
	problem := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		unread++
		fmt.Fprintf(messages, "bootmend: left out: %v\n", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	files := make(chan string, 256)
	g.Go(func() error {
		defer close(files)
		for _, path := range paths {
			if err := findLogs(ctx, path, files, problem); err != nil {
				return err
			}
		}
		return nil
	})
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for path := range files {
				if err := readLog(logs, path); err != nil {
					problem(err)
				}
			}
			return ctx.Err()
		})
	}
	err = g.Wait()
	return unread, err
}

// findLogs sends path, or every log below it.
func findLogs(ctx context.Context, path string, files chan<- string, problem func(error)) error {
	send := func(file string) error {
		select {
		case files <- file:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return err // the person named it
	}
	if !info.IsDir() {
		return send(path)
	}
	return filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			problem(err)
			return nil
		case entry.Type().IsRegular() && strings.EqualFold(filepath.Ext(file), ".jsonl"):
			return send(file)
		}
		return ctx.Err()
	})
}

func readLog(logs *report.Collector, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	runs, err := logs.Add(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if runs == 0 {
		return fmt.Errorf("%s: holds no log of bootmend", path)
	}
	return nil
}
