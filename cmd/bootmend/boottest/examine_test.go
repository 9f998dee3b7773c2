package boottest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamine proves that the examination sees what it is there to see: nothing wrong with a disk as made, and each
// way in which a repair could go wrong.
func TestExamine(t *testing.T) {
	ctx := context.Background()
	disk := newDisk(t, DiskOptions{Plain: true})
	faulty := CrowdStrike + "C-00000291-00000000-00000032.sys"
	quarantine := func(root string, file File) error {
		return os.Rename(filepath.Join(root, file.Path), filepath.Join(root, QuarantineDir, "run", file.Path+".quarantined"))
	}
	for name, test := range map[string]struct {
		change func(root string) error
		healed bool
		want   string // part of a problem, "" for none
	}{
		"as made": {},
		"not healed": {
			healed: true, want: "still in its place",
		},
		"decoy gone": {
			change: func(root string) error {
				return os.Remove(filepath.Join(root, CrowdStrike, "C-00000291-00000000-00000099.sys"))
			},
			want: "00000099.sys: ",
		},
		"neighbour changed": {
			change: func(root string) error {
				return os.Chtimes(filepath.Join(root, CrowdStrike, "CSAgent.sys"), incident, incident)
			},
			want: "CSAgent.sys: modified",
		},
		"stray file": {
			change: func(root string) error { return os.WriteFile(filepath.Join(root, "Windows/x"), nil, 0o600) },
			want:   "nobody put this file there",
		},
		"no manifest": {
			change: func(root string) error {
				for _, file := range disk.Files {
					if file.Fate != Quarantined {
						continue
					}
					dir := filepath.Dir(filepath.Join(root, QuarantineDir, "run", file.Path))
					if err := os.MkdirAll(dir, 0o755); err != nil {
						return err
					}
					if err := quarantine(root, file); err != nil {
						return err
					}
				}
				return nil
			},
			healed: true, want: "manifest of run",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t, DiskOptions{Plain: true})
			if test.change != nil {
				check(t, changeVolume(ctx, d, test.change))
			}
			found, err := Examine(ctx, d, test.healed)
			check(t, err)
			problems := strings.Join(found.Problems, "\n")
			if test.want == "" && problems != "" || !strings.Contains(problems, test.want) {
				t.Errorf("problems:\n%s\nwant %q", problems, test.want)
			}
			if name == "as made" && found.Untouched != len(d.Files) {
				t.Errorf("%d files compared, want %d with %s", found.Untouched, len(d.Files), faulty)
			}
		})
	}
}

// TestDislockerOpensDisk makes sure that the examination can open the encrypted disks.
func TestDislockerOpensDisk(t *testing.T) {
	for _, o := range []DiskOptions{{}, {ClearKey: true}, {Dirty: true}} {
		t.Run(diskName(o), func(t *testing.T) {
			d := newDisk(t, o)
			found, err := Examine(context.Background(), d, false)
			check(t, err)
			if len(found.Problems) > 0 || found.Untouched != len(d.Files) {
				t.Errorf("problems: %v; %d of %d files", found.Problems, found.Untouched, len(d.Files))
			}
		})
	}
}

func TestLeakedKey(t *testing.T) {
	const password = "111111-222222-333333-444444-555555-666666-700007-000011"
	for _, test := range []struct {
		text string
		leak bool
	}{
		{"key ID 12345678-1234-1234-1234-123456789012", false},
		{"group 111111 alone", false},
		{"x " + password + " y", true},
		{"x " + strings.ReplaceAll(password, "-", "") + " y", true},
		{`["444444","555555","666666"]`, true},
	} {
		if got := LeakedKey(password, []byte(test.text)); (got != "") != test.leak {
			t.Errorf("LeakedKey(%q) = %q", test.text, got)
		}
	}
}

// changeVolume mounts an unencrypted disk's Windows for writing.
func changeVolume(ctx context.Context, d *WindowsDisk, change func(root string) error) error {
	volume := filepath.Join(filepath.Dir(d.Path), "volume")
	if err := cutOut(d.Path, volume, windowsStart, windowsSize); err != nil {
		return err
	}
	if err := withNTFS(ctx, volume, false, change); err != nil {
		return err
	}
	data, err := os.ReadFile(volume)
	if err != nil {
		return err
	}
	disk, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	_, err = disk.WriteAt(data, windowsStart)
	return err
}
