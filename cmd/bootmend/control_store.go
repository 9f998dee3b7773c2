package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/cmd/bootmend/control"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/image/output"
)

// controlStore says where a control server keeps what it knows.
type controlStore struct {
	state  string
	db     string
	dbFile string
}

func (o *controlStore) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.state, "state", "bootmend-control", "folder for the certificate, and for the machines, their logs and who got which key")
	f.StringVar(&o.db, "db", "", "PostgreSQL database for the latter, postgres://USER@HOST/NAME, which several servers may share")
	f.StringVar(&o.dbFile, "db-file", "", "file with the address of --db in its first line, which may hold a password")
}

// file is the database of a server that shares nothing.
func (o *controlStore) file() string { return filepath.Join(o.state, "bootmend.db") }

// shared reads where the database is that servers share; it is empty where there is none.
func (o *controlStore) shared(messages io.Writer) (store.Address, error) {
	switch {
	case o.db != "" && o.dbFile != "":
		return "", usagef("control: --db contradicts --db-file")
	case o.dbFile != "":
		data, err := os.ReadFile(o.dbFile)
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(string(data), "\n")
		if line = strings.TrimSpace(line); line == "" {
			return "", fmt.Errorf("%s: its first line is empty: write postgres://USER:PASSWORD@HOST/NAME there", o.dbFile)
		}
		return store.Address(line), nil
	case o.db == "":
		return "", nil
	}
	if u, err := url.Parse(o.db); err == nil {
		if _, secret := u.User.Password(); secret || u.Query().Has("password") {
			fmt.Fprintln(messages, "bootmend: other users of this computer can see the password in --db: put the address into a file for --db-file, or the password into PGPASSWORD")
		}
	}
	return store.Address(o.db), nil
}

// open opens the database.
func (o *controlStore) open(ctx context.Context, messages io.Writer) (*store.DB, error) {
	address, err := o.shared(messages)
	if err != nil {
		return nil, err
	}
	if address == "" {
		db, err := store.OpenFile(ctx, o.file())
		if err != nil {
			return nil, withHint(err, "name a folder on a disk of this computer with --state; if the file is damaged, put it aside and begin anew")
		}
		return db, nil
	}
	db, err := store.OpenURL(ctx, address)
	if err != nil {
		return nil, withHint(err, "check --db, that the database answers (psql with the same address), and that its user may make tables in it")
	}
	return db, nil
}

type controlExportOptions struct {
	store  controlStore
	output string
}

func newControlExportCommand() *cobra.Command {
	var opts controlExportOptions
	cmd := &cobra.Command{
		Use:   "export -o FOLDER",
		Short: "Take the logs and the keys' audit out of a control server's database",
		Long: `Write what a control server keeps into a new folder: audit.jsonl with who asked for which key, and in
"reports" the log of each run, for "bootmend report". The server may go on meanwhile. Keys are not in it.
` + exitHelp,
		Example: `  bootmend control export -o incident && bootmend report incident/reports
  bootmend control export --db-file database-address -o incident`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runControlExport(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts)
		},
	}
	opts.store.AddFlags(cmd.Flags())
	cmd.Flags().StringVarP(&opts.output, "output", "o", "", "folder to make")
	return cmd
}

func runControlExport(ctx context.Context, out, messages io.Writer, opts *controlExportOptions) error {
	if opts.output == "" {
		return usagef("control export: -o FOLDER is missing")
	}
	if opts.store.db == "" && opts.store.dbFile == "" {
		if _, err := os.Stat(opts.store.file()); err != nil {
			return withHint(err, "name the folder of the server with --state, or its database with --db-file")
		}
	}
	db, err := opts.store.open(ctx, messages)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // only read
	path := filepath.Clean(opts.output)
	if _, err := os.Lstat(path); err == nil {
		return withHint(fmt.Errorf("%s: is there already", path), "name a folder that is not there yet")
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part")
	if err != nil {
		return withHint(err, "name a folder in one that exists and that you may write to")
	}
	defer func() { _ = os.RemoveAll(folder) }() // it has its name by then, or is not whole
	logs, events, err := exportStore(ctx, db, folder)
	if err != nil {
		return err
	}
	if err := os.Rename(folder, path); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s, %s of the audit\n", path, plural(logs, "log"), plural(events, "line"))
	return nil
}

// exportStore writes all that is in a database into a folder, and counts it.
func exportStore(ctx context.Context, db *store.DB, folder string) (logs, events int, err error) {
	reports := filepath.Join(folder, "reports")
	if err := os.Mkdir(reports, 0o700); err != nil {
		return 0, 0, err
	}
	if err := control.EachLog(ctx, db, func(r store.Report) error {
		logs++
		return os.WriteFile(filepath.Join(reports, r.Run+".jsonl"), r.Log, 0o600)
	}); err != nil {
		return 0, 0, err
	}
	audit, err := output.Create(filepath.Join(folder, "audit.jsonl"), true)
	if err != nil {
		return 0, 0, err
	}
	defer audit.Discard()
	var line bytes.Buffer
	if err := control.EachEvent(ctx, db, func(e store.Event) error {
		events++
		line.Reset()
		if err := json.NewEncoder(&line).Encode(e); err != nil {
			return err
		}
		_, err := audit.Write(line.Bytes())
		return err
	}); err != nil {
		return 0, 0, audit.Explain(err, 0)
	}
	return logs, events, audit.Commit()
}
