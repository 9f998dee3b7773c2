package hive

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// readAll reads whatever a hive has; it only must come to an end.
func readAll(h *Hive) {
	_ = h.Walk(func(_ []string, k Key) error {
		values, err := k.Values()
		for _, v := range values {
			_, _ = v.Data()
			_, _ = v.Text()
			_, _ = v.Uint32()
		}
		return err
	})
}

// editSome changes a hive that passed Load and expects it to stay one that does.
func editSome(t *testing.T, h *Hive) {
	root, err := h.Root()
	must(t, err)
	k, err := root.CreateSubkey("fuzz")
	if err == nil {
		if err := k.SetDWORD("Start", 4); err == nil {
			_ = k.SetText("text", "some text that needs a cell")
			_ = k.DeleteValue("Start")
		}
	}
	subkeys, err := root.Subkeys()
	must(t, err)
	for i, sub := range subkeys {
		name, err := sub.Name()
		must(t, err)
		if values, err := sub.Values(); err == nil && len(values) > 0 {
			_ = sub.SetDWORD(values[0].Name, 1)
		}
		if i%2 == 0 {
			_ = root.DeleteSubkey(name)
		}
	}
	data, err := h.Bytes()
	must(t, err)
	if _, err := Load(data); err != nil {
		t.Fatalf("an edited hive does not load: %v", err)
	}
}

func seeds(f *testing.F) {
	before, after := dirtyHive(f)
	f.Add(before)
	f.Add(after)
	h, err := New("Root")
	must(f, err)
	root, err := h.Root()
	must(f, err)
	for i := range 5 {
		k, err := root.CreateSubkey(fmt.Sprint("key", i))
		must(f, err)
		must(f, k.SetText("text", "value"))
		_, err = k.CreateSubkey("日本")
		must(f, err)
	}
	data, err := h.Bytes()
	must(f, err)
	f.Add(data)
}

func FuzzOpen(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		readAll(h)
		if k, err := h.Key("key1", "日本"); err == nil {
			_, _ = k.Value("text")
		}
	})
}

func FuzzEdit(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		data = slices.Clone(data)
		if len(data) >= logBase {
			le.PutUint32(data[baseSecondary:], le.Uint32(data[basePrimary:]))
			le.PutUint32(data[baseChecksum:], checksum(data))
		}
		h, err := Load(data)
		if err != nil {
			return
		}
		editSome(t, h)
	})
}

// FuzzModel makes random edits to a hive and to a map, and compares.
func FuzzModel(f *testing.F) {
	f.Add(uint64(1), uint16(200))
	f.Add(uint64(291), uint16(1000))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		h, err := New("Root")
		must(t, err)
		model := map[string]map[string][]byte{}
		for range steps % 2000 {
			root, err := h.Root()
			must(t, err)
			name, value := fmt.Sprint("k", rnd.IntN(40)), fmt.Sprint("v", rnd.IntN(10))
			k, err := root.CreateSubkey(name)
			must(t, err)
			if model[name] == nil {
				model[name] = map[string][]byte{}
			}
			switch rnd.IntN(8) {
			case 0:
				must(t, root.DeleteSubkey(name))
				delete(model, name)
			case 1:
				if _, ok := model[name][value]; ok {
					must(t, k.DeleteValue(value))
					delete(model[name], value)
				}
			case 2:
				data, err := h.Bytes()
				must(t, err)
				h, err = Load(data)
				must(t, err)
			default:
				data := bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN([]int{5, 40, 3000}[rnd.IntN(3)]))
				must(t, k.SetValue(value, Binary, data))
				model[name][value] = data
			}
		}
		data, err := h.Bytes()
		must(t, err)
		h, err = Load(data)
		must(t, err)
		root, err := h.Root()
		must(t, err)
		subkeys, err := root.Subkeys()
		must(t, err)
		if len(subkeys) != len(model) {
			t.Fatalf("%d keys, want %d", len(subkeys), len(model))
		}
		for _, name := range slices.Sorted(maps.Keys(model)) {
			k, err := h.Key(name)
			must(t, err)
			values, err := k.Values()
			must(t, err)
			if len(values) != len(model[name]) {
				t.Fatalf("%s: %d values, want %d", name, len(values), len(model[name]))
			}
			for _, v := range values {
				if data, err := v.Data(); err != nil || !bytes.Equal(data, model[name][v.Name]) {
					t.Fatalf("%s %s: %x, %v", name, v.Name, data, err)
				}
			}
		}
	})
}
