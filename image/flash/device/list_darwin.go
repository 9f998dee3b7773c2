package device

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// patience bounds the tools that are asked; a dying disk can hold diskutil up for long.
const patience = 30 * time.Second

// List finds the disks of the machine. The names of loop devices mean nothing here.
func List(...string) ([]Device, error) {
	out, err := ask("diskutil", "list", "-plist")
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	disks, err := parseDiskutilList(out)
	if err != nil {
		return nil, err
	}
	serials := map[string]string{}
	if out, err := ask("ioreg", "-a", "-l", "-r", "-c", "IOUSBHostDevice"); err == nil {
		if found, err := parseSerials(out); err == nil {
			serials = found // without them the list is still of use
		}
	}
	var list []Device
	for _, disk := range disks {
		out, err := ask("diskutil", "info", "-plist", disk.name)
		if err != nil {
			continue // unplugged while we looked
		}
		d, ok, err := parseDiskutilInfo(out, disk.mounts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", disk.name, err)
		}
		if !ok {
			continue
		}
		d.Serial = serials[disk.name]
		list = append(list, d)
	}
	return list, nil
}

func ask(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return exec.CommandContext(ctx, name, args...).Output()
}
