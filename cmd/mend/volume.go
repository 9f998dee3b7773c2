//go:build linux || windows

package main

import (
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
)

// computer is the name of the machine that BitLocker was set up on, as its description begins with it.
func (v *volume) computer() string {
	if v.meta == nil {
		return ""
	}
	name, _, _ := strings.Cut(v.meta.Description, " ")
	return name
}

// looksLikeData reports whether BitLocker's own description, "COMPUTER D: 7/19/2024", names a drive other
// than C:, so that a key missing for it is no reason to stop a healed machine.
func (v *volume) looksLikeData() bool {
	if v.meta == nil {
		return false
	}
	for _, word := range strings.Fields(v.meta.Description) {
		if len(word) == 2 && word[1] == ':' {
			return !strings.EqualFold(word, "C:")
		}
	}
	return false
}

// recoveryIDs are the key IDs that a helpdesk would have to look for.
func (v *volume) recoveryIDs() []string { return v.protectorIDs(bitlocker.ProtectorRecoveryPassword) }

func (v *volume) protectorIDs(kind bitlocker.ProtectorKind) []string {
	var ids []string
	for _, p := range v.meta.Protectors {
		if p.Kind == kind {
			ids = append(ids, p.ID.String())
		}
	}
	return ids
}
