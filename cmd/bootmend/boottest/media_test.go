package boottest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// programDir is removed after the tests.
var programDir string

// program is bootmend, built once the way make builds it, from the sources under test.
var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("BOOTMEND_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "bootmend-binary")
	if err != nil {
		return "", err
	}
	programDir = dir
	path := filepath.Join(dir, "bootmend")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./cmd/bootmend")
	cmd.Dir = repository()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build bootmend: %w: %s", err, out)
	}
	return path, nil
})

// media builds an ISO as a user would. keys is the text of a CSV file, "" for none.
func media(t *testing.T, keys string, flags ...string) string {
	t.Helper()
	return build(t, "iso", keys, flags...)
}

// mediaStick builds the image of a stick as a user would.
func mediaStick(t *testing.T, keys string, flags ...string) string {
	t.Helper()
	return build(t, "usb", keys, flags...)
}

func build(t *testing.T, kind, keys string, flags ...string) string {
	t.Helper()
	skipShort(t)
	bootmend, err := program()
	check(t, err)
	dir := t.TempDir()
	image := filepath.Join(dir, "heal."+kind)
	args := []string{"build", kind, "-o", image}
	if keys != "" {
		file := filepath.Join(dir, "keys.csv")
		if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--keys", file, "--unprotected-keys")
	}
	cmd := exec.Command(bootmend, append(args, flags...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "boot bundle") {
		t.Skipf("this bootmend was built without its boot bundle, run make: %s", out)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return image
}

// keyList is the key file of a site: this disk's key among others' keys.
func keyList(disk *WindowsDisk) string {
	return "KeyID,RecoveryKey\r\n" +
		"11111111-2222-3333-4444-555555555555," + wrongPassword + "\r\n" +
		disk.KeyID + "," + disk.Password + "\r\n"
}

// wrongPassword is well formed and opens nothing here.
const wrongPassword = "111111-222222-333333-444444-555555-666666-111111-222222"
