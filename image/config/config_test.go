package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	pin   = strings.Repeat("a1", 32)
	token = "0123456789abcdefXY-_"
)

func withServer() Config {
	c := Default()
	c.Server = Server{URL: "https://10.0.0.1:8443", Fingerprint: pin, Token: token}
	return c
}

func TestTokenStaysHidden(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{withServer(), withServer().Server} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, token) {
				t.Errorf("%s shows the token: %s", verb, text)
			}
		}
	}
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want Config
		err  string
	}{
		"empty":        {in: "", want: Default()},
		"comment only": {in: "# nothing\n", want: Default()},
		"all": {in: "dry_run: true\non_success: poweroff\non_failure: reboot\ncountdown: 90s\nall_matching: true\nallow_unsigned_rules: true\ndiscard_hibernation: true\n",
			want: Config{DryRun: true, OnSuccess: PowerOff, OnFailure: Reboot, Countdown: 90 * time.Second, AllMatching: true, AllowUnsignedRules: true, DiscardHibernation: true}},
		"partial":               {in: "countdown: 0s", want: Config{OnSuccess: Reboot, OnFailure: Wait}},
		"misspelt field":        {in: "dryrun: true", err: "dryrun"},
		"bad action":            {in: "on_success: explode", err: "explode"},
		"bad countdown":         {in: "countdown: -1s", err: "out of range"},
		"server":                {in: "server:\n  url: https://10.0.0.1:8443\n  fingerprint: " + pin + "\n  token: " + token + "\n", want: withServer()},
		"server without TLS":    {in: "server: {url: \"http://10.0.0.1\", fingerprint: " + pin + ", token: " + token + "}", err: "https"},
		"server without pin":    {in: "server: {url: \"https://10.0.0.1\", token: " + token + "}", err: "fingerprint"},
		"server, short token":   {in: "server: {url: \"https://10.0.0.1\", fingerprint: " + pin + ", token: abc}", err: "token is not usable"},
		"server, odd token":     {in: "server: {url: \"https://10.0.0.1\", fingerprint: " + pin + ", token: \"aaaaaaaaaaaaaaaa\\n\"}", err: "token is not usable"},
		"server, path in url":   {in: "server: {url: \"https://10.0.0.1/x\", fingerprint: " + pin + ", token: " + token + "}", err: "https://HOST:PORT"},
		"server, unknown field": {in: "server: {uri: x}", err: "uri"},
		"not yaml":              {in: "dry_run: [", err: "configuration"},
		"too large":             {in: strings.Repeat("#", sizeLimit+1), err: "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(tc.in))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v does not mention %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Fatalf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	want := Config{DryRun: true, OnSuccess: Wait, OnFailure: PowerOff, Countdown: 3 * time.Second, AllMatching: true, AllowUnsignedRules: true,
		Server: withServer().Server}
	data, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v from\n%s", got, err, data)
	}
	if _, err := (Config{Countdown: -1}).Marshal(); err == nil {
		t.Fatal("an invalid configuration was written")
	}
}

func FuzzParse(f *testing.F) {
	seed, err := Default().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("countdown: 1h\n---\nx: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err == nil && c.Validate() != nil {
			t.Fatalf("accepted %+v", c)
		}
	})
}
