package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bootmend/bootmend/assets"
)

// Paths of sticks that start Windows PE.
const (
	PathDrivers = "/bootmend/drivers" // what is loaded before disks are looked for
	PathWIM     = "/sources/boot.wim" // the RAM disk
	PathManager = "/bootmgr"          // Microsoft's boot manager for a BIOS
)

// WindowsPE is Microsoft's environment with the agent in it, in place of the bundle.
type WindowsPE struct {
	Boot    []File // what starts it, the WIM included, in the order in which it is to lie on the media
	Drivers []File // with paths below PathDrivers
}

// windowsPEMenu has GRUB do what the boot sector of a volume that Windows formatted does, whose code is in nobody's hands
// but Microsoft's: it starts the boot manager as Windows' boot sector would. Where that fails, GRUB says why.
const windowsPEMenu = `# bootmend: a BIOS starts Windows PE by way of GRUB. UEFI does not read this file.
if ntldr /bootmgr; then
	boot
fi
echo "bootmend: Microsoft's boot manager (/bootmgr) could not be started. Start this computer"
echo "with UEFI if it can, or write the stick anew."
`

// WindowsPEStickTree lays the files of a stick out that starts Windows PE. Of s, the agent reads what it does on every
// stick; the agent for Linux and the template of GRUB's configuration are not used, and of the bundle GRUB for a BIOS
// alone. Where there is no bundle or no boot manager for a BIOS, the stick starts with UEFI only.
func (s Spec) WindowsPEStickTree(ctx context.Context, pe WindowsPE) (*Tree, error) {
	if len(s.Rules) > 99 || len(s.Trust) > 99 {
		return nil, errors.New("more than 99 rule packs or keys for them: merge some")
	}
	t := &Tree{Label: Label, Time: s.Time.UTC().Truncate(time.Second), HasKeys: s.Keys != nil, HasVault: s.Vault != nil, WindowsPE: true}
	t.Dirs = []string{PathLogs, PathKeyFolder}
	inputs := slices.Concat(pe.Boot, pe.Drivers, s.AgentFiles(), s.licences())
	t.UEFIOnly = s.Bundle == nil || !slices.ContainsFunc(pe.Boot, func(f File) bool { return strings.EqualFold(f.Path, PathManager) })
	if !t.UEFIOnly {
		var err error
		if t.BootHybrid, err = fs.ReadFile(s.Bundle, assets.BootHybrid); err == nil {
			t.Core, err = fs.ReadFile(s.Bundle, assets.ElTorito)
		}
		if err != nil {
			return nil, fmt.Errorf("boot bundle: %w", err)
		}
		notice, err := fromBundle(s.Bundle, PathNotice, assets.Notice, true)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, FromBytes(PathGrubConfig, []byte(windowsPEMenu)), notice)
		return t, t.windowsPE(ctx, windowsPE, inputs, FromBytes(PathElTorito, t.Core))
	}
	return t, t.windowsPE(ctx, windowsPE, inputs)
}

// LabelWindowsPE is the volume label of discs with Windows PE. It is not that of other media: the agent is inside of the
// WIM, with all that it reads of media, and looks for a stick that has more.
const LabelWindowsPE = "BOOTMEND_PE"

// WindowsPEDiscTree lays the files of a disc out that starts Windows PE, with boot images that lie in no directory. What
// the agent reads is in the WIM.
func WindowsPEDiscTree(ctx context.Context, boot, images []File, s Spec) (*Tree, error) {
	t := &Tree{Label: LabelWindowsPE, Time: s.Time.UTC().Truncate(time.Second), HasKeys: s.Keys != nil, HasVault: s.Vault != nil, WindowsPE: true}
	return t, t.windowsPE(ctx, windowsPEDisc, slices.Concat(boot, s.licences()), images...)
}

// WindowsPENetworkTree lays the files of a boot server out that starts Windows PE by way of iPXE and wimboot. What the
// agent reads is in the WIM.
func WindowsPENetworkTree(ctx context.Context, boot []File, s Spec) (*Tree, error) {
	t := &Tree{Label: Label, Time: s.Time.UTC().Truncate(time.Second), HasVault: s.Vault != nil}
	return t, t.windowsPE(ctx, windowsPENetwork, slices.Concat(boot, s.licences()))
}

// windowsPE fills a tree in. What lies outside of files has its part in the media's number alone.
func (t *Tree) windowsPE(ctx context.Context, k kind, inputs []File, outside ...File) error {
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
	if err := hashAll(ctx, outside); err != nil {
		return err
	}
	t.ID = mediaID(Spec{}, k, t.Time, slices.Concat(inputs, outside))
	t.Files = append([]File{FromBytes(PathReadme, readme(t, k))}, inputs...)
	t.Files = append(t.Files, FromBytes(PathMediaID, []byte(t.ID+"\n")))
	if err := hashAll(ctx, t.Files); err != nil {
		return err
	}
	return t.writeManifest()
}
