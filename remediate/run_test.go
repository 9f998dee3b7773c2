package remediate_test

import (
	"testing"

	"github.com/bootmend/bootmend/remediate"
)

func TestKnown(t *testing.T) {
	const uuid = "4c4c4544-0042-3510-8056-b4c04f4a4d32"
	for _, test := range []struct {
		id   remediate.Identity
		want string
	}{
		{remediate.Identity{Serial: "pf2x", UUID: uuid, ComputerName: "PC"}, "PF2X / 4C4C4544-0042-3510-8056-B4C04F4A4D32"},
		{remediate.Identity{Serial: "PF2X", ComputerName: "PC"}, "PF2X"},
		{remediate.Identity{Serial: "PF2X", UUID: "00000000-0000-0000-0000-000000000000"}, "PF2X"},
		{remediate.Identity{Serial: "PF2X", UUID: "03000200-0400-0500-0006-000700080009"}, "PF2X"},
		{remediate.Identity{Serial: "To be filled by O.E.M.", UUID: "a1"}, "A1"},
		{remediate.Identity{Serial: "Default string", UUID: "a2"}, "A2"},
		{remediate.Identity{Serial: "..............", UUID: "a3"}, "A3"},
		{remediate.Identity{Serial: "System Serial Number", UUID: "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", ComputerName: "pc"}, "PC"},
		{remediate.Identity{Serial: "N/A"}, ""},
		{remediate.Identity{Model: "any"}, ""},
	} {
		if got := test.id.Known(); got != test.want {
			t.Errorf("%+v is known by %q, want %q", test.id, got, test.want)
		}
	}
}
