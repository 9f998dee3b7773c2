package remediate

import (
	"bytes"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

const descriptorParts = windows.OWNER_SECURITY_INFORMATION | windows.GROUP_SECURITY_INFORMATION | windows.DACL_SECURITY_INFORMATION

func (t *tree) setDescriptor(p string, sd []byte) error {
	sd = bytes.Clone(sd)
	d := (*windows.SECURITY_DESCRIPTOR)(unsafe.Pointer(&sd[0]))
	owner, _, err := d.Owner()
	if err != nil {
		return err
	}
	group, _, err := d.Group()
	if err != nil {
		return err
	}
	dacl, _, err := d.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(t.native(p), windows.SE_FILE_OBJECT,
		descriptorParts|windows.PROTECTED_DACL_SECURITY_INFORMATION, owner, group, dacl, nil)
}

func (t *tree) descriptor(p string) ([]byte, error) {
	d, err := windows.GetNamedSecurityInfo(t.native(p), windows.SE_FILE_OBJECT, descriptorParts)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(d)), d.Length())), nil
}

func (t *tree) native(p string) string { return filepath.Join(t.root.Name(), filepath.FromSlash(p)) }
