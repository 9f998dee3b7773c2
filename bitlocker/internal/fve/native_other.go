//go:build !amd64

package fve

// newNative has no assembly to offer for this processor.
func newNative(c Cipher, _ []byte) Cipher { return c }

// stretchers has no assembly to offer either.
func stretchers() []stretcher { return []stretcher{stretchLibrary, stretchPlain} }

// StretchLanes is how many stretches at a time are the least work each.
func StretchLanes() int { return 1 }

func newMany(jobs []*Job) many { return newOneByOne(jobs) }
