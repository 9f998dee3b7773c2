package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"
	"golang.org/x/net/netutil"

	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/cmd/bootmend/control"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/cmd/bootmend/tui"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate/fleet"
)

type controlOptions struct {
	keys           []string
	keyFilter      keyFilter
	passphraseFile string
	identities     []string
	listen         string
	address        string
	store          controlStore
	approve        bool
	haltAfter      int
	haltAfterSet   bool // otherwise what the database has holds
	rings          string
	keysPerHour    int
	space          byteSize
	cert, certKey  string
	accessible     bool
}

func (o *controlOptions) AddFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.keys, "keys", nil, "file or folder of recovery keys, or a vault (may be repeated)")
	o.keyFilter.AddFlags(f, "keys-")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "file with the vault's passphrase in its first line (default: ask on the terminal)")
	f.StringVar(&o.cert, "tls-cert", "", "certificate to use instead of one of its own (PEM)")
	f.StringVar(&o.certKey, "tls-key", "", "private key of --tls-cert (PEM)")
	o.addServerFlags(f)
}

// addServerFlags adds those that "bootmend serve" has, too.
func (o *controlOptions) addServerFlags(f *pflag.FlagSet) {
	f.StringVar(&o.listen, "listen", defaultListen, "address and port to answer on")
	f.StringVar(&o.address, "address", "", "name or address by which machines reach this computer (default: its only address)")
	f.StringArrayVar(&o.identities, "identity", nil, "file with an age identity or an SSH private key that opens the vault (may be repeated)")
	o.store.AddFlags(f)
	f.BoolVar(&o.approve, "approve", false, "give a machine keys only after a person has approved it on the page")
	f.IntVar(&o.haltAfter, "halt-after", 0, "heal no further machine after so many were not healed; 0 is no limit (default: as it was set last)")
	f.StringVar(&o.rings, "rings", "", "file that says in which order machines are healed (see the help of bootmend control), or none (default: as it was set last)")
	f.IntVar(&o.keysPerHour, "keys-per-hour", 5000, "how many keys all machines together may ask for within an hour; 0 is no limit")
	f.Var(&o.space, "space", "how much is kept of logs and records; further ones are refused (default 4GiB)")
	f.BoolVar(&o.accessible, "accessible", os.Getenv("ACCESSIBLE") != "", "write a line for each event in place of the live table, for screen readers")
}

const defaultListen = ":8443"

func newControlCommand() *cobra.Command {
	var opts controlOptions
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Give machines their keys over the network, and watch them being healed",
		Long: `Answer the machines that start from media of this server: each one asks for the key of its own volume, and
hands its log in. Media belong to the server when they are built with the file that it writes:

  bootmend control --keys BitLockerKeys.csv          (writes bootmend-control/server.yaml)
  bootmend build usb -o heal.img --control bootmend-control/server.yaml
  sudo bootmend serve --control bootmend-control/server.yaml

The media hold no key then. A machine finds the server by the certificate's fingerprint and proves that it
was started from its media; every question for a key is written down. Whoever has such media, or can start
a machine from the network, can ask for keys one by one: --approve has a person look at each machine first.

A page, https://HOST:8443/, shows the machines; it is signed in to with the token that is printed at the
start; a browser warns of a certificate that the server made itself, so compare the fingerprint that is
printed, too. There people approve machines, type keys from their desk, and pause everything. /metrics,
/machines.csv, /machines.json, /audit.jsonl and /logs.jsonl take the token as a bearer token. The keys are
in memory only; all else is in the folder's bootmend.db, and "bootmend control export" takes the logs and
the audit out of it.

A machine may ask for 32 keys in a run. Within an hour it may ask for 64, an address (with IPv6 a /64 network)
for 500, all together for --keys-per-hour; further ones wait until somebody approves them, or for the hour.

With --db postgres://USER@HOST/NAME the machines, the audit, the logs and the rings are in a PostgreSQL
database that any number of servers share: what one decides holds for all at once, and so do the limits.
The password is best in a file for --db-file, in PGPASSWORD or in ~/.pgpass, since other users of this
computer can see a command line. Each server has its own page, keys and sign-in token. While the
database does not answer, no key is given and no log is taken, and machines ask again. Whoever may write
to the database can lift a pause, an approval and the limits, but finds no key in it: give it a user of
its own. For servers that the same media find under one name, copy "token" and "certificate.pem" of the
first one's folder to the others.

With --rings FILE machines are healed in stages. A machine belongs to the first ring that it fits, by its
serial number or UUID or by chance; it is sent on to Windows as it is until its ring is open. The next ring
opens when at least "least" machines of the open one are done and "open_at" percent of them went well. The
rings stay in the database, also without --rings, until other ones are given or "--rings none":

  rings:
    - {name: pilot, machines: [PF2A*, "5CD1234XYZ"], dry_run: true}
    - {name: tenth, percent: 10}
    - {name: all, percent: 100}
  open_at: 95
  least: 5

On a terminal a table shows the machines: which ones wait for a key, what each does and how it ended. P
pauses healing and R resumes it, Enter shows all of a machine and the end of its log, F goes through the
states, I shows the address of the page and the token. Elsewhere, or with --accessible, each event is a
line. NO_COLOR takes the colours away.

Stop it with Q or Ctrl-C; machines that wait go on asking.
` + exitHelp,
		Example: `  bootmend control --keys BitLockerKeys.csv
  bootmend control --keys keys.age --approve --halt-after 3
  bootmend control --keys keys.csv --rings rings.yaml --halt-after 3
  bootmend control --keys keys.csv --db-file database-address --state site-a
  bootmend control --address boot.example.com --listen :443 --tls-cert cert.pem --tls-key key.pem`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.haltAfterSet = cmd.Flags().Changed("halt-after")
			return runControl(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), &opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	cmd.AddCommand(newControlExportCommand())
	return cmd
}

// maxConnections bounds how many machines and browsers are answered at once; further ones wait.
const maxConnections = 4096

func runControl(ctx context.Context, out, messages io.Writer, opts *controlOptions) error {
	c, err := newControlServer(ctx, out, messages, opts)
	if err != nil {
		return err
	}
	defer c.close()
	return c.run(ctx, out)
}

// controlServer is a control server that is about to answer.
type controlServer struct {
	*control.Server
	file     string // that media are built with
	url      string
	web      *http.Server
	listener net.Listener
	db       *store.DB
	live     *tui.Live // nil where each event is a line
	about    []string  // how a person signs in
	tell     func(format string, args ...any)
}

// newControlServer does all that may fail, before anything is answered. Who has one closes it.
func newControlServer(ctx context.Context, out, messages io.Writer, opts *controlOptions) (*controlServer, error) {
	if (opts.cert == "") != (opts.certKey == "") {
		return nil, usagef("control: --tls-cert and --tls-key belong together")
	}
	if opts.haltAfter < 0 {
		return nil, usagef("control: --halt-after is a number of machines")
	}
	if opts.space == 0 {
		opts.space = 4 << 30
	}
	if opts.keysPerHour < 0 {
		return nil, usagef("control: --keys-per-hour is a number of keys")
	}
	list, expired, err := opts.readKeys(ctx, messages)
	if err != nil {
		return nil, err
	}
	var rollout *control.Rollout
	switch opts.rings {
	case "":
	case "none":
		rollout = control.NoRollout()
	default:
		data, err := os.ReadFile(opts.rings)
		if err != nil {
			return nil, err
		}
		if rollout, err = control.ParseRollout(data); err != nil {
			return nil, fmt.Errorf("%s: %w", opts.rings, err)
		}
	}
	var haltAfter *int
	if opts.haltAfterSet {
		haltAfter = &opts.haltAfter
	}
	if err := os.MkdirAll(opts.store.state, 0o700); err != nil {
		return nil, withHint(fmt.Errorf("state folder: %w", err), "name a folder that you may write to with --state")
	}
	certificate, err := opts.certificate()
	if err != nil {
		return nil, err
	}
	token, err := keptSecret(filepath.Join(opts.store.state, "token"))
	if err != nil {
		return nil, err
	}
	c := &controlServer{file: filepath.Join(opts.store.state, "server.yaml"), tell: (&lineWriter{w: out}).printf}
	if c.db, err = opts.store.open(ctx, messages); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.listener, err = net.Listen("tcp", opts.listen); err != nil {
		return nil, withHint(err, "choose another port with --listen")
	}
	if c.url, err = opts.url(c.listener.Addr()); err != nil {
		return nil, err
	}
	if opts.table() {
		c.live = &tui.Live{}
		c.tell = c.live.Printf
	}
	signIn := control.NewSecret()
	if c.Server, err = control.New(ctx, control.Options{
		Keys: list, Expired: expired, Token: token, SignIn: signIn, Name: c.url, Approve: opts.approve, HaltAfter: haltAfter, Rollout: rollout,
		KeysPerHour: opts.keysPerHour, Space: int64(opts.space), DB: c.db, Printf: c.tell,
	}); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(certificate.Certificate[0])
	section := config.Server{URL: c.url, Fingerprint: hex.EncodeToString(sum[:]), Token: string(token)}
	if err = writeServerFile(c.file, section); err != nil {
		return nil, err
	}
	c.web = c.HTTPServer()
	c.web.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}}
	c.tell("answering machines at %s with %s", c.url, countKeys(list))
	c.about = []string{
		"Page:                   " + c.url + "/",
		"Its certificate:        SHA-256 " + section.Fingerprint,
		"Token to sign in:       " + string(signIn),
	}
	return c, nil
}

// close ends it. What was accepted is on the disk already.
func (c *controlServer) close() {
	if c.listener != nil {
		_ = c.listener.Close() // whoever serves on it has closed it already
	}
	_ = c.db.Close()
}

// run answers machines and shows them, until ctx ends or the person at the terminal says so.
func (c *controlServer) run(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "Media for this server:  bootmend build ... --control %s\n%s\n", c.file, strings.Join(c.about, "\n"))
	done := make(chan error, 1)
	go func() { done <- c.web.ServeTLS(netutil.LimitListener(c.listener, maxConnections), "", "") }()
	if c.live != nil {
		// The table ends with the server, too.
		ctx, end := context.WithCancel(ctx)
		defer end()
		ended := make(chan error, 1)
		go func() { err := <-done; end(); ended <- err }()
		done = ended
		summary, err := c.live.Run(ctx, out, c.Server, c.url+"/", c.about)
		if err != nil {
			_ = c.web.Close()
			if other := <-done; !errors.Is(other, http.ErrServerClosed) {
				err = errors.Join(err, other)
			}
			return withHint(err, "--accessible does without the table")
		}
		fmt.Fprintln(out, summary)
	} else {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
		}
	}
	// What was accepted is answered. Pages that watch would never end by themselves.
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := c.web.Shutdown(soon); err != nil {
		_ = c.web.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// table reports whether a person looks who can be shown the live table.
func (o *controlOptions) table() bool {
	return !o.accessible && os.Getenv("TERM") != "dumb" && atTerminal() && foreground(os.Stdin)
}

// readKeys reads key files, or opens a vault, which may expire.
func (o *controlOptions) readKeys(ctx context.Context, messages io.Writer) (list *keys.List, expired func(time.Time) error, err error) {
	if len(o.keys) == 0 {
		return &keys.List{}, nil, nil
	}
	if len(o.keys) == 1 && o.keys[0] != "-" {
		switch sealed, err := readVault(o.keys[0]); {
		case err == nil:
			v, err := openVault(ctx, messages, sealed, o.passphraseFile, o.identities)
			if err != nil {
				return nil, nil, err
			}
			if err := v.CheckExpiry(time.Now()); err != nil {
				return nil, nil, err
			}
			list, err := o.keyFilter.choose(messages, v.List())
			return list, v.CheckExpiry, err
		case !errors.Is(err, vault.ErrNotVault):
			return nil, nil, err
		}
	}
	list, err = readKeyLists(ctx, messages, o.keys, &o.keyFilter)
	return list, nil, err
}

// url is where machines find this server.
func (o *controlOptions) url(listening net.Addr) (string, error) {
	bound, err := netip.ParseAddrPort(listening.String())
	if err != nil {
		return "", err
	}
	host := o.address
	switch {
	case host != "":
	case !bound.Addr().IsUnspecified():
		host = bound.Addr().String()
	default:
		address, _, err := serverAddress("")
		if err != nil {
			return "", withHint(err, "say with --address how machines reach this computer")
		}
		host = address.String()
	}
	return "https://" + net.JoinHostPort(host, fmt.Sprint(bound.Port())), nil
}

// keptSecret reads the token of the media, or draws it at the first start.
func keptSecret(path string) (fleet.Token, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		token := strings.TrimSpace(string(data))
		if len(token) < 32 {
			return "", withHint(fmt.Errorf("%s: holds no token", path), "remove it, and build the media again")
		}
		return fleet.Token(token), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	token := control.NewSecret()
	return token, writeWhole(path, []byte(string(token)+"\n"), true)
}

// certificate is the administrator's, or one of the server's own that is made at the first start. Machines know it by its
// fingerprint, so its names and dates mean nothing to them.
func (o *controlOptions) certificate() (tls.Certificate, error) {
	if o.cert != "" {
		return tls.LoadX509KeyPair(o.cert, o.certKey)
	}
	path := filepath.Join(o.store.state, "certificate.pem") // with its key: one file is there or not
	if _, err := os.Stat(path); err == nil {
		return tls.LoadX509KeyPair(path, path)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: "bootmend control"}, DNSNames: []string{"bootmend"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(o.address); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else if o.address != "" {
		template.DNSNames = []string{o.address}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := writeWhole(path, text, true); err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(path, path)
}

// writeServerFile writes what media of the server need to know of it.
func writeServerFile(path string, section config.Server) error {
	if err := section.Validate(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return writeWhole(path, fmt.Appendf(nil, "# for \"bootmend build --control\"; whoever has it can ask the server for keys\nurl: %q\nfingerprint: %q\ntoken: %q\n",
		section.URL, section.Fingerprint, section.Token), true)
}

// readServerFile is the other way round.
func readServerFile(path string) (config.Server, error) {
	var section config.Server
	data, err := os.ReadFile(path)
	if err != nil {
		return section, withHint(err, "\"bootmend control\" writes it, as server.yaml in its state folder")
	}
	if err := yaml.Load(data, &section, yaml.WithKnownFields()); err != nil {
		return section, fmt.Errorf("%s: %w", path, err)
	}
	if section.IsZero() {
		return section, fmt.Errorf("%s: names no server", path)
	}
	if err := section.Validate(); err != nil {
		return section, fmt.Errorf("%s: %w", path, err)
	}
	return section, nil
}
