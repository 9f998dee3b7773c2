package main

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/boottest"
	"github.com/bootmend/bootmend/cmd/bootmend/tui/termtest"
	"github.com/bootmend/bootmend/remediate"
)

// terminal has the agent in it. It is wider than a display is: Wine counts the characters of a control sequence as if they
// took room, and breaks lines too early.
func (w *wine) terminal(t *testing.T) *termtest.Terminal {
	t.Helper()
	return termtest.Start(t, termtest.Options{Size: "200x60", Env: w.env}, "sh", "-c", `exec "$@" 2>/dev/null`, "sh", wine64(), w.agent)
}

// testScreen types a key at the agent in Windows PE, with a wrong group, and goes through its menu.
func (w *wine) testScreen(t *testing.T, volume, password, id string) {
	w.write(w.path("bootmend/config.yaml"), []byte("countdown: 0s\non_success: wait\n"))
	_ = os.Remove(w.path("bootmend/keys.csv"))
	dir := t.TempDir()
	files := w.windowsTree(dir)
	stop := w.unlockLater(dir, volume)
	defer stop()
	s := w.terminal(t)
	groups, of := strings.Split(password, "-"), strings.Split(id, "-")
	page := s.Shows("bootmend | ", "find disks > unlock > look > heal > done", "This machine needs its recovery key.", "    BOOTMEND-PC", "    "+of[0],
		"    "+strings.Join(of[1:4], " - "), "key: ______-______-______-______-______-______-______-______")
	scanCode(t, page, "BOOTMEND-PC "+id)

	// Skipped, and asked again from the menu.
	s.Type("s")
	s.Shows("NOT HEALED: ", "is locked and no key was given. Wanted: key ID "+id, "K  type the recovery key", "Your choice: ")
	coloured(t, s, "41")
	s.Type("l")
	s.Shows("This machine: ", "Any key: ")
	s.Type("q")
	s.Shows("Your choice: _")
	s.Type("k")
	s.Shows("key: ______")
	wrong := groups[2][:5] + string('0'+(groups[2][5]-'0'+1)%10)
	s.Type(groups[0] + groups[1] + wrong + strings.Join(groups[3:], "")) // as a scanner does
	s.Shows("key: "+groups[0]+"-"+groups[1]+"-______-", "group 3 is not valid: one of its digits is wrong.")
	time.Sleep(500 * time.Millisecond)
	s.Type(strings.Join(groups[2:], "-"))
	text := s.Shows("HEALED: 1 Windows installation", "Unlocked BOOTMEND-PC C: 7/19/2024 (F:) by typed key, key ID "+id, "██████", "Your choice: _")
	if found := boottest.LeakedKey(password, []byte(text)); found != "" {
		t.Errorf("the screen still shows %s of the key", found)
	}
	coloured(t, s, "42")
	expectTree(t, dir, files, true)

	s.Type("s")
	s.Shows("N: with network   M: minimal")
	s.Type("m")
	s.Shows("SAFE MODE SET: ")
	s.Type("f") // Wine has no firmware
	s.Shows("at power-on")
	s.Type("p")
	s.Shows("ended with 0", "HEALED: 1 Windows installation") // what was told stays
	calls := w.calls()
	driver := `drvload_C:\bootmend\drivers\vmd\iaStorVD.inf`
	expectCalls(t, calls, driver, driver, "manage-bde_-unlock_F:_-RecoveryPassword_"+password, "bcdedit_/deletevalue_{default}_safeboot",
		"bcdedit_/set_{default}_safeboot_minimal", "wpeutil_shutdown")
}

// colours are SGR sequences (ECMA-48, section 8.3.117).
var colours = regexp.MustCompile(`\x1b\[([0-9;]*)m`)

// coloured looks whether most of the screen has a background.
func coloured(t *testing.T, s *termtest.Terminal, background string) {
	t.Helper()
	rows := strings.Split(s.Painted(), "\n")
	n, now := 0, ""
	for _, row := range rows { // a row begins in the colours of the one before
		for _, sequence := range colours.FindAllStringSubmatch(row, -1) {
			for _, code := range strings.Split(sequence[1], ";") {
				if len(code) == 2 && code[0] == '4' || code == "0" || code == "" {
					now = code
				}
			}
		}
		if now == background {
			n++
		}
	}
	if n < len(rows)/2 {
		t.Errorf("%d of %d rows end in background %s", n, len(rows), background)
	}
}

// scanCode reads the QR code on a screen as a phone would.
func scanCode(t *testing.T, text, want string) {
	t.Helper()
	if _, err := exec.LookPath("zbarimg"); err != nil {
		t.Log("zbarimg is absent: apt-get install zbar-tools")
		return
	}
	const pixel, margin = 4, 10
	rows := strings.Split(text, "\n")
	picture := image.NewGray(image.Rect(0, 0, pixel*(200+2*margin), pixel*(2*len(rows)+2*margin)))
	for i := range picture.Pix {
		picture.Pix[i] = 0xff
	}
	dark := func(x, y int) {
		for i := range pixel * pixel {
			picture.SetGray((x+margin)*pixel+i%pixel, (y+margin)*pixel+i/pixel, color.Gray{})
		}
	}
	for y, row := range rows {
		for x, r := range []rune(row) {
			if strings.ContainsRune("█▀", r) {
				dark(x, 2*y)
			}
			if strings.ContainsRune("█▄", r) {
				dark(x, 2*y+1)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "code.png")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, picture); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("zbarimg", "-q", "--raw", path).Output()
	if err != nil || strings.TrimSpace(string(out)) != strings.ToUpper(want) {
		t.Errorf("a phone reads %q (%v), want %q", out, err, want)
	}
}

// testControl lets the agent in Windows PE have its key from a control server, and look at the log that it hands in.
func (w *wine) testControl(t *testing.T, volume, password, id string) {
	if !hasCard() {
		t.Skip("this computer has no network card with an address")
	}
	program := filepath.Join(t.TempDir(), "bootmend")
	w.must(exec.Command("go", "build", "-o", program, "../bootmend"))
	state := filepath.Join(t.TempDir(), "state")
	list := filepath.Join(t.TempDir(), "keys.csv")
	w.write(list, []byte("KeyID,RecoveryKey\n"+id+","+password+"\n"))
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	w.check(err)
	address := listener.Addr().String()
	w.check(listener.Close())
	server := exec.Command(program, "control", "--state", state, "--keys", list, "--listen", address, "--address", "127.0.0.1")
	said, err := server.StderrPipe()
	w.check(err)
	server.Stdout = server.Stderr
	w.check(server.Start())
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	go func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			t.Log(lines.Text())
		}
	}()
	section := ""
	for range 300 {
		if data, err := os.ReadFile(filepath.Join(state, "server.yaml")); err == nil {
			section = "server:\n  " + strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "\n  ")
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if section == "" {
		t.Fatal("the control server writes no server.yaml")
	}
	w.write(w.path("bootmend/config.yaml"), []byte("countdown: 0s\n"+section+"\n"))
	_ = os.Remove(w.path("bootmend/keys.csv"))
	dir := t.TempDir()
	files := w.windowsTree(dir)
	stop := w.unlockLater(dir, volume)
	out, status := w.run(t, "", nil)
	stop()
	for _, want := range []string{"Server https://127.0.0.1:", "The server has sent 1 recovery key", "by server https://127.0.0.1:", "HEALED", "has the log"} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q", want)
		}
	}
	if status != exitDone {
		t.Errorf("status %d", status)
	}
	expectTree(t, dir, files, true)
	export := filepath.Join(t.TempDir(), "export")
	w.must(exec.Command(program, "control", "export", "--state", state, "-o", export))
	logs, _ := filepath.Glob(filepath.Join(export, "reports/*.jsonl"))
	if len(logs) != 1 {
		t.Fatalf("%d logs at the server", len(logs))
	}
	f, err := os.Open(logs[0])
	w.check(err)
	defer f.Close()
	outcome := remediate.Outcome("")
	_, err = remediate.ScanLog(f, nil, func(l *remediate.Line) {
		if l.Result != nil {
			outcome = l.Result.Outcome
		}
	})
	if err != nil || outcome != remediate.OutcomeHealed {
		t.Errorf("the log at the server ends with %q (%v)", outcome, err)
	}
}

func hasCard() bool {
	cards, _ := net.Interfaces()
	for _, card := range cards {
		addresses, _ := card.Addrs()
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && card.Flags&(net.FlagUp|net.FlagLoopback) == net.FlagUp && len(card.HardwareAddr) > 0 && n.IP.IsGlobalUnicast() {
				return true
			}
		}
	}
	return false
}

// testNoMedia starts Windows PE of a stick that is not seen, and whose settings are not known therefore.
func (w *wine) testNoMedia(t *testing.T, dummy string) {
	away := w.path("bootmend-away")
	w.check(os.Rename(w.path("bootmend"), away))
	defer func() { w.check(os.Rename(away, w.path("bootmend"))) }()
	dir := t.TempDir()
	files := w.windowsTree(dir)
	w.drive("f", dir, dummy)
	defer w.drive("f", "", "")
	out, _ := w.run(t, "", nil, "-stay")
	for _, want := range []string{"folder bootmend is not found. Nothing is changed", "Dry run: nothing is changed"} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q", want)
		}
	}
	expectTree(t, dir, files, false)
}

// testUnlisted leaves a machine as it is whose serial number is not in the media's list, or if nobody can read that.
func (w *wine) testUnlisted(t *testing.T, dummy string) {
	w.write(w.path("bootmend/config.yaml"), []byte("countdown: 0s\n"))
	list := w.path("bootmend/serials.txt")
	defer func() { w.check(os.Remove(list)) }()
	for listed, says := range map[string]string{"PF2ABCDE\n": "the media are for ", "# none\n": "bootmend/serials.txt: the list of machines has no serial number"} {
		w.write(list, []byte(listed))
		dir := t.TempDir()
		files := w.windowsTree(dir)
		w.drive("f", dir, dummy)
		out, status := w.run(t, "", nil, "-stay")
		if !strings.Contains(out, says) || !strings.Contains(out, "This machine is left as it is: ") || status != exitNothing {
			t.Errorf("with a list of %q: status %d, and does not say %q", listed, status, says)
		}
		expectTree(t, dir, files, false)
		w.drive("f", "", "")
	}
}

// testBeyond has a rule that would take more than its blast radius: the agent asks, as the one for Linux does.
func (w *wine) testBeyond(t *testing.T, dummy string) {
	const pack = `apiVersion: bootmend/v1
id: site
title: Everything
blastRadius:
  maxFiles: 1
  paths:
    - Windows/System32/drivers/CrowdStrike
rules:
  - id: all
    path: Windows/System32/drivers/CrowdStrike/C-00000291-*.sys
    action: quarantine
`
	w.write(w.path("bootmend/config.yaml"), []byte("countdown: 0s\nallow_unsigned_rules: true\n"))
	w.write(w.path("bootmend/rules/site.yaml"), []byte(pack))
	defer func() { w.check(os.RemoveAll(w.path("bootmend/rules"))) }()
	for typed, says := range map[string]string{"no\n": "and nobody agreed to that. Nothing was changed.", "": "and nobody agreed to that", "yes\n": "HEALED: 1 Windows installation"} {
		t.Run(fmt.Sprintf("%q", typed), func(t *testing.T) {
			dir := t.TempDir()
			w.windowsTree(dir)
			w.drive("f", dir, dummy)
			out, _ := w.run(t, typed, nil, "-stay")
			if !strings.Contains(out, "beyond the blast radius: ") || !strings.Contains(out, "Type YES to do it nevertheless") || !strings.Contains(out, says) {
				t.Errorf("does not say %q", says)
			}
			found, _ := filepath.Glob(filepath.Join(dir, "ProgramData/bootmend/quarantine/*/manifest.json"))
			if len(found) > 0 != (typed == "yes\n") {
				t.Errorf("%d repairs", len(found))
			}
			w.drive("f", "", "")
		})
	}
}
