package remediate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Any user of a Windows machine may make folders in ProgramData. Were the quarantine
// one of those, a user could put a manifest into it that has an administrator's undo
// move the user's own file to a place of Windows. So what bootmend makes below
// ProgramData belongs to the administrators and nobody else may touch it, and what
// anybody else may write to is not undone from ([checkGuard]).

// guard is the security descriptor of bootmend's folders and manifests, in SDDL
// "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)": owned by the administrators; they
// and the system have all rights, there and below, and nothing is inherited.
var guard = makeGuard()

// Security identifiers in the form of MS-DTYP 2.4.2.2.
var (
	sidSystem           = sid(18)
	sidAdministrators   = sid(32, 544)
	sidTrustedInstaller = sid(80, 956008885, 3418522649, 1831038044, 1853292631, 2271478464)
)

// Parts of a security descriptor: MS-DTYP 2.4.6 (SECURITY_DESCRIPTOR), 2.4.5 (ACL),
// 2.4.4 (ACE), 2.4.3 (ACCESS_MASK).
const (
	sdHeaderSize  = 20
	aclHeaderSize = 8
	aceHeaderSize = 8 // with the mask

	controlDACLPresent = 0x0004
	controlGuard       = controlDACLPresent | 0x0400 /* auto-inherited */ | 0x1000 /* protected */ | 0x8000 /* self-relative */

	aceAllow       = 0
	aceDeny        = 1
	aceInherit     = 0x03 // by files and folders
	aceInheritOnly = 0x08

	rightsAll = 0x1f01ff
	// rightsWrite change a file or folder: data, names in it, attributes, owner,
	// rights, and the generic rights that stand for these.
	rightsWrite = 0x0002 | 0x0004 | 0x0010 | 0x0040 | 0x0100 | 0x10000 | 0x40000 | 0x80000 | 0x10000000 | 0x40000000
)

// sid is S-1-5-…, of the NT authority.
func sid(sub ...uint32) string {
	b := []byte{1, byte(len(sub)), 0, 0, 0, 0, 0, 5}
	for _, s := range sub {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	return string(b)
}

func makeGuard() []byte {
	le := binary.LittleEndian
	acl := make([]byte, aclHeaderSize)
	for _, who := range []string{sidSystem, sidAdministrators} {
		ace := []byte{aceAllow, aceInherit}
		ace = le.AppendUint16(ace, uint16(aceHeaderSize+len(who)))
		ace = le.AppendUint32(ace, rightsAll)
		acl = append(acl, append(ace, who...)...)
	}
	acl[0], acl[4] = 2, 2 // revision, count
	le.PutUint16(acl[2:], uint16(len(acl)))

	sd := make([]byte, sdHeaderSize)
	sd[0] = 1
	le.PutUint16(sd[2:], controlGuard)
	le.PutUint32(sd[16:], sdHeaderSize)
	sd = append(sd, acl...)
	for i, who := range []string{sidAdministrators, sidSystem} { // owner, group
		le.PutUint32(sd[4+4*i:], uint32(len(sd)))
		sd = append(sd, who...)
	}
	return sd
}

// ErrUnguarded means that ordinary users can write to something, so that it proves nothing.
var ErrUnguarded = errors.New("ordinary users of the machine can write to it")

// checkDescriptor makes sure that only administrators and the system own a file or
// folder and may change it.
func checkDescriptor(sd []byte) error {
	le := binary.LittleEndian
	bad := errors.New("its security descriptor is damaged")
	if len(sd) < sdHeaderSize || sd[0] != 1 {
		return bad
	}
	owner, ok := sidAt(sd, int64(le.Uint32(sd[4:])))
	if !ok {
		return bad
	}
	if !powerful(owner) {
		return fmt.Errorf("%w: its owner is an ordinary user", ErrUnguarded)
	}
	at := int64(le.Uint32(sd[16:]))
	if le.Uint16(sd[2:])&controlDACLPresent == 0 || at == 0 {
		return fmt.Errorf("%w: it has no access list", ErrUnguarded)
	}
	if at+aclHeaderSize > int64(len(sd)) {
		return bad
	}
	acl := sd[at:]
	size, count := int(le.Uint16(acl[2:])), int(le.Uint16(acl[4:]))
	if size < aclHeaderSize || size > len(acl) {
		return bad
	}
	acl = acl[aclHeaderSize:size]
	for range count {
		if len(acl) < aceHeaderSize {
			return bad
		}
		kind, flags, size := acl[0], acl[1], int(le.Uint16(acl[2:]))
		if size < aceHeaderSize || size > len(acl) {
			return bad
		}
		ace := acl[:size]
		acl = acl[size:]
		if kind == aceDeny || flags&aceInheritOnly != 0 || le.Uint32(ace[4:])&rightsWrite == 0 {
			continue
		}
		who, ok := sidAt(ace, aceHeaderSize)
		if kind != aceAllow || !ok || !powerful(who) {
			return ErrUnguarded
		}
	}
	return nil
}

// sidAt reads the SID at an offset.
func sidAt(b []byte, at int64) (string, bool) {
	if at <= 0 || at+8 > int64(len(b)) {
		return "", false
	}
	size := 8 + 4*int64(b[at+1])
	if b[at] != 1 || at+size > int64(len(b)) {
		return "", false
	}
	return string(b[at : at+size]), true
}

func powerful(sid string) bool {
	return slices.Contains([]string{sidSystem, sidAdministrators, sidTrustedInstaller}, sid)
}

// protect gives a new folder or file below ProgramData the guard, where the file
// system has such a thing. A machine is healed without it, too: what is missing is
// told in Result.Unguarded, and keeps the run from being undone by program.
func (t *tree) protect(p string) error {
	top, _, below := strings.Cut(p, "/")
	if !below || !sameName(top, programData) {
		return nil
	}
	if err := t.step("protect", p); err != nil {
		return err
	}
	if err := t.setDescriptor(p, guard); err != nil && t.unguarded == nil {
		t.unguarded = fmt.Errorf("keep users out of %s: %w", p, err)
	}
	return nil
}

// checkGuard makes sure that only an administrator can have written a file or folder.
// A tree on a file system without Windows' rights passes: whoever mounted it answers
// for it.
func (t *tree) checkGuard(p string) error {
	sd, err := t.descriptor(p)
	if err != nil {
		return &fs.PathError{Op: "read the rights of", Path: p, Err: err}
	}
	if sd == nil {
		return nil
	}
	if err := checkDescriptor(sd); err != nil {
		return &fs.PathError{Op: "trust", Path: p, Err: err}
	}
	return nil
}
