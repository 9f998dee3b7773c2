package netboot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/bootmend/bootmend/assets"
	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/iso"
)

func testSpec() media.Spec {
	bundle := fstest.MapFS{}
	for _, name := range []string{assets.Kernel, assets.ModulesCPIO, assets.NetworkCPIO, assets.Shim, assets.Grub, assets.ElTorito, assets.BootHybrid, assets.GrubNet, assets.GrubPXE, assets.Notice} {
		bundle[name] = &fstest.MapFile{Data: []byte("content of " + name)}
	}
	bundle[assets.ElTorito].Data = bytes.Repeat([]byte("BIOS"), 4<<10)
	bundle[assets.BootHybrid].Data = bytes.Repeat([]byte{0x90}, 512)
	return media.Spec{
		Bundle: bundle, GrubConfig: assets.GrubConfig, Agent: media.FromBytes("", []byte("agent")), Config: []byte("countdown: 5s\n"),
		Rules: []media.RulePack{{Name: "pack", Data: []byte("rules")}}, Vault: []byte("sealed"), Time: time.Unix(1721365740, 0),
	}
}

var server = netip.MustParseAddr("192.0.2.10")

func load(t *testing.T) *Files {
	t.Helper()
	files, err := Load(context.Background(), testSpec())
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestDisc makes sure that the disc for HTTP boot has nothing on it but what the firmware and GRUB read: the vault is in
// the initramfs, where the agent looks for it.
func TestDisc(t *testing.T) {
	files := load(t)
	data, err := files.Get("http-boot.iso")
	if err != nil {
		t.Fatal(err)
	}
	list, err := iso.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	disc := map[string]string{}
	for _, f := range list {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		disc[f.Path] = string(text)
	}
	if menu := disc["/boot/grub/grub.cfg"]; !strings.Contains(menu, "initrd /bootmend/modules.img /bootmend/media.img /bootmend/agent.img") {
		t.Errorf("the menu loads other files:\n%s", menu)
	}
	if !strings.Contains(disc["/bootmend/media.img"], "sealed") {
		t.Error("the vault is not in the initramfs")
	}
	if disc["/bootmend/keys.age"] != "" {
		t.Error("the vault lies on the disc, too")
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "boot")
	for range 2 { // the second replaces the first
		info, err := Write(context.Background(), dir, testSpec(), server, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !info.HasVault || info.MediaID == "" {
			t.Errorf("%+v", info)
		}
	}
	inMemory := load(t)
	for name, data := range inMemory.content {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := string(inMemory.content["/grub/grub.cfg"])
	for _, want := range []string{"initrd /bootmend/modules.img /bootmend/media.img /bootmend/agent.img", "bootmend.media=" + inMemory.ID} {
		if !strings.Contains(cfg, want) {
			t.Errorf("no %q in\n%s", want, cfg)
		}
	}
	if strings.Contains(cfg, "@") || strings.Contains(cfg, "search") {
		t.Errorf("not for a network:\n%s", cfg)
	}
	archive := inMemory.content["/bootmend/media.img"]
	for _, want := range []string{"media/bootmend/config.yaml", "media/bootmend/keys.age", "media/bootmend/media.id", "media/bootmend/rules/01-pack.yaml"} {
		if !bytes.Contains(archive, []byte(want+"\x00")) {
			t.Errorf("no %s in media.img", want)
		}
	}
	if len(archive)%512 != 0 {
		t.Error("media.img does not end where another segment may begin")
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the folder: %v, %v", left, err)
	}
}

func TestWriteRefusals(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(context.Background(), dir, testSpec(), server, nil); !errors.Is(err, ErrNotOurs) {
		t.Errorf("a folder with other files: %v", err)
	}
	spec := testSpec()
	spec.Keys = media.Keys("KeyID,RecoveryKey\n")
	if _, err := Load(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "vault") {
		t.Errorf("keys that are not sealed: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	parent := t.TempDir()
	if _, err := Write(ctx, filepath.Join(parent, "boot"), testSpec(), server, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestGet asks as firmware does, and as an attacker does.
func TestGet(t *testing.T) {
	files := load(t)
	for _, name := range []string{"bootx64.efi", "/bootx64.efi", "//bootx64.efi", `\bootx64.efi`, `bootmend\vmlinuz`} {
		if _, err := files.Get(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "/", "..", "../../etc/passwd", `..\..\etc\passwd`, "/bootmend", "/bootmend/", "bootmend/../../etc/passwd", "/etc/passwd", "bootx64.efi\x00"} {
		if data, err := files.Get(name); err == nil {
			t.Errorf("%q gave %d bytes", name, len(data))
		}
	}
}

// TestLoadWindowsPE gives a WIM out that is in no memory, as a whole and in parts, and closes it each time.
func TestLoadWindowsPE(t *testing.T) {
	const size = 65 << 20
	opened := 0
	wim := media.File{Path: "/boot.wim", Size: size, Open: func() (io.ReadCloser, error) {
		opened++
		return &large{io.NewSectionReader(counting{}, 0, size), &opened}, nil
	}}
	tree, err := media.WindowsPENetworkTree(context.Background(), []media.File{media.FromBytes("/boot.ipxe", []byte("#!ipxe\n")), wim}, media.Spec{Time: time.Unix(1721365740, 0)})
	if err != nil {
		t.Fatal(err)
	}
	files, err := LoadWindowsPE(tree)
	if err != nil {
		t.Fatal(err)
	}
	files.Add("/ipxe.efi", []byte("MZ"))
	if files.Size() < size || files.ID != tree.ID {
		t.Errorf("%d bytes, number %s", files.Size(), files.ID)
	}
	if _, err := files.Get("boot.wim"); err == nil {
		t.Error("the WIM is in memory")
	}
	s := httptest.NewServer(files.Handler(nil))
	defer s.Close()
	get := func(path, part string) (int, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if part != "" {
			r.Header.Set("Range", part)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, body
	}
	want := make([]byte, size)
	_, _ = counting{}.ReadAt(want, 0)
	if status, body := get("/boot.wim", ""); status != http.StatusOK || !bytes.Equal(body, want) {
		t.Errorf("status %d, %d bytes", status, len(body))
	}
	if status, body := get("/boot.wim", "bytes=1000-2999"); status != http.StatusPartialContent || !bytes.Equal(body, want[1000:3000]) {
		t.Errorf("status %d, %d bytes", status, len(body))
	}
	for path, content := range map[string]string{"/boot.ipxe": "#!ipxe\n", "/ipxe.efi": "MZ"} {
		if status, body := get(path, ""); status != http.StatusOK || string(body) != content {
			t.Errorf("%s: status %d, %q", path, status, body)
		}
	}
	if status, _ := get("/boot.wim/", ""); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
	if opened != 0 {
		t.Errorf("%d are open still", opened)
	}
}

type large struct {
	*io.SectionReader
	opened *int
}

func (l *large) Close() error {
	*l.opened--
	return nil
}

// counting has at each place a byte that follows from it.
type counting struct{}

func (counting) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = byte((off + int64(i)) * 7 >> 3)
	}
	return len(p), nil
}

func TestHandler(t *testing.T) {
	s := httptest.NewServer(load(t).Handler(nil))
	defer s.Close()
	for name, test := range map[string]struct {
		method, path, ranges string
		status               int
		body                 string
	}{
		"whole":       {"GET", "/bootx64.efi", "", 200, "content of " + assets.Shim},
		"part":        {"GET", "/bootx64.efi", "bytes=3-5", 206, "ten"},
		"end":         {"GET", "/bootx64.efi", "bytes=-3", 206, "efi"},
		"beyond":      {"GET", "/bootx64.efi", "bytes=5000-", 416, ""},
		"disc part":   {"GET", "/http-boot.iso", "bytes=32769-32773", 206, "CD001"},
		"head":        {"HEAD", "/grubx64.efi", "", 200, ""},
		"none":        {"GET", "/other", "", 404, ""},
		"a folder":    {"GET", "/bootmend/", "", 404, ""},
		"a way up":    {"GET", "/../../../../etc/passwd", "", 404, ""},
		"a hidden up": {"GET", "/%2e%2e/%2e%2e/etc/passwd", "", 404, ""},
		"writing":     {"PUT", "/bootx64.efi", "", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(context.Background(), test.method, s.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.ranges != "" {
				request.Header.Set("Range", test.ranges)
			}
			answer, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = answer.Body.Close() }()
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != test.status || test.status < 400 && string(body) != test.body {
				t.Errorf("%s with %q, %v", answer.Status, body, err)
			}
		})
	}
}

// TestSnippets lets each server that there is on this computer read its configuration.
func TestSnippets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "boot")
	if _, err := Write(context.Background(), dir, testSpec(), server, nil); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, "snippets", name) }
	nginx := filepath.Join(t.TempDir(), "nginx.conf")
	if err := os.WriteFile(nginx, []byte("pid "+nginx+".pid; error_log stderr; events {} http { access_log off; include "+in("nginx.conf")+"; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	// An address that every computer has, since nginx looks.
	data, err := os.ReadFile(in("nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("nginx.conf"), bytes.Replace(data, []byte("192.0.2.10:80"), []byte("127.0.0.1:18080"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"dnsmasq":   {"dnsmasq", "--test", "-C", in("dnsmasq.conf")},
		"ISC":       {"dhcpd", "-t", "-cf", in("dhcpd.conf")},
		"Kea":       {"kea-dhcp4", "-t", in("kea-dhcp4.json")},
		"nginx":     {"nginx", "-t", "-c", nginx},
		"tftpd-hpa": {"sh", "-n", in("tftpd-hpa")},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(args[0])
			if err != nil {
				path, err = exec.LookPath("/usr/sbin/" + args[0])
			}
			if err != nil {
				t.Skipf("%v: install it", err)
			}
			if out, err := exec.Command(path, args[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// FuzzHandler asks for anything: what comes back is a file that there is, or nothing of any.
func FuzzHandler(f *testing.F) {
	files, err := Load(context.Background(), testSpec())
	if err != nil {
		f.Fatal(err)
	}
	handler := files.Handler(nil)
	f.Add("GET", "/bootx64.efi", "bytes=3-5")
	f.Add("HEAD", "/../../etc/passwd", "")
	f.Add("GET", "//bootmend\\vmlinuz", "bytes=-1,0-")
	f.Fuzz(func(t *testing.T, method, path, ranges string) {
		r := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{"Range": {ranges}}}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		data, err := files.Get(path)
		switch {
		case err != nil && w.Code < 400:
			t.Errorf("%s %q: %d, and there is no such file", method, path, w.Code)
		case err == nil && w.Code == http.StatusOK && method == http.MethodGet && !bytes.Equal(w.Body.Bytes(), data):
			t.Errorf("%q: %d bytes of %d", path, w.Body.Len(), len(data))
		}
	})
}
