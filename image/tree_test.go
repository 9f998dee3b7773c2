package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/bootmend/bootmend/assets"
)

func testSpec(t testing.TB) Spec {
	t.Helper()
	grub, err := os.ReadFile("../assets/grub.cfg")
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		Bundle: fstest.MapFS{
			assets.Kernel:      {Data: []byte("kernel")},
			assets.ModulesCPIO: {Data: []byte("modules")},
			assets.NetworkCPIO: {Data: []byte("network")},
			assets.Shim:        {Data: []byte("shim")},
			assets.Grub:        {Data: []byte("grub")},
			assets.ElTorito:    {Data: []byte("eltorito")},
			assets.BootHybrid:  {Data: []byte("hybrid")},
			assets.Notice:      {Data: []byte("notice")},
		},
		GrubConfig: grub, Agent: FromBytes("", []byte("agent")), Licences: []byte("MIT\n"), Config: []byte("countdown: 5s\n"),
		Rules: []RulePack{{Name: "z.yaml", Signature: []byte("signed")}, {Name: `C:\rules\Größe.yml`, Data: []byte("x")}},
		Trust: [][]byte{[]byte("a key")},
		Time:  time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC),
	}
}

func read(t testing.TB, tree *Tree, path string) []byte {
	t.Helper()
	f, ok := tree.Find(path)
	if !ok {
		t.Fatalf("no %s in the tree", path)
	}
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	made := path == PathESP || path == PathManifest // of other files
	if int64(len(data)) != f.Size || sha256.Sum256(data) != f.SHA256 && !made {
		t.Errorf("%s: %d bytes, announced %d, or another hash", path, len(data), f.Size)
	}
	return data
}

func TestTree(t *testing.T) {
	tree, err := testSpec(t).Tree(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range tree.Files {
		read(t, tree, f.Path)
		paths = append(paths, f.Path)
	}
	slices.Sort(paths)
	want := []string{
		"/README.txt", "/boot/efi.img", "/boot/grub/eltorito.img", "/boot/grub/grub.cfg", "/bootmend/LICENCES", "/bootmend/NOTICE",
		"/bootmend/agent.img", "/bootmend/config.yaml", "/bootmend/id-" + tree.ID, "/bootmend/manifest.json",
		"/bootmend/media.id", "/bootmend/modules.img", "/bootmend/rules/01-z.yaml",
		"/bootmend/rules/01-z.yaml.minisig", "/bootmend/rules/02-Gr--e.yaml", "/bootmend/trust/01.pub", "/bootmend/vmlinuz",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("files %q, want %q", paths, want)
	}
	if got := read(t, tree, PathAgent); !bytes.Equal(got, []byte("agent")) {
		t.Errorf("agent %q", got)
	}
	if got := string(read(t, tree, PathMediaID)); got != tree.ID+"\n" {
		t.Errorf("media.id %q", got)
	}
	cfg := string(read(t, tree, PathGrubConfig))
	for _, want := range []string{"bootmend.media=" + tree.ID, "/bootmend/id-" + tree.ID, DefaultKernelArgs} {
		if !strings.Contains(cfg, want) {
			t.Errorf("no %q in GRUB's configuration", want)
		}
	}
	if strings.Contains(cfg, "@") {
		t.Errorf("a name was not filled in:\n%s", cfg)
	}
}

func TestManifest(t *testing.T) {
	tree, err := testSpec(t).Tree(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	before := read(t, tree, PathManifest)
	if err := tree.Replace(PathElTorito, []byte("ELTORITO")); err != nil {
		t.Fatal(err)
	}
	after := read(t, tree, PathManifest)
	if len(before) != len(after) || bytes.Equal(before, after) {
		t.Error("the manifest must follow a replaced file and keep its length")
	}
	var m Manifest
	if err := json.Unmarshal(after, &m); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("ELTORITO"))
	if !slices.ContainsFunc(m.Files, func(f ManifestFile) bool {
		return f.Path == PathElTorito && f.Size == 8 && f.SHA256 == hex.EncodeToString(sum[:])
	}) {
		t.Errorf("manifest %s", after)
	}
	if err := tree.Replace(PathElTorito, []byte("longer than before")); err == nil {
		t.Error("a replacement of another size was taken")
	}
}

func TestReadmeWarnsOfKeys(t *testing.T) {
	spec := testSpec(t)
	for _, keys := range []Keys{nil, Keys("KeyID,RecoveryKey\n")} {
		spec.Keys = keys
		tree, err := spec.Tree(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		_, onMedia := tree.Find(PathKeys)
		warns := strings.Contains(string(read(t, tree, PathReadme)), "RECOVERY KEYS IN CLEAR TEXT")
		if onMedia != (keys != nil) || warns != onMedia || tree.HasKeys != onMedia {
			t.Errorf("keys %v: on the media %v, warned of %v", keys != nil, onMedia, warns)
		}
		if spec.Private() != onMedia {
			t.Errorf("keys %v: private %v", keys != nil, spec.Private())
		}
	}
}

func TestVaultOnMedia(t *testing.T) {
	spec := testSpec(t)
	spec.Vault = []byte("sealed")
	tree, err := spec.Tree(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	text := string(read(t, tree, PathReadme))
	if !strings.Contains(text, "are sealed") || strings.Contains(text, "CLEAR TEXT") || strings.Contains(text, "holds no recovery keys") {
		t.Errorf("README.txt: %s", text)
	}
	if string(read(t, tree, PathVault)) != "sealed" || tree.HasKeys || !tree.HasVault || !spec.Private() {
		t.Error("the vault is not on the media, or not noticed")
	}
}

// TestIDFollowsContent: each ingredient changes the number, and nothing else does.
func TestIDFollowsContent(t *testing.T) {
	id := func(edit func(*Spec)) string {
		spec := testSpec(t)
		edit(&spec)
		tree, err := spec.Tree(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return tree.ID
	}
	seen := map[string]string{}
	for name, edit := range map[string]func(*Spec){
		"nothing": func(*Spec) {},
		"agent":   func(s *Spec) { s.Agent = FromBytes("", []byte("other")) },
		"config":  func(s *Spec) { s.Config = nil },
		"keys":    func(s *Spec) { s.Keys = Keys{} },
		"vault":   func(s *Spec) { s.Vault = []byte("sealed") },
		"rules":   func(s *Spec) { s.Rules[0].Data = []byte("y") },
		"order":   func(s *Spec) { slices.Reverse(s.Rules) },
		"time":    func(s *Spec) { s.Time = s.Time.Add(time.Second) },
		"args":    func(s *Spec) { s.KernelArgs = "debug" },
		"grub":    func(s *Spec) { s.GrubConfig = append(s.GrubConfig, '\n') },
		"kernel":  func(s *Spec) { s.Bundle.(fstest.MapFS)[assets.Kernel].Data = []byte("other") },
	} {
		got := id(edit)
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have the same number", name, other)
		}
		seen[got] = name
	}
	if a, b := id(func(*Spec) {}), id(func(s *Spec) { s.Time = s.Time.In(time.FixedZone("x", 3600)) }); a != b {
		t.Error("the time zone changes the number")
	}
}

func TestTreeErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := testSpec(t).Tree(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, name := range []string{assets.Kernel, assets.ModulesCPIO, assets.Shim, assets.Grub, assets.ElTorito, assets.BootHybrid, assets.Notice} {
		spec := testSpec(t)
		delete(spec.Bundle.(fstest.MapFS), name)
		if _, err := spec.Tree(context.Background()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// TestNetworkDrivers: media have them, and load them at each start, only where the agent asks a server.
func TestNetworkDrivers(t *testing.T) {
	for token, want := range map[bool]string{false: "initrd /bootmend/modules.img /bootmend/agent.img\n", true: "initrd /bootmend/modules.img /bootmend/network.img /bootmend/agent.img\n"} {
		spec := testSpec(t)
		spec.HasToken = token
		tree, err := spec.Tree(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		menu := ""
		has := false
		for _, f := range tree.Files {
			has = has || f.Path == PathNetwork
			if f.Path == PathGrubConfig {
				data, err := f.content()
				if err != nil {
					t.Fatal(err)
				}
				menu = string(data)
			}
		}
		if has != token || !strings.Contains(menu, want) {
			t.Errorf("token %v: drivers %v, menu\n%s", token, has, menu)
		}
	}
}
