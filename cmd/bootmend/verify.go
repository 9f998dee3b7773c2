package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/image/verify"
)

func newVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify MEDIA",
		Short: "Check media against the manifest written onto them",
		Long: `Check a stick, its image, an ISO image, or the folder or drive where media are mounted, against the
manifest that was written onto them: every file's SHA-256, the code that firmware starts outside of files,
and the signatures of shim, GRUB and kernel that Secure Boot asks for; of Windows PE, those are Microsoft's
and not checked here. It only reads.

What was added since (logs, newer keys, rule packs) and what a person replaced is listed and is no damage.
What is missing or changed is: the status is 1 then.
` + exitHelp,
		Example: `  bootmend verify heal.img
  bootmend verify heal.iso --json
  bootmend verify /dev/sdb
  bootmend verify E:\`,
		Args: oneArgument("a stick, an image of one, an ISO image, or a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func runVerify(ctx context.Context, out, messages io.Writer, path string, asJSON bool) error {
	progress, finish := newProgress(messages, "checking "+path)
	report, err := verifyMedia(ctx, path, progress)
	finish()
	if err != nil {
		return explainVerify(path, err)
	}
	if asJSON {
		err = writeJSON(out, report)
	} else {
		err = printReport(out, path, report)
	}
	if err == nil && !report.OK {
		err = damaged(path)
	}
	return err
}

func explainVerify(path string, err error) error {
	err = fmt.Errorf("%s: %w", path, err)
	if errors.Is(err, verify.ErrNoMedia) {
		return withHint(err, "name the whole stick (such as /dev/sdb, not /dev/sdb1), its image, an ISO image, or the folder where it is mounted")
	}
	return err
}

func damaged(path string) error {
	return withHint(fmt.Errorf("%s is not as it was made", path), "write it anew; if that does not help, the stick is bad")
}

func verifyMedia(ctx context.Context, path string, progress func(done, total int64)) (*verify.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only: nothing is lost
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return verify.Folder(ctx, os.DirFS(path), progress)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 && !info.Mode().IsRegular() {
		return nil, withHint(errors.New("this system does not tell the device's size"), "name the folder or drive where it is mounted")
	}
	return verify.Media(ctx, f, size, progress)
}

func printReport(w io.Writer, path string, r *verify.Report) error {
	var b strings.Builder
	kinds := map[string]string{"stick": "stick", "iso": "ISO image", "folder": "mounted media"}
	kind := kinds[r.Kind]
	if r.WindowsPE {
		kind += " with Windows PE"
	}
	fmt.Fprintf(&b, "%s: %s, media number %s, made of files of %s\n", path, kind, r.MediaID, r.Made.Format("2006-01-02 15:04 UTC"))
	for _, s := range r.Signatures {
		if s.Problem != "" {
			fmt.Fprintf(&b, "  BAD SIGNATURE  %s: %s\n", s.Path, s.Problem)
			continue
		}
		fmt.Fprintf(&b, "  signed   %s by %s (trusted: %s)\n", s.Path, strings.Join(s.Signers, " and "), strings.Join(s.TrustedBy, " and "))
	}
	slices.SortStableFunc(r.Findings, func(x, y verify.Finding) int { return cmp.Compare(len(x.Problem), len(y.Problem)) })
	for _, f := range r.Findings {
		if f.Problem != "" {
			fmt.Fprintf(&b, "  %-14s %s (%s): %s\n", strings.ToUpper(string(f.State)), f.Path, f.What, f.Problem)
			continue
		}
		fmt.Fprintf(&b, "  %-8s %s (%s)\n", f.State, f.Path, f.What)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "  note: %s\n", note)
	}
	if r.OK {
		fmt.Fprintf(&b, "OK: %d files and pieces of boot code are as they were made\n", r.Checked)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
