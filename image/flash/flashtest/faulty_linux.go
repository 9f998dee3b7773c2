package flashtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Faulty is a disk in memory, served as a file, with vices that can be chosen. Zero fields are no vices.
type Faulty struct {
	// Size is what it says of its capacity, in bytes.
	Size int64
	// Real is its true capacity. What is written beyond is lost, or with Wraps lands at the beginning.
	Real  int64
	Wraps bool
	// DieAt is a byte that cannot be written; from the first try on, nothing can be read or written any more.
	DieAt int64
	// FlipAt is a byte that is returned with one bit changed.
	FlipAt int64
	// Rate limits reading and writing, in bytes a second.
	Rate int64

	mu     sync.Mutex
	data   map[int64][]byte // pages
	dead   bool
	busy   sync.Mutex // one transfer at a time, as on a stick
	server *fuse.Server
}

const page = 4096

// Mount serves the disk as a file and returns its path. Close ends that. It needs root.
func (f *Faulty) Mount(dir string) (path string, err error) {
	if f.Real == 0 {
		f.Real = f.Size
	}
	f.data = map[int64][]byte{}
	second := time.Second
	root := &folder{disk: f}
	f.server, err = fs.Mount(dir, root, &fs.Options{
		EntryTimeout: &second, AttrTimeout: &second,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxWrite: 512 << 10, FsName: "bootmend-test", Name: "faulty"},
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "disk"), nil
}

// Close ends the serving.
func (f *Faulty) Close() error { return f.server.Unmount() }

// Unplug makes everything fail from now on.
func (f *Faulty) Unplug() {
	f.mu.Lock()
	f.dead = true
	f.mu.Unlock()
}

// ReadAt reads what the disk really holds.
func (f *Faulty) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pages(p, off, func(held, given []byte) { copy(given, held) })
	return len(p), nil
}

// pages calls do for the parts of p and the memory that they lie in. f.mu is held.
func (f *Faulty) pages(p []byte, off int64, do func(held, given []byte)) {
	for len(p) > 0 {
		at := off
		if at >= f.Real && !f.Wraps {
			return
		}
		at %= f.Real
		n := min(int64(len(p)), page-at%page, f.Real-at)
		held := f.data[at/page]
		if held == nil {
			held = make([]byte, page)
			f.data[at/page] = held
		}
		do(held[at%page:at%page+n], p[:n])
		p, off = p[n:], off+n
	}
}

func (f *Faulty) transfer(n int) {
	if f.Rate > 0 {
		f.busy.Lock()
		time.Sleep(time.Duration(int64(n) * int64(time.Second) / f.Rate))
		f.busy.Unlock()
	}
}

func (f *Faulty) read(p []byte, off int64) (int, syscall.Errno) {
	f.transfer(len(p))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return 0, syscall.EIO
	}
	p = p[:max(min(int64(len(p)), f.Size-off), 0)]
	clear(p)
	f.pages(p, off, func(held, given []byte) { copy(given, held) })
	if f.FlipAt > 0 && off <= f.FlipAt && f.FlipAt < off+int64(len(p)) {
		p[f.FlipAt-off] ^= 0x10
	}
	return len(p), 0
}

func (f *Faulty) write(p []byte, off int64) syscall.Errno {
	f.transfer(len(p))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead = f.dead || f.DieAt > 0 && off <= f.DieAt && f.DieAt < off+int64(len(p)); f.dead {
		return syscall.EIO
	}
	f.pages(p, off, func(held, given []byte) { copy(held, given) })
	return 0
}

// folder is the mount's root, which holds the disk.
type folder struct {
	fs.Inode
	disk *Faulty
}

func (r *folder) OnAdd(ctx context.Context) {
	child := r.NewPersistentInode(ctx, &node{disk: r.disk}, fs.StableAttr{Mode: syscall.S_IFREG})
	r.AddChild("disk", child, false)
}

// node is the disk as a file.
type node struct {
	fs.Inode
	disk *Faulty
}

var (
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
)

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, uint64(n.disk.Size)
	out.Uid = uint32(os.Getuid())
	return 0
}

func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	k, errno := n.disk.read(dest, off)
	return fuse.ReadResultData(dest[:k]), errno
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	return uint32(len(data)), n.disk.write(data, off)
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.dead {
		return syscall.EIO
	}
	return 0
}
