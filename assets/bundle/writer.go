package bundle

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Writer collects the entries of a bundle. Equal entries give equal bytes, whatever their order.
type Writer struct {
	files map[string]entry
}

type entry struct {
	data   []byte
	pkg    string
	packed bool
}

// Add adds an entry from a package ("" for what the builder wrote). Entries that are compressed already
// are stored as they are, so that they can be read at any offset.
func (w *Writer) Add(name string, data []byte, pkg string, compressed bool) {
	if w.files == nil {
		w.files = map[string]entry{}
	}
	w.files[name] = entry{data, pkg, compressed}
}

// WriteTo writes the bundle with the manifest, to which it adds the files.
func (w *Writer) WriteTo(dst io.Writer, m Manifest) error {
	m.Schema = schema
	m.Files = nil
	var names []string
	for name, e := range w.files {
		sum := sha256.Sum256(e.data)
		m.Files = append(m.Files, File{Path: name, Size: int64(len(e.data)), SHA256: hex.EncodeToString(sum[:]), Package: e.pkg})
		names = append(names, name)
	}
	sort.Slice(m.Files, func(i, j int) bool { return m.Files[i].Path < m.Files[j].Path })
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	w.Add(ManifestJSON, append(text, '\n'), "", false)
	names = append(names, ManifestJSON)
	sort.Strings(names)

	z := zip.NewWriter(dst)
	z.RegisterCompressor(zstd.ZipMethodWinZip, zstd.ZipCompressor(
		zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1)))
	for _, name := range names {
		e := w.files[name]
		h := zip.FileHeader{Name: name, Method: zstd.ZipMethodWinZip}
		if e.packed {
			h.Method = zip.Store
		}
		// The first moment that a zip file can express: the bundle is the same whenever it is made.
		h.Modified = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
		f, err := z.CreateHeader(&h)
		if err != nil {
			return fmt.Errorf("boot bundle: %s: %w", name, err)
		}
		if _, err := f.Write(e.data); err != nil {
			return fmt.Errorf("boot bundle: %s: %w", name, err)
		}
	}
	return z.Close()
}
