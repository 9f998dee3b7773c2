package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/bootmend/bootmend/cmd/bootmend/tui"
	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
)

// flash writes the media that spec describes, of Windows PE where there is a source of it, to the chosen sticks, as the
// command does.
func (*wizardWork) flash(ctx context.Context, a *tui.Answers, spec image.Spec, source *winpeSource, say func(tui.Style, string, ...any), update func(tui.Progress)) error {
	lay, err := stickLayer(ctx, source)
	if err != nil {
		return err
	}
	tree, err := lay(ctx, spec)
	if err != nil {
		return err
	}
	if tree.UEFIOnly {
		say(tui.Soft, uefiOnly, "each stick")
	}
	list, err := listDevices()
	if err != nil {
		return err
	}
	display := &wizardFlash{tell: update, lines: map[string]tui.Line{}}
	f := &flasher{opts: &flashOptions{unmount: true}, media: &flashTree{tree: tree}, display: display}
	var chosen []device.Device
	for _, c := range a.Devices {
		i := slices.IndexFunc(list, func(d device.Device) bool { return d.Path == c.Path })
		if i < 0 {
			return fmt.Errorf("%s is not there any more: plug it in again", c.Path)
		}
		if reason, hint := f.refusal(list[i], false); reason != "" {
			return withHint(fmt.Errorf("%s: %s", list[i], reason), "%s", hint)
		}
		chosen = append(chosen, list[i])
	}
	f.write(ctx, chosen)
	for _, d := range chosen {
		line := display.lines[d.Path]
		say(line.Style, "%s", line.Text)
	}
	say(tui.Plain, "Media number %s: bootmend/media.id on each stick has it, too.", tree.ID)
	return f.conclude(ctx, len(chosen) > 1)
}

// wizardFlash shows sticks at work in the wizard.
type wizardFlash struct {
	tell func(tui.Progress)

	mu    sync.Mutex
	lines map[string]tui.Line // what became of each, by its path
}

func (v *wizardFlash) add(d device.Device, site string, _ bool) *flashRow {
	return &flashRow{device: d, site: site}
}

func (v *wizardFlash) update(row *flashRow, s flash.Status) {
	v.tell(tui.Progress{Name: row.device.String(), State: string(s.State), Done: s.Done, Total: s.Total})
}

func (v *wizardFlash) finish(row *flashRow, r flash.Result) {
	line := tui.Line{Text: fmt.Sprintf("%s is written and was read back: good", row.device), Style: tui.Good}
	p := tui.Progress{Name: row.device.String(), State: string(r.State()), Err: r.Err}
	switch r.State() {
	case flash.Good:
		p.State = "done"
	case flash.Stopped:
		line = tui.Line{Text: fmt.Sprintf("%s is stopped: write it again before use", row.device), Style: tui.Bad}
	default:
		line = tui.Line{Text: fmt.Sprintf("%s is %s: %v", row.device, r.State(), r.Err), Style: tui.Bad}
	}
	v.mu.Lock()
	v.lines[row.device.Path] = line
	v.mu.Unlock()
	v.tell(p)
}

func (*wizardFlash) refuse(device.Device, string) {}
func (*wizardFlash) summary(map[flash.State]int)  {}
func (*wizardFlash) close()                       {}
