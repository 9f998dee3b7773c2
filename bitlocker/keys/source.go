package keys

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bootmend/bootmend/bitlocker"
)

// Source is where a company keeps its keys. The sources that reach over the network
// are in packages of their own.
type Source interface {
	// Keys reads all keys, or those that the source was told to read.
	Keys(ctx context.Context) (*List, error)
	// String names the source in messages.
	String() string
}

// Query is what a locked volume tells of itself.
type Query struct {
	Protectors []bitlocker.GUID // whose key is wanted
	Computer   string           // as the volume's description names it; may be empty
	Serial     string           // of the machine, as its firmware tells; may be empty
}

// Server gives the keys of one volume at a time, so that a machine need not carry
// those of the others. A [List] is one.
type Server interface {
	// Lookup gives the keys that may open a volume. None are no error.
	Lookup(ctx context.Context, q Query) (*List, error)
}

// Lookup implements [Server]: by key ID, or else by computer.
func (l *List) Lookup(_ context.Context, q Query) (*List, error) {
	found := &List{}
	for _, id := range q.Protectors {
		found.Entries = append(found.Entries, l.ForProtector(id)...)
		for _, k := range l.StartupKeys {
			if k.ID == id {
				found.StartupKeys = append(found.StartupKeys, k)
			}
		}
	}
	if found.Len() == 0 {
		found.Entries = l.ForComputer(q.Computer)
	}
	return found, nil
}

// Path is a file, or a folder of files, as a [Source].
type Path string

// String is the path.
func (p Path) String() string { return string(p) }

// Keys implements [Source].
func (p Path) Keys(ctx context.Context) (*List, error) { return ReadPath(ctx, string(p)) }

// ReadPath reads a file, or every file in a folder and the folders in it. In a
// folder, a file that is none of keys is a problem and does not stop the others;
// hidden files are passed over.
func ReadPath(ctx context.Context, path string) (*List, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return readFile(path)
	}
	var lists []*List
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && name != path && d.Name()[0] == '.' {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err == nil && d.IsDir() {
			return nil
		}
		var list *List
		if err == nil {
			// Links are followed, but what is no file is not waited for.
			if info, err = os.Stat(name); err == nil && !info.Mode().IsRegular() {
				return nil
			}
		}
		if err == nil {
			list, err = readFile(name)
		}
		if err != nil {
			list = &List{Problems: []RowError{{File: name, Line: 1, Kind: Unreadable, Reason: err.Error()}}}
		}
		if len(lists) >= maxFiles {
			return fmt.Errorf("%s: more than %d files", path, maxFiles)
		}
		lists = append(lists, list)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return Merge(lists...), nil
}

const maxFiles = 200_000

func readFile(path string) (*List, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f, path)
}
