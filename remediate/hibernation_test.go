package remediate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiscardHibernation(t *testing.T) {
	for head, want := range map[string]string{"hibr": "", "RSTR": "", "wake": "no session", "\x00\x00\x00\x00": "no session", "hi": "read"} {
		root := t.TempDir()
		path := filepath.Join(root, "Hiberfil.sys")
		data := append([]byte(head), bytes.Repeat([]byte{0x5A}, 9000)...)
		if head == "hi" {
			data = []byte(head)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := DiscardHibernation(root)
		after, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) || !bytes.Equal(after, data) {
				t.Errorf("%q: %v, want %q and the file as it was", head, err, want)
			}
			continue
		}
		copy(data, "wake")
		if err != nil || !bytes.Equal(after, data) || Hibernation(os.DirFS(root)) != "" {
			t.Errorf("%q: %v, begins with %q", head, err, after[:8])
		}
	}
	if err := DiscardHibernation(t.TempDir()); !isNotExist(err) {
		t.Errorf("without a file: %v", err)
	}
}
