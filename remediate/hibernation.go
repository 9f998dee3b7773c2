package remediate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// hiberfil is the file at the top of a volume that a hibernated session is stored in.
const hiberfil = "hiberfil.sys"

// Hibernation says why a volume counts as hibernated; empty if it does not.
//
// The first four bytes of hiberfil.sys tell (PO_MEMORY_IMAGE.Signature): "hibr"
// is a session to resume, "rstr" one whose resuming was cut short and may be
// tried again; "wake" and zeros are left by a session that came back. Fast
// Startup leaves the same as hibernation.
func Hibernation(fsys fs.FS) string {
	p, info, err := lookup(fsys, ".", hiberfil)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err == nil && info.IsDir() {
		return ""
	}
	var head [4]byte
	if err == nil {
		var f fs.File
		if f, _, err = openRegular(fsys, p); err == nil {
			var n int
			n, err = io.ReadFull(f, head[:])
			_ = f.Close()
			if n < len(head) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
				return "" // too short to hold a session
			}
		}
	}
	if err != nil {
		return fmt.Sprintf("%s cannot be read, so a hibernated session cannot be ruled out: %v", hiberfil, err)
	}
	return session(head)
}

func session(head [4]byte) string {
	switch strings.ToLower(string(head[:])) {
	case "hibr":
		return "hiberfil.sys holds a hibernated session (hibernation or Fast Startup)"
	case "rstr":
		return "hiberfil.sys holds a session whose resuming was interrupted"
	}
	return ""
}

// DiscardHibernation gives up the session that hiberfil.sys of the volume mounted at
// root holds: the first four bytes become "wake", which Windows itself leaves when a
// session has come back, so that it starts afresh. That is a part of one sector, so a
// power cut leaves the one or the other. It is on the disk when the function returns.
// Nothing else of the file changes. It is not undone: the session does not fit the
// volume any more once that was written to.
func DiscardHibernation(root string) error {
	return withTree(root, hiberfil, func(t *tree) (err error) {
		p, info, err := lookup(t.fsys, ".", hiberfil)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s: %w", p, notRegularDir(info.Mode()))
		}
		f, err := t.root.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		var head [4]byte
		if _, err := f.ReadAt(head[:], 0); err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		if session(head) == "" {
			return fmt.Errorf("%s holds no session any more", p)
		}
		if err := t.step("write", p); err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte("wake"), 0); err != nil {
			return fmt.Errorf("write %s: %w", p, err)
		}
		if err := syncFile(f); err != nil {
			return fmt.Errorf("write %s to the disk: %w", p, err)
		}
		return t.flush()
	})
}
