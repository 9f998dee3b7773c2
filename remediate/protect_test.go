package remediate

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// descriptorOf is the guard with another owner and one more entry.
func descriptorOf(owner string, kind, flags byte, mask uint32, who string) []byte {
	le := binary.LittleEndian
	acl := append([]byte{}, guard[sdHeaderSize:sdHeaderSize+int(le.Uint16(guard[sdHeaderSize+2:]))]...)
	ace := le.AppendUint16([]byte{kind, flags}, uint16(aceHeaderSize+len(who)))
	acl = append(acl, append(le.AppendUint32(ace, mask), who...)...)
	le.PutUint16(acl[2:], uint16(len(acl)))
	acl[4]++
	sd := append([]byte{}, guard[:sdHeaderSize]...)
	sd = append(sd, acl...)
	le.PutUint32(sd[4:], uint32(len(sd)))
	le.PutUint32(sd[8:], uint32(len(sd)))
	return append(sd, owner...)
}

func TestCheckDescriptor(t *testing.T) {
	users, everyone := sid(32, 545), "\x01\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
	const read = 0x1200a9
	for name, tc := range map[string]struct {
		sd []byte
		ok bool
	}{
		"guard":               {guard, true},
		"system owns":         {descriptorOf(sidSystem, aceAllow, 0, read, users), true},
		"user owns":           {descriptorOf(sid(21, 1, 2, 3, 1001), aceAllow, 0, read, users), false},
		"users may read":      {descriptorOf(sidAdministrators, aceAllow, 0, read, users), true},
		"users may add files": {descriptorOf(sidAdministrators, aceAllow, 0, read|2, users), false},
		"users may delete":    {descriptorOf(sidAdministrators, aceAllow, 0, 0x10000, users), false},
		"everyone, generic":   {descriptorOf(sidAdministrators, aceAllow, 0, 0x10000000, everyone), false},
		"users, but denied":   {descriptorOf(sidAdministrators, aceDeny, 0, rightsAll, users), true},
		"users, inherit only": {descriptorOf(sidAdministrators, aceAllow, aceInheritOnly|aceInherit, rightsAll, users), true},
		"unknown entry":       {descriptorOf(sidAdministrators, 9, 0, 2, users), false},
		"no access list":      {append([]byte{1, 0, 0, 0x80}, guard[4:]...), false},
		"empty":               {nil, false},
		"cut":                 {guard[:len(guard)-20], false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkDescriptor(tc.sd); (err == nil) != tc.ok {
				t.Errorf("got %v", err)
			}
		})
	}
	for i := range guard {
		_ = checkDescriptor(guard[:i]) // must not panic
	}
}

func FuzzCheckDescriptor(f *testing.F) {
	f.Add(guard)
	f.Add(descriptorOf(sidSystem, aceAllow, 0, rightsAll, sid(32, 545)))
	f.Fuzz(func(t *testing.T, sd []byte) {
		if checkDescriptor(sd) != nil {
			return
		}
		if owner, ok := sidAt(sd, int64(binary.LittleEndian.Uint32(sd[4:]))); !ok || !powerful(owner) {
			t.Errorf("trusted %x", sd)
		}
	})
}

// TestGuardOnNTFS looks at what a repair leaves on a real NTFS, and plants a manifest there as a user would.
func TestGuardOnNTFS(t *testing.T) {
	v := newNTFS(t)
	unmount := v.mount(t, "rw")
	defer unmount()
	for _, f := range incident() {
		writeTestFile(t, v.dir, f)
	}
	res, err := Quarantine(t.Context(), v.dir, evaluateTree(t, v.dir, FaultyOnly), testRun(t, "r1"))
	if err != nil || res.Unguarded != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	tr, err := openTree(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	for _, p := range []string{ownDir, QuarantineDir, res.Dir, manifestPath(res.Dir), res.Dir + "/" + driversDir} {
		if sd, err := tr.descriptor(p); err != nil || string(sd) != string(guard) {
			t.Errorf("%s: %x, %v", p, sd, err)
		}
	}
	// The file itself keeps the rights that it had.
	if sd, err := tr.descriptor(res.Moved[0].Quarantined); err != nil || sd == nil || string(sd) == string(guard) {
		t.Errorf("%s: %x, %v", res.Moved[0].Quarantined, sd, err)
	}
	// The same folder, made by somebody else.
	planted := filepath.Join(v.dir, QuarantineDir, "20240721T080000Z-r1")
	if err := os.CopyFS(planted, os.DirFS(filepath.Join(v.dir, res.Dir))); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), v.dir, filepath.Base(planted), defaultPacks(t)); !errors.Is(err, errUnguarded) {
		t.Errorf("planted run: %v", err)
	}
	if res, err := Restore(t.Context(), v.dir, res.Dir, defaultPacks(t)); err != nil || len(res.Restored) != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}
