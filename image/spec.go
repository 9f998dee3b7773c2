// Package image describes what goes onto boot media, whatever kind they are.
//
// A [Spec] names the ingredients; [Spec.Tree] turns them into the list of files that image/iso, and the makers of
// sticks and network boot, lay out. Equal specs give equal trees, byte for byte.
package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/bootmend/bootmend/image/config"
)

// Label is the volume label of all media.
const Label = "BOOTMEND"

// Spec is what media are made of.
type Spec struct {
	// Bundle holds the signed boot chain under the names of package assets (an *assets.Bundle).
	Bundle fs.FS
	// GrubConfig is the template assets/grub.cfg.
	GrubConfig []byte
	// Agent is the initramfs segment with the agent, as made by initramfs.Agent. Its path does not matter.
	Agent File
	// WindowsAgent is the agent for Windows, for sticks that set Safe Mode; zero for none. Its path does not matter.
	WindowsAgent File
	// Licences is what has to be passed on with the agents; nil for none.
	Licences []byte
	// Config is the agent's configuration, from config.Config.Marshal.
	Config []byte
	// Serials are the machines that the media are for; nil is all of them.
	Serials config.Serials
	// Keys is the list of recovery keys in canonical CSV; nil for media without keys.
	Keys Keys
	// Vault is the sealed list of recovery keys, from vault.Seal or any program that makes age files; nil for none.
	Vault []byte
	// Rules are the rule packs, in the order in which they are to be evaluated.
	Rules []RulePack
	// Trust are the public keys whose signatures on rule packs the agent believes, as minisign key files.
	Trust [][]byte
	// HasToken is set where Config holds the token of a control server.
	HasToken bool
	// KernelArgs go onto the kernel's command line after [DefaultKernelArgs].
	KernelArgs string
	// Time is the date of everything on the media (SOURCE_DATE_EPOCH).
	Time time.Time
}

// RulePack is a rule pack as it lies on the media.
type RulePack struct {
	Name string // a file name; ".yaml" is added where missing
	Data []byte
	// Signature is the content of the pack's minisign signature file; nil for a packaged or an unsigned pack.
	Signature []byte
}

// Keys is a list of recovery keys. It shows nothing of itself when printed or marshalled.
type Keys []byte

const withheld = "recovery keys (withheld)"

// String keeps the keys out of messages.
func (Keys) String() string { return withheld }

// GoString keeps the keys out of %#v.
func (Keys) GoString() string { return withheld }

// Format keeps the keys out of every other verb.
func (Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(withheld)) }

// MarshalText keeps the keys out of JSON.
func (Keys) MarshalText() ([]byte, error) { return []byte(withheld), nil }

// DefaultKernelArgs is the kernel's command line: silent but for errors, on the serial port and on the screen, and
// a restart instead of a dead machine should the kernel itself fail. The kernel does not clear memory that it hands to
// itself (programs get theirs cleared in any case), which is a twentieth of the time from power-on to the restart, and does
// not test its ciphers against known results at each start, a thirtieth: with wrong ones no volume that Windows wrote would open.
const DefaultKernelArgs = "quiet loglevel=3 console=ttyS0,115200 console=tty0 panic=30 init_on_alloc=0 cryptomgr.notests"

// Private reports whether media of s hold recovery keys, if only sealed, or what a server gives keys for: a file with
// them is its owner's alone.
func (s Spec) Private() bool { return s.Keys != nil || s.Vault != nil || s.HasToken }

func (s Spec) kernelArgs() string {
	args := DefaultKernelArgs
	if s.Serials != nil {
		args += " bootmend.serials" // for the case that the agent does not find the list
	}
	return strings.TrimSpace(args + " " + s.KernelArgs)
}

func (s Spec) check() error {
	switch {
	case s.Bundle == nil:
		return errors.New("media need the boot bundle: none given")
	case s.Agent.Open == nil || s.Agent.Size == 0:
		return errors.New("media need the agent: none given")
	case len(s.GrubConfig) == 0:
		return errors.New("media need GRUB's configuration: none given")
	case strings.ContainsAny(s.KernelArgs, "\n\r\"'\\$;{}#&|<>"):
		return fmt.Errorf("kernel arguments %q: hold a character that GRUB would interpret: leave it out", s.KernelArgs)
	case len(s.Rules) > 99:
		return fmt.Errorf("%d rule packs: at most 99 fit on media: merge some", len(s.Rules))
	case len(s.Trust) > 99:
		return fmt.Errorf("%d keys for rule packs: at most 99 fit on media", len(s.Trust))
	}
	return nil
}

// ruleName is a pack's file name on the media. The number keeps the order in which the packs were given, and keeps
// short names (ISO 9660, FAT) apart.
func ruleName(i int, name string) string {
	name = strings.TrimSuffix(strings.TrimSuffix(path.Base(strings.ReplaceAll(name, `\`, "/")), ".yaml"), ".yml")
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, name)
	return fmt.Sprintf("%02d-%s.yaml", i+1, name[:min(len(name), 60)])
}

// Tree lays the files of an ISO image out. It reads all of them once, for their hashes; ctx ends that early.
func (s Spec) Tree(ctx context.Context) (*Tree, error) { return s.tree(ctx, disc) }

// StickTree lays the files of a stick out, as Tree does.
func (s Spec) StickTree(ctx context.Context) (*Tree, error) { return s.tree(ctx, stick) }

// NetworkTree lays the files of a boot server out, as Tree does. There is no medium that the machine could look into
// then, so what the agent reads comes as a part of the initramfs, [PathNetMedia].
func (s Spec) NetworkTree(ctx context.Context) (*Tree, error) { return s.sealed(ctx, network) }

// RemoteTree lays the files of an ISO image out that firmware gets over HTTP and boots from memory, where the agent
// cannot see it (UEFI 2.10, section 24.7): what that reads comes as with NetworkTree.
func (s Spec) RemoteTree(ctx context.Context) (*Tree, error) { return s.sealed(ctx, remote) }

// sealed lays out what goes over a network.
func (s Spec) sealed(ctx context.Context, k kind) (*Tree, error) {
	if s.Keys != nil {
		return nil, errors.New("keys that are not sealed cannot go over a network, where anybody can read them: put them into a vault")
	}
	return s.tree(ctx, k)
}

func (s Spec) tree(ctx context.Context, k kind) (*Tree, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return newTree(ctx, s, k)
}
