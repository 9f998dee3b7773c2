package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
)

type flashOptions struct {
	build   buildOptions
	winpe   winpeOptions
	size    byteSize
	sites   string
	to      []string
	all     bool
	watch   bool
	yes     bool
	confirm []string
	unmount bool
	json    bool
}

// AddFlags returns the names of those flags that say what to build.
func (o *flashOptions) AddFlags(f *pflag.FlagSet) (build []string) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.build.AddFlags(flags)
	o.winpe.AddFlags(flags)
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "output" && flag.Name != "json" {
			f.AddFlag(flag)
			build = append(build, flag.Name)
		}
	})
	f.StringVar(&o.sites, "label-from", "", "CSV file that gives each stick the keys of one site only")
	f.Var(&o.size, "size", "size of the partition on the sticks (default: all of the stick)")
	f.StringArrayVar(&o.to, "to", nil, "device to write (may be repeated)")
	f.BoolVar(&o.all, "all", false, "write every stick that is plugged in")
	f.BoolVar(&o.watch, "watch", false, "write every stick that is plugged in from now on, until Ctrl-C")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before sticks are erased")
	f.StringArrayVar(&o.confirm, "confirm", nil, "device named by --to that is to be erased although it is no stick (may be repeated)")
	f.BoolVar(&o.unmount, "unmount", false, "unmount what is mounted of the sticks")
	f.BoolVar(&o.json, "json", false, "print what happens as JSON, an object a line")
	return append(build, "label-from")
}

func newFlashCommand() *cobra.Command {
	var opts flashOptions
	var build []string
	cmd := &cobra.Command{
		Use:   "flash [IMAGE] {--to DEVICE... | --all | --watch}",
		Short: "Write sticks, many at once, and check each",
		Long: `Write an image to sticks. The image is read once and written to all of them at the same time; what was
written is read back from each past all caches and compared. Everything that was on a stick is lost.
The partition of an image of "bootmend build usb" grows to fill the stick, or as --size says. An image
that is not as it was made is refused, as "bootmend verify" would.

Without an image, the sticks are built on the way, from the flags of "bootmend build usb"; with --env winpe
they start Windows PE.

A stick is a removable device of at most 256 GB (GiB): "bootmend devices" lists them. Disks of the
running system, and disks in use, are never written. A disk that is not removable, or larger, is
written only if --to names it and you confirm it, on the terminal or with --confirm. What is
mounted is left alone unless --unmount is given.

Sticks that die, that hold less than they say, or that return other bytes than were written are
named as bad and do not stop the others. The partition table comes last: a stick that did not get
that far starts no machine. Ctrl-C stops at once and leaves such sticks.

--watch is for many sticks, one after the other: plug one in, wait for its line and the bell,
pull it out, plug in the next. Sticks that are plugged in before are left alone, unless --all is
given too.

--label-from FILE gives each stick the recovery keys of one site only, out of those in --keys. FILE
is a table (CSV) with a header: the column Site, and one or more of KeyID, Computer (* and ? are
wildcards) and OU. A site may have many rows, and gets the keys of all:

  Site,Computer,KeyID
  Berlin,BER-*,
  Paris,PAR-*,
  Paris,,4F1C2A9B-0000-4111-8222-333344445555

The sites get sticks in the order of the file; which stick is for which site is printed, to be
written on it. A stick that turns out bad does not use its site up when --watch is given.
` + exitHelp,
		Example: `  bootmend flash heal.img --to /dev/sdb --to /dev/sdc
  bootmend flash heal.iso --watch --unmount
  bootmend flash --keys BitLockerKeys.csv --passphrase-file pass.txt --all
  bootmend flash --env winpe --winpe Win11.iso --keys BitLockerKeys.csv --all
  bootmend flash --keys keys.csv --recipient-file team.pub --label-from sites.csv --watch`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("flash takes one image: %q is a second", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(opts.to) > 0 && (opts.all || opts.watch):
				return usagef("flash: --to cannot be combined with --all or --watch")
			case len(opts.to) == 0 && !opts.all && !opts.watch:
				return usagef("flash: name the sticks with --to, or take --all or --watch")
			case opts.sites != "" && len(opts.build.keys) == 0:
				return usagef("flash: --label-from divides the keys of --keys, which is missing")
			}
			if len(args) == 1 {
				for _, name := range build {
					if cmd.Flags().Changed(name) {
						return usagef("flash: --%s says what to build, and %s is built already: leave one of them out", name, args[0])
					}
				}
			}
			if err := opts.winpe.check("flash", &opts.build); err != nil {
				return err
			}
			return runFlash(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args, &opts)
		},
	}
	build = opts.AddFlags(cmd.Flags())
	return cmd
}

// flashMedia is what is to be on the sticks.
type flashMedia interface {
	// source is what to write to a device. Equal devices get the same source, so that it is read once.
	source(d device.Device) (flash.Source, error)
}

func runFlash(ctx context.Context, out, messages io.Writer, image []string, opts *flashOptions) error {
	f := &flasher{opts: opts, messages: messages, out: out}
	source, err := opts.winpe.chosen()
	if err != nil {
		return err
	}
	defer source.close()
	opts.build.windowsPE = source != nil
	switch {
	case len(image) == 1:
		media, err := openFlashImage(ctx, messages, image[0], opts.size)
		if err != nil {
			return err
		}
		defer media.Close()
		f.media = media
	case opts.sites != "":
		sites, err := openSites(ctx, messages, opts, source)
		if err != nil {
			return err
		}
		f.media, f.sites = sites, sites
	default:
		lay, err := stickLayer(ctx, source)
		if err != nil {
			return err
		}
		spec, err := opts.build.spec(ctx, messages)
		if err != nil {
			return err
		}
		tree, err := lay(ctx, spec)
		if err != nil {
			return err
		}
		if tree.UEFIOnly {
			fmt.Fprintf(messages, "bootmend: "+uefiOnly+"\n", "each stick")
		}
		f.media = &flashTree{tree: tree, size: opts.size}
	}
	if opts.watch {
		return f.watch(ctx)
	}
	list, err := listDevices()
	if err != nil {
		return err
	}
	chosen, err := f.choose(list)
	if err != nil {
		return err
	}
	if f.sites != nil && len(chosen) > f.sites.open() {
		return withHint(fmt.Errorf("%s for %s", plural(len(chosen), "stick"), plural(f.sites.open(), "site")), "name as many with --to as there are sites, or unplug some")
	}
	if err := f.ask(ctx, chosen); err != nil {
		return err
	}
	f.display = newFlashDisplay(out, messages, opts.json, false)
	f.write(ctx, chosen)
	f.display.close()
	return f.conclude(ctx, len(chosen) > 1)
}

// flasher is a run of the command.
type flasher struct {
	opts          *flashOptions
	media         flashMedia
	sites         *flashSites // nil where all sticks are equal
	out, messages io.Writer
	display       flashView

	mu    sync.Mutex
	count map[flash.State]int
	first error // of a stick that did not become good
}

// flashView shows sticks at work.
type flashView interface {
	// add begins to show a stick; single says that no other will be there at the same time.
	add(d device.Device, site string, single bool) *flashRow
	update(row *flashRow, s flash.Status)
	finish(row *flashRow, r flash.Result)
	refuse(d device.Device, reason string)
	summary(count map[flash.State]int)
	close()
}

// choose takes the devices that the person means, and refuses all if one that was named cannot be written.
func (f *flasher) choose(list []device.Device) ([]device.Device, error) {
	if f.opts.all {
		return f.chooseAll(list)
	}
	var chosen []device.Device
	for _, name := range f.opts.to {
		d, err := findDevice(list, name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(chosen, func(c device.Device) bool { return c.Path == d.Path }) {
			return nil, usagef("flash: %s is named twice", d.Path)
		}
		if reason, hint := f.refusal(d, true); reason != "" {
			return nil, withHint(fmt.Errorf("%s: %s", d, reason), "%s", hint)
		}
		chosen = append(chosen, d)
	}
	return chosen, nil
}

func (f *flasher) chooseAll(list []device.Device) ([]device.Device, error) {
	var chosen []device.Device
	for _, d := range list {
		reason, _ := f.refusal(d, false)
		if reason == "" {
			chosen = append(chosen, d)
		} else if d.Removable {
			fmt.Fprintf(f.messages, "bootmend: left out: %s: %s\n", d, reason)
		}
	}
	if len(chosen) == 0 {
		return nil, &nothingToDo{withHint(errors.New("no stick to write"), `"bootmend devices" lists all disks and says why they are no sticks`)}
	}
	return chosen, nil
}

// refusal is the reason not to write a device, and what to do about it. A disk that is no stick passes if it was
// named, since it is confirmed later.
func (f *flasher) refusal(d device.Device, named bool) (reason, hint string) {
	for _, r := range d.Refusals() {
		switch r.Kind {
		case device.Mounted:
			if f.opts.unmount && !d.System {
				continue
			}
			return r.Reason, "save what is on it, and unmount it or add --unmount"
		case device.Fixed, device.Large:
			if named {
				continue
			}
			return r.Reason, "name it with --to if you mean it"
		case device.ReadOnly:
			return r.Reason, "look for a switch on the stick or its adapter"
		case device.InUse:
			return r.Reason, "close the programs or volumes that use it"
		default:
			return r.Reason, `choose another: "bootmend devices" lists them`
		}
	}
	if _, err := f.media.source(d); err != nil {
		return err.Error(), "use a larger stick"
	}
	return "", ""
}

// findDevice finds what a person calls a device: its path, a link to that, or a place where it is mounted.
func findDevice(list []device.Device, name string) (device.Device, error) {
	names := []string{name, strings.Replace(name, "/dev/rdisk", "/dev/disk", 1)}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		names = append(names, real)
	}
	var disk string
	for _, d := range list {
		for _, n := range names {
			if strings.EqualFold(n, d.Path) {
				return d, nil
			}
			for _, m := range d.Mounts {
				if strings.EqualFold(strings.TrimSuffix(n, `\`), strings.TrimSuffix(m, `\`)) {
					return d, nil
				}
			}
			if rest, ok := strings.CutPrefix(n, d.Path); ok && strings.Trim(rest, "ps0123456789") == "" {
				disk = d.Path
			}
		}
	}
	if disk != "" {
		return device.Device{}, withHint(fmt.Errorf("%s is a partition", name), "name the whole device: %s", disk)
	}
	if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
		return device.Device{}, withHint(fmt.Errorf("%s is a file", name), `an image of another size is made by "bootmend build"; "bootmend devices" lists the disks`)
	}
	return device.Device{}, withHint(fmt.Errorf("%s is no disk of this machine", name), `"bootmend devices" lists them`)
}

// ask shows what is about to be erased and waits for the person's word.
func (f *flasher) ask(ctx context.Context, chosen []device.Device) error {
	plain := false
	for _, d := range chosen {
		reason := ""
		for _, r := range d.Refusals() {
			if r.Kind == device.Fixed || r.Kind == device.Large {
				reason = r.Reason
			}
		}
		switch {
		case reason == "":
			plain = true
		case slices.Contains(f.opts.confirm, d.Path):
		default:
			hint := fmt.Sprintf("add --confirm %s if all that is on it may be erased", d.Path)
			answer, err := f.question(ctx, hint, fmt.Sprintf("%s: %s.\nType %s once more to erase it all the same: ", d, reason, d.Path))
			if err != nil {
				return err
			}
			if answer != d.Path {
				return withHint(fmt.Errorf("%s: not confirmed, nothing was written", d.Path), "%s", hint)
			}
		}
	}
	if !plain || f.opts.yes {
		return nil
	}
	fmt.Fprintln(f.messages, "Everything on these is erased:")
	for _, d := range chosen {
		line := "  " + d.String()
		if len(d.Mounts) > 0 {
			line += ", mounted at " + printable(strings.Join(d.Mounts, ", "))
		}
		fmt.Fprintln(f.messages, line)
	}
	return f.consent(ctx, fmt.Sprintf("Write %d? [y/N] ", len(chosen)))
}

func (f *flasher) consent(ctx context.Context, question string) error {
	answer, err := f.question(ctx, "add --yes to write without being asked", question)
	if err != nil {
		return err
	}
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return errors.New("not confirmed, nothing was written")
	}
	return nil
}

// question asks on the terminal. Ctrl-C ends the waiting.
func (f *flasher) question(ctx context.Context, hint, text string) (string, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", withHint(errors.New("there is no terminal to ask on whether sticks may be erased: nothing was written"), "%s", hint)
	}
	return askLine(ctx, f.messages, text)
}

// flashBatch is what gets the same source.
type flashBatch struct {
	source flash.Source
	rows   []*flashRow
	disks  []*device.Disk
}

// write writes the devices, those that get the same source together, and shows how it goes.
func (f *flasher) write(ctx context.Context, chosen []device.Device) {
	var batches []*flashBatch
	for _, d := range chosen {
		source, site, err := f.sourceFor(ctx, d)
		if errors.Is(err, errNoSite) {
			f.display.refuse(d, err.Error())
			continue
		}
		row := f.display.add(d, site, len(chosen) == 1 && !f.opts.watch)
		var disk *device.Disk
		if err == nil {
			disk, err = device.Open(d, f.opts.unmount)
		}
		if err != nil {
			f.finish(row, flash.Result{Err: err})
			continue
		}
		i := slices.IndexFunc(batches, func(b *flashBatch) bool { return b.source == source })
		if i < 0 {
			i = len(batches)
			batches = append(batches, &flashBatch{source: source})
		}
		batches[i].rows, batches[i].disks = append(batches[i].rows, row), append(batches[i].disks, disk)
	}
	var wg sync.WaitGroup
	for _, b := range batches {
		wg.Go(func() { f.writeBatch(ctx, b) })
	}
	wg.Wait()
}

func (f *flasher) writeBatch(ctx context.Context, b *flashBatch) {
	targets := make([]flash.Target, len(b.disks))
	for i, d := range b.disks {
		targets[i] = d
	}
	flash.Write(ctx, b.source, targets, func(i int, s flash.Status) {
		if s.Result == nil {
			f.display.update(b.rows[i], s)
			return
		}
		_ = b.disks[i].Close() // all is on the medium by now, or the stick is bad
		f.finish(b.rows[i], *s.Result)
	})
}

// sourceFor is what a device is to get, and for which site that is.
func (f *flasher) sourceFor(ctx context.Context, d device.Device) (flash.Source, string, error) {
	if f.sites != nil {
		return f.sites.take(ctx, d)
	}
	source, err := f.media.source(d)
	return source, "", err
}

// finish counts and shows what became of a stick.
func (f *flasher) finish(row *flashRow, r flash.Result) {
	if r.State() == flash.Bad && gone(row.device) {
		r.Err = fmt.Errorf("%w (it was unplugged)", r.Err)
	}
	f.mu.Lock()
	if f.count == nil {
		f.count = map[flash.State]int{}
	}
	f.count[r.State()]++
	if r.Err != nil && f.first == nil {
		f.first = fmt.Errorf("%s: %w", row.device.Path, r.Err)
	}
	f.mu.Unlock()
	if f.sites != nil {
		f.sites.settle(row.site, r.Err == nil)
	}
	f.display.finish(row, r)
}

// gone reports whether a device is not there any more.
func gone(d device.Device) bool {
	list, err := listDevices()
	return err == nil && !slices.ContainsFunc(list, func(o device.Device) bool { return o.Key() == d.Key() })
}

// conclude prints the count and makes the command's error.
func (f *flasher) conclude(ctx context.Context, several bool) error {
	if several || f.opts.json {
		f.display.summary(f.count)
	}
	if f.sites != nil {
		if left := f.sites.left(); len(left) > 0 {
			fmt.Fprintf(f.messages, "bootmend: sites without a stick: %s\n", strings.Join(left, ", "))
		}
	}
	bad := f.count[flash.Bad] + f.count[flash.Failed] + f.count[flash.Stopped]
	switch {
	case bad == 0:
		return nil
	case f.count[flash.Stopped] > 0:
		return withHint(fmt.Errorf("stopped: %s unfinished", plural(f.count[flash.Stopped], "stick")), "unfinished sticks hold no partition table: flash them again before use")
	case errors.Is(f.first, os.ErrPermission):
		return f.first
	case !several:
		return withHint(f.first, "%s", flashHint(f.first))
	}
	return withHint(fmt.Errorf("%d of %s not good", bad, plural(bad+f.count[flash.Good], "stick")), "bad sticks are named above: do not use them")
}

func flashHint(err error) string {
	switch {
	case errors.Is(err, flash.ErrBad):
		return "try once more in another port; if it fails again, throw the stick away"
	case errors.Is(err, device.ErrInUse):
		return "close the programs that use it; --unmount unmounts what is mounted"
	case errors.Is(err, device.ErrExchanged):
		return `"bootmend devices" lists what is plugged in now`
	}
	return `"bootmend devices" lists the sticks`
}

// watchInterval is how often the list of devices is read.
const watchInterval = 500 * time.Millisecond

// watch writes every stick that is plugged in until ctx ends.
func (f *flasher) watch(ctx context.Context) error {
	list, err := listDevices()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	var now []device.Device
	for _, d := range list {
		reason, _ := f.refusal(d, false)
		if reason == "" && f.opts.all {
			now = append(now, d)
			continue
		}
		known[d.Key()] = true
		if reason == "" {
			fmt.Fprintf(f.messages, "bootmend: left alone, since it was plugged in before: %s\n", d)
		}
	}
	if !f.opts.yes {
		for _, d := range now {
			fmt.Fprintf(f.messages, "  %s\n", d)
		}
		question := "Everything on every stick that is plugged in from now on is erased. Begin? [y/N] "
		if len(now) > 0 {
			question = "Everything on these, and on every stick that is plugged in from now on, is erased. Begin? [y/N] "
		}
		if err := f.consent(ctx, question); err != nil {
			return err
		}
	}
	fmt.Fprintln(f.messages, "bootmend: plug in the sticks, one or several at a time; Ctrl-C ends")
	f.display = newFlashDisplay(f.out, f.messages, f.opts.json, true)
	var wg sync.WaitGroup
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for ctx.Err() == nil && (f.sites == nil || len(f.sites.left()) > 0) {
		list, err := listDevices()
		if err == nil { // a list that cannot be read while something is plugged in can be read soon
			f.plugged(ctx, &wg, list, known)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	wg.Wait()
	f.display.close()
	if len(f.count) == 0 {
		return &nothingToDo{withHint(errors.New("no stick was plugged in"), `"bootmend devices" lists all disks and says why they are no sticks`)}
	}
	return f.conclude(ctx, true)
}

// plugged starts on what is new in the list, and forgets what is gone.
func (f *flasher) plugged(ctx context.Context, wg *sync.WaitGroup, list []device.Device, known map[string]bool) {
	present := map[string]bool{}
	for _, d := range list {
		key := d.Key()
		present[key] = true
		if known[key] {
			continue
		}
		if f.sites != nil && f.sites.open() == 0 {
			continue // until a stick that is being written turns out bad
		}
		known[key] = true
		if reason, _ := f.refusal(d, false); reason != "" {
			f.display.refuse(d, reason)
			continue
		}
		wg.Go(func() { f.write(ctx, []device.Device{d}) })
	}
	for key := range known {
		if !present[key] {
			delete(known, key)
		}
	}
}
