package bitlocker

import (
	"fmt"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// Method is how a volume's sectors are encrypted (BDE, "Encryption methods").
type Method uint16

// The methods of Windows 7 to 11.
const (
	MethodNone        Method = fve.MethodNone
	MethodElephant128 Method = fve.MethodElephant128
	MethodElephant256 Method = fve.MethodElephant256
	MethodCBC128      Method = fve.MethodCBC128
	MethodCBC256      Method = fve.MethodCBC256
	MethodXTS128      Method = fve.MethodXTS128
	MethodXTS256      Method = fve.MethodXTS256
)

// methods holds, for each, its name and that of device-mapper's crypt target.
var methods = map[Method]struct{ name, dm string }{
	MethodNone:        {"none", ""},
	MethodElephant128: {"AES-CBC 128 with diffuser", "aes-cbc-elephant"},
	MethodElephant256: {"AES-CBC 256 with diffuser", "aes-cbc-elephant"},
	MethodCBC128:      {"AES-CBC 128", "aes-cbc-eboiv"},
	MethodCBC256:      {"AES-CBC 256", "aes-cbc-eboiv"},
	MethodXTS128:      {"AES-XTS 128", "aes-xts-plain64"},
	MethodXTS256:      {"AES-XTS 256", "aes-xts-plain64"},
}

// Methods are all methods of encrypting a volume.
func Methods() []Method {
	return []Method{MethodElephant128, MethodElephant256, MethodCBC128, MethodCBC256, MethodXTS128, MethodXTS256}
}

// String names the method, such as "AES-XTS 128".
func (m Method) String() string {
	if n, ok := methods[m]; ok {
		return n.name
	}
	return fmt.Sprintf("unknown (0x%04x)", uint16(m))
}

// MarshalText implements [encoding.TextMarshaler].
func (m Method) MarshalText() ([]byte, error) { return []byte(m.String()), nil }
