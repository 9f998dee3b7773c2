package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/image/config"
)

// tools runs programs of Windows. Only their exit status counts: what they print is in the language of the Windows.
type tools struct{ dir string }

func findTools() tools {
	return tools{filepath.Join(os.Getenv("SystemRoot"), "System32")}
}

func (t tools) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(t.dir, name), args...)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s ended with status %d", name, exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("%s could not be started: %w", name, errors.Unwrap(err))
	}
	return nil
}

// unlock has manage-bde open a volume. It takes a recovery password in its arguments and no other way, so other programs
// that run on the machine meanwhile can see it: in Windows PE there are none.
func (t tools) unlock(ctx context.Context, drive string, password bitlocker.RecoveryPassword) error {
	return t.run(ctx, "manage-bde.exe", "-unlock", drive, "-RecoveryPassword", password.Reveal())
}

// unlockFile is the same with a startup key.
func (t tools) unlockFile(ctx context.Context, drive, file string) error {
	return t.run(ctx, "manage-bde.exe", "-unlock", drive, "-RecoveryKey", file)
}

// endSafeMode takes the element away that makes Windows start in Safe Mode. Where it was not set, bcdedit fails, which
// is as good.
func (t tools) endSafeMode(ctx context.Context, entry string) error {
	return t.run(ctx, "bcdedit.exe", "/deletevalue", entry, "safeboot")
}

// setSafeMode makes Windows start in Safe Mode; mode is "minimal" or "network".
func (t tools) setSafeMode(ctx context.Context, entry, mode string) error {
	return t.run(ctx, "bcdedit.exe", "/set", entry, "safeboot", mode)
}

// loadDriver loads a storage driver in Windows PE.
func (t tools) loadDriver(ctx context.Context, inf string) error {
	return t.run(ctx, "drvload.exe", inf)
}

// end restarts or stops the machine.
func (t tools) end(action config.Action) error {
	ctx := context.Background()
	off := action == config.PowerOff
	if inPE() {
		word := "reboot"
		if off {
			word = "shutdown"
		}
		return t.run(ctx, "wpeutil.exe", word)
	}
	word := "/r"
	if off {
		word = "/s"
	}
	return t.run(ctx, "shutdown.exe", word, "/t", "0")
}
