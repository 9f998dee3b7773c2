package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/trust"
)

// The media's rule packs, each perhaps with a signature beside it, and the public keys that the media trust.
const (
	rulesGlob = "bootmend/rules/*.yaml"
	trustGlob = "bootmend/trust/*.pub"
)

// readRules reads the media's rule packs; media without any use the packaged ones. A pack that is not trusted or
// cannot be read is left out whole: half a rule is worse than none.
func (m *media) readRules() {
	store, err := trust.NewStore(assets.DefaultRules())
	if err != nil {
		panic("the packaged rule packs cannot be read: " + err.Error()) // they are part of this program
	}
	store.AllowUnsigned = m.config.AllowUnsignedRules
	keys, _ := filepath.Glob(filepath.Join(mediaDir, trustGlob))
	for _, file := range keys {
		data, err := readSmall(file)
		if err == nil {
			_, err = store.AddKey(data)
		}
		if err != nil {
			m.note("%s is not used: %v", filepath.Base(file), err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(mediaDir, rulesGlob))
	for _, file := range files {
		pack, err := readPack(store, file)
		if err == nil && slices.ContainsFunc(m.packs, func(p *remediate.Pack) bool { return p.ID == pack.ID }) {
			err = fmt.Errorf("another pack has its id %s", pack.ID)
		}
		if err != nil {
			m.badRules++
			m.note("rule pack %s is left out: %s", filepath.Base(file), oneLine(err))
			continue
		}
		m.packs = append(m.packs, pack)
	}
	if len(files) == 0 {
		m.packs = defaultPacks()
	}
}

// readPack reads a rule pack that is trusted.
func readPack(store *trust.Store, file string) (*remediate.Pack, error) {
	data, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	signature, err := readSmall(file + trust.Extension)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := store.Verify(data, signature); err != nil {
		return nil, fmt.Errorf("it %w", err)
	}
	return remediate.ParsePack(data, filepath.Base(file))
}

// readSmall reads the beginning of a file, which is more than any pack, key or signature has.
func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4<<20))
}

func defaultPacks() []*remediate.Pack {
	packs, err := remediate.ParsePacks(assets.DefaultRules())
	if err != nil {
		panic("the packaged rule packs do not parse: " + err.Error()) // a test of assets makes sure that they do
	}
	return packs
}
