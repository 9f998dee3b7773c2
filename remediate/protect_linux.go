package remediate

import (
	"golang.org/x/sys/unix"
)

// The attribute is called one way by the kernel's ntfs3, another by ntfs-3g.
var descriptorAttributes = rightsAttributes[:2]

func (t *tree) setDescriptor(p string, sd []byte) error {
	f, err := t.root.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, name := range descriptorAttributes {
		err := unix.Fsetxattr(int(f.Fd()), name, sd, 0)
		if err == nil || !notOffered(err) {
			return err
		}
	}
	return nil
}

// descriptor returns nil where the file system has none.
func (t *tree) descriptor(p string) ([]byte, error) {
	f, err := t.root.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, name := range descriptorAttributes {
		if sd, err := readAttribute(f, name); sd != nil || err != nil {
			return sd, err
		}
	}
	return nil, nil
}
