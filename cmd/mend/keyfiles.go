package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
)

// keySource is a key list or an opened vault.
type keySource struct {
	name string // for the screen and the log: "vault on the media"
	unlocker
}

type unlocker interface {
	Unlock(ctx context.Context, m *bitlocker.Metadata) (*bitlocker.VolumeKey, *bitlocker.Protector, error)
}

// sealedVault waits for a passphrase or an identity.
type sealedVault struct {
	*vault.Sealed
	name string
	sum  [sha256.Size]byte
}

// keyFiles is what a medium or stick holds that may open volumes.
type keyFiles struct {
	lists      []keySource
	count      int // of the keys in lists
	vaults     []sealedVault
	identities []age.Identity
	files      int // that the identities were in
	notes      []string
}

// Bounds of what is looked at on a stick, which may be anybody's.
const (
	maxDropped  = 200      // files in bootmend/keys
	maxRoot     = 2000     // names in the root
	maxIdentity = 64 << 10 // bytes
)

// readKeyFiles reads the keys on the medium or stick that is mounted at root, which is called where.
func readKeyFiles(root, where string) keyFiles {
	var found keyFiles
	const list, sealed, dropped = "bootmend/keys.csv", "bootmend/keys.age", "bootmend/keys"
	found.keyFile(filepath.Join(root, list), "key list on "+where, list)
	found.keyFile(filepath.Join(root, sealed), "vault on "+where, sealed)
	for _, name := range fileNames(filepath.Join(root, dropped), maxDropped) {
		found.keyFile(filepath.Join(root, dropped, name), fmt.Sprintf("key file %s on %s", name, where), dropped+"/"+name)
	}
	for _, dir := range []string{"", "bootmend"} {
		for _, name := range fileNames(filepath.Join(root, dir), maxRoot) {
			found.loose(filepath.Join(root, dir, name), name, where)
		}
	}
	return found
}

// fileNames lists the first files of a folder, in order.
func fileNames(dir string, limit int) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(limit) // what can be read of a damaged folder is used
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}

// loose looks at a file outside of the folder for keys: an identity, or what Windows itself saves on a stick, which is
// hidden in the root.
func (k *keyFiles) loose(path, name, where string) {
	lower := strings.ToLower(name)
	ext := filepath.Ext(lower)
	switch {
	case ext == ".bek", ext == ".txt" && strings.Contains(lower, "bitlocker"):
		k.keyFile(path, fmt.Sprintf("key file %s on %s", name, where), name)
	case ext == ".txt", ext == ".key", strings.HasPrefix(lower, "identity"), lower == "id_ed25519", lower == "id_rsa":
		k.identity(path, name, where)
	}
}

func (k *keyFiles) identity(path, name, where string) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxIdentity {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	list, err := vault.ReadIdentities(f, name)
	switch {
	case err == nil:
		k.identities = append(k.identities, list...)
		k.files++
	case !errors.Is(err, vault.ErrNotIdentity):
		k.note("%s: %v", where, err)
	}
}

// keyFile reads a file of keys of any kind: a vault, a startup key, or a list.
func (k *keyFiles) keyFile(path, source, name string) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		k.note("%s cannot be read: %v", name, err)
		return
	}
	defer f.Close()
	sealed, err := vault.Read(f, name)
	if err == nil {
		k.vaults = append(k.vaults, sealedVault{sealed, source, sha256.Sum256(sealed.Bytes())})
		return
	}
	if !errors.Is(err, vault.ErrNotVault) {
		k.note("%v", err)
		return
	}
	if _, err := f.Seek(0, 0); err != nil {
		k.note("%s cannot be read: %v", name, err)
		return
	}
	list, err := keys.Read(f, name)
	if err != nil {
		k.note("%v", err)
		return
	}
	for _, p := range list.Problems {
		k.note("%s line %d: %s; the other lines are used", name, p.Line, p.Reason)
	}
	if list.Len() > 0 {
		k.lists = append(k.lists, keySource{source, list})
		k.count += list.Len()
	}
}

func (k *keyFiles) note(format string, args ...any) {
	k.notes = append(k.notes, fmt.Sprintf(format, args...))
}

// any reports whether there is anything that may open a volume.
func (k *keyFiles) any() bool { return len(k.lists)+len(k.vaults)+len(k.identities) > 0 }

// String tells what was found, for the screen.
func (k *keyFiles) String() string {
	var parts []string
	add := func(n int, noun string) {
		if n > 0 {
			parts = append(parts, count(n, noun))
		}
	}
	add(k.count, "recovery key")
	passphrases := 0
	for _, v := range k.vaults {
		if v.WantsPassphrase() {
			passphrases++
		}
	}
	add(passphrases, "vault sealed with a passphrase")
	add(len(k.vaults)-passphrases, "vault sealed for an identity")
	add(k.files, "identity file")
	return strings.Join(parts, ", ")
}
