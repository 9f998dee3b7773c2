package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/bitlocker/keys/entra/entratest"
	"github.com/bootmend/bootmend/cmd/bootmend/tui"
)

// TestWizardSources puts the keys of a file and of Entra ID together as the wizard does.
func TestWizardSources(t *testing.T) {
	const id, key = "11111111-2222-3333-4444-55555555550", "-220022-330033-440044-550055-660066-111111-222222"
	server := entratest.Start(t, []entratest.Key{{ID: id + "1", Name: "PC-1", Device: "99999999-2222-3333-4444-555555555501", Key: "110011" + key}})
	file := filepath.Join(t.TempDir(), "keys.csv")
	if err := os.WriteFile(file, []byte("KeyID,RecoveryKey\n"+id+"2,110022"+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &wizardWork{tenantServer: server.URL}
	code := ""
	s, err := w.Tenant(t.Context(), "global", "", func(_, c string) { code = c })
	if err != nil || s.Keys != 1 || code == "" {
		t.Fatalf("%+v, code %q, error %v", s, code, err)
	}
	a := tui.NewAnswers()
	a.Source, a.Mixed, a.KeyPath, a.Protection = tui.FromMix, []tui.Source{tui.FromFile, tui.FromTenant}, file, tui.Unprotected
	opts, err := w.buildFrom(t.Context(), a)
	if err != nil || opts.list == nil || opts.list.Len() != 2 {
		t.Errorf("%+v, error %v", opts, err)
	}
}

// TestWizardWindowsPE makes the folder of a boot server and an ISO image as the commands do, byte for byte.
func TestWizardWindowsPE(t *testing.T) {
	if _, _, err := assets.MendExe(); err != nil {
		t.Skip(err)
	}
	medium, dir := windowsMedium(t, "XPRESS"), t.TempDir()
	lay(t, medium, map[string]string{"efi/microsoft/boot/efisys_noprompt.bin": strings.Repeat("e", 2048)})
	lay(t, dir, map[string]string{"wimboot": "MZ wimboot", "text": "no program"})
	w := &wizardWork{}
	description, err := w.WinPE(medium)
	if err != nil || !strings.HasPrefix(description, "Windows Setup") {
		t.Errorf("%q, error %v", description, err)
	}
	if err := w.Wimboot(filepath.Join(dir, "text")); err == nil {
		t.Error("any file is taken for wimboot")
	}
	for _, goal := range []tui.Goal{tui.GoalPXE, tui.GoalISO, tui.GoalUSB} {
		a := tui.NewAnswers()
		a.Goal, a.WindowsPE, a.WinPE, a.Source, a.ToDevices = goal, true, medium, tui.FromPerson, false
		a.Wimboot = filepath.Join(dir, "wimboot")
		a.Output = filepath.Join(dir, string(goal)+"-command")
		command := a.Commands()[0]
		if _, errs, err := bootmend(command[1:]...); err != nil {
			t.Fatalf("%q: %v\n%s", command, err, errs)
		}
		a.Output = filepath.Join(dir, string(goal)+"-wizard")
		if _, err := w.Do(t.Context(), a, func(tui.Progress) {}); err != nil {
			t.Fatal(err)
		}
		tool(t, "diff", "-r", filepath.Join(dir, string(goal)+"-command"), a.Output)
	}

	// What it lacks is said where it is chosen.
	other := t.TempDir()
	lay(t, other, map[string]string{"tree/Windows/System32/wpeinit.exe": "init", "sources/readme": ""})
	tool(t, "wimlib-imagex", "capture", filepath.Join(other, "tree"), filepath.Join(other, "sources", "boot.wim"), "Bare", "--boot")
	if _, err := w.WinPE(other); err == nil || !strings.Contains(err.Error(), "image 1 (Bare): without manage-bde") {
		t.Errorf("error %v", err)
	}
}
