package adtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Realm is a running Kerberos server.
type Realm struct {
	Name   string
	Config string // krb5.conf
	Cache  string // with a ticket of Reader
	keytab string
}

// StartRealm runs a Kerberos server for the time of a test, and gets a ticket. It
// skips the test where MIT's server is missing.
func StartRealm(t testing.TB) *Realm {
	t.Helper()
	kdc, util, admin, kinit := need(t, "krb5kdc"), need(t, "kdb5_util"), need(t, "kadmin.local"), need(t, "kinit")
	if found, _ := filepath.Glob("/usr/lib/*/sasl2/libgssapi*.so*"); len(found) == 0 {
		t.Skip("libsasl2-modules-gssapi-mit is missing: \"make tools\" installs it")
	}
	dir := t.TempDir()
	port := freePort(t)
	r := &Realm{Name: "EXAMPLE.COM", Config: filepath.Join(dir, "krb5.conf"), Cache: filepath.Join(dir, "cache"), keytab: filepath.Join(dir, "keytab")}
	profile := filepath.Join(dir, "kdc.conf")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// udp_preference_limit of 1 means TCP, which waitFor can wait for.
	write(r.Config, fmt.Sprintf("[libdefaults]\ndefault_realm = %s\ndns_lookup_kdc = false\nrdns = false\ndns_canonicalize_hostname = false\nudp_preference_limit = 1\n"+
		"[realms]\n%s = {\nkdc = localhost:%s\n}\n[domain_realm]\nlocalhost = %s\n", r.Name, r.Name, port, r.Name))
	write(profile, fmt.Sprintf("[kdcdefaults]\nkdc_listen = %s\nkdc_tcp_listen = %s\n[realms]\n%s = {\ndatabase_name = %s/principal\nkey_stash_file = %s/stash\nacl_file = %s/acl\n}\n",
		port, port, r.Name, dir, dir, dir))
	env := append(os.Environ(), "KRB5_CONFIG="+r.Config, "KRB5_KDC_PROFILE="+profile, "KRB5CCNAME=FILE:"+r.Cache)
	run := func(stdin, name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	run("", util, "create", "-s", "-r", r.Name, "-P", "master")
	run("", admin, "-r", r.Name, "-q", fmt.Sprintf("addprinc -pw %q reader", Password))
	run("", admin, "-r", r.Name, "-q", "addprinc -randkey ldap/localhost")
	run("", admin, "-r", r.Name, "-q", "ktadd -k "+r.keytab+" ldap/localhost")
	cmd := exec.Command(kdc, "-n", "-r", r.Name)
	cmd.Env = env
	start(t, cmd)
	waitFor(t, "localhost:"+port)
	run(Password+"\n", kinit, "reader")
	return r
}
