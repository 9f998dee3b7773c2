package usb

import (
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/bootmend/bootmend/assets"
	media "github.com/bootmend/bootmend/image"
)

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b) // never fails
	return b
}

// standIn is a bundle of the right shape that boots nothing.
func standIn() fs.FS {
	core := noise(205_777, 5)
	copy(core[cdBoot+partition:], []byte{0xff, 0xff, 0xff, 0})
	copy(core[cdBoot+blockList+8:], []byte{100, 0})
	return fstest.MapFS{
		assets.Kernel:      {Data: noise(600_000, 1)},
		assets.ModulesCPIO: {Data: noise(600_001, 2)},
		assets.NetworkCPIO: {Data: noise(5000, 9)},
		assets.Shim:        {Data: noise(90_000, 3)},
		assets.Grub:        {Data: noise(380_001, 4)},
		assets.ElTorito:    {Data: core},
		assets.BootHybrid:  {Data: noise(512, 6)},
		assets.Notice:      {Data: []byte("notice")},
	}
}

func testSpec(t testing.TB) media.Spec {
	t.Helper()
	grub, err := os.ReadFile("../../assets/grub.cfg")
	if err != nil {
		t.Fatal(err)
	}
	return media.Spec{
		Bundle: standIn(), GrubConfig: grub, Agent: media.FromBytes("", noise(123_457, 7)), Config: []byte("countdown: 5s\n"),
		Keys:  media.Keys("KeyID,RecoveryKey\n"),
		Rules: []media.RulePack{{Name: "crowdstrike-2024-a.yaml", Data: []byte("a")}},
		Time:  time.Date(2024, 7, 19, 5, 27, 1, 0, time.UTC),
	}
}
