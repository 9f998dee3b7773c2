package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/ad"
	"github.com/bootmend/bootmend/bitlocker/keys/entra"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/cmd/bootmend/tui"
	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/flash/device"
	"github.com/bootmend/bootmend/image/netboot"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/report"
	"github.com/bootmend/bootmend/remediate/trust"
)

func newWizardCommand() *cobra.Command {
	var accessible bool
	cmd := &cobra.Command{
		Use:   "wizard",
		Short: "Ask step by step what media to make, and make them",
		Long: `Ask step by step what media to make, and make them. At the end the wizard shows the command that does
the same. "bootmend" alone starts it, too, where a person sits at the terminal.

--accessible asks line by line, for screen readers; so it does where ACCESSIBLE is set, or the terminal is
a dumb one. NO_COLOR takes the colours away.

Ctrl-C leaves at any time; nothing half-written stays behind.
` + exitHelp,
		Example: `  bootmend wizard
  bootmend wizard --accessible`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runWizard(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), accessible)
		},
	}
	cmd.Flags().BoolVar(&accessible, "accessible", os.Getenv("ACCESSIBLE") != "", "ask line by line, for screen readers")
	return cmd
}

// atTerminal reports whether a person can be asked.
func atTerminal() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
}

func runWizard(ctx context.Context, in io.Reader, out io.Writer, accessible bool) error {
	var err error
	switch {
	case accessible || os.Getenv("TERM") == "dumb":
		secret := func(prompt string) (string, error) {
			return askHidden(ctx, out, prompt, "run the wizard in a terminal")
		}
		err = tui.RunLines(ctx, in, out, secret, &wizardWork{})
	case !atTerminal():
		return withHint(errors.New("the wizard needs a terminal"), "\"bootmend build --help\" tells how media are made without it; --accessible asks line by line")
	default:
		err = tui.Run(ctx, out, &wizardWork{})
	}
	if errors.Is(err, tui.ErrQuit) {
		return &nothingToDo{err}
	}
	return err
}

// wizardWork does what the wizard asks for as the commands do it.
type wizardWork struct {
	directory, tenant *keys.List // what was fetched
	tenantServer      string     // in place of Microsoft's clouds, for tests
}

// Keys implements tui.Work.
func (*wizardWork) Keys(ctx context.Context, path string) (tui.KeySummary, error) {
	list, err := mergeKeyLists(ctx, []string{path})
	if err != nil {
		return tui.KeySummary{}, err
	}
	return summarise(list), nil
}

// Directory implements tui.Work.
func (w *wizardWork) Directory(ctx context.Context, server, user string, password tui.Passphrase) (tui.KeySummary, error) {
	opts := keysFetchADOptions{server: server, user: user, kerberos: user == ""}
	source, err := opts.source()
	if err != nil {
		return tui.KeySummary{}, err
	}
	if user != "" {
		source.Login = ad.Simple{Name: user, Password: ad.NewPassword(string(password))}
	}
	list, err := source.Keys(ctx)
	if err != nil {
		return tui.KeySummary{}, explainAD(err)
	}
	w.directory = list
	return summarise(list), nil
}

// Tenant implements tui.Work.
func (w *wizardWork) Tenant(ctx context.Context, cloud, tenant string, prompt func(address, code string)) (tui.KeySummary, error) {
	source := entra.Source{Cloud: entra.Clouds[cloud], Tenant: tenant, Version: version, Prompt: prompt}
	if w.tenantServer != "" {
		source.Cloud = entra.Cloud{Login: w.tenantServer, Graph: w.tenantServer}
	}
	list, err := source.Keys(ctx)
	if err != nil {
		return tui.KeySummary{}, explainEntra(err)
	}
	w.tenant = list
	return summarise(list), nil
}

// WinPE implements tui.Work.
func (*wizardWork) WinPE(path string) (string, error) {
	source, err := (&winpeOptions{env: winpeEnv, path: path}).open()
	if err != nil {
		return "", err
	}
	defer source.close()
	status, err := source.Status()
	if err != nil {
		return "", err
	}
	text := status.WIM
	for _, i := range status.Images {
		if i.Index != status.Use {
			continue
		}
		text = remediate.Printable(i.Name)
		if v := i.Windows; v != nil {
			text += fmt.Sprintf(", %d.%d.%d, %s", v.Major, v.Minor, v.Build, architecture(v.Architecture))
		}
	}
	for _, missing := range status.Missing {
		text += "; missing: " + missing
	}
	return text, nil
}

// Wimboot implements tui.Work.
func (*wizardWork) Wimboot(path string) error {
	_, err := readWimboot(path)
	return err
}

// Control implements tui.Work.
func (*wizardWork) Control(path string) (string, error) {
	section, err := readServerFile(path)
	return section.URL, err
}

func summarise(list *keys.List) tui.KeySummary {
	computers := map[string]bool{}
	for _, e := range list.Entries {
		if e.Computer != "" {
			computers[strings.ToUpper(e.Computer)] = true
		}
	}
	s := tui.KeySummary{Keys: list.Len(), Computers: len(computers)}
	for _, p := range list.Problems {
		s.Problems = append(s.Problems, p.Error())
	}
	return s
}

// Rules implements tui.Work.
func (*wizardWork) Rules(_ context.Context, path, key string) (string, error) {
	opts := rulesOptions{files: []string{path}, allowUnsigned: key == ""}
	if key != "" {
		opts.keys = []string{key}
	}
	packs, _, err := opts.load(io.Discard)
	if err != nil {
		return "", err
	}
	return packs[len(packs)-1].pack.Title, nil
}

// Pack implements tui.Work.
func (*wizardWork) Pack(path string) (title, unsigned string, err error) {
	packs, _, err := (&rulesOptions{files: []string{path}, allowUnsigned: true}).load(io.Discard)
	if err != nil {
		return "", "", err
	}
	pack := packs[len(packs)-1]
	data, signature, err := readPack(path)
	if err != nil {
		return "", "", err
	}
	if _, err := new(trust.Store).Verify(data, signature); err != nil && !errors.Is(err, trust.ErrUnknownKey) {
		unsigned = err.Error()
	}
	return pack.pack.Title, unsigned, nil
}

// Packaged implements tui.Work.
func (*wizardWork) Packaged() []string {
	packs, err := remediate.ParsePacks(assets.DefaultRules())
	if err != nil {
		return nil // a test of assets makes sure that they parse
	}
	var titles []string
	for _, p := range packs {
		titles = append(titles, p.Title)
	}
	return titles
}

// Passphrase implements tui.Work.
func (*wizardWork) Passphrase(text string) error { return vault.CheckPassphrase(text) }

// Recipient implements tui.Work.
func (*wizardWork) Recipient(text string) error {
	_, err := vault.ParseRecipient(text)
	return err
}

// Devices implements tui.Work.
func (*wizardWork) Devices(context.Context) ([]tui.Device, error) {
	list, err := listDevices()
	var devices []tui.Device
	for _, d := range list {
		shown := tui.Device{Path: d.Path, Model: d.Model, Size: d.Size}
		for _, r := range d.Refusals() {
			switch {
			case r.Kind == device.Mounted && !d.System:
				// Desktops mount every stick that is plugged in: the review says what is lost, and then it is unmounted.
				shown.Mounted = strings.Join(d.Mounts, ", ")
			case shown.Refused == "":
				shown.Refused = r.Reason
			}
		}
		devices = append(devices, shown)
	}
	return devices, err
}

// Folder implements tui.Work.
func (*wizardWork) Folder(path string) error { return netboot.Replaceable(path) }

// Hint implements tui.Work.
func (*wizardWork) Hint(err error) string { return hintFor(err) }

// Do implements tui.Work.
func (w *wizardWork) Do(ctx context.Context, a *tui.Answers, update func(tui.Progress)) (*tui.Outcome, error) {
	switch a.Goal {
	case tui.GoalCheck:
		return w.check(ctx, a, update)
	case tui.GoalReport:
		return w.report(ctx, a, update)
	case tui.GoalISO, tui.GoalUSB, tui.GoalPXE:
	}
	var messages bytes.Buffer
	update(tui.Progress{Name: "Media", State: "preparing"})
	opts, err := w.buildFrom(ctx, a)
	if err != nil {
		return nil, err
	}
	pe := winpeOptions{env: linuxEnv}
	if a.StartsWindowsPE() {
		pe.env, pe.path = winpeEnv, a.WinPE
	}
	source, err := pe.chosen()
	if err != nil {
		return nil, err
	}
	defer source.close()
	opts.windowsPE = source != nil
	spec, err := opts.spec(ctx, &messages)
	if err != nil {
		return told(&messages), err
	}
	update(tui.Progress{Name: "Media", State: "done"})
	outcome := told(&messages)
	say := func(style tui.Style, format string, args ...any) {
		outcome.Lines = append(outcome.Lines, tui.Line{Text: fmt.Sprintf(format, args...), Style: style})
	}
	writing := func(done, total int64) {
		update(tui.Progress{Name: a.Output, State: "writing", Done: done, Total: total})
	}
	switch {
	case a.Goal == tui.GoalISO:
		info, err := writeISO(ctx, a.Output, spec, source, writing)
		if err != nil {
			return outcome, err
		}
		update(tui.Progress{Name: a.Output, State: "done"})
		say(tui.Good, "%s is made: %.1f MiB", a.Output, float64(info.Size)/(1<<20))
		say(tui.Plain, "SHA-256 %s", info.SHA256)
	case a.Goal == tui.GoalPXE:
		info, err := writeFolder(ctx, a, spec, source, writing)
		if err != nil {
			return outcome, err
		}
		update(tui.Progress{Name: a.Output, State: "done"})
		say(tui.Good, "%s is made: %.1f MiB in %d files", a.Output, float64(info.Size)/(1<<20), info.Files)
	case !a.ToDevices:
		write, err := stickWriter(ctx, source)
		if err != nil {
			return outcome, err
		}
		info, err := write(ctx, a.Output, spec, 0, writing)
		if err != nil {
			return outcome, err
		}
		sum, err := checksum(ctx, a.Output)
		if err != nil {
			return outcome, err
		}
		update(tui.Progress{Name: a.Output, State: "done"})
		say(tui.Good, "%s is made, media number %s", a.Output, info.MediaID)
		say(tui.Plain, "SHA-256 %s", sum)
		if info.UEFIOnly {
			say(tui.Soft, uefiOnly, a.Output)
		}
		say(tui.Plain, "\"bootmend flash %s --all\" writes it to sticks.", a.Output)
	default:
		return outcome, w.flash(ctx, a, spec, source, say, update)
	}
	return outcome, nil
}

// writeFolder writes the folder of a boot server, of Windows PE where there is a source of it.
func writeFolder(ctx context.Context, a *tui.Answers, spec image.Spec, source *winpeSource, progress func(done, total int64)) (netboot.Info, error) {
	if source != nil {
		tree, err := source.network(ctx, spec, a.Wimboot)
		if err != nil {
			return netboot.Info{}, err
		}
		return netboot.WriteWindowsPE(ctx, a.Output, tree, progress)
	}
	server, err := netip.ParseAddr(a.BootServer)
	if err != nil {
		return netboot.Info{}, err
	}
	return netboot.Write(ctx, a.Output, spec, server, progress)
}

// checksum is the SHA-256 of an image that was made just now, in hexadecimal digits. The wizard's are small; of one as
// large as the stick that it is for, it would take minutes.
func checksum(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	sum := sha256.New()
	for {
		_, err := io.CopyN(sum, f, 1<<20)
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(sum.Sum(nil)), nil
		case err != nil:
			return "", err
		case ctx.Err() != nil:
			return "", ctx.Err()
		}
	}
}

// told are the lines that a command would have printed on the way.
func told(messages *bytes.Buffer) *tui.Outcome {
	outcome := &tui.Outcome{}
	for line := range strings.Lines(messages.String()) {
		outcome.Lines = append(outcome.Lines, tui.Line{Text: strings.TrimPrefix(strings.TrimSpace(line), "bootmend: "), Style: tui.Soft})
	}
	return outcome
}

// buildFrom are the options of the build command that say the same.
func (w *wizardWork) buildFrom(ctx context.Context, a *tui.Answers) (opts *buildOptions, err error) {
	opts = &buildOptions{}
	opts.AddFlags(pflag.NewFlagSet("", pflag.ContinueOnError)) // for the defaults
	if a.Source == tui.FromServer {
		opts.control = a.Control
	}
	var lists []*keys.List
	if a.Uses(tui.FromDirectory) {
		lists = append(lists, w.directory)
	}
	if a.Uses(tui.FromTenant) {
		lists = append(lists, w.tenant)
	}
	file := a.Uses(tui.FromFile)
	switch {
	case file && len(lists) == 0:
		opts.keys = []string{a.KeyPath}
	case file:
		list, err := mergeKeyLists(ctx, []string{a.KeyPath})
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	if len(lists) > 0 {
		opts.list = keys.Merge(lists...)
	}
	if file || len(lists) > 0 {
		switch a.Protection {
		case tui.ByPassphrase:
			if opts.vault.passphrase, err = vault.NewPassphrase(string(a.Passphrase), vault.WorkFactor); err != nil {
				return nil, err
			}
		case tui.BySecond:
			opts.vault.recipients = []string{a.Recipient}
		case tui.Unprotected:
			opts.unprotectedKeys = true
		}
	}
	if a.Rules != "" {
		opts.rules.files = []string{a.Rules}
		if opts.rules.allowUnsigned = a.RulesKey == ""; a.RulesKey != "" {
			opts.rules.keys = []string{a.RulesKey}
		}
	}
	if a.AllMatching {
		opts.policy = string(remediate.AllMatching)
	}
	opts.config.DryRun = a.DryRun
	_ = opts.config.OnSuccess.Set(a.OnSuccess) // of the wizard's own list
	_ = opts.config.OnFailure.Set(a.OnFailure)
	return opts, nil
}

func (*wizardWork) check(ctx context.Context, a *tui.Answers, update func(tui.Progress)) (*tui.Outcome, error) {
	r, err := verifyMedia(ctx, a.Media, func(done, total int64) {
		update(tui.Progress{Name: a.Media, State: "checking", Done: done, Total: total})
	})
	if err != nil {
		return nil, explainVerify(a.Media, err)
	}
	update(tui.Progress{Name: a.Media, State: "done"})
	var text bytes.Buffer
	if err := printReport(&text, a.Media, r); err != nil {
		return nil, err
	}
	outcome := &tui.Outcome{}
	for line := range strings.Lines(text.String()) {
		style := tui.Soft
		if strings.HasPrefix(line, "OK") {
			style = tui.Good
		}
		outcome.Lines = append(outcome.Lines, tui.Line{Text: strings.TrimRight(line, "\n"), Style: style})
	}
	verdict := tui.Line{Text: a.Media + " is whole: every file is as it was made.", Style: tui.Good}
	if !r.OK {
		verdict = tui.Line{Text: a.Media + " is damaged: what is missing or changed is listed here.", Style: tui.Bad}
	}
	outcome.Lines = append([]tui.Line{verdict, {}}, outcome.Lines...)
	if !r.OK {
		return outcome, damaged(a.Media)
	}
	return outcome, nil
}

// tableLimit is how many lines of a report a person may want to scroll through.
const tableLimit = 1000

func (*wizardWork) report(ctx context.Context, a *tui.Answers, update func(tui.Progress)) (*tui.Outcome, error) {
	update(tui.Progress{Name: a.Logs, State: "reading"})
	var messages bytes.Buffer
	var logs report.Collector
	unread, err := collectLogs(ctx, &messages, &logs, []string{a.Logs})
	if err != nil {
		return told(&messages), err
	}
	outcome := told(&messages)
	r := logs.Report()
	if r.Runs == 0 {
		return outcome, noLogs([]string{a.Logs})
	}
	if a.Page {
		opts := reportOptions{output: a.Output}
		write, err := opts.writer()
		if err != nil {
			return outcome, err
		}
		if err := writeReport(r, write, a.Output); err != nil {
			return outcome, err
		}
		outcome.Lines = append(outcome.Lines, tui.Line{Text: a.Output + " is written.", Style: tui.Good}, tui.Line{})
	}
	update(tui.Progress{Name: a.Logs, State: "done"})
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		return outcome, err
	}
	for line := range strings.Lines(table.String()) {
		if len(outcome.Lines) == tableLimit {
			outcome.Lines = append(outcome.Lines, tui.Line{Text: "... the page, and what \"bootmend report\" prints, have the rest.", Style: tui.Soft})
			break
		}
		outcome.Lines = append(outcome.Lines, tui.Line{Text: strings.TrimRight(line, "\n"), Style: tui.Row})
	}
	if unread > 0 {
		return outcome, unreadLogs(unread)
	}
	return outcome, nil
}
