package sheet

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

func sample(t testing.TB, n int) *keys.List {
	t.Helper()
	var csv strings.Builder
	csv.WriteString("KeyID,RecoveryKey,ComputerName,OU\n")
	for i := range n {
		fmt.Fprintf(&csv, "11111111-2222-3333-4444-%012X,%06d-%06d-330033-000000-550055-660066-720885-222222,PC-%d <b>,Berlin\n", i, 11*((i*7919)%65536), 11*((i*104729)%65536), n-i)
	}
	csv.WriteString(",110011-220022-330033-440044-550055-660066-111111-222222,,\n")
	list, err := keys.Read(strings.NewReader(csv.String()), "x.csv")
	if err != nil || len(list.Entries) != n+1 {
		t.Fatal(err, list.Problems)
	}
	return list
}

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, sample(t, 3), "Berlin & Paris", Both); err != nil {
		t.Fatal(err)
	}
	html := b.String()
	for _, want := range []string{"Berlin &amp; Paris", "4 BitLocker recovery keys", "PC-1 &lt;b&gt;", "Unknown computer", "Key ID <b>11111111</b>-2222-", "Key ID unknown", "<span>330033</span>"} {
		if !strings.Contains(html, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if strings.Index(html, "PC-1") > strings.Index(html, "PC-2") || strings.Index(html, "Unknown computer") < strings.Index(html, "PC-2") {
		t.Error("not in the order of the names")
	}
	if regexp.MustCompile(`(src|href)=|url\(|@import|<script`).MatchString(html) {
		t.Error("the page loads something")
	}
	b.Reset()
	if err := Write(&b, sample(t, 1), "x", QR); err != nil || strings.Contains(b.String(), `class="bars"`) {
		t.Error("bars were not asked for", err)
	}
}

// TestScan draws each code with librsvg and reads it with zbar, as a scanner would.
func TestScan(t *testing.T) {
	for _, tool := range []string{"rsvg-convert", "zbarimg"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: \"make tools\" installs it", tool)
		}
	}
	n := 12
	if testing.Short() {
		n = 2
	}
	list := sample(t, n)
	for code, want := range map[Code]string{Code128: "CODE-128", QR: "QR-Code"} {
		var page bytes.Buffer
		if err := Write(&page, list, "x", code); err != nil {
			t.Fatal(err)
		}
		digits := regexp.MustCompile(`<div class="digits">.*?</div>`).FindAllString(page.String(), -1)
		figures := regexp.MustCompile(`(?s)<svg class="(\w+)" viewBox="0 0 (\d+) (\d+)".*?</svg>`).FindAllStringSubmatch(page.String(), -1)
		if len(figures) != n+1 || len(digits) != n+1 {
			t.Fatalf("%s: %d codes, %d keys", code, len(figures), len(digits))
		}
		for i, f := range figures {
			size := "width=\"960\" height=\"120\""
			if code == QR {
				size = "width=\"300\" height=\"300\""
			}
			svg := strings.Replace(f[0], "<svg ", `<svg xmlns="http://www.w3.org/2000/svg" `+size+" ", 1)
			file := filepath.Join(t.TempDir(), "code.svg")
			if err := os.WriteFile(file, []byte(svg), 0o600); err != nil {
				t.Fatal(err)
			}
			png := strings.TrimSuffix(file, "svg") + "png"
			if out, err := exec.Command("rsvg-convert", "-b", "white", "-o", png, file).CombinedOutput(); err != nil {
				t.Fatalf("rsvg-convert: %v\n%s", err, out)
			}
			out, err := exec.Command("zbarimg", "-q", png).Output()
			key := strings.Join(regexp.MustCompile(`\d{6}`).FindAllString(digits[i], -1), "")
			if got := strings.TrimSpace(string(out)); err != nil || got != want+":"+key || len(key) != 48 {
				t.Errorf("%s of row %d is read as %d characters (%v)", code, i+1, len(got), err)
			}
		}
	}
}
