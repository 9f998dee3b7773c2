package remediate

import (
	"encoding/binary"
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
