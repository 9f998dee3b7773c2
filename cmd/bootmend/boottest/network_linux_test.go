package boottest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test's network: the site's DHCP server at .1, bootmend or a web server at .2.
const (
	siteAddress = "10.91.0.1"
	bootAddress = "10.91.0.2"
)

// network is a bridge with a machine's port and the two servers, each in a network namespace of its own.
type network struct {
	t    *testing.T
	name string // of the bridge; the others begin with it
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	skipShort(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	n := &network{t, "bm" + strings.ToLower(rand.Text()[:6])}
	t.Cleanup(func() {
		for _, args := range [][]string{{"link", "del", n.name}, {"link", "del", n.tap()}, {"netns", "del", n.name + "site"}, {"netns", "del", n.name + "boot"}} {
			_ = exec.Command("ip", args...).Run() // what was not made is not there
		}
	})
	n.ip("link", "add", n.name, "type", "bridge")
	n.ip("link", "set", n.name, "up")
	n.ip("tuntap", "add", n.tap(), "mode", "tap")
	n.ip("link", "set", n.tap(), "master", n.name, "up")
	for _, end := range []struct{ space, address string }{{"site", siteAddress}, {"boot", bootAddress}} {
		space, port := n.name+end.space, n.name+end.space[:1]
		n.ip("netns", "add", space)
		n.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
		n.ip("link", "set", port, "master", n.name, "up")
		n.ip("-n", space, "link", "set", "lo", "up")
		n.ip("-n", space, "addr", "add", end.address+"/24", "dev", "eth0")
		n.ip("-n", space, "link", "set", "eth0", "up")
	}
	return n
}

// inside are the arguments of nsenter for a namespace. "ip netns exec" would take along what is mounted, and hold the loop
// devices of other tests.
func (n *network) inside(space string) []string {
	return []string{"--net=/run/netns/" + n.name + space, "--"}
}

func (n *network) tap() string { return n.name + "tap" }

func (n *network) ip(args ...string) {
	n.t.Helper()
	_, err := run(context.Background(), "ip", args...)
	check(n.t, err)
}

// start runs a server in one of the namespaces until the test ends, and waits until it has said ready.
func (n *network) start(space, ready, program string, args ...string) *serverOutput {
	n.t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + program); err != nil {
			n.t.Skipf("%v: install it", err)
		}
	}
	cmd := exec.Command("nsenter", append(n.inside(space), append([]string{path}, args...)...)...)
	out := &serverOutput{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = noOrphan()
	check(n.t, cmd.Start())
	out.process = cmd.Process
	n.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // nsenter became the server
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // ended by a signal
		kill.Stop()
		if n.t.Failed() || testing.Verbose() {
			n.t.Logf("%s said:\n%s", program, out)
		}
	})
	for end := time.Now().Add(time.Minute); !strings.Contains(out.String(), ready); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("%s has not said %q: %s", program, ready, out)
		}
	}
	return out
}

// dhcp starts the site's DHCP server, which knows nothing of booting.
func (n *network) dhcp(args ...string) *serverOutput {
	return n.start("site", "DHCP, IP range", "dnsmasq", append([]string{"-k", "-C", "/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces",
		"--user=root", "--pid-file=", "--log-facility=-", "--log-dhcp", "--dhcp-leasefile=" + filepath.Join(n.t.TempDir(), "leases")}, args...)...)
}

const someAddresses = "--dhcp-range=10.91.0.100,10.91.0.199,1h"

// card is the machine's network card, which it starts from first. A UEFI has a driver of its own.
func (n *network) card(firmware Firmware) []string {
	device := "virtio-net-pci,netdev=net,bootindex=1,mac=52:54:00:02:91:01"
	if firmware != BIOS {
		device += ",romfile="
	}
	return []string{"-netdev", "tap,id=net,ifname=" + n.tap() + ",script=no,downscript=no", "-device", device}
}

// output collects what a server says.
type serverOutput struct {
	mu      sync.Mutex
	text    bytes.Buffer
	process *os.Process
}

// kill ends the server without giving it time for anything.
func (o *serverOutput) kill(t *testing.T) {
	t.Helper()
	check(t, o.process.Kill())
	_, err := o.process.Wait()
	check(t, err)
}

func (o *serverOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *serverOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// vaultFlags put a disk's key into a vault.
func vaultFlags(t *testing.T, disk *WindowsDisk) []string {
	t.Helper()
	return []string{"--keys", private(t, "keys.csv", keyList(disk)), "--passphrase-file", private(t, "pass", passphrase+"\n"),
		"--expires", "1w", quick, "--countdown", "0s"}
}

// healedByVault types the passphrase, and sees the machine healed and on its way to Windows.
func (m machine) healedByVault(disk *WindowsDisk) {
	m.t.Helper()
	m.expect("Media from the network with 1 vault", patience)
	m.expect("passphrase: ", patience)
	m.send(passphrase + "\r")
	m.healed()
	m.t.Logf("healed and restarted after %s", elapsed(m.reset(patience)))
	m.noDefect()
	if leak := LeakedKey(disk.Password, []byte(m.Transcript())); leak != "" {
		m.t.Errorf("the console showed %s of the recovery password", leak)
	}
	examine(m.t, disk, true)
}

// httpOnly takes PXE, which comes first, away from OVMF (its OvmfPkg/RUNTIME_CONFIG.md).
var httpOnly = []string{"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"}

// TestServe heals machines that "bootmend serve" starts beside a DHCP server that knows nothing of it.
func TestServe(t *testing.T) {
	for name, test := range map[string]struct {
		firmware Firmware
		extra    []string
	}{
		"secureboot": {SecureBoot, nil},
		"bios":       {BIOS, nil},
		"http":       {SecureBoot, httpOnly},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			firmware := test.firmware
			bootmend, err := program()
			check(t, err)
			n := newNetwork(t)
			disk := newDisk(t, DiskOptions{})
			// A ROM that takes the first offer must not get it after it has stopped waiting for others: no ping before.
			site := n.dhcp(someAddresses, "--no-ping")
			server := n.start("boot", "serving machines", bootmend, append([]string{"serve", "--uuid", DefaultUUID, "--subnet", "10.91.0.0/24"}, vaultFlags(t, disk)...)...)
			m := boot(t, Options{Firmware: firmware, Disks: []Disk{{Path: disk.Path, Bus: AHCI}},
				Extra: append(n.card(firmware), test.extra...)})
			m.healedByVault(disk)
			m.resume()
			m.expect(StandIn, patience)
			for _, want := range []string{"starts over the network as 10.91.0.1", "has loaded its boot program", "starts to heal"} {
				if name == "http" && want == "has loaded its boot program" {
					continue // it is all one file
				}
				if !strings.Contains(server.String(), want) {
					t.Errorf("the server has not said %q", want)
				}
			}
			if firmware == BIOS && !strings.Contains(server.String(), "left alone so that it starts Windows") {
				t.Error("the server did not let the machine go on to its disk")
			}
			if !strings.Contains(site.String(), "DHCPACK(eth0)") {
				t.Error("the address was not the site's")
			}
		})
	}
}

// TestServeOthers leaves machines alone that are not meant: they start from their disks.
func TestServeOthers(t *testing.T) {
	for name, limit := range map[string][]string{
		"list":   {"--mac", "52:54:00:00:00:99", "--uuid", "00000000-0000-0000-0000-000000000099"},
		"subnet": {"--subnet", "10.92.0.0/16"},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			bootmend, err := program()
			check(t, err)
			n := newNetwork(t)
			disk := newDisk(t, DiskOptions{Plain: true})
			n.dhcp(someAddresses)
			server := n.start("boot", "serving machines", bootmend, append([]string{"serve"}, limit...)...)
			m := boot(t, Options{Firmware: BIOS, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}, Extra: n.card(BIOS)})
			m.expect(StandIn, patience)
			if said := strings.Count(server.String(), "not in the list"); said == 0 && name == "list" || said > 2 {
				t.Errorf("the server said %d times that the machine is not in the list", said)
			}
			if strings.Contains(server.String(), "starts over the network") {
				t.Error("the machine was served")
			}
		})
	}
}

// TestServeSerials heals a machine whose serial number is in the list, and sends one on to its disk that is not meant.
func TestServeSerials(t *testing.T) {
	list := filepath.Join(t.TempDir(), "floor3.txt")
	check(t, os.WriteFile(list, []byte("# reception\r\nPF2ABCDE\r\n"+strings.ToLower(DefaultSerial)+"\r\n"), 0o600))
	for name, test := range map[string]struct {
		limit []string
		meant bool
	}{
		"meant":  {[]string{"--serial-file", list}, true},
		"others": {[]string{"--serial", "PF2ABCDE,5CD1234ABC"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			bootmend, err := program()
			check(t, err)
			n := newNetwork(t)
			disk := newDisk(t, DiskOptions{Plain: true})
			before := sum(t, disk.Path)
			n.dhcp(someAddresses, "--no-ping")
			n.start("boot", "serving machines", bootmend, append([]string{"serve", "--countdown", "0s"}, test.limit...)...)
			m := boot(t, Options{Firmware: SecureBoot, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}, Extra: n.card(SecureBoot)})
			if test.meant {
				m.healed()
			} else {
				m.expect("This machine is left as it is: the media are for other machines: serial number "+DefaultSerial+" is not in their list of 2", patience)
			}
			m.reset(patience)
			m.noDefect()
			if test.meant {
				examine(t, disk, true)
			} else if sum(t, disk.Path) != before {
				t.Error("the machine was to be left as it is, and its disk was changed")
			}
			m.resume()
			m.expect(StandIn, patience)
		})
	}
}

// TestServeHTTPS starts a machine whose firmware has the certificate enrolled, and leaves nothing of the boot files to HTTP
// or TFTP.
func TestServeHTTPS(t *testing.T) {
	parallel(t)
	bootmend, err := program()
	check(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048) // this OVMF knows no other
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "boot"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.ParseIP(bootAddress)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	private8, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	cert := private(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	certKey := private(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private8})))
	// EFI_SIGNATURE_LIST of one EFI_CERT_X509_GUID (UEFI 2.10, section 32.4.1), which OVMF enrolls.
	list := []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	for _, size := range []int{28 + 16 + len(der), 0, 16 + len(der)} {
		list = binary.LittleEndian.AppendUint32(list, uint32(size))
	}
	list = append(append(list, make([]byte, 16)...), der...)
	n := newNetwork(t)
	disk := newDisk(t, DiskOptions{})
	server := n.start("boot", "serving machines", bootmend, append([]string{"serve", "--dhcp-range", "10.91.0.60-10.91.0.69", "--tls-cert", cert, "--tls-key", certKey}, vaultFlags(t, disk)...)...)
	m := boot(t, Options{Firmware: SecureBoot, Disks: []Disk{{Path: disk.Path, Bus: AHCI}},
		Extra: append(append(n.card(SecureBoot), httpOnly...), "-fw_cfg", "name=etc/edk2/https/cacerts,file="+private(t, "cacerts", string(list)))})
	m.expect("URI: https://"+bootAddress+"/http-boot.iso", patience)
	m.healedByVault(disk)
	if !strings.Contains(server.String(), "starts to heal") || strings.Contains(server.String(), "has loaded its boot program") {
		t.Error("the machine did not get all of it as one file")
	}
}

// TestServeBench heals machines on a network that has no DHCP server but "bootmend serve" itself.
func TestServeBench(t *testing.T) {
	for name, firmware := range map[string]Firmware{"secureboot": SecureBoot, "bios": BIOS} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			bootmend, err := program()
			check(t, err)
			n := newNetwork(t)
			disk := newDisk(t, DiskOptions{})
			server := n.start("boot", "serving machines", bootmend, append([]string{"serve", "--dhcp-range", "10.91.0.60-10.91.0.69", "--uuid", DefaultUUID}, vaultFlags(t, disk)...)...)
			m := boot(t, Options{Firmware: firmware, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}, Extra: n.card(firmware)})
			m.healedByVault(disk)
			m.resume()
			m.expect(StandIn, patience)
			for _, want := range []string{"starts over the network as 10.91.0.6", "has loaded its boot program", "starts to heal"} {
				if !strings.Contains(server.String(), want) {
					t.Errorf("the server has not said %q", want)
				}
			}
		})
	}
}

// TestServeBenchControl has the agent get an address there as well, for the way to the key server. It tells no UUID.
func TestServeBenchControl(t *testing.T) {
	parallel(t)
	bootmend, err := program()
	check(t, err)
	n := newNetwork(t)
	disk := newDisk(t, DiskOptions{})
	server := n.control(keyList(disk))
	n.start("boot", "serving machines", bootmend, "serve", "--dhcp-range", "10.91.0.60-10.91.0.69", "--uuid", DefaultUUID, "--countdown", "0s", "--control", server.serverFile())
	m := boot(t, Options{Firmware: SecureBoot, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}, Extra: n.card(SecureBoot)})
	m.expect("Server https://10.91.0.2:8443, reached as eth0, 10.91.0.6", patience)
	server.heals(m, disk)
}

// client asks for an address as busybox does, so many times with a second in between, and returns what it says.
func (n *network) client(times int) string {
	n.t.Helper()
	script := private(n.t, "script", "#!/bin/sh\n[ \"$1\" != bound ] || echo \"got $ip/$mask for $lease s from $serverid, router <$router>\"\n")
	check(n.t, os.Chmod(script, 0o755))
	out, _ := exec.Command("nsenter", append(n.inside("site"), "busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", fmt.Sprint(times), "-T", "1", "-s", script)...).CombinedOutput()
	return string(out) // what it says counts, not how it ends
}

// TestServeCable answers nobody from the time that the cable is out until it is known what the next one leads to.
func TestServeCable(t *testing.T) {
	parallel(t)
	bootmend, err := program()
	check(t, err)
	n := newNetwork(t)
	n.ip("link", "set", n.name+"b", "down")
	server := n.start("boot", "serving machines", bootmend, "serve", "--dhcp-range", "10.91.0.60-10.91.0.69")
	if !strings.Contains(server.String(), "eth0 has no link yet") {
		t.Error("the server does not say that there is no link")
	}
	n.ip("link", "set", n.name+"b", "up")
	if said := n.client(30); !strings.Contains(said, "got 10.91.0.6") {
		t.Errorf("with the cable, udhcpc said: %s", said)
	}
	n.ip("link", "set", n.name+"b", "down")
	time.Sleep(2 * time.Second)
	n.ip("link", "set", n.name+"b", "up")
	if said := n.client(1); strings.Contains(said, "got") {
		t.Errorf("with another cable, udhcpc said at once: %s", said)
	}
	if said := n.client(30); !strings.Contains(said, "got 10.91.0.6") {
		t.Errorf("with another cable, udhcpc said: %s", said)
	}
}

// TestServeSecond refuses to be a second DHCP server, at the start and when the first one comes later. Before, another
// program's DHCP client gets an address.
func TestServeSecond(t *testing.T) {
	parallel(t)
	bootmend, err := program()
	check(t, err)
	n := newNetwork(t)
	args := []string{"serve", "--dhcp-range", "10.91.0.60-10.91.0.69"}
	server := n.start("boot", "serving machines", bootmend, args...)
	if said := n.client(3); !strings.Contains(said, "got 10.91.0.6") || !strings.Contains(said, "/24 for 3600 s from "+bootAddress+", router <>") {
		t.Errorf("udhcpc said: %s", said)
	}
	n.dhcp(someAddresses)
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(server.String(), "the DHCP server "+siteAddress+" answers on eth0"); time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("the server goes on beside another one: %s", server)
		}
	}
	out, err := exec.Command("nsenter", append(n.inside("boot"), append([]string{bootmend}, args...)...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the DHCP server "+siteAddress+" answers on eth0") || !strings.Contains(string(out), "leave --dhcp-range out") {
		t.Errorf("serve beside another DHCP server: %v: %s", err, out)
	}
}

// TestBuildPXE gives the folder out with Debian's own servers, configured with what lies in it.
func TestBuildPXE(t *testing.T) {
	for name, test := range map[string]struct {
		firmware Firmware
		web      string // where the web server is, if there is one
		extra    []string
	}{
		"uefi":      {UEFI, "", nil},
		"uefi-http": {UEFI, "site", httpOnly},
		"bios":      {BIOS, "", nil},
		"bios-ipxe": {BIOS, "boot", nil}, // QEMU's ROM is iPXE
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			bootmend, err := program()
			check(t, err)
			n := newNetwork(t)
			disk := newDisk(t, DiskOptions{})
			// Not below a folder that only root may enter: dnsmasq and nginx are others.
			parent, err := os.MkdirTemp("", "bootmend-pxe")
			check(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(parent) })
			check(t, os.Chmod(parent, 0o755))
			dir := filepath.Join(parent, "boot")
			server := siteAddress
			if test.web == "boot" {
				server = bootAddress
			}
			if out, err := exec.Command(bootmend, append([]string{"build", "pxe", "-o", dir, "--server", server}, vaultFlags(t, disk)...)...).CombinedOutput(); err != nil {
				t.Fatalf("build pxe: %v: %s", err, out)
			}
			if test.web != "" {
				conf := private(t, "nginx.conf", fmt.Sprintf("user root; daemon off; pid %s/nginx.pid; error_log stderr notice; events {} http { access_log off; include %s/snippets/nginx.conf; }", parent, dir))
				n.start(test.web, "start worker process", "nginx", "-c", conf)
			}
			if test.web == "boot" {
				n.dhcp(someAddresses, "--dhcp-boot=http://"+bootAddress+"/snippets/chain.ipxe")
			} else {
				n.dhcp("--conf-file=" + filepath.Join(dir, "snippets", "dnsmasq.conf"))
			}
			m := boot(t, Options{Firmware: test.firmware, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}, Extra: append(n.card(test.firmware), test.extra...)})
			m.healedByVault(disk)
		})
	}
}
