package tui

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// keyFiles are the names under which key lists come.
var keyFiles = []string{"*.csv", "*.txt", "*.tsv", "*.json", "*.ndjson", "*.ldif", "*.bek", "*.log"}

// questions are the steps of the wizard, in their order. say tells the person something while an answer is checked.
func questions(w Work, say func(text string)) []Question {
	return []Question{
		{
			ID: "goal", Title: "What do you want?", Kind: Choose,
			Help: "Media heal a Windows machine that restarts over and over: one boot, and it goes on to Windows.",
			Options: static(
				Option{Value: "usb", Label: "USB sticks", Help: "one or many, for walking from machine to machine"},
				Option{Value: "iso", Label: "ISO image", Help: "for virtual machines, remote consoles (iDRAC, iLO) and discs"},
				Option{Value: "pxe", Label: "Network boot", Help: "a folder for a boot server: machines start from the network, nobody walks"},
				Option{Value: "check", Label: "Check a stick or image", Help: "is it whole, and what was added since it was made?"},
				Option{Value: "report", Label: "Read the logs of sticks", Help: "which machines are healed, which need a person, which keys to rotate"},
			),
			Preset: func(a *Answers) []string { return []string{string(a.Goal)} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.Goal = Goal(v[0])
				return "", nil
			},
		},
		{
			ID: "check", Title: "Which stick or image?", Kind: Path, Needed: is(GoalCheck), Patterns: []string{"*.img", "*.iso", "*.raw"},
			Help: "An image file, or the device of a stick, such as /dev/sdb or \\\\.\\PhysicalDrive2.",
			Take: keepPath(func(a *Answers) *string { return &a.Media }),
		},
		{
			ID: "logs", Title: "Where are the logs?", Kind: Path, Needed: is(GoalReport), Folders: true, Patterns: []string{"*.jsonl"},
			Help: "A stick, or a folder that the bootmend/logs folders of several sticks were copied to.",
			Take: keepPath(func(a *Answers) *string { return &a.Logs }),
		},
		{
			ID: "page", Title: "Shall a page be written, too?", Kind: Choose, Needed: is(GoalReport),
			Help: "The machines are listed on the screen in any case.",
			Options: static(
				Option{Value: "page", Label: "Yes, write a page", Help: "one HTML file that needs no network; it holds key IDs, never keys"},
				Option{Value: "screen", Label: "No, only show them"},
			),
			Preset: func(a *Answers) []string {
				if a.Page {
					return []string{"page"}
				}
				return []string{"screen"}
			},
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.Page = v[0] == "page"
				return "", nil
			},
		},
		{
			ID: "reportfile", Title: "Where shall the report go?", Kind: Path, New: true, Patterns: []string{"*.html", "*.csv"},
			Needed: func(a *Answers) bool { return a.Goal == GoalReport && a.Page },
			Help:   "A name that ends in .html gives a page to pass on, .csv a table with all machines.",
			Preset: func(a *Answers) []string { return []string{or(a.Output, "bootmend-report.html")} },
			Take:   keepOutput,
		},
		{
			ID: "environment", Title: "What shall the machines start?", Kind: Choose,
			Needed: (*Answers).Builds,
			Help:   "Both heal by the same rules. From sticks and discs, both start with Secure Boot on.",
			Options: func(_ context.Context, a *Answers) ([]Option, error) {
				pe := Option{Value: "winpe", Label: "Windows PE", Help: "where only Microsoft's boot code is allowed, or a disk needs a driver of Windows; you bring it"}
				if a.Goal == GoalPXE {
					pe.Help = "where a disk needs a driver of Windows; you bring it, and iPXE and wimboot, which start it"
				}
				return []Option{{Value: "linux", Label: "bootmend's own Linux", Help: "recommended: small, quick, nothing else is needed"}, pe}, nil
			},
			Preset: func(a *Answers) []string {
				if a.WindowsPE {
					return []string{"winpe"}
				}
				return []string{"linux"}
			},
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.WindowsPE = v[0] == "winpe"
				return "", nil
			},
		},
		{
			ID: "winpe", Title: "Where is Windows PE?", Kind: Path, Needed: (*Answers).StartsWindowsPE, Folders: true, Patterns: []string{"*.iso", "*.wim"},
			Help:   "The ISO image of a Windows 10 or 11 medium, or a folder of the ADK or of copype. It is only read.",
			Preset: func(a *Answers) []string { return []string{a.WinPE} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				path, err := existing(v[0])
				if err != nil {
					return "", err
				}
				description, err := w.WinPE(path)
				if err != nil {
					return "", err
				}
				a.WinPE, a.WinPENote = path, description
				return description, nil
			},
		},
		{
			ID: "wimboot", Title: "Where is wimboot?", Kind: Path,
			Needed: func(a *Answers) bool { return a.Goal == GoalPXE && a.StartsWindowsPE() },
			Help:   "The loader of Windows PE for iPXE. It may not come with bootmend: ipxe.org/wimboot has it.",
			Preset: func(a *Answers) []string { return []string{a.Wimboot} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				path, err := existing(v[0])
				if err == nil {
					err = w.Wimboot(path)
				}
				if err != nil {
					return "", err
				}
				a.Wimboot = path
				return "", nil
			},
		},
		{
			ID: "keys", Title: "Where do the recovery keys come from?", Kind: Choose, Needed: (*Answers).Builds,
			Help: "A machine with BitLocker opens with its recovery key of 48 digits. With the keys on the media, nobody has to type.",
			Options: static(
				Option{Value: "file", Label: "A file or folder", Help: "exports of Active Directory, Entra ID, Intune, MBAM; CSV, text, JSON, LDIF"},
				Option{Value: "ask", Label: "Ask at each machine", Help: "no keys on the media: a person types them, checked group by group"},
				Option{Value: "ad", Label: "Active Directory", Help: "fetched now, as who may read them there"},
				Option{Value: "entra", Label: "Entra ID", Help: "fetched now, with a login in any browser"},
				Option{Value: "server", Label: "A control server", Help: "no keys on the media: each machine asks it for its own"},
				Option{Value: "mix", Label: "Several of them", Help: "of file, Active Directory and Entra ID"},
			),
			Preset: func(a *Answers) []string { return []string{string(a.Source)} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.Source = Source(v[0])
				return "", nil
			},
		},
		{
			ID: "mix", Title: "Which of them?", Kind: ChooseMany,
			Needed: func(a *Answers) bool { return a.Builds() && a.Source == FromMix },
			Help:   "The keys of all are put together; what comes twice is taken once.",
			Options: static(
				Option{Value: string(FromFile), Label: "A file or folder"},
				Option{Value: string(FromDirectory), Label: "Active Directory"},
				Option{Value: string(FromTenant), Label: "Entra ID"},
			),
			Preset: func(a *Answers) []string {
				var marked []string
				for _, s := range a.Mixed {
					marked = append(marked, string(s))
				}
				return marked
			},
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				if len(v) < 2 {
					return "", errors.New("that is not several: mark two or three, or go back and choose one")
				}
				a.Mixed = nil
				for _, s := range v {
					a.Mixed = append(a.Mixed, Source(s))
				}
				return "", nil
			},
		},
		{
			ID: "directory", Title: "Which domain controller?", Kind: Text, Needed: from(FromDirectory),
			Help:   "Its name, such as dc1.example.com. The keys come over TLS; ldap://NAME goes on to it, too.",
			Preset: func(a *Answers) []string { return []string{a.Directory} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.Directory = strings.TrimSpace(v[0])
				if a.Directory == "" || strings.ContainsAny(a.Directory, " \t") {
					return "", errors.New("that is no name of a server: type one such as dc1.example.com")
				}
				return "", nil
			},
		},
		{
			ID: "user", Title: "Who logs in there?", Kind: Text, Needed: from(FromDirectory),
			Help:   "user@example.com or EXAMPLE\\user, with the right to read recovery keys. Empty uses the Kerberos ticket that is there.",
			Preset: func(a *Answers) []string { return []string{a.User} },
			Take: func(ctx context.Context, a *Answers, v []string) (string, error) {
				if a.User = strings.TrimSpace(v[0]); a.User != "" {
					return "", nil
				}
				return directory(ctx, w, a, nil)
			},
		},
		{
			ID: "password", Title: "Password", Kind: Secret,
			Needed: func(a *Answers) bool { return from(FromDirectory)(a) && a.User != "" },
			Help:   "It is used once, now, and kept nowhere.",
			Take: func(ctx context.Context, a *Answers, v []string) (string, error) {
				return directory(ctx, w, a, Passphrase(v[0]))
			},
		},
		{
			ID: "cloud", Title: "In which cloud of Microsoft is the tenant?", Kind: Choose, Needed: from(FromTenant),
			Help: "The national ones have servers of their own.",
			Options: static(
				Option{Value: globalCloud, Label: "The global one", Help: "recommended: nearly all tenants, those of GCC included"},
				Option{Value: "usgov", Label: "US Government, GCC High"},
				Option{Value: "dod", Label: "US Government, DoD"},
				Option{Value: "china", Label: "China, operated by 21Vianet"},
			),
			Preset: func(a *Answers) []string { return []string{a.Cloud} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.Cloud = v[0]
				return "", nil
			},
		},
		{
			ID: "tenant", Title: "Which tenant of Entra ID?", Kind: Text, Needed: from(FromTenant),
			Help: "Its domain or ID, such as example.com; empty takes that of who logs in. The login is in a browser, on any device, " +
				"with a role that may read BitLocker keys, such as Cloud Device Administrator.",
			Preset: func(a *Answers) []string { return []string{a.Tenant} },
			Take: func(ctx context.Context, a *Answers, v []string) (string, error) {
				if a.Tenant = strings.TrimSpace(v[0]); strings.ContainsAny(a.Tenant, " \t/") {
					return "", errors.New("that is no tenant: type a domain such as example.com, or leave it empty")
				}
				s, err := w.Tenant(ctx, a.Cloud, a.Tenant, func(address, code string) {
					say("Open " + address + " in a browser, on any device, and type the code " + code)
				})
				if err != nil {
					return "", err
				}
				if s.Keys == 0 {
					return "", errors.New("there are no recovery keys: check that the computers store them in Entra ID")
				}
				a.TenantNote = summary(s)
				return a.TenantNote, nil
			},
		},
		{
			ID: "control", Title: "Which control server?", Kind: Path, Needed: from(FromServer), Patterns: []string{"server.yaml", "*.yaml"},
			Help:   "The server.yaml in the folder of \"bootmend control\". Whoever gets it can ask that server for keys.",
			Preset: func(a *Answers) []string { return []string{a.Control} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				path, err := existing(v[0])
				if err != nil {
					return "", err
				}
				address, err := w.Control(path)
				if err != nil {
					return "", err
				}
				a.Control, a.ControlNote = path, address
				return "Machines will ask " + address, nil
			},
		},
		{
			ID: "keyfile", Title: "Which file or folder has the keys?", Kind: Path, Needed: from(FromFile), Folders: true, Patterns: keyFiles,
			Help:   "It is only read. Rows that are no key are named and left out.",
			Preset: func(a *Answers) []string { return []string{a.KeyPath} },
			Take: func(ctx context.Context, a *Answers, v []string) (string, error) {
				path, err := existing(v[0])
				if err != nil {
					return "", err
				}
				s, err := w.Keys(ctx, path)
				if err != nil {
					return "", err
				}
				if s.Keys == 0 {
					return "", fmt.Errorf("%s holds no usable recovery key: choose another file", path)
				}
				a.KeyPath, a.KeyNote = path, summary(s)
				return a.KeyNote, nil
			},
		},
		{
			ID: "protection", Title: "How shall the keys be protected?", Kind: Choose, Needed: (*Answers).hasKeys,
			Help: "Whoever finds the media must not have the keys of the company.",
			Options: func(_ context.Context, a *Answers) ([]Option, error) {
				options := []Option{
					{Value: string(ByPassphrase), Label: "A passphrase", Help: "typed once at each machine: recommended"},
					{Value: string(BySecond), Label: "A second stick", Help: "an age identity on it opens the keys, nothing is typed"},
					{Value: string(Unprotected), Label: "Not at all", Help: "anyone who has the media has the keys", Danger: true},
				}
				if a.Goal == GoalPXE {
					options[2].Refused = "anybody on the network could read them"
				}
				return options, nil
			},
			Preset: func(a *Answers) []string { return []string{string(a.Protection)} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.Protection = Protection(v[0])
				return "", nil
			},
		},
		{
			ID: "unprotected", Title: "Keys that anyone can read?", Kind: Choose, Needed: protectedBy(Unprotected),
			Help: "A lost stick is then the loss of every key on it. Each of them must be rotated.",
			Options: static(
				Option{Value: "no", Label: "No, protect them", Help: "back to the choice"},
				Option{Value: "yes", Label: "Yes, leave them readable", Help: "I keep the media as safe as the keys, and erase it afterwards", Danger: true},
			),
			Take: func(_ context.Context, _ *Answers, v []string) (string, error) {
				if v[0] != "yes" {
					return "", errBack
				}
				return "", nil
			},
		},
		{
			ID: "passphrase", Title: "Passphrase", Kind: Secret, Needed: protectedBy(ByPassphrase),
			Help: "Four or five unrelated words are easy to type and hard to guess. It is typed on an English keyboard layout at the machines.",
			Judge: func(text string) Line {
				line, err := strength(text)
				if err != nil {
					return Line{"Strength: weak", Bad}
				}
				return line
			},
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				_, err := strength(v[0])
				if err == nil {
					err = w.Passphrase(v[0])
				}
				if err == nil {
					a.Passphrase = Passphrase(v[0])
				}
				return "", err
			},
		},
		{
			ID: "again", Title: "The same passphrase again", Kind: Secret, Needed: protectedBy(ByPassphrase),
			Help: "So that a slip of the finger does not lock the keys away.",
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				if v[0] != string(a.Passphrase) {
					return "", errors.New("the two do not agree: type it again, or go back and choose anew")
				}
				return "", nil
			},
		},
		{
			ID: "recipient", Title: "The second stick's public key", Kind: Text, Needed: protectedBy(BySecond),
			Help:   "It begins with age1 or ssh-; \"age-keygen -o identity.txt\" prints it. The identity file goes onto the second stick.",
			Preset: func(a *Answers) []string { return []string{a.Recipient} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				text := strings.TrimSpace(v[0])
				if err := w.Recipient(text); err != nil {
					return "", err
				}
				a.Recipient = text
				return "", nil
			},
		},
		{
			ID: "rules", Title: "A rule pack of your own?", Kind: Path, Needed: (*Answers).Builds, Patterns: []string{"*.yaml", "*.yml"},
			Help:   "Always healed: " + strings.Join(w.Packaged(), "; ") + ". Leave this empty if that is what happened.",
			Preset: func(a *Answers) []string { return []string{a.Rules} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.Rules, a.RulesKey, a.RulesTitle, a.RulesUnsigned = "", "", "", false
				if strings.TrimSpace(v[0]) == "" {
					return "", nil
				}
				path, err := existing(v[0])
				if err != nil {
					return "", err
				}
				title, unsigned, err := w.Pack(path)
				if err != nil {
					return "", err
				}
				a.Rules, a.RulesTitle, a.RulesUnsigned = path, title, unsigned != ""
				if unsigned != "" {
					return "Rule pack: " + title + ". It " + unsigned + ".", nil
				}
				return "Rule pack: " + title + ". It is signed.", nil
			},
		},
		{
			ID: "unsigned", Title: "Use a rule pack that nobody signed?", Kind: Choose,
			Needed: func(a *Answers) bool { return a.Builds() && a.Rules != "" && a.RulesUnsigned },
			Help:   "Whoever changed it on its way to you decides which files are moved. \"bootmend rules sign\" signs it.",
			Options: static(
				Option{Value: "no", Label: "No, choose again", Help: "back to the file"},
				Option{Value: "yes", Label: "Yes, use it", Help: "I wrote it myself, or have read it", Danger: true},
			),
			Take: func(_ context.Context, _ *Answers, v []string) (string, error) {
				if v[0] != "yes" {
					return "", errBack
				}
				return "", nil
			},
		},
		{
			ID: "ruleskey", Title: "Who signed the rule pack?", Kind: Path, Patterns: []string{"*.pub"},
			Needed: func(a *Answers) bool { return a.Builds() && a.Rules != "" && !a.RulesUnsigned },
			Help:   "The minisign public key (.pub) of those who wrote it. Empty uses the pack without checking the signature.",
			Preset: func(a *Answers) []string { return []string{a.RulesKey} },
			Take: func(ctx context.Context, a *Answers, v []string) (string, error) {
				key := ""
				if strings.TrimSpace(v[0]) != "" {
					var err error
					if key, err = existing(v[0]); err != nil {
						return "", err
					}
				}
				title, err := w.Rules(ctx, a.Rules, key)
				if err != nil {
					return "", err
				}
				a.RulesKey, a.RulesTitle = key, title
				if key == "" {
					return "", nil
				}
				return "The signature is right.", nil
			},
		},
		{
			ID: "policy", Title: "What shall be done with the faulty files?", Kind: Choose, Needed: (*Answers).Builds,
			Help: "Files are never deleted: they go into a quarantine on the same disk, and can be put back.",
			Options: static(
				Option{Value: "heal", Label: "Move the faulty ones away", Help: "recommended: corrected versions stay"},
				Option{Value: "all", Label: "Move all files of that name away", Help: "also corrected ones"},
				Option{Value: "dry", Label: "Only show what would be done", Help: "a dry run: nothing on any disk is changed"},
			),
			Preset: func(a *Answers) []string {
				switch {
				case a.DryRun:
					return []string{"dry"}
				case a.AllMatching:
					return []string{"all"}
				}
				return []string{"heal"}
			},
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.AllMatching, a.DryRun = v[0] == "all", v[0] == "dry"
				return "", nil
			},
		},
		{
			ID: "success", Title: "What does a healed machine do?", Kind: Choose, Needed: (*Answers).Builds,
			Help: "The result is shown for some seconds first.",
			Options: static(
				Option{Value: "reboot", Label: "Go on to Windows", Help: "recommended"},
				Option{Value: "poweroff", Label: "Switch itself off"},
				Option{Value: "wait", Label: "Wait for a person"},
			),
			Preset: func(a *Answers) []string { return []string{a.OnSuccess} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.OnSuccess = v[0]
				return "", nil
			},
		},
		{
			ID: "failure", Title: "What does a machine do that could not be healed?", Kind: Choose, Needed: (*Answers).Builds,
			Help: "No key, a hibernated Windows, a disk that fails: the reason is on its screen and in the log.",
			Options: static(
				Option{Value: "wait", Label: "Wait for a person", Help: "recommended: the screen says what is needed"},
				Option{Value: "reboot", Label: "Restart"},
				Option{Value: "poweroff", Label: "Switch itself off"},
			),
			Preset: func(a *Answers) []string { return []string{a.OnFailure} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.OnFailure = v[0]
				return "", nil
			},
		},
		{
			ID: "target", Title: "Where shall it go?", Kind: Choose, Needed: is(GoalUSB),
			Help: "Both make the same stick.",
			Options: static(
				Option{Value: "sticks", Label: "Onto sticks now", Help: "several at once; each is read back and compared"},
				Option{Value: "file", Label: "Into an image file", Help: "for \"bootmend flash\", another tool, or later"},
			),
			Preset: func(a *Answers) []string {
				if a.ToDevices {
					return []string{"sticks"}
				}
				return []string{"file"}
			},
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				a.ToDevices = v[0] == "sticks"
				return "", nil
			},
		},
		{
			ID: "devices", Title: "Which sticks?", Kind: ChooseMany, Live: true,
			Needed: func(a *Answers) bool { return a.Goal == GoalUSB && a.ToDevices },
			Help:   "Everything on them is erased. Plug sticks in now: they show up here.",
			Options: func(ctx context.Context, _ *Answers) ([]Option, error) {
				devices, err := w.Devices(ctx)
				var options []Option
				for _, d := range devices {
					o := Option{Value: d.Path, Label: fmt.Sprintf("%s  %s  %s", d.Path, or(d.Model, "no name"), sizeText(d.Size)), Refused: d.Refused}
					if d.Mounted != "" {
						o.Help = "open at " + d.Mounted
					}
					options = append(options, o)
				}
				return options, err
			},
			Preset: func(a *Answers) []string {
				var paths []string
				for _, d := range a.Devices {
					paths = append(paths, d.Path)
				}
				return paths
			},
			Take: func(ctx context.Context, a *Answers, v []string) (string, error) {
				if len(v) == 0 {
					return "", errors.New("no stick is chosen: mark at least one with the space bar")
				}
				devices, err := w.Devices(ctx)
				if err != nil {
					return "", err
				}
				a.Devices = nil
				for _, path := range v {
					i := slices.IndexFunc(devices, func(d Device) bool { return d.Path == path })
					if i < 0 {
						return "", fmt.Errorf("%s is not there any more: plug it in again, or take the mark away", path)
					}
					if devices[i].Refused != "" {
						return "", fmt.Errorf("%s: %s", path, devices[i].Refused)
					}
					a.Devices = append(a.Devices, devices[i])
				}
				return "", nil
			},
		},
		{
			ID: "output", Title: "Which file shall be written?", Kind: Path, New: true, Patterns: []string{"*.img", "*.iso"},
			Needed: func(a *Answers) bool { return a.Goal == GoalISO || a.Goal == GoalUSB && !a.ToDevices },
			Help:   "A name, or a path. It appears there whole, or not at all.",
			Preset: func(a *Answers) []string {
				if a.Goal == GoalISO {
					return []string{or(a.Output, "heal.iso")}
				}
				return []string{or(a.Output, "heal.img")}
			},
			Take: keepOutput,
		},
		{
			ID: "bootserver", Title: "Which address has the boot server?", Kind: Text,
			Needed: func(a *Answers) bool { return a.Goal == GoalPXE && !a.StartsWindowsPE() },
			Help:   "Its IPv4 address, for the configurations that come with the folder. Without a boot server, \"bootmend serve\" is one.",
			Preset: func(a *Answers) []string { return []string{a.BootServer} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				address, err := netip.ParseAddr(strings.TrimSpace(v[0]))
				if err != nil || !address.Is4() {
					return "", errors.New("that is no IPv4 address: type one such as 192.0.2.10")
				}
				a.BootServer = address.String()
				return "", nil
			},
		},
		{
			ID: "folder", Title: "Which folder shall be written?", Kind: Path, New: true, Folders: true, Needed: is(GoalPXE),
			Help:   "A new one, or one that was made so before. It has to become the root of what the server gives out.",
			Preset: func(a *Answers) []string { return []string{or(a.Output, "tftpboot")} },
			Take: func(_ context.Context, a *Answers, v []string) (string, error) {
				path := plainPath(v[0])
				if path == "" {
					return "", errors.New("no name is given: type the folder to write")
				}
				if err := there(filepath.Dir(filepath.Clean(path))); err != nil {
					return "", err
				}
				if err := w.Folder(path); err != nil {
					return "", err
				}
				a.Output = path
				if list, err := os.ReadDir(path); err == nil && len(list) > 0 {
					return path + " was made by bootmend and will be replaced.", nil
				}
				return "", nil
			},
		},
		{
			ID: "review", Title: "Is this right?", Kind: Review, Text: review,
		},
	}
}

// errBack sends the person a step back.
var errBack = errors.New("back")

func static(options ...Option) func(context.Context, *Answers) ([]Option, error) {
	return func(context.Context, *Answers) ([]Option, error) { return options, nil }
}

func is(g Goal) func(*Answers) bool { return func(a *Answers) bool { return a.Goal == g } }

func from(s Source) func(*Answers) bool {
	return func(a *Answers) bool { return a.Uses(s) }
}

// directory fetches the keys and says what there is.
func directory(ctx context.Context, w Work, a *Answers, password Passphrase) (string, error) {
	s, err := w.Directory(ctx, a.Directory, a.User, password)
	if err != nil {
		return "", err
	}
	if s.Keys == 0 {
		return "", fmt.Errorf("%s has no recovery key that %s may read: log in as somebody with that right", a.Directory, or(a.User, "this ticket"))
	}
	a.UserNote = summary(s)
	return a.UserNote, nil
}

func protectedBy(p Protection) func(*Answers) bool {
	return func(a *Answers) bool { return a.hasKeys() && a.Protection == p }
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func keepPath(field func(*Answers) *string) func(context.Context, *Answers, []string) (string, error) {
	return func(_ context.Context, a *Answers, v []string) (string, error) {
		path, err := existing(v[0])
		if err != nil {
			return "", err
		}
		*field(a) = path
		return "", nil
	}
}

// existing is a path that a person typed, made plain, of something that is there.
func existing(text string) (string, error) {
	path := plainPath(text)
	if path == "" {
		return "", errors.New("no name is given: choose a file, or type its path")
	}
	return path, there(path)
}

// there says what to do about a path that leads to nothing.
func there(path string) error {
	_, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there: choose from the list, or type its whole path", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be looked at by you: choose another, or start bootmend as an administrator", path)
	}
	return err
}

// plainPath takes off what shells and file managers put around a path that is dragged into a terminal.
func plainPath(text string) string {
	text = strings.TrimSpace(text)
	if n := len(text); n > 1 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		text = text[1 : n-1]
	}
	if home, err := os.UserHomeDir(); err == nil && (text == "~" || strings.HasPrefix(text, "~/")) {
		text = home + text[1:]
	}
	return text
}

func keepOutput(_ context.Context, a *Answers, v []string) (string, error) {
	path := plainPath(v[0])
	if path == "" {
		return "", errors.New("no name is given: type the file to write")
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return "", fmt.Errorf("%s is a folder: add the name of a file", path)
	}
	if err := there(filepath.Dir(path)); err != nil {
		return "", err
	}
	a.Output = path
	if _, err := os.Stat(path); err == nil {
		return path + " is there already and will be replaced.", nil
	}
	return "", nil
}

func summary(s KeySummary) string {
	text := plural(s.Keys, "recovery key")
	if s.Computers > 0 {
		text += " of " + plural(s.Computers, "computer")
	}
	if n := len(s.Problems); n > 0 {
		text += fmt.Sprintf("; %s left out, the first: %s", plural(n, "row"), s.Problems[0])
	}
	return text
}

// explained is an error with what to do about it.
func explained(w Work, err error) string {
	if hint := w.Hint(err); hint != "" {
		return err.Error() + "\n" + hint
	}
	return err.Error()
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// strength judges a passphrase by its length, the one property that helps for certain.
func strength(p string) (Line, error) {
	distinct := map[rune]bool{}
	for _, r := range p {
		distinct[r] = true
	}
	switch n := len([]rune(p)); {
	case n < 12 || len(distinct) < 6:
		return Line{}, errors.New("too easy to guess: use at least 12 characters, better four or five words")
	case n < 16:
		return Line{"Strength: fair; four or five words would be strong", Plain}, nil
	case n < 20:
		return Line{"Strength: good", Good}, nil
	}
	return Line{"Strength: strong", Good}, nil
}

// review says in plain words what is about to happen.
func review(a *Answers) []Line {
	var lines []Line
	say := func(style Style, format string, args ...any) {
		lines = append(lines, Line{fmt.Sprintf(format, args...), style})
	}
	switch a.Goal {
	case GoalCheck:
		say(Plain, "%s is compared with the list of files that was written into it. Nothing is changed.", a.Media)
		return lines
	case GoalReport:
		say(Plain, "The logs below %s are read and stay as they are.", a.Logs)
		if a.Page {
			say(Plain, "The report is written to %s.", a.Output)
		}
		return lines
	}
	if a.Goal == GoalUSB && a.ToDevices {
		say(Bad, "Everything on %s is erased:", plural(len(a.Devices), "stick"))
		for _, d := range a.Devices {
			line := fmt.Sprintf("  %s  %s  %s", d.Path, d.Model, sizeText(d.Size))
			if d.Mounted != "" {
				line += ", open at " + d.Mounted
			}
			say(Strong, "%s", line)
		}
	} else {
		what := "image"
		if a.Goal == GoalPXE {
			what = "folder of the boot server"
		}
		say(Plain, "The %s is written to %s.", what, a.Output)
	}
	say(Plain, "")
	say(Strong, "What it does to a machine that is started from it:")
	if a.StartsWindowsPE() {
		say(Plain, "- starts Windows PE: %s.", a.WinPENote)
	}
	switch {
	case a.DryRun:
		say(Plain, "- shows what it would heal. No disk is changed.")
	case a.AllMatching:
		say(Plain, "- moves all files that the rules name into a quarantine on the same disk.")
	default:
		say(Plain, "- moves the faulty files into a quarantine on the same disk.")
	}
	if a.Rules != "" {
		say(Plain, "- also heals: %s.", a.RulesTitle)
	}
	say(Plain, "- if it is healed: %s. If not: %s.", action(a.OnSuccess), action(a.OnFailure))
	say(Plain, "")
	switch a.Source {
	case FromPerson:
		say(Plain, "Keys: none on it; each machine asks for its own.")
	case FromServer:
		say(Plain, "Keys: none on it; each machine asks %s for its own.", a.ControlNote)
	case FromFile, FromDirectory, FromTenant, FromMix:
		for _, source := range []struct {
			s    Source
			note string
		}{{FromFile, a.KeyNote}, {FromDirectory, a.UserNote}, {FromTenant, a.TenantNote}} {
			if a.Uses(source.s) {
				say(Plain, "Keys: %s.", source.note)
			}
		}
		switch a.Protection {
		case ByPassphrase:
			say(Plain, "They are sealed; the passphrase is typed once at each machine.")
		case BySecond:
			say(Plain, "They are sealed; the second stick opens them.")
		case Unprotected:
			say(Bad, "They are readable by anyone who has it.")
		}
	}
	return lines
}

func action(a string) string {
	switch a {
	case "reboot":
		return "it restarts"
	case "poweroff":
		return "it switches itself off"
	}
	return "it waits for a person"
}

// after are the next steps once media are made.
func after(a *Answers) []Line {
	var lines []Line
	say := func(style Style, text string) { lines = append(lines, Line{text, style}) }
	switch {
	case a.Goal == GoalPXE:
		say(Strong, "At the boot server")
		if a.StartsWindowsPE() {
			say(Plain, "Give the folder out over HTTP, and have iPXE run \"chain http://SERVER/boot.ipxe\".")
		} else {
			say(Plain, "Make the folder the root of what it gives out; its folder \"snippets\" has configurations for common servers.")
		}
		say(Plain, "Then start the machines from the network: tap F12 at power-on (HP: F9, or F12 for the network at once).")
	case a.Builds():
		say(Strong, "At the machine")
		say(Plain, "Switch it on and tap the key for the boot menu until it shows, then choose the medium:")
		say(Plain, "  Dell, Lenovo, Acer, Fujitsu: F12    HP: F9    ASUS: F8 or Esc    MSI: F11")
		say(Plain, "  Surface: hold volume-down while pressing power    Toshiba: F12")
	}
	if a.hasKeys() && a.Protection == Unprotected {
		say(Bad, "Keep the media under lock and key, hand them over in person, and count them: whoever has one has the keys.")
	}
	if a.Builds() && a.Source == FromServer {
		say(Plain, "Whoever has the media can ask the server for keys: keep them under lock and key, and let it run with --approve.")
	}
	if a.hasKeys() && a.Protection == ByPassphrase {
		say(Plain, "Tell the passphrase to those who are at the machines by phone, never on a note beside the media.")
	}
	if a.hasKeys() {
		say(Plain, "Afterwards: rotate the keys that were used (\"bootmend report --rotate\") and erase the media.")
	}
	if a.hasKeys() && a.Protection == BySecond {
		say(Plain, "Carry the second stick apart from the media, and give it only to those who heal machines.")
	}
	if a.Goal == GoalCheck {
		say(Plain, "It may be used as it is.")
	}
	if a.Goal == GoalReport && a.Page {
		say(Plain, "The page holds key IDs, never keys: it may be passed on.")
	}
	say(Plain, "")
	say(Strong, "The same without the wizard")
	for _, c := range a.Commands() {
		say(Code, "  "+quoted(c))
	}
	return lines
}
