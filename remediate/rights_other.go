//go:build !linux && !windows

package remediate

// copyRights has nothing to copy where no NTFS volume can be written to.
func (t *tree) copyRights(string, string) error { return nil }

func (t *tree) onFAT() bool { return false }
