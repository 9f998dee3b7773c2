package verify

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/verify/authenticode"
)

// signatures checks what firmware checks of shim, and what shim checks of GRUB and the kernel: the signer of the
// former must be one of Microsoft's, and those of the others must be vouched for by the certificate in shim.
func (c *check) signatures() {
	if c.report.WindowsPE {
		c.report.Notes = append(c.report.Notes, "the media start Windows PE: the signatures of Microsoft's boot files were not checked, the firmware does that")
		return
	}
	var vendor []*x509.Certificate
	paths := slices.Sorted(maps.Keys(c.programs))
	// Shim first: it holds the certificate that the others are checked with.
	slices.SortStableFunc(paths, func(a, b string) int { return boolOrder(isShim(b)) - boolOrder(isShim(a)) })
	for _, name := range paths {
		s := Signature{Path: name}
		p, err := authenticode.Parse(c.programs[name])
		trusted := func(cert *x509.Certificate) bool { return slices.ContainsFunc(vendor, cert.Equal) }
		if err == nil && isShim(name) {
			trusted = authenticode.MicrosoftUEFI
			vendor, err = p.VendorCertificates()
		}
		var found []authenticode.Signature
		if err == nil {
			found, err = p.Signatures()
		}
		if err != nil {
			s.Problem = err.Error()
		}
		for _, f := range found {
			s.Signers = append(s.Signers, f.Signer.Subject.CommonName)
			if by := f.IssuedBy(trusted, vendor...); by != nil {
				s.TrustedBy = append(s.TrustedBy, by.Subject.CommonName)
			}
		}
		if err == nil && len(s.TrustedBy) == 0 {
			s.Problem = fmt.Sprintf("signed by %s, whom %s does not trust", strings.Join(s.Signers, ", "), judge(name))
		}
		c.report.Signatures = append(c.report.Signatures, s)
	}
	for _, what := range []string{media.PathShim, media.PathGrub, media.PathKernel} {
		if !slices.ContainsFunc(paths, func(p string) bool { return strings.HasSuffix(p, what) }) {
			c.report.Signatures = append(c.report.Signatures, Signature{Path: what, Problem: "there is no such program"})
		}
	}
}

func isShim(path string) bool { return strings.HasSuffix(path, media.PathShim) }

func judge(path string) string {
	if isShim(path) {
		return "firmware with Secure Boot"
	}
	return "shim"
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}
