package main

import (
	"strings"
	"testing"
)

//go:noinline
func crashWith(key [16]byte, where *string) byte {
	defer func() {
		_ = recover()
		*where = stack()
	}()
	index := len(*where) + len(key)
	return key[index]
}

// TestStack finds the function that panicked in the trace, and nothing of its arguments.
func TestStack(t *testing.T) {
	var where string
	crashWith([16]byte{0xde, 0xad, 0xbe, 0xef}, &where)
	if !strings.Contains(where, "crashWith") || !strings.Contains(where, "crash_test.go:") {
		t.Errorf("the trace does not tell where: %s", where)
	}
	if strings.Contains(where, "0x") {
		t.Errorf("the trace shows arguments: %s", where)
	}
}
