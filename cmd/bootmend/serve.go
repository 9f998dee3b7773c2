package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/netboot"
	"github.com/bootmend/bootmend/image/netboot/relay"
	"github.com/bootmend/bootmend/image/netboot/tftp"
)

type serveOptions struct {
	buildOptions
	winpe   winpeOptions
	wimboot string
	ipxe    []string
	ifname  string
	limits  limitOptions
	leases  string
	cert    string
	certKey string
	again   time.Duration
	// withControl runs the control server in this program, too.
	withControl bool
	server      controlOptions
}

func (o *serveOptions) AddFlags(f *pflag.FlagSet) {
	o.buildOptions.AddFlags(f)
	for _, name := range []string{"output", "unprotected-keys", "json"} {
		_ = f.MarkHidden(name) // they belong to files
	}
	o.winpe.AddFlags(f)
	f.StringVar(&o.wimboot, "wimboot", "", "for --env winpe: your copy of wimboot, the loader of Windows PE for iPXE")
	f.StringArrayVar(&o.ipxe, "ipxe", nil, "for --env winpe: your copy of iPXE (ipxe.efi, undionly.kpxe), for machines whose own boot program is another; one for each kind of firmware")
	f.StringVar(&o.ifname, "interface", "", "network interface to answer on (default: the only one with an address)")
	o.limits.AddFlags(f)
	f.StringVar(&o.leases, "dhcp-range", "", "on a network without a DHCP server, hand out these addresses: FIRST-LAST")
	f.StringVar(&o.cert, "tls-cert", "", "certificate for UEFI HTTP boot by HTTPS, of an authority that the machines' firmware knows (PEM)")
	f.StringVar(&o.certKey, "tls-key", "", "private key of --tls-cert (PEM)")
	f.BoolVar(&o.withControl, "with-control", false, "be the control server, too, which gives the machines the keys of --keys one by one and shows them")
	o.server.addServerFlags(f)
	f.DurationVar(&o.again, "bios-again", 10*time.Minute, "how long a machine with a BIOS is left alone after it was served, so that it goes on to Windows")
}

func newServeCommand() *cobra.Command {
	var opts serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start the machines of a network over the network, to heal them",
		Long: `Serve what "bootmend build pxe" builds, from memory, to the machines of a network: by TFTP and HTTP, and
by adding the boot program to what the network's own DHCP server answers them. That one stays as it is
and goes on handing out the addresses. This program serves UEFI (PXE and HTTP boot, Secure Boot left on)
and BIOS.

Start the machines over the network, mostly with F12: they heal themselves and go on to Windows. A
machine with a BIOS cannot be told to do that, so it is left alone for --bios-again after it was served.

It answers on one interface, on UDP ports 67 and 69 and TCP port 80, which takes administrator rights.
--mac and --uuid limit whose question is answered. --subnet limits which addresses are answered, and which
ones get a file; the machines must be on the same network as this computer even so, as nobody is answered
through a router. Other machines get no answer, and start as they would without this program. The firmware
of a machine tells no serial number: with --serial, the others are started and sent on to their disks by
the agent. Who asks for a file by its name gets it, so that keys are served only in a vault, whose
passphrase is asked for at each machine.

With --with-control this program is also what "bootmend control" is, whose help tells the rest: the machines
ask it for their keys, one by one and over TLS, so that nothing of --keys is among the boot files and nobody
types a passphrase at a machine; their logs come in, a table and a page show them, and people approve, pause
and type keys there. It answers on the same interface, on TCP port 8443, with the certificate of --tls-cert
where there is one.

For a bench or a cable that has no DHCP server, give the interface a fixed address, and --dhcp-range the
addresses to hand out: for an hour each, with no router and no name server. It looks for another DHCP
server before it answers, each minute, and whenever the cable was out, and ends where there is one: two of
them on one network hand out addresses that do not work. A computer that runs already gets an address, too.

Boot files go by TFTP and HTTP, which anybody on the network can change on their way. With Secure Boot, the
firmware and GRUB check that shim, GRUB and the kernel are the distribution's; nobody checks the initramfs
with the agent, its configuration and GRUB's, and with a BIOS nothing at all. So serve on a network that
you trust. UEFI HTTP boot alone can do better: with --tls-cert and --tls-key it gets everything by HTTPS, from
TCP port 443, if the authority of the certificate is enrolled in the machines' firmware. The certificate
must have this computer's address in it, or a name that the machines can resolve, and best a key of RSA.

With --env winpe, machines start Microsoft's Windows PE, made of what --winpe names, by way of iPXE and
wimboot. A machine whose own boot program is not iPXE gets the one that --ipxe names for its firmware, or
is left alone. Each machine is left alone for --bios-again after it was served. Whether Secure Boot can
stay on is for the copies of iPXE and wimboot to say.

Stop it with Ctrl-C.
` + exitHelp,
		Example: `  sudo bootmend serve
  sudo bootmend serve --interface eth0 --keys BitLockerKeys.csv --expires 1d
  sudo bootmend serve --with-control --keys BitLockerKeys.csv --approve --halt-after 3
  sudo bootmend serve --mac 52:54:00:12:34:56 --dry-run-media
  sudo bootmend serve --uuid-file floor3.txt --subnet 10.1.0.0/16
  sudo bootmend serve --serial-file floor3.txt
  sudo bootmend serve --interface eth1 --dhcp-range 192.168.77.50-192.168.77.99
  sudo bootmend serve --env winpe --winpe Win11.iso --wimboot wimboot --ipxe ipxe.efi --ipxe undionly.kpxe`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output != "" || opts.json {
				return usagef("serve: writes no file; \"bootmend build pxe\" does")
			}
			if opts.unprotectedKeys {
				return usagef("serve: --unprotected-keys: anybody on the network could read them; leave it out, and the keys go into a vault")
			}
			if err := opts.winpe.check("serve", &opts.buildOptions); err != nil {
				return err
			}
			switch windowsPE := opts.winpe.env == winpeEnv; {
			case windowsPE && opts.wimboot == "":
				return usagef("serve: --env winpe needs --wimboot FILE: the loader of ipxe.org/wimboot, which may not come with bootmend")
			case windowsPE && opts.cert != "":
				return usagef("serve: --tls-cert is for the disc of UEFI HTTP boot, which Windows PE does not start from: leave it out")
			case !windowsPE && (opts.wimboot != "" || opts.ipxe != nil):
				return usagef("serve: --wimboot and --ipxe are for Windows PE: add --env winpe")
			}
			if (opts.cert == "") != (opts.certKey == "") {
				return usagef("serve: --tls-cert and --tls-key belong together")
			}
			if err := opts.checkControl(cmd.Flags()); err != nil {
				return err
			}
			return runServe(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// checkControl takes what of the flags is for the control server in this program.
func (o *serveOptions) checkControl(f *pflag.FlagSet) error {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&controlOptions{}).addServerFlags(own)
	var needless error
	own.VisitAll(func(flag *pflag.Flag) {
		if f.Changed(flag.Name) && !o.withControl && needless == nil {
			needless = usagef("serve: --%s is for the control server in this program: add --with-control", flag.Name)
		}
	})
	switch {
	case needless != nil:
		return needless
	case !o.withControl:
		return nil
	case o.control != "":
		return usagef("serve: --control is another control server, and --with-control makes this program one: leave one of them out")
	case len(o.vault.recipients) > 0 || len(o.vault.recipientFiles) > 0 || o.vault.expires != "":
		return usagef("serve: --recipient and --expires seal keys for the boot files, and with --with-control none are in them: leave them out, or seal the keys first (bootmend keys seal)")
	}
	o.server.haltAfterSet = f.Changed("halt-after")
	if !f.Changed("listen") {
		o.server.listen = "" // on the interface alone
	}
	o.server.cert, o.server.certKey = o.cert, o.certKey
	// The keys are the control server's.
	o.server.keys, o.server.keyFilter, o.server.passphraseFile = o.keys, o.keyFilter, o.vault.passphraseFile
	o.keys, o.keyFilter, o.vault.passphraseFile = nil, keyFilter{}, ""
	return nil
}

// withServer runs the control server beside the boot server; when one of them ends, the other one does, too.
func (c *controlServer) withServer(ctx context.Context, out io.Writer, serve func(context.Context) error) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	served := make(chan error, 1)
	go func() { err := serve(ctx); end(); served <- err }()
	err := c.run(ctx, out)
	end()
	return errors.Join(err, <-served)
}

func runServe(ctx context.Context, out, messages io.Writer, opts *serveOptions) error {
	address, ifname, err := serverAddress(opts.ifname)
	if err != nil {
		return err
	}
	lines, run := &lineWriter{w: out}, func(serve func(context.Context) error) error { return serve(ctx) }
	if opts.withControl {
		if opts.server.listen == "" {
			opts.server.listen = address.String() + defaultListen
		}
		c, err := newControlServer(ctx, out, messages, &opts.server)
		if err != nil {
			return err
		}
		defer c.close()
		opts.control = c.file
		lines.tell = c.tell
		run = func(serve func(context.Context) error) error { return c.withServer(ctx, out, serve) }
	}
	limits, err := opts.limits.read()
	if err != nil {
		return err
	}
	certificate, name, err := opts.certificate(address)
	if err != nil {
		return err
	}
	s := &bootServer{
		address: address, ifname: ifname, limits: limits, certificate: certificate,
		turns: relay.Turns{Pause: opts.again}, lines: lines,
	}
	if opts.leases != "" {
		if s.bench, err = newBench(opts.leases, ifname, address, limits, s.lines); err != nil {
			return err
		}
		if err := s.bench.begin(ctx, s.lines); err != nil || ctx.Err() != nil {
			return err
		}
	}
	source, err := opts.winpe.chosen()
	if err != nil {
		return err
	}
	defer source.close()
	s.windowsPE = source != nil
	opts.windowsPE = s.windowsPE
	loaders, err := opts.loaders()
	if err != nil {
		return err
	}
	spec, err := opts.spec(ctx, messages)
	if err != nil {
		return err
	}
	if s.windowsPE {
		if s.files, err = source.serve(ctx, spec, opts.wimboot); err != nil {
			return err
		}
		s.programs = map[relay.Arch]string{}
		for path, data := range loaders {
			s.files.Add(path, data)
			if path == pathIPXE {
				s.programs[relay.UEFIHTTP] = "http://" + address.String() + path
				s.programs[relay.UEFI] = strings.TrimPrefix(path, "/")
			} else {
				s.programs[relay.BIOS] = strings.TrimPrefix(path, "/")
			}
		}
		s.script = "http://" + address.String() + pathScript
		return run(s.serve)
	}
	if s.files, err = netboot.Load(ctx, spec); err != nil {
		return err
	}
	s.programs = map[relay.Arch]string{
		relay.BIOS:     strings.TrimPrefix(media.PathNetBIOS, "/"),
		relay.UEFI:     strings.TrimPrefix(media.PathNetShim, "/"),
		relay.UEFIHTTP: "http://" + address.String() + media.PathNetDisc,
	}
	if certificate != nil {
		s.programs[relay.UEFIHTTP] = "https://" + name + media.PathNetDisc
	}
	return run(s.serve)
}

// Where iPXE lies on a server that starts Windows PE.
const (
	pathIPXE     = "/ipxe.efi"
	pathIPXEBIOS = "/ipxe.0"
)

// maxIPXE bounds a file of less than 1 MiB; that for a BIOS must fit below 640 KiB beside the ROM's own memory.
const (
	maxIPXE     = 16 << 20
	maxIPXEBIOS = 512 << 10
)

// loaders are the copies of iPXE, told apart by what is in them, by the path that each is served at.
func (o *serveOptions) loaders() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range o.ipxe {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if info.Size() > maxIPXE {
			return nil, fmt.Errorf("%s: is no iPXE: more than %d MiB", name, maxIPXE>>20)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		path := pathIPXEBIOS
		if bytes.HasPrefix(data, []byte("MZ")) {
			path = pathIPXE
			f, err := pe.NewFile(bytes.NewReader(data))
			if err != nil || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
				return nil, withHint(fmt.Errorf("%s: is no program for UEFI on x64", name), "ipxe.efi or snponly.efi of a build for x86_64 is")
			}
		} else if len(data) < 4096 || len(data) > maxIPXEBIOS {
			return nil, withHint(fmt.Errorf("%s: is neither a program for UEFI nor one that a PXE ROM can load", name), "iPXE's is undionly.kpxe")
		}
		if files[path] != nil {
			return nil, &usageError{fmt.Errorf("serve: --ipxe %s: there are two for the same firmware", name)}
		}
		files[path] = data
	}
	return files, nil
}

// certificate is --tls-cert, and the name or address in it by which machines reach this computer.
func (o *serveOptions) certificate(address netip.Addr) (*tls.Certificate, string, error) {
	if o.cert == "" {
		return nil, "", nil
	}
	certificate, err := tls.LoadX509KeyPair(o.cert, o.certKey)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", o.cert, err)
	}
	leaf := certificate.Leaf
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, "", withHint(fmt.Errorf("%s: is valid from %s to %s only", o.cert, leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly)), "firmware would refuse it")
	}
	if leaf.VerifyHostname(address.String()) == nil {
		return &certificate, address.String(), nil
	}
	for _, name := range leaf.DNSNames {
		if !strings.Contains(name, "*") {
			return &certificate, name, nil
		}
	}
	return nil, "", withHint(fmt.Errorf("%s: is for neither %s nor a name", o.cert, address), "firmware would refuse it: have one made for this address")
}

// firmwareTLS is for what OVMF of 2022 has: TLS 1.2 with keys of RSA and no elliptic curves. Without these the traffic can
// be read later by who gets the key, but not changed, and the boot files are no secret.
func firmwareTLS(certificate tls.Certificate) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	for _, suite := range tls.CipherSuites() {
		config.CipherSuites = append(config.CipherSuites, suite.ID)
	}
	config.CipherSuites = append(config.CipherSuites, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_GCM_SHA256)
	return config
}

// refusedTLS shows why firmware did not load anything, once a minute.
type refusedTLS struct {
	lines *lineWriter
	seldom
}

func (r *refusedTLS) Write(p []byte) (int, error) {
	if r.now(time.Now()) {
		r.lines.printf("%s", bytes.TrimSpace(p))
	}
	return len(p), nil
}

// serverAddress is the IPv4 address of an interface, or of the only one that has any.
func serverAddress(want string) (netip.Addr, string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, "", err
	}
	var found []string
	var address netip.Addr
	for _, i := range list {
		if want != "" && i.Name != want || want == "" && i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return netip.Addr{}, "", fmt.Errorf("interface %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() {
				found, address = append(found, i.Name), p.Addr()
				break
			}
		}
	}
	switch {
	case len(found) == 1:
		return address, found[0], nil
	case want != "":
		return address, "", withHint(fmt.Errorf("interface %s is not there, not up, or has no IPv4 address", want), "\"ip address\" or \"ipconfig\" lists the interfaces")
	case len(found) == 0:
		return address, "", withHint(errors.New("no network interface of this computer has an IPv4 address"), "plug it into the network of the machines")
	}
	return address, "", withHint(fmt.Errorf("this computer is in several networks: %s", strings.Join(found, ", ")), "choose one with --interface")
}

// bootServer is the three servers that start machines.
type bootServer struct {
	files     *netboot.Files
	programs  map[relay.Arch]string // what each kind of firmware loads first
	script    string                // what iPXE loads in place of that, if anything
	windowsPE bool
	address   netip.Addr
	ifname    string
	limits    *limits
	bench     *bench // nil beside another DHCP server
	// certificate is that of HTTPS, which is not served without.
	certificate *tls.Certificate
	turns       relay.Turns
	lines       *lineWriter
	refusals    seldom
}

// serve runs until ctx ends, or one of the servers cannot go on.
func (s *bootServer) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ip := net.IP(s.address.AsSlice())
	files, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip, Port: 69})
	if err != nil {
		return explainPort(err, "TFTP")
	}
	defer func() { _ = files.Close() }() // whoever serves on it has closed it already
	web, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip, Port: 80})
	if err != nil {
		return explainPort(err, "HTTP")
	}
	defer func() { _ = web.Close() }()
	pages := &http.Server{
		Handler:           s.limits.handler(s.files.Handler(func(r *http.Request, path string) { s.fetched(r.RemoteAddr, path) })),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, WriteTimeout: 15 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	errs := make(chan error, 5)
	if s.certificate != nil {
		secure, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: ip, Port: 443})
		if err != nil {
			return explainPort(err, "HTTPS")
		}
		defer func() { _ = secure.Close() }()
		pages.TLSConfig = firmwareTLS(*s.certificate)
		pages.ErrorLog = log.New(&refusedTLS{lines: s.lines}, "", 0)
		go func() { errs <- pages.ServeTLS(secure, "", "") }()
	}
	go func() { errs <- s.tftp().Serve(ctx, files) }()
	go func() { errs <- pages.Serve(web) }()
	go func() { errs <- explainPort(s.dhcp().Serve(ctx, s.ifname), "DHCP") }()
	if s.bench != nil {
		go func() {
			if err := s.bench.watch(ctx); err != nil {
				errs <- err
			}
		}()
		s.lines.printf("handing out addresses %s", s.bench.leases.Range)
	}
	s.lines.printf("serving machines on %s as %s, %d MiB, media number %s; stop with Ctrl-C", s.ifname, s.address, s.files.Size()>>20, s.files.ID)
	select {
	case err = <-errs:
	case <-ctx.Done():
		err = nil // asked to stop
	}
	cancel()
	_ = pages.Close() // nothing that a client holds is of worth: it asks again
	return err
}

func explainPort(err error, what string) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return withHint(fmt.Errorf("%s: %w", what, err), "run it as administrator: with sudo, or from an elevated prompt")
	case err != nil:
		return withHint(fmt.Errorf("%s: %w", what, err), "if another boot server runs on this computer, stop it")
	}
	return nil
}

func (s *bootServer) tftp() *tftp.Server {
	return &tftp.Server{
		Open: func(name string, client netip.Addr) ([]byte, error) {
			if !s.limits.address(client) {
				return nil, fs.ErrPermission
			}
			return s.files.Get(name)
		},
		Done: func(name string, client netip.Addr, err error) {
			if err == nil {
				s.fetched(client.String(), name)
			}
		},
	}
}

func (s *bootServer) dhcp() *relay.Server {
	server := &relay.Server{
		Address: s.address,
		Files:   s.programs,
		IPXE:    s.script,
		Allow: func(m relay.Machine) bool {
			switch {
			case s.bench != nil && m.Arch == "" && s.bench.leases.Knows(m.MAC):
				return true // started from here, it tells less of itself
			case !s.limits.machine(m):
				if s.refusals.now(time.Now()) { // once is enough for a machine that asks again and again
					s.lines.printf("%s asks (%s): not in the list, left alone, as others may be", m.MAC, cmp.Or(m.Arch, "runs already"))
				}
				return false
			// The agent in Windows PE cannot tell firmware what to start next, no more than that of a BIOS.
			case (m.Arch == relay.BIOS || s.windowsPE) && s.turns.Had(m.MAC, time.Now()):
				s.lines.printf("%s asks (%s): was served a short while ago, left alone so that it starts Windows", m.MAC, m.Arch)
				return false
			case m.Arch != "" && s.programs[m.Arch] == "" && !m.IPXE:
				s.lines.printf("%s asks (%s): has no iPXE of its own, left alone; --ipxe gives it one", m.MAC, m.Arch)
				return false
			}
			return true
		},
		AllowAddress: s.limits.address,
		Offered: func(m relay.Machine, address net.IP) {
			if s.windowsPE && !m.IPXE {
				s.lines.printf("%s (%s) loads iPXE as %s", m.MAC, m.Arch, address)
				return // which asks again
			}
			s.turns.Begin(m.MAC, time.Now())
			s.lines.printf("%s (%s) starts over the network as %s", m.MAC, m.Arch, address)
		},
	}
	if s.bench != nil {
		server.Lease = s.bench.answer
	}
	return server
}

// fetched tells of the stages that a person waits for: the first file and the last one.
func (s *bootServer) fetched(client, name string) {
	if host, _, err := net.SplitHostPort(client); err == nil {
		client = host
	}
	path := "/" + strings.TrimLeft(strings.ReplaceAll(name, `\`, "/"), "/")
	if s.windowsPE && path == media.PathNetShim {
		return // of that name, Windows PE has a file among others
	}
	switch path {
	case media.PathNetShim, media.PathNetBIOS, pathWimboot:
		s.lines.printf("%s has loaded its boot program", client)
	case pathNetWIM:
		s.lines.printf("%s has loaded everything and starts Windows PE", client)
	case media.PathAgent, media.PathNetDisc:
		s.lines.printf("%s has loaded everything and starts to heal", client)
	}
}

// lineWriter writes whole lines from several goroutines, each with the time.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
	// tell has the lines instead, where something else has the terminal.
	tell func(format string, args ...any)
}

func (l *lineWriter) printf(format string, args ...any) {
	if l.tell != nil {
		l.tell(format, args...)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.w, time.Now().Format("15:04:05 ")+format+"\n", args...) // a terminal that is gone stops no server
}
