package flash

import (
	"bytes"
	"testing"
)

type pieces struct {
	*bytes.Reader
	list []Extent
}

func (p pieces) Size() int64       { return p.Reader.Size() }
func (p pieces) Extents() []Extent { return p.list }

func TestBlocks(t *testing.T) {
	s := pieces{bytes.NewReader(make([]byte, 20<<20+100)), []Extent{
		{0, 8192}, {16384, 4096}, // near enough to be one
		{512 << 10, 6 << 20},        // across the head and a multiple of 4 MiB
		{20<<20 - 4096, 4096 + 100}, // to the ragged end
	}}
	if err := checkExtents(s); err != nil {
		t.Fatal(err)
	}
	head, body := blocks(s)
	want := []Extent{{0, 20480}, {512 << 10, 512 << 10}}
	if len(head) != 2 || head[0] != want[0] || head[1] != want[1] {
		t.Errorf("head: %v, want %v", head, want)
	}
	want = []Extent{{1 << 20, 3 << 20}, {4 << 20, 2<<20 + 512<<10}, {20<<20 - 4096, 4096}, {20 << 20, 100}}
	if len(body) != len(want) {
		t.Fatalf("body: %v, want %v", body, want)
	}
	for i := range want {
		if body[i] != want[i] {
			t.Errorf("body %d: %v, want %v", i, body[i], want[i])
		}
	}
	if n := total(head) + total(body); n != 20480+6<<20+4196 {
		t.Errorf("%d bytes in blocks", n)
	}
}

func TestCheckExtents(t *testing.T) {
	for name, list := range map[string][]Extent{
		"overlap":      {{0, 8192}, {4096, 4096}},
		"descending":   {{8192, 4096}, {0, 4096}},
		"out of range": {{0, 1 << 20}},
		"overflow":     {{1<<63 - 4096, 8192}},
		"negative":     {{-4096, 8192}},
		"empty":        {{4096, 0}},
		"start":        {{100, 4096}},
		"ragged":       {{0, 100}, {4096, 4096}},
	} {
		if err := checkExtents(pieces{bytes.NewReader(make([]byte, 64<<10)), list}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := checkExtents(Plain(bytes.NewReader(nil), 0)); err == nil {
		t.Error("an empty image is accepted")
	}
}
