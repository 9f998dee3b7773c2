// Package adtest runs a directory server that holds recovery keys the way Active
// Directory does, for tests: Debian's slapd with a part of Microsoft's schema.
package adtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed ad.schema
var schema []byte

// The domain, and who may log in. Reader may read the keys, Clerk may not.
const (
	Domain   = "dc=example,dc=com"
	Reader   = "cn=reader," + Domain
	Clerk    = "cn=clerk," + Domain
	Password = "correct horse"
)

// Object is a recovery object.
type Object struct {
	Computer, OU string // the OU is a child of the domain
	Time         string // the first part of its name
	ID           [16]byte
	Key          string
}

// Server is a running directory.
type Server struct {
	LDAP, LDAPS string // addresses
	CA          string // file with the authority of its certificate
	Realm       *Realm // nil without Kerberos
}

// pageLimit is what the server gives at a time, as a domain controller does.
const pageLimit = 1000

// Start runs a server for the time of a test. It skips the test where slapd is
// missing. The server takes Kerberos logins if realm is not nil.
func Start(t testing.TB, objects []Object, realm *Realm) *Server {
	t.Helper()
	slapd, slapadd := need(t, "slapd"), need(t, "slapadd")
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	ca, cert, key := certificates(t)
	s := &Server{LDAP: "localhost:" + freePort(t), LDAPS: "localhost:" + freePort(t), CA: file("ca.pem", ca), Realm: realm}
	var conf bytes.Buffer
	fmt.Fprintf(&conf, "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude %s\n", file("ad.schema", schema))
	fmt.Fprintf(&conf, "modulepath %s\nmoduleload back_mdb\n", "/usr/lib/ldap")
	fmt.Fprintf(&conf, "TLSCertificateFile %s\nTLSCertificateKeyFile %s\n", file("cert.pem", cert), file("key.pem", key))
	fmt.Fprintf(&conf, "pidfile %s\n", filepath.Join(dir, "slapd.pid"))
	if realm != nil {
		fmt.Fprintf(&conf, "sasl-host localhost\nsasl-realm %s\nauthz-regexp uid=([^,]*),(cn=[^,]*,)?cn=gssapi,cn=auth cn=$1,%s\n", realm.Name, Domain)
	}
	fmt.Fprintf(&conf, "database mdb\nmaxsize 268435456\nsuffix %s\ndirectory %s\n", Domain, filepath.Join(dir, "db"))
	fmt.Fprintf(&conf, "limits * size.soft=%d size.hard=%d size.pr=%d size.prtotal=unlimited\n", pageLimit, pageLimit, pageLimit)
	fmt.Fprintf(&conf, "access to attrs=userPassword by anonymous auth by * none\n")
	fmt.Fprintf(&conf, "access to attrs=msFVE-RecoveryPassword by dn.exact=%q read by * none\n", Reader)
	fmt.Fprintf(&conf, "access to * by users read by * none\n")
	config := file("slapd.conf", conf.Bytes())
	load := exec.Command(slapadd, "-q", "-f", config, "-l", file("data.ldif", ldif(objects)))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", load, err, out)
	}
	run := exec.Command(slapd, "-f", config, "-d", "0", "-h", fmt.Sprintf("ldap://%s/ ldaps://%s/", s.LDAP, s.LDAPS))
	run.Env = os.Environ()
	if realm != nil {
		run.Env = append(run.Env, "KRB5_CONFIG="+realm.Config, "KRB5_KTNAME="+realm.keytab, "KRB5RCACHENAME=none:")
	}
	start(t, run)
	waitFor(t, s.LDAP)
	waitFor(t, s.LDAPS)
	return s
}

func ldif(objects []Object) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "dn: %s\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n", Domain)
	for _, who := range []string{Reader, Clerk} {
		name := strings.TrimPrefix(strings.Split(who, ",")[0], "cn=")
		fmt.Fprintf(&b, "dn: %s\nobjectClass: person\ncn: %s\nsn: %s\nuserPassword: %s\n\n", who, name, name, Password)
	}
	seen := map[string]bool{}
	once := func(dn, format string, args ...any) {
		if !seen[dn] {
			seen[dn] = true
			// In base64, for names that are not ASCII.
			fmt.Fprintf(&b, "dn:: %s\n"+format+"\n", append([]any{base64.StdEncoding.EncodeToString([]byte(dn))}, args...)...)
		}
	}
	for _, o := range objects {
		unit := "OU=" + o.OU + "," + Domain
		once(unit, "objectClass: organizationalUnit\n")
		computer := "CN=" + o.Computer + "," + unit
		once(computer, "objectClass: computer\n")
		once("CN="+strings.ReplaceAll(o.Time, "+", `\+`)+fmt.Sprintf("{%X}", o.ID)+","+computer,
			"objectClass: msFVE-RecoveryInformation\nmsFVE-RecoveryGuid:: %s\nmsFVE-RecoveryPassword: %s\n",
			base64.StdEncoding.EncodeToString(o.ID[:]), o.Key)
	}
	return b.Bytes()
}

// certificates makes an authority and a certificate for localhost.
func certificates(t testing.TB) (ca, cert, key []byte) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, caKey.Public(), caKey)
	check(err)
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, server, authority, serverKey.Public(), caKey)
	check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	check(err)
	block := func(kind string, data []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}) }
	return block("CERTIFICATE", caDER), block("CERTIFICATE", der), block("PRIVATE KEY", keyDER)
}

// need finds a program, or skips the test.
func need(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	t.Skipf("%s is missing: \"make tools\" installs it", name)
	return ""
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// start runs a server until the test ends.
func start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%v:\n%s", cmd, &log)
		}
	})
}

func waitFor(t testing.TB, address string) {
	t.Helper()
	for range 300 {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("no server at %s", address)
}
