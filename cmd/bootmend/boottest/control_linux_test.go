package boottest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/browsertest"
	"github.com/bootmend/bootmend/remediate"
)

// control is a running "bootmend control" on the test's network.
type control struct {
	t     *testing.T
	n     *network
	state string
	said  *serverOutput
}

// control starts the server with keys, and waits until it answers.
func (n *network) control(keys string, args ...string) *control {
	n.t.Helper()
	bootmend, err := program()
	check(n.t, err)
	c := &control{t: n.t, n: n, state: filepath.Join(n.t.TempDir(), "state")}
	args = append([]string{"control", "--state", c.state}, args...)
	if keys != "" {
		args = append(args, "--keys", private(n.t, "keys.csv", keys))
	}
	c.said = n.start("boot", "Token to sign in:", bootmend, args...)
	return c
}

func (c *control) serverFile() string { return filepath.Join(c.state, "server.yaml") }

// export takes what the server has out of its database, into a folder.
func (c *control) export() (folder string) {
	c.t.Helper()
	bootmend, err := program()
	check(c.t, err)
	folder = filepath.Join(c.t.TempDir(), "export")
	out, err := exec.Command(bootmend, "control", "export", "--state", c.state, "-o", folder).CombinedOutput()
	if err != nil {
		c.t.Fatalf("control export: %v: %s", err, out)
	}
	return folder
}

// reports are the logs that the server has.
func (c *control) reports() (logs [][]byte) {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.export(), "reports", "*.jsonl"))
	check(c.t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		check(c.t, err)
		logs = append(logs, data)
	}
	return logs
}

// handedIn makes sure that the log of the only machine ends with an outcome.
func (c *control) handedIn(want remediate.Outcome) {
	c.t.Helper()
	logs := c.reports()
	if len(logs) != 1 || !bytes.Contains(logs[0], []byte(`"outcome":"`+string(want)+`"`)) {
		c.t.Errorf("the server has %d logs, none with the outcome %s: %s", len(logs), want, bytes.Join(logs, nil))
	}
}

// heals sees the machine healed with a key of the server, which then has its log.
func (c *control) heals(m machine, disk *WindowsDisk) {
	c.t.Helper()
	m.expect("The server has sent 1 recovery key", patience)
	m.healed()
	m.reset(patience)
	m.noDefect()
	examine(c.t, disk, true)
	c.handedIn(remediate.OutcomeHealed)
}

// controlCard is a network card that the machine does not start from.
func (n *network) controlCard() []string {
	return []string{"-netdev", "tap,id=net,ifname=" + n.tap() + ",script=no,downscript=no", "-device", "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:02:91:01"}
}

// TestControl heals a machine whose key is with the server of its site only: the media hold none, and nobody types.
func TestControl(t *testing.T) {
	parallel(t)
	n := newNetwork(t)
	disk := newDisk(t, DiskOptions{})
	n.dhcp(someAddresses)
	server := n.control(keyList(disk))
	iso := media(t, "", "--countdown", "0s", "--control", server.serverFile())
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}, Extra: n.controlCard()})
	m.expect("Server https://10.91.0.2:8443, reached as eth0, 10.91.0.1", patience)
	m.expect("The server has sent 1 recovery key", patience)
	m.expect("Unlocked .* by server https://10.91.0.2:8443", patience)
	m.healed()
	m.expect("The server https://10.91.0.2:8443 has the log", patience)
	m.reset(patience)
	m.noDefect()
	if leak := LeakedKey(disk.Password, []byte(m.Transcript()+server.said.String())); leak != "" {
		t.Errorf("a console showed %s of the recovery password", leak)
	}
	examine(t, disk, true)
	server.handedIn(remediate.OutcomeHealed)
	audit, err := os.ReadFile(filepath.Join(server.export(), "audit.jsonl"))
	check(t, err)
	if !strings.Contains(strings.ToUpper(string(audit)), strings.ToUpper(disk.KeyID)) || !strings.Contains(string(audit), `"given"`) {
		t.Errorf("the key is not written down: %s", audit)
	}
}

// TestControlNetboot does it without any medium: "bootmend serve" starts the machine and "bootmend control", or the same
// program, gives the key. A person has to approve the machine first, and does so on the page.
func TestControlNetboot(t *testing.T) {
	for name, start := range map[string]func(n *network, bootmend, keys string) *control{
		"two programs": func(n *network, bootmend, keys string) *control {
			server := n.control(keys, "--approve")
			n.start("boot", "serving machines", bootmend, "serve", "--countdown", "0s", "--control", server.serverFile())
			return server
		},
		"one program": func(n *network, bootmend, keys string) *control {
			server := &control{t: n.t, n: n, state: filepath.Join(n.t.TempDir(), "state")}
			server.said = n.start("boot", "serving machines", bootmend, "serve", "--countdown", "0s", "--with-control", "--approve",
				"--state", server.state, "--keys", private(n.t, "keys.csv", keys))
			return server
		},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			bootmend, err := program()
			check(t, err)
			n := newNetwork(t)
			disk := newDisk(t, DiskOptions{})
			n.dhcp(someAddresses, "--no-ping")
			server := start(n, bootmend, keyList(disk))
			m := boot(t, Options{Firmware: SecureBoot, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}, Extra: n.card(SecureBoot)})
			m.expect("Media from the network", patience)
			m.expect("is asked, too: this goes on as soon as somebody approves", patience)
			m.expect("key: ", patience)
			server.click("/approve", url.Values{})
			server.heals(m, disk)
			if leak := LeakedKey(disk.Password, []byte(m.Transcript()+server.said.String())); leak != "" {
				t.Errorf("a console showed %s of the recovery password", leak)
			}
		})
	}
}

// TestControlTyped has the key typed at the page, in a browser, and the server killed and started again in the middle.
func TestControlTyped(t *testing.T) {
	parallel(t)
	n := newNetwork(t)
	disk := newDisk(t, DiskOptions{})
	n.dhcp(someAddresses)
	first := n.control("")
	iso := media(t, "", "--countdown", "0s", "--control", first.serverFile())
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}, Extra: n.controlCard()})
	m.expect("key: ", patience)
	first.said.kill(t)
	second := &control{t: t, n: n, state: first.state}
	bootmend, err := program()
	check(t, err)
	second.said = n.start("boot", "Token to sign in:", bootmend, "control", "--state", first.state)
	b := second.browser()
	b.Until(`document.querySelector('form.key input[name="id"]')?.value.toUpperCase() === "` + strings.ToUpper(disk.KeyID) + `"`)
	b.Type(`form.key input[name="key"]`, disk.Password)
	b.Click("form.key button")
	second.heals(m, disk)
	b.See("healed")
	if leak := LeakedKey(disk.Password, []byte(b.Source())); leak != "" {
		t.Errorf("the page has %s of the recovery password", leak)
	}
}

// TestControlPaused leaves a machine as it is while the server says so, also when a person at the machine tries again, and
// heals it once somebody has resumed.
func TestControlPaused(t *testing.T) {
	parallel(t)
	n := newNetwork(t)
	disk := newDisk(t, DiskOptions{Plain: true})
	before := sum(t, disk.Path)
	n.dhcp(someAddresses)
	server := n.control("")
	server.click("/pause", nil)
	iso := media(t, "", "--countdown", "0s", "--control", server.serverFile())
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}, Extra: n.controlCard()})
	again := func() {
		m.expect("wants this machine .* to be left as it is: paused by a person", patience)
		m.expect("Press M for the menu", patience)
		m.send("m")
		m.expect("Your choice: ", patience)
		m.send("t")
	}
	again()
	again()
	if sum(t, disk.Path) != before {
		t.Error("the machine was to be left as it is, and its disk was changed")
	}
	m.expect("wants this machine", patience)
	m.expect("Press M for the menu", patience)
	m.send("m")
	m.expect("Your choice: ", patience)
	server.click("/resume", nil)
	m.send("t")
	m.healed()
	m.reset(patience)
	m.noDefect()
	examine(t, disk, true)
	server.handedIn(remediate.OutcomeHealed)
}

// TestControlGone heals by what the media say when the server is not there.
func TestControlGone(t *testing.T) {
	parallel(t)
	n := newNetwork(t)
	disk := newDisk(t, DiskOptions{Plain: true})
	n.dhcp(someAddresses)
	server := n.control("")
	iso := media(t, "", "--countdown", "0s", "--control", server.serverFile())
	server.said.kill(t)
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}, Extra: n.controlCard()})
	m.expect("does not answer: .*goes on without it", patience)
	m.healed()
	m.reset(patience)
	m.noDefect()
	examine(t, disk, true)
}

// token is what the server has told at its start.
func (c *control) token() string {
	c.t.Helper()
	token := regexp.MustCompile(`Token to sign in: +(\S+)`).FindStringSubmatch(c.said.String())
	if token == nil {
		c.t.Fatal("no token on the terminal")
	}
	return token[1]
}

// browser is one on the server's own computer that is signed in.
func (c *control) browser() *browsertest.Browser {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.state, "certificate.pem"))
	check(c.t, err)
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	check(c.t, err)
	b := browsertest.Start(c.t, certificate, append([]string{"nsenter"}, c.n.inside("boot")...)...)
	b.Open("https://" + bootAddress + ":8443/")
	b.Type("#token", c.token())
	b.Click("form.sign-in button")
	b.See("Sign out")
	return b
}

// click does what a signed-in person does on the page, for the machine that waits as soon as one does. A form of nil is a
// button that is no machine's.
func (c *control) click(path string, form url.Values) {
	c.t.Helper()
	jar := filepath.Join(c.t.TempDir(), "cookies")
	curl := func(path string, form url.Values) string {
		c.t.Helper()
		args := append(c.n.inside("boot"), "curl", "--silent", "--show-error", "--fail", "--insecure", "--location",
			"--cookie", jar, "--cookie-jar", jar, "https://"+bootAddress+":8443"+path)
		if form != nil {
			args = append(args, "--data", form.Encode())
		}
		out, err := run(context.Background(), "nsenter", args...)
		check(c.t, err)
		return string(out)
	}
	curl("/sign-in", url.Values{"token": {c.token()}})
	if form == nil {
		curl(path, url.Values{})
		return
	}
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		list := curl("/machines.json", nil)
		waits := regexp.MustCompile(`"run":"([^"]+)".*"waiting":\[{"key_id":"([^"]+)"`).FindStringSubmatch(list)
		if waits != nil {
			form.Set("run", waits[1])
			form.Set("id", waits[2])
			curl(path, form)
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("no machine waits: %s", list)
		}
	}
}
