package main

import (
	"context"
	"fmt"
	"slices"

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
	f := &flasher{opts: &flashOptions{unmount: true}, media: &flashTree{tree: tree}, display: &wizardFlash{say, update}}
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
	return f.conclude(ctx, len(chosen) > 1)
}

// wizardFlash shows sticks at work in the wizard.
type wizardFlash struct {
	say  func(tui.Style, string, ...any)
	tell func(tui.Progress)
}

func (v *wizardFlash) add(d device.Device, site string, _ bool) *flashRow {
	return &flashRow{device: d, site: site}
}

func (v *wizardFlash) update(row *flashRow, s flash.Status) {
	v.tell(tui.Progress{Name: row.device.String(), State: string(s.State), Done: s.Done, Total: s.Total})
}

func (v *wizardFlash) finish(row *flashRow, r flash.Result) {
	p := tui.Progress{Name: row.device.String(), State: string(r.State()), Err: r.Err}
	if r.State() == flash.Good {
		p.State = "done"
		v.say(tui.Good, "%s is written and was read back: good", row.device)
	} else {
		v.say(tui.Bad, "%s is %s: %v", row.device, r.State(), r.Err)
	}
	v.tell(p)
}

func (*wizardFlash) refuse(device.Device, string) {}
func (*wizardFlash) summary(map[flash.State]int)  {}
func (*wizardFlash) close()                       {}
