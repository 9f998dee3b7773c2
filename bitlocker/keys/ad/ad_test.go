package ad

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys/ad/adtest"
)

// objects makes the recovery objects of n computers and a few odd ones.
func objects(n int) []adtest.Object {
	var list []adtest.Object
	for i := range n {
		o := adtest.Object{Computer: fmt.Sprintf("PC-%04d", i), OU: []string{"Berlin", "Paris"}[i%2], Time: "2024-03-11T08:12:00-08:00",
			Key: fmt.Sprintf("%06d-220022-330033-440044-550055-660066-111111-222222", 11*i)}
		binary.BigEndian.PutUint64(o.ID[:], uint64(i)+1)
		list = append(list, o)
	}
	// A second key of a computer, from a time zone east of UTC; a name that is not ASCII; a broken key.
	second, other, broken := list[0], list[1], list[1]
	second.ID[15], second.Time, second.Key = 1, "2024-04-12T08:13:00+01:00", list[1].Key
	other.ID[15], other.Computer = 2, "LT-ÄRGER-3"
	broken.ID[15], broken.Computer, broken.Key = 3, "PC-BROKEN", "123456-220022-330033-440044-550055-660066-111111-222222"
	return append(list, second, other, broken)
}

func TestDirectory(t *testing.T) {
	const computers = 1200 // more than the server gives in a page
	all := objects(computers)
	server := adtest.Start(t, all, nil)
	pem, err := os.ReadFile(server.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	good := Source{URL: "ldaps://" + server.LDAPS, Roots: roots, Login: Simple{adtest.Reader, NewPassword(adtest.Password)}}
	with := func(change func(s *Source)) *Source {
		s := good
		change(&s)
		return &s
	}

	for name, s := range map[string]*Source{
		"ldaps":    &good,
		"StartTLS": with(func(s *Source) { s.URL = "ldap://" + server.LDAP }),
		"plain, on this machine": with(func(s *Source) {
			s.URL, s.Plain, s.Roots = "ldap://"+server.LDAP, true, nil
		}),
		"small pages": with(func(s *Source) { s.PageSize = 77 }),
		"named base":  with(func(s *Source) { s.Bases = []string{adtest.Domain} }),
		"two bases":   with(func(s *Source) { s.Bases = []string{"OU=Berlin," + adtest.Domain, "OU=Paris," + adtest.Domain} }),
	} {
		t.Run(name, func(t *testing.T) {
			told := 0
			s.Progress = func(n int) { told = n }
			list, err := s.Keys(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Entries) != len(all)-1 || told != len(all) {
				t.Fatalf("%d keys of %d, %d objects told", len(list.Entries), len(all)-1, told)
			}
			if len(list.Problems) != 1 || !strings.Contains(list.Problems[0].Reason, "group 1") || strings.Contains(list.Problems[0].Error(), "123456") {
				t.Errorf("problems: %v", list.Problems)
			}
			for _, o := range all[:len(all)-1] {
				found := list.ForProtector(bitlocker.GUID(o.ID))
				if len(found) != 1 || found[0].Password.Reveal() != o.Key || found[0].Computer != o.Computer ||
					!strings.EqualFold(found[0].Container, "OU="+o.OU+","+adtest.Domain) {
					t.Fatalf("%s: found %+v", o.Computer, found)
				}
			}
			if n := len(list.ForComputer("PC-0000")); n != 2 {
				t.Errorf("%d keys of PC-0000", n)
			}
		})
	}

	t.Run("one unit", func(t *testing.T) {
		list, err := with(func(s *Source) { s.Bases = []string{"OU=Berlin," + adtest.Domain} }).Keys(context.Background())
		if err != nil || len(list.Entries) != computers/2+1 {
			t.Fatalf("%d keys, %v", len(list.Entries), err)
		}
	})

	for name, tc := range map[string]struct {
		source *Source
		is     error
		text   string
	}{
		"wrong password":        {with(func(s *Source) { s.Login = Simple{adtest.Reader, NewPassword("battery staple")} }), ErrLogin, "Invalid Credentials"},
		"empty password":        {with(func(s *Source) { s.Login = Simple{adtest.Reader, NewPassword("")} }), nil, "password is empty"},
		"unknown user":          {with(func(s *Source) { s.Login = Simple{"cn=nobody," + adtest.Domain, NewPassword("battery staple")} }), ErrLogin, "Invalid Credentials"},
		"no right":              {with(func(s *Source) { s.Login = Simple{adtest.Clerk, NewPassword(adtest.Password)} }), ErrNoRight, fmt.Sprint(len(all))},
		"unknown CA":            {with(func(s *Source) { s.Roots = x509.NewCertPool() }), ErrTLS, "unknown authority"},
		"unknown CA, StartTLS":  {with(func(s *Source) { s.URL, s.Roots = "ldap://"+server.LDAP, x509.NewCertPool() }), ErrTLS, "unknown authority"},
		"wrong name":            {with(func(s *Source) { s.URL = strings.Replace(s.URL, "localhost", "127.0.0.1", 1) }), ErrTLS, "127.0.0.1"},
		"no such base":          {with(func(s *Source) { s.Bases = []string{"OU=Rome," + adtest.Domain} }), nil, "No Such Object"},
		"base is no DN":         {with(func(s *Source) { s.Bases = []string{"Rome"} }), nil, "search Rome: "},
		"no server":             {with(func(s *Source) { s.URL = "ldaps://localhost:1" }), nil, "connection refused"},
		"no TLS there":          {with(func(s *Source) { s.URL = "ldaps://" + server.LDAP }), ErrTLS, ""},
		"no address":            {with(func(s *Source) { s.URL = "dc1.example.com" }), nil, "want ldaps://HOST"},
		"password in the clear": {with(func(s *Source) { s.URL, s.Plain = "ldap://dc1.example.com", true }), ErrTLS, "readable"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.source.Keys(context.Background())
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "battery") || strings.Contains(err.Error(), adtest.Password)) {
				t.Errorf("the password shows in %v", err)
			}
		})
	}

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		s := with(func(s *Source) { s.PageSize, s.Progress = 10, func(int) { cancel() } })
		if _, err := s.Keys(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})

	if text := fmt.Sprintf("%v %+v %#v", good, good, good.Login); strings.Contains(text, adtest.Password) {
		t.Errorf("the password shows in %s", text)
	}
}

func TestKerberos(t *testing.T) {
	realm := adtest.StartRealm(t)
	server := adtest.Start(t, objects(3), realm)
	pem, err := os.ReadFile(server.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	s := Source{URL: "ldaps://" + server.LDAPS, Roots: roots, Login: Kerberos{Cache: "FILE:" + realm.Cache, Config: realm.Config}}
	list, err := s.Keys(context.Background())
	if err != nil || len(list.Entries) != 5 {
		t.Fatalf("%v, %v", list, err)
	}
	for name, tc := range map[string]struct {
		login Kerberos
		text  string
	}{
		"no ticket":    {Kerberos{Cache: realm.Cache + "-none", Config: realm.Config}, "kinit"},
		"other cache":  {Kerberos{Cache: "KEYRING:persistent:0", Config: realm.Config}, "KEYRING: cache"},
		"no such file": {Kerberos{Cache: realm.Cache, Config: realm.Config + "-none"}, "no such file"},
	} {
		s.Login = tc.login
		if _, err := s.Keys(context.Background()); err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
