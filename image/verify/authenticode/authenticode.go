// Package authenticode checks the signatures of EFI programs, which firmware and shim check before they start them
// with Secure Boot: Microsoft's "Windows Authenticode Portable Executable Signature Format" (2008) around PKCS #7.
//
// [Parse] reads a program; [Program.Signatures] are those whose hash is the program's and whose signature is the
// signer's. Who may sign is decided by [Signature.IssuedBy] with the certificates that firmware or shim holds:
// [MicrosoftUEFI] names those of firmware, [Program.VendorCertificates] gives shim's own.
package authenticode

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"debug/pe"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/smallstep/pkcs7"
)

// Program is a PE image with its signatures, valid or not.
type Program struct {
	data   []byte
	file   *pe.File
	layout layout
}

// Signature is a valid one.
type Signature struct {
	Signer *x509.Certificate
	// Certificates are those that came with it, which say nothing by themselves.
	Certificates []*x509.Certificate
}

// ErrUnsigned says that a program carries no signature.
var ErrUnsigned = errors.New("not signed")

// layout is where the parts of the file lie that are not hashed as they are. Offsets in bytes.
type layout struct {
	checksum      int // field CheckSum, 4 bytes
	directory     int // the certificate table's entry in the data directories, 8 bytes
	headers       int // SizeOfHeaders
	certs, length int // the certificate table
}

// Limits of what is looked at.
const (
	maxCertificates = 16
	maxChain        = 4
)

// Parse reads the headers of a program. It keeps data.
func Parse(data []byte) (*Program, error) {
	file, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("not an EFI program: %w", err)
	}
	l, err := locate(data)
	if err != nil {
		return nil, fmt.Errorf("not an EFI program: %w", err)
	}
	return &Program{data, file, l}, nil
}

// locate finds the fields of the optional header (PE format, "Optional Header").
func locate(data []byte) (l layout, err error) {
	le := binary.LittleEndian
	if len(data) < 64 {
		return l, errors.New("too short")
	}
	optional := int64(le.Uint32(data[60:])) + 4 + 20 // signature, COFF header
	if optional+168 > int64(len(data)) {
		return l, errors.New("headers end early")
	}
	at := int(optional)
	directories := at + 96
	switch le.Uint16(data[at:]) {
	case 0x10b: // PE32
	case 0x20b: // PE32+
		directories = at + 112
	default:
		return l, errors.New("unknown optional header")
	}
	const certificateTable = 4
	if le.Uint32(data[directories-4:]) <= certificateTable { // NumberOfRvaAndSizes
		return l, errors.New("no room for a certificate table")
	}
	l.checksum, l.directory = at+64, directories+8*certificateTable
	headers, certs, length := int64(le.Uint32(data[at+60:])), int64(le.Uint32(data[l.directory:])), int64(le.Uint32(data[l.directory+4:]))
	if headers < int64(l.directory+8) || headers > int64(len(data)) {
		return l, fmt.Errorf("headers of %d bytes", headers)
	}
	// The table is the end of the file.
	if length == 0 {
		certs = int64(len(data))
	} else if certs < headers || certs+length != int64(len(data)) {
		return l, fmt.Errorf("certificate table of %d bytes at %d of %d", length, certs, len(data))
	}
	l.headers, l.certs, l.length = int(headers), int(certs), int(length)
	return l, nil
}

// Hash is the SHA-256 that signatures are made of ("Calculating the PE Image Hash").
func (p *Program) Hash() [sha256.Size]byte {
	h, l := sha256.New(), p.layout
	h.Write(p.data[:l.checksum])
	h.Write(p.data[l.checksum+4 : l.directory])
	h.Write(p.data[l.directory+8 : l.headers])
	end := len(p.data) - l.length
	sections := slices.Clone(p.file.Sections)
	slices.SortStableFunc(sections, func(a, b *pe.Section) int { return cmp.Compare(a.Offset, b.Offset) })
	sum := l.headers
	for _, s := range sections {
		from, to := min(int64(s.Offset), int64(end)), min(int64(s.Offset)+int64(s.Size), int64(end))
		if s.Size > 0 {
			h.Write(p.data[from:to])
			sum += int(to - from)
		}
	}
	if sum < end {
		h.Write(p.data[sum:end])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Signatures returns the valid signatures. Where there is none, the error says why: ErrUnsigned, or what is wrong
// with the first.
func (p *Program) Signatures() ([]Signature, error) {
	var valid []Signature
	var first error
	table := p.data[p.layout.certs : p.layout.certs+p.layout.length]
	for range maxCertificates {
		// WIN_CERTIFICATE: length, revision, type
		if len(table) < 8 {
			break
		}
		le := binary.LittleEndian
		length, kind := int64(le.Uint32(table)), le.Uint16(table[6:])
		if length < 8 || length > int64(len(table)) {
			first = cmp.Or(first, fmt.Errorf("certificate of %d bytes in a table of %d", length, len(table)))
			break
		}
		const pkcsSignedData = 2
		if kind == pkcsSignedData {
			s, err := p.check(table[8:length])
			if err == nil {
				valid = append(valid, s)
			} else if first == nil {
				first = err
			}
		}
		table = table[min((length+7)&^7, int64(len(table))):]
	}
	if len(valid) > 0 {
		return valid, nil
	}
	if first == nil {
		first = ErrUnsigned
	}
	return nil, first
}

var oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}

// check looks at one signature.
func (p *Program) check(der []byte) (Signature, error) {
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return Signature{}, fmt.Errorf("signature: %w", err)
	}
	// SpcIndirectDataContent, without its own tag: what it is about, and the hash of it.
	var about asn1.RawValue
	var digest struct {
		Algorithm struct {
			ID     asn1.ObjectIdentifier
			Params asn1.RawValue `asn1:"optional"`
		}
		Sum []byte
	}
	rest, err := asn1.Unmarshal(p7.Content, &about)
	if err == nil {
		_, err = asn1.Unmarshal(rest, &digest)
	}
	if err != nil {
		return Signature{}, fmt.Errorf("signature: its content: %w", err)
	}
	if !digest.Algorithm.ID.Equal(oidSHA256) {
		return Signature{}, fmt.Errorf("signature of a hash other than SHA-256 (%v)", digest.Algorithm.ID)
	}
	if sum := p.Hash(); !bytes.Equal(digest.Sum, sum[:]) {
		return Signature{}, errors.New("signature of other bytes: the program was changed after it was signed")
	}
	signer := p7.GetOnlySigner()
	if signer == nil {
		return Signature{}, errors.New("signature without its signer's certificate")
	}
	if err := p7.Verify(); err != nil {
		return Signature{}, fmt.Errorf("signature is not that of %s: %w", signer.Subject.CommonName, err)
	}
	return Signature{signer, p7.Certificates}, nil
}

// IssuedBy returns the authority that vouches for the signer, directly or through certificates that came with the
// signature: one that trusted accepts. Dates are not looked at, as firmware does not. It returns nil for none.
func (s Signature) IssuedBy(trusted func(*x509.Certificate) bool, authorities ...*x509.Certificate) *x509.Certificate {
	at := s.Signer
	for range maxChain {
		if trusted(at) {
			return at
		}
		i := slices.IndexFunc(append(slices.Clone(authorities), s.Certificates...), func(c *x509.Certificate) bool {
			return !c.Equal(at) && at.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			return nil
		}
		at = append(slices.Clone(authorities), s.Certificates...)[i]
	}
	return nil
}

// microsoftUEFI are SHA-256 sums of the certificates that firmware is shipped with to start what is not Windows. Both
// come with the signatures of Debian's shim; the first also stands in the signature database of OVMF_VARS_4M.ms.fd.
var microsoftUEFI = map[string]string{
	"48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507": "Microsoft Corporation UEFI CA 2011",
	"f6124e34125bee3fe6d79a574eaa7b91c0e7bd9d929c1a321178efd611dad901": "Microsoft UEFI CA 2023",
}

// MicrosoftUEFI reports whether a certificate is one of Microsoft's for firmware to trust in what is not Windows.
func MicrosoftUEFI(c *x509.Certificate) bool {
	sum := sha256.Sum256(c.Raw)
	return microsoftUEFI[hex.EncodeToString(sum[:])] != ""
}

// VendorCertificates are what a shim trusts besides the firmware's: its section .vendor_cert (shim's cert.S), which
// holds the sizes and offsets of two lists, of what is allowed and what is not. One certificate or a signature
// database is allowed; the former is what distributions build.
func (p *Program) VendorCertificates() ([]*x509.Certificate, error) {
	section := p.file.Section(".vendor_cert")
	if section == nil {
		return nil, errors.New("no section .vendor_cert: not shim")
	}
	from, to := int64(section.Offset), int64(section.Offset)+int64(section.Size)
	if to > int64(len(p.data)) || to-from < 16 {
		return nil, errors.New("section .vendor_cert: ends early")
	}
	b := p.data[from:to]
	size, at := int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[8:]))
	if size == 0 || at+size > int64(len(b)) {
		return nil, fmt.Errorf("section .vendor_cert: %d bytes at %d of %d", size, at, len(b))
	}
	c, err := x509.ParseCertificate(b[at : at+size])
	if err != nil {
		return nil, fmt.Errorf("section .vendor_cert: %w", err)
	}
	return []*x509.Certificate{c}, nil
}
