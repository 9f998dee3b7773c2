package iso

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/bootmend/bootmend/assets"
	media "github.com/bootmend/bootmend/image"
)

var epoch = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)

func noise(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 291))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// standIn is a bundle of the right shape that boots nothing, for sources without boot bundle.
func standIn(kernel int) fs.FS {
	return fstest.MapFS{
		assets.Kernel:      {Data: noise(kernel, 1)},
		assets.ModulesCPIO: {Data: noise(kernel+1, 2)},
		assets.NetworkCPIO: {Data: noise(5000, 9)},
		assets.Shim:        {Data: noise(90_000, 3)},
		assets.Grub:        {Data: noise(380_001, 4)},
		assets.ElTorito:    {Data: noise(205_777, 5)},
		assets.BootHybrid:  {Data: noise(512, 6)},
		assets.Notice:      {Data: []byte("notice")},
	}
}

// without is a bundle with a file replaced, or missing where data is nil.
func without(bundle fs.FS, name string, data []byte) fs.FS {
	out := maps.Clone(bundle.(fstest.MapFS))
	delete(out, name)
	if data != nil {
		out[name] = &fstest.MapFile{Data: data}
	}
	return out
}

func testSpec(t testing.TB) media.Spec {
	t.Helper()
	grub, err := os.ReadFile("../../assets/grub.cfg")
	if err != nil {
		t.Fatal(err)
	}
	return media.Spec{
		Bundle: standIn(600_000), GrubConfig: grub, Agent: media.FromBytes("", noise(123_457, 7)), Config: []byte("countdown: 5s\n"),
		Rules: []media.RulePack{{Name: "crowdstrike-2024-a.yaml", Data: []byte("a"), Signature: []byte("signature of a")}, {Name: "crowdstrike-2024-b", Data: []byte("b")}},
		Time:  epoch,
	}
}

// benchSpec has the sizes of the real thing: the boot bundle where there is one.
func benchSpec(b testing.TB) media.Spec {
	b.Helper()
	spec := testSpec(b)
	spec.Agent = media.FromBytes("", noise(3<<20, 8))
	bundle, err := assets.OpenBundle()
	if err != nil {
		b.Logf("%v: a stand-in is measured", err)
		spec.Bundle = standIn(12 << 20)
	} else {
		spec.Bundle = bundle
	}
	return spec
}

// extract writes a tree's files below dir.
func extract(t testing.TB, tree *media.Tree, dir string) {
	t.Helper()
	for _, f := range tree.Files {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content(t, f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t testing.TB, f media.File) []byte {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// run runs another program and returns what it prints; the test is skipped where it is not installed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
