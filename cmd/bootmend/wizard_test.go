package main

import (
	"os"
	"path/filepath"
	"testing"

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
