package remediate

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// copyRights gives one file the owner and rights of another.
func (t *tree) copyRights(from, to string) error {
	const parts = windows.OWNER_SECURITY_INFORMATION | windows.GROUP_SECURITY_INFORMATION | windows.DACL_SECURITY_INFORMATION
	name := func(p string) string { return filepath.Join(t.root.Name(), filepath.FromSlash(p)) }
	sd, err := windows.GetNamedSecurityInfo(name(from), windows.SE_FILE_OBJECT, parts)
	if err != nil {
		return err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return err
	}
	group, _, err := sd.Group()
	if err != nil {
		return err
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(name(to), windows.SE_FILE_OBJECT, parts, owner, group, dacl, nil)
}

// onFAT is not asked on Windows: renaming away is safe there, too.
func (t *tree) onFAT() bool { return false }
