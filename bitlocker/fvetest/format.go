package fvetest

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// Format makes dst a BitLocker volume of size bytes whose clear content is
// that of clear. It writes every sector, on all processors, unless
// Options.Used says otherwise. dst and clear must not be the same.
func Format(dst io.WriterAt, clear io.ReaderAt, size int64, opts Options) (*Result, error) {
	regions, err := Layout(size, opts)
	if err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	if opts.EncryptedSize < 0 || opts.EncryptedSize > size || opts.EncryptedSize%int64(opts.SectorSize) != 0 {
		return nil, fmt.Errorf("encrypted size %d of a volume of %d bytes", opts.EncryptedSize, size)
	}
	if err := checkUnused(clear, regions); err != nil {
		return nil, err
	}
	res := &Result{Regions: regions}
	b := &builder{opts: opts}
	if opts.Vista {
		if b.mirror, err = checkVista(clear, size, &opts); err != nil {
			return nil, err
		}
	}
	metadata, key, err := b.build(res, size)
	if err != nil {
		return nil, err
	}
	cipher, err := fve.NewCipher(uint16(opts.Method), key, opts.SectorSize)
	if err != nil {
		return nil, err
	}
	f := &formatter{dst: dst, clear: clear, cipher: cipher, opts: &opts, end: size, regions: regions}
	if opts.EncryptedSize != 0 {
		f.end = opts.EncryptedSize
	}
	if err := f.header(regions[3]); err != nil {
		return nil, err
	}
	if err := f.content(size); err != nil {
		return nil, err
	}
	for _, r := range regions[:fve.Copies] {
		if _, err := dst.WriteAt(metadata, r.Off); err != nil {
			return nil, fmt.Errorf("write metadata at offset %d: %w", r.Off, err)
		}
	}
	if opts.Vista {
		return res, f.vistaSectors(size)
	}
	first := make([]byte, opts.HeaderSize)
	copy(first, firstSector(&opts, regions))
	if _, err := dst.WriteAt(first, 0); err != nil {
		return nil, fmt.Errorf("write the first sectors: %w", err)
	}
	return res, nil
}

// vistaSectors leaves the start of the volume clear, and changes the first
// sector and its copy.
func (f *formatter) vistaSectors(size int64) error {
	b := make([]byte, clearSize)
	if err := f.read(b, 0); err != nil {
		return err
	}
	f.vistaSector(b)
	if _, err := f.dst.WriteAt(b, 0); err != nil {
		return err
	}
	last := b[:fve.BootSectorSize]
	if err := f.read(last, size-fve.BootSectorSize); err != nil {
		return err
	}
	f.vistaSector(last)
	_, err := f.dst.WriteAt(last, size-fve.BootSectorSize)
	return err
}

func (f *formatter) vistaSector(b []byte) {
	copy(b[fve.OEMOffset:], fve.Signature)
	le.PutUint64(b[fve.VistaLCN:], uint64(f.regions[0].Off/f.opts.cluster(b)))
}

// cluster is the cluster's size of a clear NTFS volume, by its first sector.
func (o *Options) cluster(b []byte) int64 { return int64(o.SectorSize) * int64(b[13]) }

// checkVista makes sure of what Options.Vista asks of the clear volume.
func checkVista(clear io.ReaderAt, size int64, o *Options) (mirror uint64, err error) {
	b := make([]byte, fve.BootSectorSize)
	if _, err := clear.ReadAt(b, 0); err != nil {
		return 0, fmt.Errorf("read the clear volume: %w", err)
	}
	if o.SectorSize != 512 || string(b[3:11]) != fve.SignatureNTFS || o.cluster(b) != 4096 || le.Uint64(b[fve.VistaTotalSectors:]) != uint64(size/512-1) {
		return 0, errors.New("layout of Windows Vista: the clear volume has no first sector of NTFS with clusters of 4096 bytes, or of another size")
	}
	return le.Uint64(b[fve.VistaLCN:]), nil
}

// formatter encrypts the content of the volume.
type formatter struct {
	dst     io.WriterAt
	clear   io.ReaderAt
	cipher  fve.Cipher
	opts    *Options
	end     int64 // sectors from here on stay clear
	regions []Region
}

// header puts the start of the clear volume where BitLocker keeps it.
func (f *formatter) header(to Region) error {
	b := make([]byte, to.Len)
	if err := f.read(b, 0); err != nil {
		return err
	}
	return f.write(b, to.Off)
}

func (f *formatter) read(b []byte, off int64) error {
	if n, err := f.clear.ReadAt(b, off); n < len(b) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the clear volume at offset %d: %w", off, err)
	} else if n < len(b) {
		clear(b[n:]) // a clear volume that ends early goes on with zeros
	}
	return nil
}

// write encrypts b in place and writes it to off.
func (f *formatter) write(b []byte, off int64) error {
	if n := min(f.end-off, int64(len(b))); n > 0 {
		f.cipher.Encrypt(b[:n], b[:n], off)
	}
	if _, err := f.dst.WriteAt(b, off); err != nil {
		return fmt.Errorf("write the volume at offset %d: %w", off, err)
	}
	return nil
}

// chunk is how much is encrypted at a time.
const chunk = 1 << 20

// content encrypts all that is neither the start of the volume nor
// BitLocker's own.
func (f *formatter) content(size int64) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int64
		first error
	)
	claim := func() (Region, bool) {
		mu.Lock()
		defer mu.Unlock()
		r := Region{next, min(chunk, size-next)}
		next += r.Len
		return r, r.Len > 0 && first == nil
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf := make([]byte, chunk)
			for r, ok := claim(); ok; r, ok = claim() {
				if err := f.region(buf, r); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

// region encrypts those parts of r that are to be.
func (f *formatter) region(buf []byte, r Region) error {
	if r.Off == 0 {
		start := max(f.opts.HeaderSize, clearSize)
		r.Off, r.Len = start, r.Len-start
	}
	for r.Len > 0 {
		part := Region{r.Off, r.Len}
		skip := false
		for _, own := range f.regions {
			switch {
			case own.Len == 0:
			case own.Off <= part.Off && part.Off < own.end():
				part.Len, skip = min(part.Len, own.end()-part.Off), true
			case own.Off > part.Off && own.Off < part.end():
				part.Len = own.Off - part.Off
			}
		}
		if f.opts.Used != nil && !skip {
			part.Len = min(part.Len, 64<<10)
			skip = !f.opts.Used(part.Off, part.Len)
		}
		if !skip {
			b := buf[:part.Len]
			if err := f.read(b, part.Off); err != nil {
				return err
			}
			if err := f.write(b, part.Off); err != nil {
				return err
			}
		}
		r.Off, r.Len = part.end(), r.Len-part.Len
	}
	return nil
}

// firstSector makes the first sector of the volume. Windows dresses it up as
// that of a FAT32 file system.
func firstSector(o *Options, regions []Region) []byte {
	b := make([]byte, fve.BootSectorSize)
	copy(b, "\xeb\x58\x90"+fve.Signature)
	le.PutUint16(b[11:], uint16(o.SectorSize))
	b[13] = byte(4096 / o.SectorSize)   // sectors of a cluster
	b[21] = 0xf8                        // medium
	le.PutUint16(b[24:], 63)            // sectors of a track
	le.PutUint16(b[26:], 255)           // heads
	le.PutUint32(b[36:], 0x1fe0)        // sectors of the FAT
	le.PutUint16(b[48:], 1)             // information sector
	le.PutUint16(b[50:], 6)             // copy of this sector
	b[64], b[66] = 0x80, 0x29           // drive, signature
	copy(b[71:], "NO NAME    FAT32   ") // label, file system
	at := fve.GUIDOffset
	if o.ToGo {
		copy(b[3:], fve.SignatureToGo)
		at = fve.GUIDOffsetToGo
	}
	copy(b[at:], fve.GUIDNormal[:])
	for i := range fve.Copies {
		le.PutUint64(b[at+16+8*i:], uint64(regions[i].Off))
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}
