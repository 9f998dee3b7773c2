// Bootmend builds bootable recovery media for Windows machines that a faulty driver file keeps from starting.
//
// Rules of the command line: results go to standard output; messages, progress and questions go to standard
// error, so that results can be piped. An error is one sentence that names the thing and the reason, and a
// line that names the next step where a person can take one. Nothing is asked where no person sits.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/cmd/bootmend/tui"
)

// version is set by the build.
var version = "development"

// Exit statuses, the same for every command.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitNothing = 3
)

const exitHelp = `
EXIT STATUS
  0  done
  1  failed
  2  the command line is wrong
  3  there was nothing to do
`

func main() {
	// A command lives for less than a second or is busy with input and output: collecting garbage at every few
	// megabytes takes more time than it saves memory.
	debug.SetGCPercent(400)
	os.Exit(run(os.Args[1:]))
}

// run is the program; it exists so that tests can run it as users do.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := newRootCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var told *tui.Told
	if !errors.As(err, &told) {
		printError(cmd.ErrOrStderr(), err)
	}
	var usage *usageError
	var nothing *nothingToDo
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &nothing):
		return exitNothing
	}
	return exitFailed
}

func newRootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bootmend",
		Short: "Build media that heal boot-looping Windows machines",
		Long: `bootmend builds bootable recovery media for Windows machines that a bad driver file
keeps in a boot loop. Booted, the media finds the Windows volume, unlocks BitLocker with the
recovery keys it was given, moves the faulty file into a quarantine on the same volume, logs
what it did and restarts the machine.
` + exitHelp,
		Example: `  bootmend build iso -o heal.iso --keys keys.csv
  bootmend volume info disk.img`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if atTerminal() {
				return runWizard(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), false)
			}
			return cmd.Help()
		},
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	cmd.AddCommand(
		newWizardCommand(), newBuildCommand(), newDevicesCommand(), newFlashCommand(), newVerifyCommand(),
		newKeysCommand(), newRulesCommand(),
		newVolumeCommand(), newRepairCommand(), newRestoreCommand(), newReportCommand(),
		newServeCommand(), newControlCommand(), newWinPECommand(), newVersionCommand(),
	)
	return cmd
}

// usageError marks what is wrong with the command line itself.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// noArguments and oneArgument check positional arguments with errors of our kind.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s: unknown argument %q", cmd.CommandPath(), args[0])
	}
	return nil
}

func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s takes one argument: %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

// nothingToDo ends a command that found nothing to work on, which is no failure.
type nothingToDo struct{ error }

func (e *nothingToDo) Unwrap() error { return e.error }

// hinted is an error whose next step is known where it arises.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// printError prints an error and its next step.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "bootmend: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(w, "bootmend: hint: %s\n", hint)
	}
}

func hintFor(err error) string {
	var own *hinted
	var usage *usageError
	switch {
	case errors.As(err, &own):
		return own.hint
	case errors.As(err, &usage):
		return "--help shows how it is used"
	case errors.Is(err, keys.ErrSealed):
		return "\"bootmend keys open VAULT -o keys.csv\" gets them out, and \"bootmend build --keys VAULT\" takes a vault as it is"
	case errors.Is(err, bitlocker.ErrWrongKey):
		return "\"bootmend volume info\" shows the IDs of the keys that open this volume"
	case errors.Is(err, bitlocker.ErrNotBitLocker):
		return "name a BitLocker volume, a disk that has one, or an image of either"
	case errors.Is(err, context.Canceled):
		return "nothing half-written was left behind"
	case errors.Is(err, os.ErrPermission):
		return "reading or writing a disk needs administrator rights"
	}
	return ""
}
