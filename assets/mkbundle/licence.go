package main

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/bootmend/bootmend/assets/bundle"
	"github.com/bootmend/bootmend/assets/mkbundle/deb"
)

// copyrightPath is where a package says under which licence it is.
func copyrightPath(s stanza) string { return "usr/share/doc/" + s["Package"] + "/copyright" }

// licences summarises a copyright file of Debian's machine-readable form: the licence of most of it first,
// then those of parts. Packaging ("debian/…") does not count. A file of free form gives nothing.
func licences(copyright []byte) []string {
	stanzas, err := parseStanzas(copyright)
	if err != nil || len(stanzas) == 0 || stanzas[0]["Format"] == "" {
		return nil
	}
	var main, parts []string
	for _, s := range stanzas[1:] {
		files := s["Files"]
		name, _, _ := strings.Cut(s["License"], "\n")
		if files == "" || name == "" || strings.HasPrefix(files, "debian/") {
			continue
		}
		if strings.TrimSpace(files) == "*" {
			main = append(main, name)
		} else {
			parts = append(parts, name)
		}
	}
	slices.Sort(parts)
	var all []string
	for _, name := range append(main, parts...) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// component is a part of the bundle as the NOTICE tells of it.
type component struct {
	title     string
	pkg       *fetched
	copyright []byte // of the package, or of one built from the same source
	fallback  string // the licence, should the copyright file not say it
	manifest  bundle.Package
}

// readCopyright finds the copyright file in a package; some link to the one of a sister package.
func readCopyright(packages ...*fetched) ([]byte, error) {
	for _, p := range packages {
		var text []byte
		err := p.Files(func(f deb.File, r io.Reader) (err error) {
			if f.Name == copyrightPath(p.stanza) && f.Link == "" {
				text, err = io.ReadAll(io.LimitReader(r, 4<<20))
			}
			return err
		})
		if err != nil || text != nil {
			return text, err
		}
	}
	return nil, fmt.Errorf("package %s: no file %s", packages[0].stanza["Package"], copyrightPath(packages[0].stanza))
}

// describe is a package's line in the manifest.
func describe(p *fetched, licence []string, tool bool) bundle.Package {
	m := bundle.Package{
		Name: p.stanza["Package"], Version: p.stanza["Version"], Architecture: p.stanza["Architecture"],
		SHA256: p.SHA256, Licence: strings.Join(licence, ", "), Tool: tool,
	}
	for _, ref := range append(p.builtUsing(), p.source()) {
		m.Source = append(m.Source, bundle.Source(ref))
	}
	return m
}

// commonLicences are the texts that copyright files refer to, in package base-files.
func commonLicences(p *fetched) (map[string][]byte, error) {
	texts := map[string][]byte{}
	err := p.Files(func(f deb.File, r io.Reader) (err error) {
		if path.Dir(f.Name) == "usr/share/common-licenses" && f.Link == "" {
			texts[path.Base(f.Name)], err = io.ReadAll(io.LimitReader(r, 1<<20))
		}
		return err
	})
	return texts, err
}

// notice writes the text that goes with every copy: what is in it, under which licence, and where the
// source is; then the distribution's copyright files and the licences in full.
func notice(components []*component, texts map[string][]byte) []byte {
	var out bytes.Buffer
	out.WriteString(`Third-party software on bootmend's media

The media that bootmend makes start with unmodified programs of the Debian distribution: the boot loader
and kernel in their signed form, and GRUB's BIOS image, linked here from Debian's modules. They are free
software with licences of their own, which this file names, and come WITHOUT ANY WARRANTY.

The kernel and GRUB are under the GNU General Public License. Their complete corresponding source is in the
source packages named below; each is had with "apt-get source NAME=VERSION" from the distribution, and
stays in Debian's snapshot archive after newer ones have replaced it.
`)
	for _, c := range components {
		fmt.Fprintf(&out, "\n%s\n  package  %s %s (%s)\n  SHA-256  %s\n  licence  %s\n",
			c.title, c.manifest.Name, c.manifest.Version, c.manifest.Architecture, c.manifest.SHA256, c.manifest.Licence)
		for _, s := range c.manifest.Source {
			fmt.Fprintf(&out, "  source   %s=%s\n", s.Name, s.Version)
		}
	}
	// Several packages may carry the same file.
	var copyrights [][]byte
	for _, c := range components {
		if !slices.ContainsFunc(copyrights, func(b []byte) bool { return bytes.Equal(b, c.copyright) }) {
			copyrights = append(copyrights, c.copyright)
			heading(&out, "Copyright file of "+c.manifest.Name)
			out.Write(c.copyright)
		}
	}
	for _, name := range referredTo(copyrights, texts) {
		heading(&out, name)
		out.Write(texts[name])
	}
	return out.Bytes()
}

func heading(out *bytes.Buffer, text string) {
	fmt.Fprintf(out, "\n%s\n%s\n%[1]s\n\n", strings.Repeat("=", 78), text)
}

// referredTo are the common licences that the copyright files name, sorted.
func referredTo(copyrights [][]byte, texts map[string][]byte) []string {
	var names []string
	for name := range texts {
		for _, c := range copyrights {
			_, rest, found := bytes.Cut(c, []byte("/usr/share/common-licenses/"+name))
			// "GPL-2" must not be found in "GPL-2.1"; a full stop may end the sentence.
			if found && (len(rest) == 0 || !strings.ContainsRune("-0123456789", rune(rest[0]))) && !bytes.HasPrefix(rest, []byte(".1")) {
				names = append(names, name)
				break
			}
		}
	}
	slices.Sort(names)
	return names
}
