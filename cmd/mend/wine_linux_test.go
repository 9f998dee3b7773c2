package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/bitlocker/fvetest"
	"github.com/bootmend/bootmend/cmd/bootmend/boottest"
	"github.com/bootmend/bootmend/remediate"
)

// shimDLL is the one thing that Go's runtime asks of Windows and that older Wines lack.
const shimDLL = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T n) { return SystemFunction036(data, (ULONG)n); }
BOOL WINAPI DllMain(HINSTANCE h, DWORD r, LPVOID p) { return TRUE; }
`

// fakeTool stands for Windows' own programs: it notes how it was called. As manage-bde it succeeds once the test has
// put the clear volume in the place of the locked one.
const fakeTool = `package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	name := strings.ToLower(strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"))
	f, err := os.OpenFile("C:\\calls.txt", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	f.WriteString(name + " " + strings.Join(os.Args[1:], " ") + "\n")
	f.Close()
	if name == "manage-bde" {
		for range 300 {
			if _, err := os.Stat("C:\\unlocked.txt"); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		os.Exit(1)
	}
}
`

// wine is a Windows of Wine's, with the agent and the fake programs.
type wine struct {
	t      *testing.T
	prefix string
	agent  string
	env    []string // beside that of the test
}

func newWine(t *testing.T) *wine {
	t.Helper()
	if testing.Short() {
		t.Skip("starts Wine; left out by -short")
	}
	for _, tool := range []struct{ name, install string }{{wine64(), "wine64"}, {"x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-win32"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			t.Skipf("%s is absent: apt-get install %s", tool.name, tool.install)
		}
	}
	dir := t.TempDir()
	w := &wine{t: t, prefix: filepath.Join(dir, "prefix"), agent: filepath.Join(dir, "mend.exe")}
	w.env = []string{"WINEPREFIX=" + w.prefix, "WINEDEBUG=-all", "DISPLAY=", "WINEDLLOVERRIDES=shutdown.exe=n"}
	t.Cleanup(func() { // it must let go of the folder before that is removed
		_ = w.command(wineProgram("wineserver"), "-k").Run()
		_ = w.command(wineProgram("wineserver"), "-w").Run()
	})
	w.must(w.command(wine64(), "wineboot", "-i"))

	system := filepath.Join(w.prefix, "drive_c/windows/system32")
	w.write(filepath.Join(dir, "shim.c"), []byte(shimDLL))
	w.must(exec.Command("x86_64-w64-mingw32-gcc", "-shared", "-nostartfiles", "-Wl,-e,DllMain", "-o", filepath.Join(system, "bcryptprimitives.dll"),
		filepath.Join(dir, "shim.c"), "-ladvapi32"))
	w.build(".", w.agent)
	fake := filepath.Join(dir, "fake")
	w.write(filepath.Join(fake, "main.go"), []byte(fakeTool))
	w.build(filepath.Join(fake, "main.go"), filepath.Join(fake, "fake.exe"))
	program, err := os.ReadFile(filepath.Join(fake, "fake.exe"))
	w.check(err)
	for _, name := range []string{"manage-bde", "bcdedit", "wpeutil", "drvload", "shutdown"} {
		_ = os.Remove(filepath.Join(system, name+".exe")) // Wine's own
		w.write(filepath.Join(system, name+".exe"), program)
	}
	return w
}

// wineProgram finds a program where Debian puts it for its own scripts, if it is not on the path.
func wineProgram(name string) string {
	for _, place := range []string{name, "/usr/lib/wine/" + name, "/usr/lib/wine/" + name + "64"} {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	return name
}

func wine64() string { return wineProgram("wine64") }

func (w *wine) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *wine) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), w.env...)
	return cmd
}

func (w *wine) must(cmd *exec.Cmd) {
	w.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func (w *wine) build(source, to string) {
	w.t.Helper()
	cmd := exec.Command("go", "build", "-o", to, source)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	w.must(cmd)
}

func (w *wine) write(path string, data []byte) {
	w.t.Helper()
	w.check(os.MkdirAll(filepath.Dir(path), 0o755))
	w.check(os.WriteFile(path, data, 0o600))
}

// drive gives a folder a letter; device is what stands for the volume below it.
func (w *wine) drive(letter, dir, device string) {
	w.t.Helper()
	for name, to := range map[string]string{letter + ":": dir, letter + "::": device} {
		link := filepath.Join(w.prefix, "dosdevices", name)
		_ = os.Remove(link)
		if to != "" {
			w.check(os.Symlink(to, link))
		}
	}
}

// run starts the agent and returns what it printed and its exit status.
func (w *wine) run(t *testing.T, stdin string, env []string, args ...string) (string, int) {
	t.Helper()
	_ = os.Remove(w.path("calls.txt"))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, wine64(), append([]string{w.agent}, args...)...)
	cmd.Env = slices.Concat(os.Environ(), w.env, env)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("mend.exe %s: status %d\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out)
	return string(out), cmd.ProcessState.ExitCode()
}

func (w *wine) path(name string) string { return filepath.Join(w.prefix, "drive_c", name) }

// calls are those of the fake programs.
func (w *wine) calls() []string {
	data, _ := os.ReadFile(w.path("calls.txt")) // absent if there were none
	return strings.Fields(strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(string(data)), " ", "_"), "\n", " "))
}

// windowsTree makes the files of a broken Windows in dir.
func (w *wine) windowsTree(dir string) []boottest.File {
	w.t.Helper()
	files := boottest.SmallWindows()
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		w.write(path, f.Data)
		w.check(os.Chtimes(path, f.Time, f.Time))
	}
	return files
}

// expectTree compares a Windows with what it must be.
func expectTree(t *testing.T, dir string, files []boottest.File, healed bool) {
	t.Helper()
	for _, f := range files {
		place := filepath.Join(dir, f.Path)
		if healed && f.Fate == boottest.Quarantined {
			if _, err := os.Stat(place); err == nil {
				t.Errorf("%s is still there", f.Path)
			}
			found, _ := filepath.Glob(filepath.Join(dir, "ProgramData/bootmend/quarantine/*", f.Path+".quarantined"))
			if len(found) != 1 {
				t.Errorf("%s is in quarantine %d times", f.Path, len(found))
				continue
			}
			place = found[0]
		}
		if data, err := os.ReadFile(place); err != nil || !bytes.Equal(data, f.Data) {
			t.Errorf("%s: other bytes (%v)", place, err)
		}
	}
	manifests, _ := filepath.Glob(filepath.Join(dir, "ProgramData/bootmend/quarantine/*/manifest.json"))
	if len(manifests) > 0 != healed {
		t.Errorf("%d manifests", len(manifests))
	}
}

// testAttached repairs a Windows that is attached as a drive, with the program itself, and undoes that. Wine keeps no
// owners of files, so the record looks like one that anybody could have written.
func (w *wine) testAttached(t *testing.T, device string) {
	bootmend := filepath.Join(t.TempDir(), "bootmend.exe")
	w.build("../bootmend", bootmend)
	run := func(args ...string) (string, int) {
		cmd := w.command(wine64(), append([]string{bootmend}, args...)...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		t.Logf("bootmend.exe %s: status %d\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out)
		return string(out), cmd.ProcessState.ExitCode()
	}
	dir := t.TempDir()
	files := w.windowsTree(dir)
	w.drive("g", dir, device)
	if _, status := run("repair", "G:", "--yes"); status != 0 {
		t.Errorf("repair: status %d", status)
	}
	expectTree(t, dir, files, true)
	if out, status := run("restore", "G:", "--yes"); status == 0 || !strings.Contains(out, "or give --trust-record") {
		t.Errorf("restore of a record that anybody could have written: status %d", status)
	}
	expectTree(t, dir, files, true)
	if out, status := run("restore", "G:", "--trust-record", "--dry-run"); status != 0 || !strings.Contains(out, "to put back") {
		t.Errorf("dry run: status %d", status)
	}
	expectTree(t, dir, files, true)
	if _, status := run("restore", "G:", "--trust-record", "--yes"); status != 0 {
		t.Errorf("restore: status %d", status)
	}
	for _, f := range files {
		place := filepath.Join(dir, f.Path)
		data, err := os.ReadFile(place)
		info, statErr := os.Stat(place)
		if err != nil || statErr != nil || !bytes.Equal(data, f.Data) || !info.ModTime().Equal(f.Time) {
			t.Errorf("%s is not what it was: %v %v", f.Path, err, statErr)
		}
	}
}

func expectCalls(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

// unlockLater does what manage-bde would do, once that is called: the drive F: shows what is in dir. The function that it
// returns ends the waiting.
func (w *wine) unlockLater(dir, image string) (stop func()) {
	_ = os.Remove(w.path("calls.txt"))
	_ = os.Remove(w.path("unlocked.txt"))
	w.drive("f", filepath.Join(dir, "nothing"), image)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if data, _ := os.ReadFile(w.path("calls.txt")); bytes.Contains(data, []byte("manage-bde")) {
				w.drive("f", dir, image)
				w.write(w.path("unlocked.txt"), nil)
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// TestWine runs the agent for Windows in Wine, as in Safe Mode and as in Windows PE.
func TestWine(t *testing.T) {
	w := newWine(t)
	dummy := filepath.Join(t.TempDir(), "dummy")
	w.write(dummy, make([]byte, 1<<20))

	stick := t.TempDir()
	w.write(filepath.Join(stick, "bootmend/config.yaml"), []byte("countdown: 0s\n"))
	w.check(os.MkdirAll(filepath.Join(stick, "bootmend/logs"), 0o755))
	w.drive("s", stick, "")
	safe := []string{"SAFEBOOT_OPTION=NETWORK"}

	t.Run("safe mode", func(t *testing.T) {
		dir := t.TempDir()
		files := w.windowsTree(dir)
		w.drive("e", dir, dummy)
		out, status := w.run(t, "", safe, "-media", `S:\`, "-dry-run")
		if status != exitDone || !strings.Contains(out, "DRY RUN: 1 Windows installation would be healed") {
			t.Errorf("dry run: status %d", status)
		}
		expectTree(t, dir, files, false)
		expectCalls(t, w.calls())

		out, status = w.run(t, "", safe, "-media", `S:\`)
		if status != exitDone || !strings.Contains(out, "HEALED: 1 Windows installation") {
			t.Errorf("status %d", status)
		}
		expectTree(t, dir, files, true)
		expectCalls(t, w.calls(), "bcdedit_/deletevalue_{current}_safeboot", "shutdown_/r_/t_0")
		for _, place := range []string{filepath.Join(stick, "bootmend/logs/*.jsonl"), filepath.Join(dir, "ProgramData/bootmend/logs/*.jsonl")} {
			logs, _ := filepath.Glob(place)
			if len(logs) == 0 {
				t.Errorf("no log in %s", place)
				continue
			}
			f, err := os.Open(logs[len(logs)-1])
			w.check(err)
			defer f.Close()
			moved := 0
			_, err = remediate.ScanLog(f, nil, func(l *remediate.Line) {
				if l.Quarantine != nil {
					moved = len(l.Quarantine.Result.Moved)
				}
			})
			if err != nil || moved != 2 {
				t.Errorf("the log %s tells of %d files (%v)", logs[0], moved, err)
			}
		}

		out, status = w.run(t, "", safe, "-media", `S:\`, "-stay")
		if status != exitNothing || !strings.Contains(out, "nothing is left to heal") {
			t.Errorf("again: status %d", status)
		}
		expectTree(t, dir, files, true)
		w.drive("e", "", "")
	})

	t.Run("no Windows", func(t *testing.T) {
		out, status := w.run(t, "", nil, "-media", `S:\`, "-stay")
		if status != exitFailed || !strings.Contains(out, "No Windows was found") {
			t.Errorf("status %d", status)
		}
		expectCalls(t, w.calls())
	})

	// Windows PE: its own disk brings the media, and the volume is locked.
	w.must(w.command(wine64(), "reg", "add", `HKLM\SYSTEM\CurrentControlSet\Control\MiniNT`, "/f"))
	w.write(w.path("bootmend/config.yaml"), []byte("countdown: 0s\non_failure: poweroff\n"))
	w.write(w.path("bootmend/drivers/vmd/iaStorVD.inf"), []byte("; none\n"))
	image := filepath.Join(t.TempDir(), "volume")
	volume, err := os.Create(image)
	w.check(err)
	clear := make([]byte, 16<<20)
	copy(clear[3:], "NTFS    ")
	made, err := fvetest.Format(volume, bytes.NewReader(clear), int64(len(clear)), fvetest.Options{RecoveryPasswords: []string{""}})
	w.check(errors.Join(err, volume.Close()))
	password, id := made.Recovery[0].Password, made.Recovery[0].ID.String()
	w.must(w.command(wineProgram("wineserver"), "-w")) // what it knows of the registry is on the disk
	t.Run("screen", func(t *testing.T) { w.testScreen(t, image, password, id) })
	t.Run("control server", func(t *testing.T) { w.testControl(t, image, password, id) })
	t.Run("no media", func(t *testing.T) { w.testNoMedia(t, dummy) })
	t.Run("media for others", func(t *testing.T) { w.testUnlisted(t, dummy) })
	t.Run("beyond the blast radius", func(t *testing.T) { w.testBeyond(t, dummy) })
	t.Run("attached disk", func(t *testing.T) { w.testAttached(t, dummy) })
	w.write(w.path("bootmend/config.yaml"), []byte("countdown: 0s\non_failure: poweroff\n"))
	const other = "111111-222222-333333-444444-555555-666666-111111-222222"

	for name, test := range map[string]struct {
		list, typed string
		stick       string // a list on a stick, beside what the media hold
		opens       bool
		says        string
		calls       []string
	}{
		"key on the media": {list: id + "," + password, opens: true, says: "HEALED",
			calls: []string{"manage-bde_-unlock_F:_-RecoveryPassword_" + password, "bcdedit_/deletevalue_{default}_safeboot", "wpeutil_reboot"}},
		"wrong key on the media, then a mistyped and the right one": {list: id + "," + other, typed: "1" + password[1:] + "\n" + strings.ReplaceAll(password, "-", "") + "\n",
			opens: true, says: "group 1 ",
			calls: []string{"manage-bde_-unlock_F:_-RecoveryPassword_" + password, "bcdedit_/deletevalue_{default}_safeboot", "wpeutil_reboot"}},
		"key on a stick that is found by its name": {stick: id + "," + password, opens: true, says: "by key file list.csv on the stick",
			calls: []string{`drvload_S:\bootmend\drivers\nvme.inf`, "manage-bde_-unlock_F:_-RecoveryPassword_" + password, "bcdedit_/deletevalue_{default}_safeboot", "wpeutil_reboot"}},
		"no key": {says: "is locked and no key was given. Wanted: key ID " + id, calls: []string{"wpeutil_shutdown"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := w.windowsTree(dir)
			w.write(w.path("bootmend/keys.csv"), []byte("KeyID,RecoveryKey\n"+test.list+"\n"))
			before, _ := filepath.Glob(filepath.Join(stick, "bootmend/logs/*.jsonl"))
			if test.stick != "" {
				for name, content := range map[string]string{".windows-label": "BOOTMEND\n", // Wine's name for the volume
					"bootmend/keys/list.csv": "KeyID,RecoveryKey\n" + test.stick + "\n", "bootmend/drivers/nvme.inf": "; none\n"} {
					w.write(filepath.Join(stick, name), []byte(content))
					defer func() { w.check(os.Remove(filepath.Join(stick, name))) }()
				}
			}
			stop := w.unlockLater(dir, image)
			typed := test.typed
			if strings.HasPrefix(typed, "1"+password[1:]) && password[0] == '1' {
				typed = "2" + typed[1:]
			}
			out, status := w.run(t, typed, nil)
			stop()
			if !strings.Contains(out, test.says) || (status == exitDone) != test.opens {
				t.Errorf("status %d, or does not say %q", status, test.says)
			}
			if !strings.Contains(out, "Driver iaStorVD.inf is loaded") {
				t.Error("does not tell of the driver")
			}
			expectTree(t, dir, files, test.opens)
			expectCalls(t, w.calls(), append([]string{`drvload_C:\bootmend\drivers\vmd\iaStorVD.inf`}, test.calls...)...)
			if found := boottest.LeakedKey(password, []byte(out)); found != "" {
				t.Errorf("prints %s of the key", found)
			}
			after, _ := filepath.Glob(filepath.Join(stick, "bootmend/logs/*.jsonl"))
			if (len(after) > len(before)) != (test.stick != "") {
				t.Errorf("%d logs on the stick after %d", len(after), len(before))
			}
			logs, _ := filepath.Glob(filepath.Join(dir, "ProgramData/bootmend/logs/*.jsonl"))
			for _, log := range logs {
				data, err := os.ReadFile(log)
				if err != nil || boottest.LeakedKey(password, data) != "" {
					t.Errorf("%s holds the key (%v)", log, err)
				}
			}
			w.drive("f", "", "")
		})
	}
}
