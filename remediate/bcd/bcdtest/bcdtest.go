// Package bcdtest makes boot configuration stores for tests: the objects and elements that Windows Setup writes, as far
// as a boot goes, laid out by package hive.
package bcdtest

import (
	"fmt"

	"github.com/bootmend/bootmend/remediate/hive"
)

// Loader is the GUID of the default entry of a store made by Store.
const Loader = "{733b62e5-f608-11eb-825c-c112f60133ab}"

// Store is a store whose default entry starts Windows by the loader at path, such as \Windows\system32\winload.efi.
func Store(description, path string) ([]byte, error) {
	h, err := hive.New("NewStoreRoot")
	if err != nil {
		return nil, err
	}
	root, err := h.Root()
	if err != nil {
		return nil, err
	}
	b := &builder{}
	about := b.key(root, "Description")
	b.set(about.SetText("KeyName", "BCD00000000"))
	b.set(about.SetDWORD("System", 1))
	b.set(about.SetDWORD("TreatAsSystem", 1))
	objects := b.key(root, "Objects")
	const resume = "{733b62e4-f608-11eb-825c-c112f60133ab}"
	b.object(objects, "{9dea862c-5cdd-4e70-acc1-f32b344d4795}", 0x10100002, map[string]any{
		"12000002": `\EFI\Microsoft\Boot\bootmgfw.efi`, "12000004": "Windows Boot Manager",
		"23000003": Loader, "25000004": []byte{30, 0, 0, 0, 0, 0, 0, 0},
	})
	b.object(objects, Loader, 0x10200003, map[string]any{
		"12000002": path, "12000004": description, "12000005": "en-US", "16000060": []byte{1},
		"22000002": `\Windows`, "23000003": resume, "25000020": make([]byte, 8),
	})
	b.object(objects, resume, 0x10200004, map[string]any{
		"12000002": `\Windows\system32\winresume.efi`, "12000004": "Windows Resume Application", "22000002": `\hiberfil.sys`,
	})
	if b.err != nil {
		return nil, fmt.Errorf("make a boot configuration store: %w", b.err)
	}
	return h.Bytes()
}

// builder keeps the first error.
type builder struct{ err error }

func (b *builder) set(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) key(parent hive.Key, name string) hive.Key {
	if b.err != nil {
		return hive.Key{}
	}
	k, err := parent.CreateSubkey(name)
	b.set(err)
	return k
}

func (b *builder) object(objects hive.Key, id string, kind uint32, elements map[string]any) {
	k := b.key(objects, id)
	about, list := b.key(k, "Description"), b.key(k, "Elements")
	if b.err != nil {
		return
	}
	b.set(about.SetDWORD("Type", kind))
	for name, value := range elements {
		element := b.key(list, name)
		if b.err != nil {
			return
		}
		switch value := value.(type) {
		case string:
			b.set(element.SetText("Element", value))
		case []byte:
			b.set(element.SetValue("Element", hive.Binary, value))
		}
	}
}
