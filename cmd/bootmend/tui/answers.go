package tui

import (
	"fmt"
	"slices"
	"strings"
)

// Goal is what the person came for.
type Goal string

// The goals.
const (
	GoalUSB    Goal = "usb"
	GoalISO    Goal = "iso"
	GoalPXE    Goal = "pxe"
	GoalCheck  Goal = "check"
	GoalReport Goal = "report"
)

// Source is where recovery keys come from.
type Source string

// The sources.
const (
	FromFile      Source = "file"
	FromDirectory Source = "ad"
	FromTenant    Source = "entra"
	FromMix       Source = "mix" // several of file, directory and tenant
	FromServer    Source = "server"
	FromPerson    Source = "ask"
)

// Protection is how keys lie on media.
type Protection string

// The protections.
const (
	ByPassphrase Protection = "passphrase"
	BySecond     Protection = "second"
	Unprotected  Protection = "none"
)

// Passphrase is a secret, also a password, that does not show when printed.
type Passphrase []byte

// String keeps the passphrase out of messages.
func (Passphrase) String() string { return "passphrase (withheld)" }

// GoString keeps it out of %#v.
func (Passphrase) GoString() string { return "passphrase (withheld)" }

// Format keeps it out of every verb.
func (Passphrase) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("passphrase (withheld)")) }

// Answers are what the person decided.
type Answers struct {
	Goal Goal

	// With WindowsPE the media start that, made of WinPE, in place of bootmend's own Linux.
	WindowsPE bool
	WinPE     string
	WinPENote string // what it is
	Wimboot   string // GoalPXE: its loader

	Source  Source
	Mixed   []Source // FromMix: which
	KeyPath string   // FromFile: a file or folder with recovery keys
	KeyNote string   // what is in it
	// Directory, User and Password reach Active Directory; without a User a Kerberos ticket does.
	Directory string
	User      string
	Password  Passphrase
	UserNote  string // what that gave
	// Tenant is that of Entra ID; empty: of who logs in. It is in Cloud, as "bootmend keys fetch entra" calls it.
	Cloud       string
	Tenant      string
	TenantNote  string
	Control     string // FromServer: the server.yaml of a control server
	ControlNote string // its address

	Protection Protection
	Passphrase Passphrase
	Recipient  string

	Rules      string // a rule pack of one's own
	RulesKey   string // the public key that it is signed with; empty: used without a signature
	RulesTitle string
	// RulesUnsigned says that the pack has no signature that a key could prove.
	RulesUnsigned bool
	AllMatching   bool
	DryRun        bool
	OnSuccess     string
	OnFailure     string

	BootServer string // GoalPXE: its address

	ToDevices bool
	Devices   []Device
	Output    string

	// Media is what to check, Logs where the logs lie; with Page the report is written to Output, too.
	Media string
	Logs  string
	Page  bool
}

// globalCloud is where nearly all tenants are.
const globalCloud = "global"

// NewAnswers are the defaults.
func NewAnswers() *Answers {
	return &Answers{Goal: GoalUSB, Source: FromFile, Cloud: globalCloud, Protection: ByPassphrase, OnSuccess: "reboot", OnFailure: "wait", ToDevices: true, Page: true}
}

// Builds reports whether media are made.
func (a *Answers) Builds() bool { return a.Goal == GoalUSB || a.Goal == GoalISO || a.Goal == GoalPXE }

// StartsWindowsPE reports whether the media start Windows PE.
func (a *Answers) StartsWindowsPE() bool {
	return a.Builds() && a.WindowsPE
}

// hasKeys reports whether keys go onto the media.
func (a *Answers) hasKeys() bool {
	return a.Uses(FromFile) || a.Uses(FromDirectory) || a.Uses(FromTenant)
}

// Uses reports whether keys for the media come from s, alone or among others.
func (a *Answers) Uses(s Source) bool {
	return a.Builds() && (a.Source == s || a.Source == FromMix && slices.Contains(a.Mixed, s))
}

// fetched is the file that keys of a directory or tenant go through on the command line.
func (a *Answers) fetched(s Source) string {
	if a.Source == FromMix {
		return "keys-" + string(s) + ".csv"
	}
	return "keys.csv"
}

// Commands are the commands that do the same.
func (a *Answers) Commands() [][]string {
	var all [][]string
	if a.Uses(FromDirectory) {
		fetch := []string{"bootmend", "keys", "fetch", "ad", "--server", a.Directory}
		if a.User == "" {
			fetch = append(fetch, "--kerberos")
		} else {
			fetch = append(fetch, "--user", a.User)
		}
		all = append(all, append(fetch, "-o", a.fetched(FromDirectory)))
	}
	if a.Uses(FromTenant) {
		fetch := []string{"bootmend", "keys", "fetch", "entra"}
		if a.Cloud != globalCloud {
			fetch = append(fetch, "--cloud", a.Cloud)
		}
		if a.Tenant != "" {
			fetch = append(fetch, "--tenant", a.Tenant)
		}
		all = append(all, append(fetch, "-o", a.fetched(FromTenant)))
	}
	return append(all, a.command())
}

func (a *Answers) command() []string {
	var c []string
	switch {
	case a.Goal == GoalCheck:
		return []string{"bootmend", "verify", a.Media}
	case a.Goal == GoalReport:
		c = []string{"bootmend", "report", a.Logs}
		if a.Page {
			c = append(c, "-o", a.Output)
		}
		return c
	case a.Goal == GoalUSB && a.ToDevices:
		c = []string{"bootmend", "flash"}
		for _, d := range a.Devices {
			c = append(c, "--to", d.Path)
		}
		if slices.ContainsFunc(a.Devices, func(d Device) bool { return d.Mounted != "" }) {
			c = append(c, "--unmount")
		}
	default:
		c = []string{"bootmend", "build", string(a.Goal), "-o", a.Output}
	}
	if a.StartsWindowsPE() {
		c = append(c, "--env", "winpe", "--winpe", a.WinPE)
	}
	switch {
	case a.Goal == GoalPXE && a.StartsWindowsPE():
		c = append(c, "--wimboot", a.Wimboot)
	case a.Goal == GoalPXE:
		c = append(c, "--server", a.BootServer)
	}
	if a.Builds() && a.Source == FromServer {
		c = append(c, "--control", a.Control)
	}
	if a.hasKeys() {
		if a.Uses(FromFile) {
			c = append(c, "--keys", a.KeyPath)
		}
		for _, s := range []Source{FromDirectory, FromTenant} {
			if a.Uses(s) {
				c = append(c, "--keys", a.fetched(s))
			}
		}
		switch a.Protection {
		case Unprotected:
			c = append(c, "--unprotected-keys")
		case BySecond:
			c = append(c, "--recipient", a.Recipient)
		case ByPassphrase: // asked for
		}
	}
	if a.Rules != "" {
		c = append(c, "--rules", a.Rules)
		if a.RulesKey != "" {
			c = append(c, "--rules-key", a.RulesKey)
		} else {
			c = append(c, "--allow-unsigned-rules")
		}
	}
	if a.AllMatching {
		c = append(c, "--policy", "all-matching")
	}
	if a.DryRun {
		c = append(c, "--dry-run-media")
	}
	if a.OnSuccess != "reboot" {
		c = append(c, "--on-success", a.OnSuccess)
	}
	if a.OnFailure != "wait" {
		c = append(c, "--on-failure", a.OnFailure)
	}
	return c
}

// quoted writes a command line for a shell to take.
func quoted(words []string) string {
	var out []string
	for _, w := range words {
		if w == "" || strings.ContainsAny(w, " \t'\"\\$&|;<>()*?[]{}~#!`") {
			w = `"` + strings.NewReplacer(`"`, `\"`, "`", "\\`", "$", `\$`).Replace(w) + `"`
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

func sizeText(n int64) string {
	switch {
	case n >= 1e12:
		return fmt.Sprintf("%.1f TB", float64(n)/1e12)
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%d MB", n/1e6)
}
