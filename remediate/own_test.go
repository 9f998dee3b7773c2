package remediate

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// ghosts is a tree in which some names lead nowhere, as after a power cut.
type ghosts struct {
	fs.FS
	names []string
}

func (g ghosts) Lstat(name string) (fs.FileInfo, error) {
	if slices.Contains(g.names, name) {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return fs.Lstat(g.FS, name)
}

func (g ghosts) ReadLink(name string) (string, error) { return fs.ReadLink(g.FS, name) }

func TestOwnFolders(t *testing.T) {
	const own = "ProgramData/bootmend"
	for name, test := range map[string]struct {
		dirs, ghosts, folders []string
		free                  string
	}{
		"no ProgramData":         {nil, nil, nil, own},
		"never healed":           {[]string{"PROGRAMDATA"}, nil, nil, "PROGRAMDATA/bootmend"},
		"healed":                 {[]string{own + "/quarantine"}, nil, []string{own}, own + ".2"},
		"only logs":              {[]string{own + "/logs"}, nil, []string{own}, own + ".2"},
		"leads nowhere":          {[]string{own}, []string{own}, nil, own + ".2"},
		"quarantine leads there": {[]string{own + "/quarantine"}, []string{own + "/quarantine"}, nil, own + ".2"},
		"healed since":           {[]string{own, own + ".2/quarantine"}, []string{own}, []string{own + ".2"}, own + ".3"},
		"checked by Windows":     {[]string{own + "/quarantine", own + ".2/quarantine"}, nil, []string{own, own + ".2"}, own + ".3"},
	} {
		root := t.TempDir()
		for _, dir := range test.dirs {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		folders, free, err := ownFolders(ghosts{os.DirFS(root), test.ghosts})
		if err != nil || !slices.Equal(folders, test.folders) || free != test.free {
			t.Errorf("%s: %q, %q, %v", name, folders, free, err)
		}
	}
	for dir, want := range map[string]bool{
		own: true, "programdata/BootMend": true, own + ".2": true, own + ".20240720T080000Z-r1.1.tmp": true,
		"ProgramData/bootmender": false, "Windows/bootmend": false, "bootmend": false,
	} {
		if isOwn(dir) != want {
			t.Errorf("isOwn(%q) = %t", dir, !want)
		}
	}
}

// TestRunsInTwoFolders undoes a run that had to go to the second folder.
func TestRunsInTwoFolders(t *testing.T) {
	root := makeTree(t, incident())
	before := snapshot(t, root)
	tr, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	tr.fsys = ghosts{tr.fsys, []string{ownDir}}
	if err := os.MkdirAll(filepath.Join(root, ownDir), 0o755); err != nil {
		t.Fatal(err)
	}
	res, err := tr.quarantine(t.Context(), evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
	if closeErr := tr.close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	if want := ownDir + ".2/quarantine/20240720T080000Z-r1"; res.Dir != want {
		t.Errorf("in %s, want %s", res.Dir, want)
	}
	if err := Verify(t.Context(), os.DirFS(root), res); err != nil {
		t.Error(err)
	}
	if healed, err := Healed(os.DirFS(root)); err != nil || len(healed) != 1 || healed[0].Moved() != 2 {
		t.Errorf("%+v, %v", healed, err)
	}
	if where, err := WriteLogFile(root, WindowsLogDir, testRun(t, "r1"), []byte("{}\n")); err != nil || where != ownDir+"/logs/20240720T080000Z-r1.jsonl" {
		t.Errorf("log %s, %v", where, err) // the name leads somewhere again
	}
	if res, err := Restore(t.Context(), root, res.Dir, RestoreOptions{Packs: defaultPacks(t)}); err != nil || len(res.Restored) != 2 {
		t.Errorf("%+v, %v", res, err)
	}
	after := snapshot(t, root)
	for p, sum := range before {
		if after[p] != sum {
			t.Errorf("%s is not back", p)
		}
	}
}
