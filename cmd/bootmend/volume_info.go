package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate/disk"
)

type volumeInfoOptions struct {
	partition int
	json      bool
}

func newVolumeInfoCommand() *cobra.Command {
	var opts volumeInfoOptions
	cmd := &cobra.Command{
		Use:   "info PATH",
		Short: "Show what a locked BitLocker volume tells without a key",
		Long: `Show what BitLocker volumes tell without a key: the computer they belong to, the cipher, the state
of the encryption, and the protectors with the IDs by which recovery keys are looked up.

PATH is a volume, a whole disk, or an image of either. Nothing is written to it.
` + exitHelp,
		Example: `  bootmend volume info disk.img
  sudo bootmend volume info /dev/nvme0n1
  bootmend volume info --json disk.img`,
		Args: oneArgument("a volume, disk or image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVolumeInfo(cmd.OutOrStdout(), args[0], opts)
		},
	}
	cmd.Flags().IntVar(&opts.partition, "partition", 0, "look at this partition only")
	cmd.Flags().BoolVar(&opts.json, "json", false, "print JSON")
	return cmd
}

// volumeStatus is one volume as --json prints it.
type volumeStatus struct {
	Path      string              `json:"path"`
	Partition int                 `json:"partition,omitempty"`
	Offset    int64               `json:"offset"`
	Size      int64               `json:"size"`
	BitLocker *bitlocker.Metadata `json:"bitlocker,omitempty"`
	Error     string              `json:"error,omitempty"`
}

func runVolumeInfo(w io.Writer, path string, opts volumeInfoOptions) error {
	src, err := openSource(path)
	if err != nil {
		return err
	}
	defer src.Close()
	found, err := src.bitLocker(opts.partition)
	if err != nil {
		return err
	}
	// One damaged volume of several does not hide the others.
	var failed error
	var all []volumeStatus
	for _, v := range found {
		status, err := readStatus(src, v)
		all = append(all, status)
		if err != nil && failed == nil {
			failed = err
		}
	}
	if opts.json {
		return errors.Join(writeJSON(w, all), failed)
	}
	for i, status := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := printStatus(w, status); err != nil {
			return err
		}
	}
	return failed
}

func readStatus(src *source, v disk.Volume) (volumeStatus, error) {
	status := volumeStatus{Path: src.path, Partition: v.Number, Offset: v.Offset, Size: v.Size}
	m, err := bitlocker.ReadMetadata(src.section(v), v.Size)
	status.BitLocker = m // also shown where it is damaged, as far as it can be read
	if err != nil {
		err = fmt.Errorf("%s: %w", src.where(v), err)
		status.Error = err.Error()
	}
	return status, err
}

func printStatus(w io.Writer, s volumeStatus) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	if s.Partition > 0 {
		row("Volume", "%s, partition %d (byte %d)", s.Path, s.Partition, s.Offset)
	} else {
		row("Volume", "%s", s.Path)
	}
	m := s.BitLocker
	if m == nil {
		row("State", "unreadable")
		return table.Flush()
	}
	if m.ComputerName != "" {
		row("Computer", "%s", m.ComputerName)
	}
	if m.Description != "" {
		row("Description", "%s", m.Description)
	}
	row("Size", "%d bytes, %d-byte sectors", s.Size, m.SectorSize)
	row("Cipher", "%s", m.Method)
	if layout := layoutText(m); layout != "" {
		row("Layout", "%s", layout)
	}
	row("State", "%s", stateText(m, s.Size))
	row("Encrypted since", "%s", m.Created.UTC().Format(time.DateTime+" MST"))
	row("Volume ID", "%s", m.VolumeID)
	for i, p := range m.Protectors {
		name := ""
		if i == 0 {
			name = "Protectors"
		}
		row(name, "%s  %s  %s", p.ID, p.Modified.UTC().Format(time.DateOnly), strings.TrimSpace(p.Kind.String()+" "+p.Name))
	}
	if len(m.Protectors) == 0 {
		row("Protectors", "none")
	}
	for _, entry := range m.Skipped {
		row("Passed over", "%s", entry)
	}
	for _, problem := range m.Problems {
		row("Note", "%s", problem)
	}
	return table.Flush()
}

// layoutText names what is not as on most volumes.
func layoutText(m *bitlocker.Metadata) string {
	switch {
	case m.Vista:
		return "Windows Vista"
	case m.ToGo:
		return "BitLocker To Go"
	case m.EncryptOnWrite:
		return "encrypt on write"
	}
	return ""
}

func stateText(m *bitlocker.Metadata, size int64) string {
	text := m.State.String()
	if m.State != bitlocker.StateEncrypted && m.State != bitlocker.StateDecrypted && size > 0 {
		text += fmt.Sprintf(" (%.1f %% encrypted)", 100*float64(m.EncryptedSize)/float64(size))
	}
	for _, p := range m.Protectors {
		if p.Kind == bitlocker.ProtectorClearKey {
			text += ", protection suspended: opens without a key"
			break
		}
	}
	return text
}
