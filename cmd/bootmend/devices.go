package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/image/flash/device"
)

// testSticksEnv names loop devices, separated by commas, that tests use for sticks. Nothing else ever makes a loop
// device one.
const testSticksEnv = "BOOTMEND_TEST_STICKS"

func newDevicesCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List the disks of this machine and which of them are sticks to flash",
		Long: `List the disks of this machine, and say of each whether "bootmend flash" takes it, or why not.

A stick is a removable device of at most 256 GB (GiB) that is not in use. Nothing is written, and no
administrator rights are needed.
` + exitHelp,
		Example: `  bootmend devices
  bootmend devices --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := listDevices()
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), deviceStatuses(list))
			}
			if len(list) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "bootmend: this machine shows no disks")
				return nil
			}
			return printDevices(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listDevices() ([]device.Device, error) {
	var loops []string
	if names := os.Getenv(testSticksEnv); names != "" {
		loops = strings.Split(names, ",")
	}
	return device.List(loops...)
}

// deviceStatus is a device as --json prints it.
type deviceStatus struct {
	device.Device
	Stick   bool             `json:"stick"`
	Refused []device.Refusal `json:"refused"`
}

func deviceStatuses(list []device.Device) []deviceStatus {
	all := make([]deviceStatus, 0, len(list))
	for _, d := range list {
		// A program that reads the list expects empty lists and not null.
		d.Mounts = append([]string{}, d.Mounts...)
		d.Users = append([]string{}, d.Users...)
		s := deviceStatus{Device: d, Refused: append([]device.Refusal{}, d.Refusals()...)}
		s.Stick = len(s.Refused) == 0
		all = append(all, s)
	}
	return all
}

func printDevices(w io.Writer, list []device.Device) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DEVICE\tSIZE\tBUS\tREMOVABLE\tMODEL\tSERIAL\tMOUNTED\tFLASH")
	for _, d := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Path, device.Bytes(d.Size), d.Bus, yesNo(d.Removable),
			orDash(d.Model), orDash(d.Serial), orDash(printable(strings.Join(d.Mounts, ", "))), verdict(d.Refusals()))
	}
	return table.Flush()
}

func verdict(refused []device.Refusal) string {
	if len(refused) == 0 {
		return "yes"
	}
	var reasons []string
	for _, r := range refused {
		if r.Kind == device.Mounted {
			r.Reason = "mounted" // the column before says where
		}
		reasons = append(reasons, r.Reason)
	}
	return "no: " + strings.Join(reasons, "; ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
