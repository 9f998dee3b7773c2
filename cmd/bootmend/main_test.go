package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// TestMain lets the scripts run bootmend as users do.
func TestMain(m *testing.M) {
	// make dates media by the commit; what is shown of them here is compared with what is kept.
	if err := os.Unsetenv("SOURCE_DATE_EPOCH"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"bootmend": func() { os.Exit(run(os.Args[1:])) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkvolume":  mkvolume,
			"mkdisk":    mkdisk,
			"poke":      poke,
			"truncate":  truncate,
			"same":      same,
			"mkwindows": mkwindows,
			"aswindows": aswindows,
			"private":   private,
			"mkbek":     mkbek,
		},
		Setup:     identities,
		Condition: bundleCondition,
	})
}

// bundleCondition is true where the program has its boot bundle.
func bundleCondition(cond string) (bool, error) {
	if cond == "bundle" {
		_, err := assets.OpenBundle()
		_, _, agentErr := assets.Mend()
		return err == nil && agentErr == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

const volumeSize = 16 << 20

// clearContent is what the volumes of the scripts hold: an NTFS boot sector and a pattern.
func clearContent() []byte {
	data := make([]byte, volumeSize)
	copy(data, "\xeb\x52\x90NTFS    ")
	data[510], data[511] = 0x55, 0xaa
	for off := 1 << 16; off < 2<<16; off++ {
		data[off] = byte(off * 7)
	}
	return data
}

// mkvolume FILE [suspended|startup|unknown|wrongid] writes a BitLocker volume, FILE.clear with its clear content,
// FILE.key and FILE.csv with its recovery password, FILE.bek with its startup key, and FILE.vmk and FILE.fvek with the
// volume's own keys; FILE.csv has another computer's ID and name with wrongid.
func mkvolume(ts *testscript.TestScript, _ bool, args []string) {
	kind := strings.Join(args[1:], "")
	volume, result := formatted(ts, kind)
	path := ts.MkAbs(args[0])
	write(ts, path+".vmk", result.VMK)
	write(ts, path+".fvek", fmt.Appendf(nil, "%x\n", result.FVEK))
	if result.BEK != nil {
		write(ts, path+".bek", result.BEK)
		ts.Setenv("BEKID", result.StartupKey.String())
	}
	write(ts, path, volume)
	write(ts, path+".clear", clearContent())
	for i := range 3 { // the copies of the metadata
		ts.Setenv(fmt.Sprintf("META%d", i+1), fmt.Sprint(result.Regions[i].Off+64))
	}
	if len(result.Recovery) > 0 {
		write(ts, path+".key", []byte(result.Recovery[0].Password+"\r\n"))
		id := result.Recovery[0].ID.String()
		if kind == "wrongid" {
			id = "11111111-2222-3333-4444-555555555555"
		}
		write(ts, path+".csv", fmt.Appendf(nil, "KeyID,RecoveryKey,ComputerName\n%s,%s,OTHER-1\n", id, result.Recovery[0].Password))
		ts.Setenv("KEYID", result.Recovery[0].ID.String())
	}
}

// mkdisk FILE writes a disk with an MBR whose second partition is a BitLocker volume.
func mkdisk(ts *testscript.TestScript, _ bool, args []string) {
	const start = 1 << 20
	volume, _ := formatted(ts, "")
	disk := make([]byte, start, start+len(volume))
	entry := disk[446+16:]
	entry[4] = 0x07
	copy(entry[8:], []byte{0x00, 0x08, 0x00, 0x00})  // sector 2048
	copy(entry[12:], []byte{0x00, 0x80, 0x00, 0x00}) // 32768 sectors: volumeSize
	disk[510], disk[511] = 0x55, 0xaa
	write(ts, ts.MkAbs(args[0]), append(disk, volume...))
}

func formatted(ts *testscript.TestScript, kind string) ([]byte, *fvetest.Result) {
	dst := make(memory, volumeSize)
	opts := fvetest.Options{
		Description: "FRONTDESK-7 C: 7/19/2024", TPM: true,
		ClearKey: kind == "suspended", StartupKey: kind == "startup", UnknownEntries: kind == "unknown",
	}
	if kind != "suspended" {
		opts.RecoveryPasswords = []string{""}
	}
	result, err := fvetest.Format(dst, bytes.NewReader(clearContent()), volumeSize, opts)
	ts.Check(err)
	return dst, result
}

// poke FILE OFFSET BYTES... overwrites bytes.
func poke(ts *testscript.TestScript, _ bool, args []string) {
	off, err := strconv.ParseInt(args[1], 0, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt([]byte(args[2]), off)
	ts.Check(err)
	ts.Check(f.Close())
}

// identities puts an age identity and a stranger's into each script's folder, and the public key that belongs to the
// first into the file recipients and the variable RECIPIENT.
func identities(env *testscript.Env) error {
	for _, name := range []string{"stranger.txt", "identity.txt"} {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		recipient := id.Recipient().String()
		env.Setenv("RECIPIENT", recipient)
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte("# public key: "+recipient+"\n"+id.String()+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(env.WorkDir, "recipients"), []byte(recipient+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// private FILE makes sure that nobody but its owner may read a file.
func private(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		ts.Fatalf("%s has mode %v", args[0], info.Mode())
	}
}

// mkbek FILE writes a startup key, whose protector's ID is in the variable BEKID then.
func mkbek(ts *testscript.TestScript, _ bool, args []string) {
	result, err := fvetest.Format(make(memory, volumeSize), bytes.NewReader(clearContent()), volumeSize, fvetest.Options{StartupKey: true})
	ts.Check(err)
	write(ts, ts.MkAbs(args[0]), result.BEK)
	ts.Setenv("BEKID", result.StartupKey.String())
}

// truncate FILE SIZE shortens a file.
func truncate(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.ParseInt(args[1], 0, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// same FILE FILE compares binary files without printing them.
func same(ts *testscript.TestScript, _ bool, args []string) {
	a, b := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			ts.Fatalf("%s and %s differ from byte %d on", args[0], args[1], i)
		}
	}
	if len(a) != len(b) {
		ts.Fatalf("%s has %d bytes, %s has %d", args[0], len(a), args[1], len(b))
	}
}

func write(ts *testscript.TestScript, path string, data []byte) {
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o777))
	ts.Check(os.WriteFile(path, data, 0o666))
}

// memory is a disk of fixed size; the formatter writes to it from several goroutines.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
