package wim

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ImageInfo is what the XML tells of an image.
type ImageInfo struct {
	Index       int      `json:"index" xml:"INDEX,attr"`
	Name        string   `json:"name" xml:"NAME"`
	Description string   `json:"description,omitempty" xml:"DESCRIPTION"`
	Files       int64    `json:"files" xml:"FILECOUNT"`
	Directories int64    `json:"directories" xml:"DIRCOUNT"`
	Bytes       int64    `json:"bytes" xml:"TOTALBYTES"`
	Windows     *Windows `json:"windows,omitempty" xml:"WINDOWS"`
}

// Windows is what the XML tells of the Windows in an image.
type Windows struct {
	Architecture int      `json:"architecture" xml:"ARCH"` // 0 x86, 5 ARM, 9 x64, 12 ARM64
	Product      string   `json:"product,omitempty" xml:"PRODUCTNAME"`
	Edition      string   `json:"edition,omitempty" xml:"EDITIONID"`
	Installation string   `json:"installation,omitempty" xml:"INSTALLATIONTYPE"`
	Languages    []string `json:"languages,omitempty" xml:"LANGUAGES>LANGUAGE"`
	Default      string   `json:"default_language,omitempty" xml:"LANGUAGES>DEFAULT"`
	Major        int      `json:"major" xml:"VERSION>MAJOR"`
	Minor        int      `json:"minor" xml:"VERSION>MINOR"`
	Build        int      `json:"build" xml:"VERSION>BUILD"`
	ServicePack  int      `json:"revision" xml:"VERSION>SPBUILD"`
	SystemRoot   string   `json:"system_root,omitempty" xml:"SYSTEMROOT"`
}

// Info is what the XML tells of all images.
func (f *File) Info() ([]ImageInfo, error) {
	var doc struct {
		Images []ImageInfo `xml:"IMAGE"`
	}
	if len(f.xml) == 0 {
		return nil, nil
	}
	if err := xml.Unmarshal(f.xml, &doc); err != nil {
		return nil, fmt.Errorf("XML of the WIM: %w", err)
	}
	return doc.Images, nil
}

// readXML keeps the XML as UTF-8; in the file it is UTF-16LE behind a byte order mark.
func (f *File) readXML() error {
	if f.xmlAt.original > maxXML {
		return fmt.Errorf("XML of %d bytes: the WIM is damaged", f.xmlAt.original)
	}
	data, err := f.read("XML", f.xmlAt)
	if err != nil {
		return err
	}
	f.xml = []byte(strings.TrimPrefix(text16(data), "\ufeff"))
	return nil
}

// delta is what an addition changes in the counts of an image.
type delta struct {
	files, directories, bytes int64
}

var imageTag = regexp.MustCompile(`<IMAGE\s+INDEX\s*=\s*["']([0-9]+)["'][^>]*>`)

// updateXML changes the counts and the time of an image in the text, and leaves everything else as it is.
func updateXML(text []byte, image int, d delta, when time.Time, total int64) []byte {
	head := text
	if i := bytes.Index(text, []byte("<IMAGE")); i >= 0 {
		head = text[:i]
	}
	out := append(replaceElement(bytes.Clone(head), "TOTALBYTES", strconv.FormatInt(total, 10)), text[len(head):]...)
	for _, m := range imageTag.FindAllSubmatchIndex(out, -1) {
		if n, err := strconv.Atoi(string(out[m[2]:m[3]])); err != nil || n != image {
			continue
		}
		end := bytes.Index(out[m[1]:], []byte("</IMAGE>"))
		if end < 0 {
			return out
		}
		part := bytes.Clone(out[m[1] : m[1]+end])
		part = addElement(part, "DIRCOUNT", d.directories)
		part = addElement(part, "FILECOUNT", d.files)
		part = addElement(part, "TOTALBYTES", d.bytes)
		stamp := filetime(when)
		part = replaceElement(part, "LASTMODIFICATIONTIME",
			fmt.Sprintf("<HIGHPART>0x%08X</HIGHPART><LOWPART>0x%08X</LOWPART>", stamp>>32, uint32(stamp)))
		return append(append(bytes.Clone(out[:m[1]]), part...), out[m[1]+end:]...)
	}
	return out
}

// element finds the content of the first element of that name.
func element(text []byte, name string) (from, to int, ok bool) {
	from = bytes.Index(text, []byte("<"+name+">"))
	if from < 0 {
		return 0, 0, false
	}
	from += len(name) + 2
	length := bytes.Index(text[from:], []byte("</"+name+">"))
	return from, from + length, length >= 0
}

func replaceElement(text []byte, name, value string) []byte {
	from, to, ok := element(text, name)
	if !ok {
		return text
	}
	return append(append(bytes.Clone(text[:from]), value...), text[to:]...)
}

func addElement(text []byte, name string, n int64) []byte {
	from, to, ok := element(text, name)
	if !ok {
		return text
	}
	old, err := strconv.ParseInt(strings.TrimSpace(string(text[from:to])), 10, 64)
	if err != nil {
		return text
	}
	return replaceElement(text, name, strconv.FormatInt(max(0, old+n), 10))
}
