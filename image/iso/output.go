package iso

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// output is a file that appears under its name when it is complete.
type output struct {
	path string
	temp string
	f    *os.File
}

// create starts a file beside path. private keeps it from other users.
func create(path string, private bool) (*output, error) {
	if info, err := os.Stat(path); err == nil {
		switch {
		case info.IsDir():
			return nil, fmt.Errorf("image %s: is a folder: name a file in it", path)
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("image %s: is a device: write the image to a file, then flash it", path)
		}
	}
	mode := fs.FileMode(0o666)
	if private {
		mode = 0o600
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:8]+".part")
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		var reason *fs.PathError
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return nil, fmt.Errorf("image %s: cannot be created: %w: choose a folder that exists and that you may write to", path, err)
	}
	return &output{path: path, temp: temp, f: f}, nil
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) { return o.f.Write(p) }

// commit gives the file its name, once its content is on the disk.
func (o *output) commit() error {
	if err := o.f.Sync(); err != nil {
		return err
	}
	if err := o.f.Close(); err != nil {
		return err
	}
	if err := os.Rename(o.temp, o.path); err != nil {
		return err
	}
	o.f = nil
	return syncDir(filepath.Dir(o.path))
}

// discard removes what is there, unless it was committed.
func (o *output) discard() {
	if o.f == nil {
		return
	}
	_ = o.f.Close() // may be closed already; the file goes either way
	_ = os.Remove(o.temp)
}

// explain adds the next step to what went wrong while writing.
func (o *output) explain(err error, size int64) error {
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("image %s: stopped, nothing was left behind: %w", o.path, err)
	case diskFull(err):
		return fmt.Errorf("image %s: %w: it needs %d MiB: make room or choose another disk", o.path, err, (size+1<<20-1)>>20)
	}
	return fmt.Errorf("image %s: %w", o.path, err)
}
