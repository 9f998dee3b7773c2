package fat

import (
	"errors"
	"fmt"
)

// ErrTooSmall says that the entries and the free space asked for do not fit in the size asked for.
var ErrTooSmall = errors.New("volume too small")

// Limits of the cluster count (fatgen103, "FAT Type Determination"). The specification advises to stay 16
// clusters away from each limit, because many drivers are off by some.
const (
	maxClusters12 = 4084 - 16
	minClusters16 = 4085 + 16
	maxClusters16 = 65524 - 16
	minClusters32 = 65525 + 16
	maxClusters32 = 0x0ffffff5 - 16

	maxCluster  = 32 << 10 // bytes: the largest that every driver takes
	rootEntries = 512
)

// geometry is where the regions of a volume lie, in sectors.
type geometry struct {
	kind       Kind
	sector     uint32 // BPB_BytsPerSec
	total      uint32 // BPB_TotSec
	spc        uint32 // BPB_SecPerClus
	reserved   uint32 // BPB_RsvdSecCnt
	fatSectors uint32 // BPB_FATSz, one of two copies
	rootStart  uint32 // FAT12 and FAT16: the fixed root directory
	rootSecs   uint32
	dataStart  uint32 // sector of cluster 2
	clusters   uint32
}

// measure lays out the regions of a volume of a kind and a cluster size. It reports false where nothing is left
// for data, or where the count of clusters makes the volume another kind.
func (o Options) measure(kind Kind, total, spc uint32) (geometry, bool) {
	g := geometry{kind: kind, sector: uint32(o.sectorSize()), total: total, spc: spc, reserved: 1}
	g.rootSecs = rootEntries * 32 / g.sector
	if kind == FAT32 {
		g.reserved, g.rootSecs = BootDataSector+(uint32(len(o.BootData))+g.sector-1)/g.sector, 0
	}
	// The FATs must describe the clusters that the FATs leave room for: grow them from the smallest until they
	// do. The formula of fatgen103 overshoots, and approximations of it undershoot at some sizes.
	for g.fatSectors = 1; ; {
		if !g.place() {
			return g, false
		}
		bits := uint64(g.clusters+2) * uint64(kind)
		need := uint32((bits + uint64(g.sector)*8 - 1) / (uint64(g.sector) * 8))
		if need <= g.fatSectors {
			break
		}
		g.fatSectors = need
	}
	// FAT32: clusters that start on a multiple of their size write faster on flash. It can only take clusters
	// away, so the FATs stay long enough.
	if kind == FAT32 {
		align := max(spc, 4096/g.sector)
		g.reserved += (align - g.dataStart%align) % align
		if !g.place() {
			return g, false
		}
	}
	switch kind {
	case FAT12:
		return g, g.clusters >= 1 && g.clusters <= maxClusters12
	case FAT16:
		return g, g.clusters >= minClusters16 && g.clusters <= maxClusters16
	default:
		return g, g.clusters >= minClusters32 && g.clusters <= maxClusters32
	}
}

func (g *geometry) place() bool {
	start := uint64(g.reserved) + 2*uint64(g.fatSectors)
	g.rootStart = uint32(start)
	start += uint64(g.rootSecs)
	if start+uint64(g.spc) > uint64(g.total) {
		return false
	}
	g.dataStart = uint32(start)
	g.clusters = (g.total - g.dataStart) / g.spc
	return true
}

// usualCluster is the cluster size, in sectors of 512 bytes, that Microsoft's format gives a volume of so many of
// them (fatgen103, DskTableFAT16 and DskTableFAT32).
func usualCluster(kind Kind, total int64) uint32 {
	type row struct {
		upTo int64
		spc  uint32
	}
	var table []row
	switch kind {
	case FAT16:
		table = []row{{32680, 2}, {262144, 4}, {524288, 8}, {1048576, 16}, {2097152, 32}, {1 << 32, 64}}
	case FAT32:
		table = []row{{532480, 1}, {16777216, 8}, {33554432, 16}, {67108864, 32}, {1 << 32, 64}}
	default:
		return 1
	}
	for _, r := range table {
		if total <= r.upTo {
			return r.spc
		}
	}
	return maxCluster / SectorSize
}

// usualKinds are the kinds to try for a volume of so many sectors of 512 bytes: Microsoft's format takes FAT12 below 4.1 MB
// and FAT16 below 512 MB; UEFI firmware reads all three (UEFI specification, section 13.3.1).
func usualKinds(total int64) []Kind {
	switch {
	case total < 8400:
		return []Kind{FAT12, FAT16}
	case total < 1048576:
		return []Kind{FAT16, FAT12, FAT32}
	default:
		return []Kind{FAT32, FAT16}
	}
}

// choose finds the geometry for a volume of size bytes.
func choose(opts Options, size int64) (geometry, error) {
	sector := int64(opts.sectorSize())
	sectors := size / sector
	if sectors > 1<<32-1 {
		return geometry{}, fmt.Errorf("volume of %d bytes: FAT ends at 2^32 sectors of %d bytes: choose a smaller size", size, sector)
	}
	total := uint32(sectors)
	kinds := []Kind{opts.Kind}
	if opts.Kind == Auto {
		kinds = usualKinds(size / SectorSize)
	}
	for _, kind := range kinds {
		if opts.ClusterSize != 0 {
			if g, ok := opts.measure(kind, total, uint32(int64(opts.ClusterSize)/sector)); ok {
				return g, nil
			}
			continue
		}
		usual := max(usualCluster(kind, size/SectorSize)*SectorSize/uint32(sector), 1)
		for spc := usual; spc <= maxCluster/uint32(sector); spc *= 2 {
			if g, ok := opts.measure(kind, total, spc); ok {
				return g, nil
			}
		}
		for spc := usual / 2; spc > 0; spc /= 2 {
			if g, ok := opts.measure(kind, total, spc); ok {
				return g, nil
			}
		}
	}
	what := opts.Kind.String()
	if opts.ClusterSize != 0 {
		what += fmt.Sprintf(" with clusters of %d bytes", opts.ClusterSize)
	}
	return geometry{}, fmt.Errorf("no %s volume of %d bytes exists: %w or too large: choose another size or kind", what, size, ErrTooSmall)
}
