package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bootmend/bootmend/image/netboot/lease"
	"github.com/bootmend/bootmend/image/netboot/relay"
)

func TestServeUsage(t *testing.T) {
	for args, want := range map[string]string{
		"serve --env winpe":                  "needs --winpe PATH",
		"serve --env winpe --winpe boot.wim": "needs --wimboot FILE",
		"serve --wimboot wimboot":            "add --env winpe",
		"serve --ipxe ipxe.efi":              "add --env winpe",
		"serve --winpe boot.wim":             "add --env winpe",
		"serve --tls-cert cert.pem":          "belong together",
		"serve --env winpe --winpe boot.wim --wimboot wimboot --tls-cert cert.pem --tls-key key.pem": "does not start from",
		"serve --halt-after 3":                                                       "--halt-after is for the control server in this program",
		"serve --with-control --control server.yaml":                                 "leave one of them out",
		"serve --with-control --keys keys.csv --expires 1d":                          "with --with-control none are in them",
		"serve --with-control --interface lo --keys-per-hour -1":                     "is a number of keys",
		"serve --with-control --interface lo --keys there-is-none.csv":               "there-is-none.csv",
		"serve --interface lo --dhcp-range 127.0.0.9":                                "is not a range",
		"serve --interface lo --dhcp-range 192.0.2.1-192.0.2.9":                      "not within the network 127.0.0.0/8",
		"serve --interface lo --dhcp-range 127.0.0.5-127.0.0.9 --subnet 10.1.0.0/16": "not all of a network of --subnet",
	} {
		if _, _, err := bootmend(strings.Fields(args)...); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// TestLoaders tells copies of iPXE apart by what is in them.
func TestLoaders(t *testing.T) {
	dir := t.TempDir()
	program := func(machine uint16) string {
		b := make([]byte, 4096)
		copy(b, "MZ")
		b[0x3C] = 0x40
		copy(b[0x40:], "PE\x00\x00")
		binary.LittleEndian.PutUint16(b[0x44:], machine)
		return string(b)
	}
	lay(t, dir, map[string]string{
		"ipxe.efi": program(0x8664), "arm.efi": program(0xaa64), "broken.efi": "MZ" + strings.Repeat("x", 5000), "undionly.kpxe": strings.Repeat("k", 70_000),
		"notes.txt": "no program", "large.iso": strings.Repeat("i", maxIPXEBIOS+1),
	})
	for _, test := range []struct{ names, want, refused string }{
		{"", "", ""},
		{"ipxe.efi", "/ipxe.efi", ""},
		{"undionly.kpxe ipxe.efi", "/ipxe.0 /ipxe.efi", ""},
		{"ipxe.efi ipxe.efi", "", "there are two"},
		{"arm.efi", "", "no program for UEFI on x64"},
		{"broken.efi", "", "no program for UEFI on x64"},
		{"notes.txt", "", "neither a program"},
		{"large.iso", "", "neither a program"},
		{"missing", "", "no such file"},
	} {
		var o serveOptions
		for _, name := range strings.Fields(test.names) {
			o.ipxe = append(o.ipxe, filepath.Join(dir, name))
		}
		files, err := o.loaders()
		if test.refused != "" {
			if err == nil || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%s: %v", test.names, err)
			}
			continue
		}
		if err != nil || len(files) != len(strings.Fields(test.want)) {
			t.Errorf("%s: %d files, %v", test.names, len(files), err)
		}
		for _, path := range strings.Fields(test.want) {
			if files[path] == nil {
				t.Errorf("%s: nothing at %s", test.names, path)
			}
		}
	}
}

// TestServeCertificate takes the name from the certificate that firmware will look for in it.
func TestServeCertificate(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "key.pem")
	lay(t, dir, map[string]string{"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	for name, test := range map[string]struct {
		names   []string
		address string
		age     time.Duration
		want    string
		refused string
	}{
		"address":   {[]string{"boot.example.com"}, "192.0.2.10", 0, "192.0.2.10", ""},
		"name":      {[]string{"*.example.com", "boot.example.com"}, "192.0.2.11", 0, "boot.example.com", ""},
		"wildcard":  {[]string{"*.example.com"}, "192.0.2.11", 0, "", "neither 192.0.2.10 nor a name"},
		"of before": {nil, "192.0.2.10", 50 * time.Hour, "", "is valid from"},
	} {
		begin := time.Now().Add(-time.Hour - test.age)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begin, NotAfter: begin.Add(24 * time.Hour),
			DNSNames: test.names, IPAddresses: []net.IP{net.ParseIP(test.address)}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		lay(t, dir, map[string]string{"cert.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))})
		o := serveOptions{cert: filepath.Join(dir, "cert.pem"), certKey: keyFile}
		certificate, got, err := o.certificate(netip.MustParseAddr("192.0.2.10"))
		if got != test.want || (certificate != nil) != (test.want != "") || test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, _, err := (&serveOptions{cert: keyFile, certKey: keyFile}).certificate(netip.MustParseAddr("192.0.2.10")); err == nil {
		t.Error("a key is a certificate")
	}
}

// TestFirmwareTLS has a client that offers what OVMF's firmware of Debian 12 does, and one of today.
func TestFirmwareTLS(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"boot"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for name, client := range map[string]*tls.Config{
		"OVMF":  {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{0x9d, 0x9c, 0x3d, 0x3c, 0x35, 0x2f}},
		"today": {MinVersion: tls.VersionTLS13},
	} {
		client.RootCAs, client.ServerName = roots, "boot"
		here, there := net.Pipe()
		failed := make(chan error, 1)
		go func() {
			failed <- tls.Server(there, firmwareTLS(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})).Handshake()
		}()
		if err := tls.Client(here, client).Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-failed; err != nil {
			t.Errorf("%s: the server: %v", name, err)
		}
		_, _ = here.Close(), there.Close()
	}
}

// TestRefusedTLS shows one line a minute.
func TestRefusedTLS(t *testing.T) {
	var out strings.Builder
	r := &refusedTLS{lines: &lineWriter{w: &out}}
	for range 1000 {
		if n, err := r.Write([]byte("http: TLS handshake error\n")); n != 26 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, " http: TLS handshake error\n") {
		t.Errorf("%q", got)
	}
}

// TestServeKnown has the agent of a machine that was served for its UUID get an address, although it tells none.
func TestServeKnown(t *testing.T) {
	var out strings.Builder
	limits, err := (&limitOptions{uuids: []string{"4C4C4544-0042-3510-8052-B4C04F4A3132"}}).read()
	if err != nil {
		t.Fatal(err)
	}
	s := &bootServer{limits: limits, lines: &lineWriter{w: &out}, bench: &bench{leases: lease.Server{Address: netip.MustParsePrefix("192.0.2.10/24"), Time: time.Hour,
		Range: lease.Range{First: netip.MustParseAddr("192.0.2.50"), Last: netip.MustParseAddr("192.0.2.59")}}}}
	mac := net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	server := s.dhcp()
	for range 10 {
		if server.Allow(relay.Machine{MAC: mac}) {
			t.Fatal("a stranger gets an address")
		}
	}
	if strings.Count(out.String(), "runs already") != 1 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("said: %s", &out)
	}
	discover, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	if server.Lease(discover, time.Now()) == nil || !server.Allow(relay.Machine{MAC: mac}) {
		t.Error("a machine that was served is a stranger")
	}
	s.bench.quiet.Store(true)
	if server.Lease(discover, time.Now()) != nil {
		t.Error("answered while there may be another server")
	}
}
