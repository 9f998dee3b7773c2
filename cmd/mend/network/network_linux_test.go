package network

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

func TestCards(t *testing.T) {
	dir := t.TempDir()
	for name, files := range map[string][]string{
		"eth0":   {"type=1", "device/"},
		"enp2s0": {"type=1", "device/"},
		"lo":     {"type=772"},
		"br0":    {"type=1"}, // no hardware behind it
		"wlan0":  {"type=1", "device/", "phy80211/"},
		"ib0":    {"type=32", "device/"},
	} {
		for _, file := range files {
			file, text, _ := strings.Cut(file, "=")
			path := filepath.Join(dir, name, file)
			if strings.HasSuffix(file, "/") {
				mkdir(t, path)
				continue
			}
			mkdir(t, filepath.Dir(path))
			if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := cards(dir); !slices.Equal(got, []string{"enp2s0", "eth0"}) {
		t.Errorf("cards are %q", got)
	}
	if got := cards(filepath.Join(dir, "none")); got != nil {
		t.Errorf("a kernel without network has cards %q", got)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestNewLink(t *testing.T) {
	for name, test := range map[string]struct {
		address string
		options []dhcpv4.Option
		want    Link
		err     string
	}{
		"all": {"10.0.0.5", []dhcpv4.Option{
			dhcpv4.OptSubnetMask(net.CIDRMask(20, 32)), dhcpv4.OptRouter(net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2)),
			dhcpv4.OptDNS(net.IPv4(10, 0, 0, 3), net.IPv4(10, 0, 0, 4)),
		}, Link{Card: "eth0", Address: netip.MustParsePrefix("10.0.0.5/20"), Router: netip.MustParseAddr("10.0.0.1"),
			DNS: []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")}}, ""},
		"no router": {"192.168.1.9", []dhcpv4.Option{dhcpv4.OptSubnetMask(net.CIDRMask(24, 32))},
			Link{Card: "eth0", Address: netip.MustParsePrefix("192.168.1.9/24")}, ""},
		"no mask":    {"10.0.0.5", nil, Link{}, "gave no network mask"},
		"no address": {"0.0.0.0", []dhcpv4.Option{dhcpv4.OptSubnetMask(net.CIDRMask(20, 32))}, Link{}, "gave no address"},
	} {
		t.Run(name, func(t *testing.T) {
			ack, err := dhcpv4.New(dhcpv4.WithYourIP(net.ParseIP(test.address)))
			if err != nil {
				t.Fatal(err)
			}
			for _, option := range test.options {
				ack.UpdateOption(option)
			}
			got, err := newLink("eth0", &nclient4.Lease{ACK: ack})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Address != test.want.Address || got.Router != test.want.Router || !slices.Equal(got.DNS, test.want.DNS) || got.Card != "eth0" {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// inside makes the test binary do the work of TestConnect within a network namespace of its own.
const inside = "BOOTMEND_TEST_CARD"

// TestConnect asks Debian's dnsmasq for an address, between two network namespaces.
func TestConnect(t *testing.T) {
	if os.Getenv(inside) != "" {
		connectInside(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	dnsmasq, err := exec.LookPath("dnsmasq")
	if err != nil {
		if dnsmasq, err = exec.LookPath("/usr/sbin/dnsmasq"); err != nil {
			t.Skip("dnsmasq is not installed: install dnsmasq-base")
		}
	}
	name := "bn" + strings.ToLower(rand.Text()[:6])
	site, machine := name+"s", name+"m"
	t.Cleanup(func() {
		for _, space := range []string{site, machine} {
			_ = exec.Command("ip", "netns", "del", space).Run() // what was not made is not there
		}
	})
	ip(t, "netns", "add", site)
	ip(t, "netns", "add", machine)
	ip(t, "-n", machine, "link", "set", "lo", "up")
	ip(t, "-n", site, "link", "set", "lo", "up")
	ip(t, "-n", machine, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", site)
	ip(t, "-n", site, "addr", "add", "10.92.0.1/24", "dev", "eth0")

	// The cable is plugged in while the machine already waits, and the server starts late, as a switch with spanning
	// tree makes it seem.
	started := make(chan error, 1)
	// Not "ip netns exec", which would take along what is mounted, and hold the loop devices of other tests.
	server := exec.Command("nsenter", "--net=/run/netns/"+site, "--", dnsmasq, "-k", "-C", "/dev/null", "--port=0", "--interface=eth0",
		"--bind-interfaces", "--user=root", "--pid-file=", "--no-ping", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"),
		"--dhcp-range=10.92.0.100,10.92.0.199,1h", "--dhcp-option=option:router,10.92.0.1", "--dhcp-option=option:dns-server,10.92.0.53")
	time.AfterFunc(time.Second, func() { started <- exec.Command("ip", "-n", site, "link", "set", "eth0", "up").Run() })
	time.AfterFunc(2*time.Second, func() { started <- server.Start() })

	test := exec.Command("nsenter", "--net=/run/netns/"+machine, "--", os.Args[0], "-test.run=^TestConnect$", "-test.v")
	test.Env = append(os.Environ(), inside+"=eth0")
	out, err := test.CombinedOutput()
	for range 2 {
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	_ = server.Process.Kill()
	_ = server.Wait() // killed
	if err != nil || !strings.Contains(string(out), "router answered") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func connectInside(t *testing.T) {
	// A veth has no hardware behind it, which cards would demand.
	dir := t.TempDir()
	mkdir(t, filepath.Join(dir, "eth0/device"))
	if err := os.WriteFile(filepath.Join(dir, "eth0/type"), []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "etc/resolv.conf")
	if err := missing(dir); !errors.Is(err, ErrNoCable) {
		t.Errorf("missing: %v", err)
	}
	if err := missing(t.TempDir()); !errors.Is(err, ErrNoCard) {
		t.Errorf("missing: %v", err)
	}
	soon, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := connect(soon, dir, file); !errors.Is(err, ErrNoCable) {
		t.Errorf("without a cable: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	link, err := connect(ctx, dir, file)
	if err != nil {
		t.Fatal(err)
	}
	if link.Card != "eth0" || !netip.MustParsePrefix("10.92.0.0/24").Contains(link.Address.Addr()) || link.Address.Bits() != 24 {
		t.Errorf("connected as %s", link)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "nameserver 10.92.0.53\n" {
		t.Errorf("resolver: %q, %v", text, err)
	}
	if out, err := exec.Command("ip", "route").CombinedOutput(); err != nil || !strings.Contains(string(out), "default via 10.92.0.1") {
		t.Errorf("routes: %s, %v", out, err)
	}
	if err := missing(dir); err != nil {
		t.Errorf("missing: %v", err)
	}
	lease, err := renew(ctx, link.Card, link.lease)
	if err != nil {
		t.Fatal(err)
	}
	if !lease.ACK.YourIPAddr.Equal(link.lease.ACK.YourIPAddr) {
		t.Errorf("renewed as %s", lease.ACK.YourIPAddr)
	}
	// The kernel sends where the route leads: nobody listens, and the answer to that comes from the router itself.
	_, err = net.DialTimeout("tcp", "10.92.0.1:9", 5*time.Second)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("router: %v", err)
	}
	t.Log("router answered")
}
