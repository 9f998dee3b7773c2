package image

import (
	"crypto/sha256"
	"fmt"
)

// GUIDBytes derives a number of 16 bytes from the media's, for one use of several, so that equal media have equal
// numbers.
func GUIDBytes(id, use string) []byte {
	sum := sha256.Sum256([]byte(use + " " + id))
	return sum[:16]
}

// GUID is such a number as a UUID of version 8, "custom" (RFC 9562 section 5.8).
func GUID(id, use string) string {
	b := GUIDBytes(id, use)
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
