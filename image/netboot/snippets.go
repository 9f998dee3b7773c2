package netboot

import (
	"bytes"
	"embed"
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"text/template"

	media "github.com/bootmend/bootmend/image"
)

//go:embed snippets
var snippetFiles embed.FS

// snippets are configurations for common servers, which name the folder dir with the tree and the address of the server.
func snippets(dir string, server netip.Addr, tree *media.Tree) ([]media.File, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := snippetFiles.ReadDir("snippets")
	if err != nil {
		return nil, err
	}
	// An example's network, for servers that hand out addresses.
	network, err := server.Prefix(24)
	if err != nil || !server.Is4() {
		return nil, fmt.Errorf("server address %s: not an IPv4 address", server)
	}
	first := network.Addr().As4()
	at := func(last byte) netip.Addr { a := first; a[3] = last; return netip.AddrFrom4(a) }
	values := map[string]any{"Root": filepath.ToSlash(abs), "Server": server, "Network": network.Addr(), "First": at(100), "Last": at(199), "KernelArgs": tree.KernelArgs, "Initramfs": tree.Initramfs}
	var files []media.File
	for _, e := range entries {
		name := path.Join("snippets", e.Name())
		t, err := template.New(e.Name()).Funcs(template.FuncMap{"name": path.Base}).ParseFS(snippetFiles, name)
		if err != nil {
			return nil, err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, values); err != nil {
			return nil, err
		}
		files = append(files, media.FromBytes("/"+name, text.Bytes()))
	}
	return files, nil
}
