package flash_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
	"github.com/bootmend/bootmend/image/flash/flashtest"
)

const (
	benchImage = 1 << 30   // bytes of the image
	benchData  = 256 << 20 // of them not holes
)

// benchSource is a sparse image in memory and a file with its data alone, for dd.
type benchSource struct {
	*os.File
	packed string
}

func (s *benchSource) Size() int64 { return benchImage }

// Extents are four pieces, a quarter of the data each.
func (s *benchSource) Extents() (list []flash.Extent) {
	for i := range int64(4) {
		list = append(list, flash.Extent{Off: i * benchImage / 4, Len: benchData / 4})
	}
	return list
}

// benchDir is a folder in memory.
func benchDir(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	if err := mountTmpfs(b, dir, "size=8g"); err != nil {
		b.Skipf("mounting a file system in memory needs root: %v", err)
	}
	return dir
}

func newBenchSource(b *testing.B, dir string) *benchSource {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(benchImage); err != nil {
		b.Fatal(err)
	}
	packed, err := os.Create(filepath.Join(dir, "packed"))
	if err != nil {
		b.Fatal(err)
	}
	s := &benchSource{f, packed.Name()}
	random := rand.NewChaCha8([32]byte{3})
	buf := make([]byte, benchData/4)
	for _, e := range s.Extents() {
		_, _ = random.Read(buf)
		if _, err := f.WriteAt(buf, e.Off); err != nil {
			b.Fatal(err)
		}
		if _, err := packed.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	if err := packed.Close(); err != nil {
		b.Fatal(err)
	}
	return s
}

// benchStick attaches a stick in memory whose pages are all there already, as the cells of a stick are.
func benchStick(b *testing.B, path string) string {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	zeros := make([]byte, 4<<20)
	for range benchImage / len(zeros) {
		if _, err := f.Write(zeros); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return attach(b, path)
}

func attach(b *testing.B, path string) string {
	b.Helper()
	dev, detach, err := flashtest.Attach(path)
	if err != nil {
		b.Skipf("loop devices need root: %v", err)
	}
	b.Cleanup(func() {
		if err := detach(); err != nil {
			b.Error(err)
		}
	})
	return dev
}

// writeSticks is the time until the slowest stick was written, without the reading back.
func writeSticks(b *testing.B, s flash.Source, paths []string) time.Duration {
	b.Helper()
	list, err := device.List(paths...)
	if err != nil {
		b.Fatal(err)
	}
	var targets []flash.Target
	for _, d := range list {
		if !slices.Contains(paths, d.Path) {
			continue
		}
		disk, err := device.Open(d, false)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = disk.Close() }()
		targets = append(targets, disk)
	}
	if len(targets) != len(paths) {
		b.Fatalf("%d of %d sticks found", len(targets), len(paths))
	}
	started := time.Now()
	var slowest time.Duration
	for _, r := range flash.Write(context.Background(), s, targets, nil) {
		if r.Err != nil {
			b.Fatal(r.Err)
		}
		slowest = max(slowest, r.WriteTime)
	}
	b.Logf("%d sticks: %v written, %v with test and reading back", len(paths), slowest, time.Since(started))
	return slowest
}

func runTool(b *testing.B, name string, args ...string) time.Duration {
	b.Helper()
	started := time.Now()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", name, err, out)
	}
	return time.Since(started)
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// benchSpeeds are sticks in memory, where the processors are the bus, and sticks of the speed of real ones, with a bus each.
var benchSpeeds = []struct {
	name string
	rate int64 // bytes a second; 0 is as fast as memory
}{{"memory", 0}, {"200MBps", 200e6}, {"40MBps", 40e6}}

func benchSticks(b *testing.B, dir string, n int, rate int64) (devs []string) {
	b.Helper()
	for i := range n {
		path := filepath.Join(dir, "stick"+strconv.Itoa(i))
		if rate == 0 {
			devs = append(devs, benchStick(b, path))
			continue
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			b.Fatal(err)
		}
		devs = append(devs, attach(b, serve(b, &flashtest.Faulty{Size: benchImage, Rate: rate}, path)))
	}
	return devs
}

// BenchmarkStick writes one stick by turns with its peers: dd with the same bytes that are no holes, and bmaptool.
func BenchmarkStick(b *testing.B) {
	bmaptool, err := exec.LookPath("bmaptool")
	if err != nil {
		b.Skip("bmaptool is not installed")
	}
	for _, c := range benchSpeeds {
		b.Run(c.name, func(b *testing.B) {
			dir := benchDir(b)
			s := newBenchSource(b, dir)
			dev := benchSticks(b, dir, 1, c.rate)[0]
			bmap := filepath.Join(dir, "image.bmap")
			runTool(b, bmaptool, "create", "-o", bmap, s.Name())
			var ours, dd, bmt []time.Duration
			for b.Loop() {
				dd = append(dd, runTool(b, "dd", "if="+s.packed, "of="+dev, "bs=4M", "oflag=direct", "conv=fsync"))
				bmt = append(bmt, runTool(b, bmaptool, "--quiet", "copy", "--bmap", bmap, s.Name(), dev))
				ours = append(ours, writeSticks(b, s, []string{dev}))
			}
			b.ReportMetric(median(ours).Seconds(), "s-flash")
			b.ReportMetric(median(dd).Seconds(), "s-dd")
			b.ReportMetric(median(bmt).Seconds(), "s-bmaptool")
			b.ReportMetric(float64(median(ours))/float64(median(dd)), "x-dd")
			b.ReportMetric(float64(median(ours))/float64(median(bmt)), "x-bmaptool")
		})
	}
}

// BenchmarkFour writes one stick and four by turns.
func BenchmarkFour(b *testing.B) {
	for _, c := range benchSpeeds {
		b.Run(c.name, func(b *testing.B) {
			dir := benchDir(b)
			s := newBenchSource(b, dir)
			devs := benchSticks(b, dir, 4, c.rate)
			var one, four, dd []time.Duration
			for b.Loop() {
				one = append(one, writeSticks(b, s, devs[:1]))
				four = append(four, writeSticks(b, s, devs))
				dd = append(dd, fourDD(b, s.packed, devs))
			}
			b.ReportMetric(median(one).Seconds(), "s-one")
			b.ReportMetric(median(four).Seconds(), "s-four")
			b.ReportMetric(median(dd).Seconds(), "s-four-dd")
			b.ReportMetric(float64(median(four))/float64(median(one)), "x-one")
			b.ReportMetric(float64(median(four))/float64(median(dd)), "x-dd")
		})
	}
}

// fourDD is the time that as many dd at once need.
func fourDD(b *testing.B, packed string, devs []string) time.Duration {
	b.Helper()
	started := time.Now()
	var wg sync.WaitGroup
	for _, dev := range devs {
		wg.Go(func() {
			if out, err := exec.Command("dd", "if="+packed, "of="+dev, "bs=4M", "oflag=direct", "conv=fsync").CombinedOutput(); err != nil {
				b.Errorf("dd: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	return time.Since(started)
}
