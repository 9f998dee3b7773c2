package image

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Paths of sticks that start Windows PE.
const (
	PathDrivers = "/bootmend/drivers" // what is loaded before disks are looked for
	PathWIM     = "/sources/boot.wim" // the RAM disk
)

// WindowsPE is Microsoft's environment with the agent in it, in place of the bundle.
type WindowsPE struct {
	Boot    []File // what starts it, the WIM included, in the order in which it is to lie on the media
	Drivers []File // with paths below PathDrivers
}

// WindowsPEStickTree lays the files of a stick out that starts Windows PE. Of s, the agent reads what it does on every
// stick; the bundle, the agent for Linux and GRUB's configuration are not used. Such a stick starts with UEFI only: the
// code for a BIOS that reads Microsoft's boot manager from FAT is in nobody's hands but Windows'.
func (s Spec) WindowsPEStickTree(ctx context.Context, pe WindowsPE) (*Tree, error) {
	if len(s.Rules) > 99 || len(s.Trust) > 99 {
		return nil, errors.New("more than 99 rule packs or keys for them: merge some")
	}
	t := &Tree{Label: Label, Time: s.Time.UTC().Truncate(time.Second), HasKeys: s.Keys != nil, HasVault: s.Vault != nil, UEFIOnly: true}
	t.Dirs = []string{PathLogs, PathKeyFolder}
	return t, t.windowsPE(ctx, windowsPE, slices.Concat(pe.Boot, pe.Drivers, s.AgentFiles()))
}

// WindowsPENetworkTree lays the files of a boot server out that starts Windows PE by way of iPXE and wimboot. What the
// agent reads is in the WIM.
func WindowsPENetworkTree(ctx context.Context, boot []File, when time.Time, hasVault bool) (*Tree, error) {
	t := &Tree{Label: Label, Time: when.UTC().Truncate(time.Second), HasVault: hasVault}
	return t, t.windowsPE(ctx, windowsPENetwork, boot)
}

// windowsPE fills a tree in.
func (t *Tree) windowsPE(ctx context.Context, k kind, inputs []File) error {
	seen := map[string]bool{}
	for _, f := range inputs {
		key := strings.ToUpper(path.Clean(f.Path))
		if seen[key] {
			return fmt.Errorf("%s: comes twice: Windows ignores case", f.Path)
		}
		seen[key] = true
	}
	if err := hashAll(ctx, inputs); err != nil {
		return err
	}
	t.ID = mediaID(Spec{}, k, t.Time, inputs)
	t.Files = append([]File{FromBytes(PathReadme, readme(t, k))}, inputs...)
	t.Files = append(t.Files, FromBytes(PathMediaID, []byte(t.ID+"\n")))
	if err := hashAll(ctx, t.Files); err != nil {
		return err
	}
	return t.writeManifest()
}
