package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
)

// flashSite is a place whose stick carries only its own keys.
type flashSite struct {
	name  string
	line  int // where the file names it first
	keys  keys.Filter
	state siteState
}

type siteState int

const (
	siteOpen siteState = iota
	siteTaken
	siteDone
)

// flashSites makes a stick for each site.
type flashSites struct {
	opts     *flashOptions
	messages io.Writer
	all      *keys.List
	base     image.Spec // without keys
	model    flashTree  // of the first site, to see what fits
	lay      func(context.Context, image.Spec) (*image.Tree, error)

	mu    sync.Mutex
	sites []*flashSite
}

// errNoSite is a stick too many.
var errNoSite = errors.New("every site has its stick")

// openSites reads the table of sites and sees that each has keys, before anything is written.
// source is of Windows PE, or nil.
func openSites(ctx context.Context, messages io.Writer, opts *flashOptions, source *winpeSource) (*flashSites, error) {
	sealed, err := opts.build.finishedVault()
	if err != nil {
		return nil, err
	}
	if sealed != nil {
		return nil, withHint(fmt.Errorf("%s is sealed, and --label-from divides its keys", sealed.Name()), `open it with "bootmend keys open" first`)
	}
	f, err := os.Open(opts.sites)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &flashSites{opts: opts, messages: messages}
	if s.sites, err = readSites(f, opts.sites); err != nil {
		return nil, err
	}
	if s.all, err = readKeyLists(ctx, messages, opts.build.keys, &opts.build.keyFilter); err != nil {
		return nil, err
	}
	for _, site := range s.sites {
		list, unused, err := site.choose(s.all)
		if err != nil {
			return nil, fmt.Errorf("%s, site %s: %w", opts.sites, site.name, err)
		}
		for _, v := range unused {
			fmt.Fprintf(messages, "bootmend: %s, site %s: no key fits %q\n", opts.sites, site.name, v)
		}
		if list.Len() == 0 {
			return nil, withHint(fmt.Errorf("%s, line %d: site %s has no key in what --keys names", opts.sites, site.line, site.name),
				"take the site out, or name the file with its keys")
		}
	}
	opts.build.list, _, err = s.sites[0].choose(s.all)
	if err != nil {
		return nil, err
	}
	if s.lay, err = stickLayer(ctx, source); err != nil {
		return nil, err
	}
	if s.base, err = opts.build.spec(ctx, messages); err != nil {
		return nil, err
	}
	tree, err := s.lay(ctx, s.base)
	if err != nil {
		return nil, err
	}
	if tree.UEFIOnly {
		fmt.Fprintf(messages, "bootmend: "+uefiOnly+"\n", "each stick")
	}
	s.model = flashTree{tree: tree, size: opts.size}
	s.base.Keys, s.base.Vault = nil, nil
	return s, nil
}

// source is what the first site's stick would be on the device: all are of about the same size.
func (s *flashSites) source(d device.Device) (flash.Source, error) { return s.model.source(d) }

// take makes the stick of the next site for a device.
func (s *flashSites) take(ctx context.Context, d device.Device) (flash.Source, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock() // one after the other: the person may be asked for a passphrase
	i := slices.IndexFunc(s.sites, func(site *flashSite) bool { return site.state == siteOpen })
	if i < 0 {
		return nil, "", errNoSite
	}
	site := s.sites[i]
	list, _, err := site.choose(s.all)
	if err != nil {
		return nil, site.name, err
	}
	spec, build := s.base, &s.opts.build
	build.list = list
	toSeal, err := build.readKeys(ctx, io.Discard, &spec)
	if err == nil && toSeal != nil {
		spec.Vault, err = build.vault.seal(ctx, io.Discard, toSeal)
	}
	if err != nil {
		return nil, site.name, err
	}
	tree, err := s.lay(ctx, spec)
	if err != nil {
		return nil, site.name, err
	}
	source, err := (&flashTree{tree: tree, size: s.opts.size}).source(d)
	if err != nil {
		return nil, site.name, err
	}
	site.state = siteTaken
	return source, site.name, nil
}

// settle says whether a site has its stick now.
func (s *flashSites) settle(name string, good bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, site := range s.sites {
		if site.name == name && site.state == siteTaken {
			site.state = siteOpen
			if good {
				site.state = siteDone
			}
		}
	}
}

// open counts the sites that nobody makes a stick for.
func (s *flashSites) open() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, site := range s.sites {
		if site.state == siteOpen {
			n++
		}
	}
	return n
}

// left are the sites that have no stick yet.
func (s *flashSites) left() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, site := range s.sites {
		if site.state != siteDone {
			names = append(names, site.name)
		}
	}
	return names
}

// choose takes the keys that one of the site's rows fits. unused are values that no key fits.
func (s *flashSite) choose(all *keys.List) (list *keys.List, unused []string, err error) {
	var lists []*keys.List
	for _, f := range []keys.Filter{{Computers: s.keys.Computers}, {OUs: s.keys.OUs}, {IDs: s.keys.IDs}} {
		if f.IsZero() {
			continue
		}
		some, none, err := f.Apply(all)
		if err != nil {
			return nil, nil, err
		}
		some.Problems = nil // told already
		lists, unused = append(lists, some), append(unused, none...)
	}
	return keys.Merge(lists...), unused, nil
}

// sitesLimit bounds the table of sites.
const sitesLimit = 64 << 20

// siteColumns are the names of columns, in lower case and without blanks.
var siteColumns = map[string]string{
	"site": "site", "label": "site", "stick": "site", "keyid": "id", "id": "id", "recoverykeyid": "id",
	"computer": "computer", "computername": "computer", "hostname": "computer", "ou": "ou",
}

// readSites reads the table of sites, as --help explains it. The separator is a comma, a semicolon or a tab.
func readSites(r io.Reader, name string) ([]*flashSite, error) {
	data, err := io.ReadAll(io.LimitReader(r, sitesLimit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > sitesLimit {
		return nil, fmt.Errorf("%s: larger than %d MiB", name, sitesLimit>>20)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	header, _, _ := bytes.Cut(data, []byte("\n"))
	table := csv.NewReader(bytes.NewReader(data))
	table.TrimLeadingSpace = true
	table.FieldsPerRecord = -1
	for _, sep := range ";\t" {
		if bytes.ContainsRune(header, sep) && !bytes.ContainsRune(header, ',') {
			table.Comma = sep
		}
	}
	var columns []string
	var sites []*flashSite
	for {
		row, err := table.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		line, _ := table.FieldPos(0)
		if columns == nil {
			if columns, err = siteHeader(row); err != nil {
				return nil, withHint(fmt.Errorf("%s, line %d: %w", name, line, err), "the columns are Site, and KeyID, Computer or OU; --help has an example")
			}
			continue
		}
		if sites, err = addSite(sites, columns, row, line); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, line, err)
		}
	}
	if len(sites) == 0 {
		return nil, withHint(fmt.Errorf("%s names no site", name), "the columns are Site, and KeyID, Computer or OU; --help has an example")
	}
	return sites, nil
}

func siteHeader(row []string) ([]string, error) {
	columns := make([]string, len(row))
	for i, cell := range row {
		columns[i] = siteColumns[strings.ToLower(strings.Join(strings.Fields(cell), ""))]
	}
	if !slices.Contains(columns, "site") {
		return nil, errors.New("no column is called Site")
	}
	if !slices.ContainsFunc(columns, func(c string) bool { return c != "" && c != "site" }) {
		return nil, errors.New("no column is called KeyID, Computer or OU")
	}
	return columns, nil
}

// addSite adds a row to its site.
func addSite(sites []*flashSite, columns, row []string, line int) ([]*flashSite, error) {
	cell := func(column string) string {
		for i, c := range columns {
			if c == column && i < len(row) {
				if v := strings.TrimSpace(row[i]); v != "" {
					return v
				}
			}
		}
		return ""
	}
	id, computer, ou := cell("id"), cell("computer"), cell("ou")
	name := printable(cell("site"))
	switch {
	case name == "" && cmp.Or(id, computer, ou) == "":
		return sites, nil // a blank row of a spreadsheet
	case name == "":
		return nil, errors.New("the site is missing")
	case cmp.Or(id, computer, ou) == "":
		return nil, fmt.Errorf("site %s: neither a key ID, a computer nor an OU", name)
	}
	i := slices.IndexFunc(sites, func(s *flashSite) bool { return strings.EqualFold(s.name, name) })
	if i < 0 {
		i = len(sites)
		sites = append(sites, &flashSite{name: name, line: line})
	}
	add := func(list *[]string, v string) {
		if v != "" {
			*list = append(*list, v)
		}
	}
	add(&sites[i].keys.IDs, id)
	add(&sites[i].keys.Computers, computer)
	add(&sites[i].keys.OUs, ou)
	return sites, nil
}

// printable makes a name fit to be shown on a terminal.
func printable(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }), " ")
}
