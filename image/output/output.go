// Package output writes files that appear under their name when they are complete, or not at all: [Create]
// starts one beside its place, [File.Commit] puts it there.
package output

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// File is an output in the making.
type File struct {
	*os.File
	path  string
	done  bool
	fresh atomic.Int64 // bytes written since the system was last asked to put them onto the disk
}

// Create starts a file that is to be path. private keeps it from other users.
func Create(path string, private bool) (*File, error) {
	if info, err := os.Stat(path); err == nil {
		switch {
		case info.IsDir():
			return nil, fmt.Errorf("%s: is a folder: name a file in it", path)
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s: is a device: name a file", path)
		}
	}
	mode := fs.FileMode(0o666)
	if private {
		mode = 0o600
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:8]+".part")
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, mode)
	if err != nil {
		var reason *fs.PathError
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return nil, fmt.Errorf("%s: cannot be created: %w: choose a folder that exists and that you may write to", path, err)
	}
	return &File{File: f, path: path}, nil
}

// ahead is after how many bytes the disk is set to work while the rest is still being made. Otherwise Commit would
// wait for all of it.
const ahead = 4 << 20

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written(n)
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.written(n)
	return n, err
}

// written counts; several goroutines may write at once.
func (f *File) written(n int) {
	if f.fresh.Add(int64(n)) >= ahead {
		f.fresh.Store(0)
		startWriting(f.File)
	}
}

// Commit gives the file its name, once its content is on the disk.
func (f *File) Commit() error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	f.done = true
	return syncDir(filepath.Dir(f.path))
}

// Discard removes what is there, unless it was committed.
func (f *File) Discard() {
	if f.done {
		return
	}
	_ = f.Close() // may be closed already; the file goes either way
	_ = os.Remove(f.Name())
}

// Explain adds the next step to what went wrong while writing size bytes.
func (f *File) Explain(err error, size int64) error {
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: stopped, nothing was left behind: %w", f.path, err)
	case diskFull(err):
		return fmt.Errorf("%s: %w: it needs %d MiB: make room or choose another disk", f.path, err, (size+1<<20-1)>>20)
	}
	return fmt.Errorf("%s: %w", f.path, err)
}
