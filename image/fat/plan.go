package fat

import (
	"errors"
	"fmt"
	"strings"
)

// Plan lays entries out as a volume. Entries keep their order; each file becomes one contiguous run.
func Plan(opts Options, entries []Entry) (*Volume, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	root, err := tree(opts, entries)
	if err != nil {
		return nil, err
	}
	if opts.Size != 0 {
		v, missing, err := fit(opts, root, opts.Size)
		if err != nil {
			return nil, err
		}
		if missing > 0 {
			return nil, fmt.Errorf("%w: %d bytes hold %d bytes too little for the files and free space: choose a larger size", ErrTooSmall, opts.Size, missing)
		}
		v.fill()
		return v, nil
	}
	// The smallest size: start from the contents and add what is missing; more sectors never hold less within
	// one kind, so this ends, and the bound is for the places where a larger volume has larger clusters.
	const unit = 4096
	size := (root.contentBytes()+opts.Free)/unit*unit + 16*unit
	for range 1000 {
		v, missing, err := fit(opts, root, size)
		if err == nil && missing <= 0 {
			v.fill()
			return v, nil
		}
		if err != nil && !errors.Is(err, ErrTooSmall) {
			return nil, err
		}
		size += max(missing/unit*unit, unit)
		if err != nil {
			// Too small for the kind asked for: jump instead of creeping up to 32 MiB in pages.
			size += size / 16 / unit * unit
		}
	}
	return nil, fmt.Errorf("no size found for files of %d bytes: give a size", root.contentBytes())
}

func (o Options) check() error {
	switch o.Kind {
	case Auto, FAT12, FAT16, FAT32:
	default:
		return fmt.Errorf("unknown FAT kind %d: use 12, 16 or 32", int(o.Kind))
	}
	if s := o.sectorSize(); s != 512 && s != 4096 {
		return fmt.Errorf("sector size %d: use 512 or 4096", s)
	}
	if c := o.ClusterSize; c != 0 && (c < o.sectorSize() || c > 64<<10 || c&(c-1) != 0) {
		return fmt.Errorf("cluster size %d: not a power of two from %d to 65536", c, o.sectorSize())
	}
	if len(o.BootData) > maxBootData || len(o.BootData) > 0 && o.Kind != FAT32 {
		return fmt.Errorf("boot data of %d bytes: FAT32 volumes have room for it, up to %d", len(o.BootData), maxBootData)
	}
	if o.Size < 0 || o.Free < 0 {
		return fmt.Errorf("negative size or free space: give bytes")
	}
	if o.Label != "" {
		if len(o.Label) > 11 || strings.HasPrefix(o.Label, " ") {
			return fmt.Errorf("label %q: longer than 11 characters or starts with a space", o.Label)
		}
		for _, r := range o.Label {
			if r != ' ' && !shortRune(r) {
				return fmt.Errorf("label %q: %q is not allowed there: use capital letters and digits", o.Label, r)
			}
		}
	}
	return nil
}

// maxBootData keeps the count of reserved sectors within its 16 bits, alignment included.
const maxBootData = 16 << 20

func (o Options) sectorSize() int {
	if o.SectorSize == 0 {
		return SectorSize
	}
	return o.SectorSize
}

// fit lays the tree out in a volume of size bytes; missing is how many bytes of clusters it lacks.
func fit(opts Options, root *node, size int64) (v *Volume, missing int64, err error) {
	g, err := choose(opts, size)
	if err != nil {
		return nil, 0, err
	}
	v = &Volume{opts: opts, size: size, geo: g, root: root}
	cluster := int64(v.ClusterSize())
	next := int64(2)
	place := func(n *node, bytes int64) {
		n.first, n.clusters = 0, 0
		if c := (bytes + cluster - 1) / cluster; c > 0 {
			if next+c <= maxClusters32 {
				n.first, n.clusters = uint32(next), uint32(c)
			}
			next += c
			v.order = append(v.order, n)
		}
	}
	// Directories first: they then lie together, and a driver reads the whole tree in one sweep.
	root.walk(func(n *node) {
		switch {
		case n == root && g.kind != FAT32:
			n.first, n.clusters = 0, 0
		case n.dir:
			place(n, max(n.dirBytes(), 1))
		}
	})
	root.walk(func(n *node) {
		if !n.dir {
			place(n, n.size)
		}
	})
	if g.kind != FAT32 && root.dirBytes() > rootEntries*32 {
		return nil, 0, fmt.Errorf("root directory: more than %d entries, which %s cannot hold: use a folder or FAT32", rootEntries, g.kind)
	}
	used := next - 2
	freeWanted := (opts.Free + cluster - 1) / cluster
	if lack := used + freeWanted - int64(g.clusters); lack > 0 {
		return nil, lack * cluster, nil
	}
	v.used = uint32(used)
	return v, 0, nil
}
