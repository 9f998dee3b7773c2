package main

import (
	"slices"
	"sync"
	"testing"
	"time"
)

func TestLeadsToDisk(t *testing.T) {
	for alias, want := range map[string]bool{
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01": true,  // AHCI
		"pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02": true,  // NVMe
		"pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30": true,  // xHCI
		"pci:v00008086d00009DC4sv00001028sd00000869bc08sc05i01": true,  // SD host
		"pci:v00008086d00002930sv00001AF4sd00001100bc0Csc05i00": false, // SMBus
		"pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00": false, // Ethernet
		"usb:v0951p1666d0110dc00dsc00dp00ic08isc06ip50in00":     true,  // stick
		"usb:v0627p0001d0000dc00dsc00dp00ic03isc01ip01in00":     false, // keyboard
		"scsi:t-0x05":                            true,
		"virtio:d00000008v00001AF4":              true,
		"vmbus:ba6163d904a14d29b60572e2ffb1dc7f": true,
		"mmc:block":                              true,
		"acpi:PNP0303:":                          false,
		"input:b0003v0627p0001e0001-e0,1,4,k1,kramlsfw":   false,
		"dmi:bvnSeaBIOS:bvr1.16:bc0101:svnQEMU:pnbc01x86": false,
		"": false,
	} {
		if got := leadsToDisk(alias); got != want {
			t.Errorf("%q: %v", alias, got)
		}
	}
}

// queue is a set of loads that nobody works on yet.
func queue() *drivers {
	d := noDrivers()
	d.waiting = sync.NewCond(&d.mu)
	return d
}

// TestLoadsOvertake: what leads to disks goes first.
func TestLoadsOvertake(t *testing.T) {
	d := queue()
	var order []string
	for _, load := range []struct {
		name   string
		urgent bool
	}{{"keyboard", false}, {"disk", true}, {"network", false}, {"stick", true}} {
		d.background(load.urgent, func() { order = append(order, load.name) })
	}
	for range 4 {
		if d.quiet(0) {
			t.Error("quiet while drivers wait to be loaded")
		}
		d.next()()
	}
	if want := []string{"disk", "stick", "keyboard", "network"}; !slices.Equal(order, want) {
		t.Errorf("loaded in the order %v, want %v", order, want)
	}
	if !d.quiet(0) {
		t.Error("not quiet when all is done")
	}
}

// TestLoadHangs has a driver that does not come back: it keeps the others waiting for a moment only.
func TestLoadHangs(t *testing.T) {
	d := queue()
	hangs, ended := make(chan struct{}), make(chan struct{})
	d.background(true, func() { <-hangs })
	d.background(false, func() { close(ended) })
	go d.work()
	<-ended
	if d.quiet(0) {
		t.Error("quiet while a driver has not come back")
	}
	close(hangs)
	for range 1000 {
		if d.quiet(0) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("never quiet again")
}
