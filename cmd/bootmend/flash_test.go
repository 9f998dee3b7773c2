package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
)

// anySize is media that fit on everything.
type anySize struct{}

func (anySize) source(d device.Device) (flash.Source, error) {
	return flash.Plain(bytes.NewReader(nil), 0), nil
}

func TestChoose(t *testing.T) {
	stick := device.Device{Path: "/dev/sdb", Size: 16e9, SectorSize: 512, Removable: true, Mounts: []string{`E:\`}}
	disk := device.Device{Path: "/dev/sdc", Size: 16e9, SectorSize: 512}
	large := device.Device{Path: "/dev/sdd", Size: 1e12, SectorSize: 512, Removable: true}
	system := device.Device{Path: "/dev/sda", Size: 500e9, SectorSize: 512, System: true, Mounts: []string{"/"}}
	used := device.Device{Path: "/dev/sde", Size: 16e9, SectorSize: 512, Removable: true, Users: []string{"RAID md0"}}
	list := []device.Device{system, stick, disk, large, used}
	for name, c := range map[string]struct {
		opts   flashOptions
		chosen string
		err    string
	}{
		"all":                   {flashOptions{all: true}, "", "no stick to write"},
		"all, unmounted":        {flashOptions{all: true, unmount: true}, "/dev/sdb", ""},
		"mounted":               {flashOptions{to: []string{"/dev/sdb"}}, "", `mounted at E:\`},
		"by letter":             {flashOptions{to: []string{"e:"}, unmount: true}, "/dev/sdb", ""},
		"not removable":         {flashOptions{to: []string{"/dev/sdc"}}, "/dev/sdc", ""},
		"large":                 {flashOptions{to: []string{"/dev/sdd"}}, "/dev/sdd", ""},
		"system":                {flashOptions{to: []string{"/dev/sda"}, unmount: true, confirm: []string{"/dev/sda"}, yes: true}, "", "the running system is on it"},
		"used":                  {flashOptions{to: []string{"/dev/sde"}, unmount: true, confirm: []string{"/dev/sde"}, yes: true}, "", "used by RAID md0"},
		"partition":             {flashOptions{to: []string{"/dev/sdc1"}}, "", "is a partition"},
		"one good, one refused": {flashOptions{to: []string{"/dev/sdc", "/dev/sda"}}, "", "the running system is on it"},
	} {
		var messages bytes.Buffer
		f := &flasher{opts: &c.opts, media: anySize{}, messages: &messages}
		chosen, err := f.choose(list)
		var paths []string
		for _, d := range chosen {
			paths = append(paths, d.Path)
		}
		if strings.Join(paths, " ") != c.chosen || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v, want %q, %q", name, paths, err, c.chosen, c.err)
		}
		var hint *hinted
		if err != nil && !errors.As(err, &hint) {
			t.Errorf("%s: no next step: %v", name, err)
		}
	}
}

// TestConfirm: what is no stick needs more than --yes. Tests have no terminal to ask on.
func TestConfirm(t *testing.T) {
	stick := device.Device{Path: "/dev/sdb", Size: 16e9, SectorSize: 512, Removable: true}
	disk := device.Device{Path: "/dev/sdc", Size: 16e9, SectorSize: 512}
	large := device.Device{Path: "/dev/sdd", Size: 1e12, SectorSize: 512, Removable: true}
	for name, c := range map[string]struct {
		chosen []device.Device
		opts   flashOptions
		ok     bool
	}{
		"stick":                      {[]device.Device{stick}, flashOptions{}, false},
		"stick, yes":                 {[]device.Device{stick}, flashOptions{yes: true}, true},
		"disk, yes":                  {[]device.Device{disk}, flashOptions{yes: true}, false},
		"large, yes":                 {[]device.Device{large}, flashOptions{yes: true}, false},
		"disk, confirmed":            {[]device.Device{disk}, flashOptions{confirm: []string{"/dev/sdc"}}, true},
		"another confirmed":          {[]device.Device{disk}, flashOptions{yes: true, confirm: []string{"/dev/sdd"}}, false},
		"stick and confirmed disk":   {[]device.Device{stick, disk}, flashOptions{confirm: []string{"/dev/sdc"}}, false},
		"stick, confirmed disk, yes": {[]device.Device{stick, disk}, flashOptions{yes: true, confirm: []string{"/dev/sdc"}}, true},
		"one confirmed of two, yes":  {[]device.Device{large, disk}, flashOptions{yes: true, confirm: []string{"/dev/sdc"}}, false},
	} {
		f := &flasher{opts: &c.opts, media: anySize{}, messages: &bytes.Buffer{}}
		if err := f.ask(context.Background(), c.chosen); (err == nil) != c.ok {
			t.Errorf("%s: %v, want %t", name, err, c.ok)
		}
	}
}

func TestRate(t *testing.T) {
	var r rate
	now := time.Unix(0, 0)
	for i := range int64(41) {
		r.update(now.Add(time.Duration(i)*250*time.Millisecond), i*5e6)
	}
	if r.value < 19e6 || r.value > 21e6 {
		t.Errorf("20 MB/s are measured as %.0f", r.value)
	}
	row := flashRow{done: 200e6, total: 400e6, rate: r}
	if left, ok := row.left(); !ok || left != 10*time.Second {
		t.Errorf("200 MB are left: %s, %t", left, ok)
	}
	if _, ok := (&flashRow{total: 100}).left(); ok {
		t.Error("the rest is told although no speed is known")
	}
}
