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
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/trust"
)

// The media's rule packs, each perhaps with a signature beside it, and the public keys that the media trust.
const (
	rulesGlob = "bootmend/rules/*.yaml"
	trustGlob = "bootmend/trust/*.pub"
)

// readConfig reads the media's configuration. What is missing has a safe default; a configuration that cannot be read,
// which the note tells, turns the run into a dry run, since it may have asked for one.
func readConfig(dir string) (c config.Config, note string) {
	data, err := os.ReadFile(filepath.Join(dir, config.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return config.Default(), ""
	}
	c = config.Default()
	if err == nil {
		c, err = config.Parse(data)
	}
	if err != nil {
		c.DryRun, c.OnSuccess = true, config.Wait
		note = fmt.Sprintf("%s: %v. Nothing will be changed until this is corrected.", config.Path, err)
	}
	return c, note
}

// readSerials reads the list of the machines that media are for; media without one are for all. A list that cannot be
// read, which the note tells, is for none: nobody knows who was meant.
func readSerials(dir string) (s config.Serials, note string) {
	data, err := os.ReadFile(filepath.Join(dir, config.SerialsPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ""
	}
	if err == nil {
		s, err = config.ParseSerials(data)
	}
	if err != nil {
		return config.Serials{}, fmt.Sprintf("%s: %s. No machine will be healed until this is corrected.", config.SerialsPath, oneLine(err))
	}
	return s, ""
}

// readRules reads the media's rule packs; media without any use the packaged ones. A pack that is not trusted or
// cannot be read is left out whole, noted, and counted as bad: half a rule is worse than none.
func readRules(dir string, allowUnsigned bool) (packs []*remediate.Pack, bad int, notes []string) {
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	store, err := trust.NewStore(assets.DefaultRules())
	if err != nil {
		panic("the packaged rule packs cannot be read: " + err.Error()) // they are part of this program
	}
	store.AllowUnsigned = allowUnsigned
	keys, _ := filepath.Glob(filepath.Join(dir, trustGlob))
	for _, file := range keys {
		data, err := readSmall(file)
		if err == nil {
			_, err = store.AddKey(data)
		}
		if err != nil {
			note("%s is not used: %v", filepath.Base(file), err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, rulesGlob))
	for _, file := range files {
		pack, err := readPack(store, file)
		if err == nil && slices.ContainsFunc(packs, func(p *remediate.Pack) bool { return p.ID == pack.ID }) {
			err = fmt.Errorf("another pack has its id %s", pack.ID)
		}
		if err != nil {
			bad++
			note("rule pack %s is left out: %s", filepath.Base(file), oneLine(err))
			continue
		}
		packs = append(packs, pack)
	}
	if len(files) == 0 {
		packs = defaultPacks()
	}
	return packs, bad, notes
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
