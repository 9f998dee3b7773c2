package bitlocker

import (
	"errors"
	"strings"
	"testing"
)

const specPassword = "471207-278498-422125-177177-561902-537405-468006-693451" // BDE, "Recovery key"

func TestParseRecoveryPassword(t *testing.T) {
	for _, s := range []string{
		specPassword,
		strings.ReplaceAll(specPassword, "-", ""),
		strings.ReplaceAll(specPassword, "-", " "),
		strings.ReplaceAll(specPassword, "-", " - "),
		strings.ReplaceAll(specPassword, "-", "\u2013"),
		strings.ReplaceAll(specPassword, "-", "\u2011"),
		strings.ReplaceAll(specPassword, "-", "\u2212"),
		strings.ReplaceAll(specPassword, "-", "\u00a0"),
		" \t" + specPassword + "\r\n",
		"\ufeff" + specPassword,
		"471207278498-422125177177 561902-537405-468006693451",
	} {
		p, err := ParseRecoveryPassword(s)
		if err != nil || p.Reveal() != specPassword {
			t.Errorf("%q: %q, %v", s, p.Reveal(), err)
		}
		if q, _ := ParseRecoveryPassword(specPassword); p != q {
			t.Errorf("%q does not compare equal", s)
		}
	}
	if p := (RecoveryPassword{}); p.Reveal() != "" || !p.IsZero() {
		t.Error("zero value is a password")
	}
	zero, err := ParseRecoveryPassword(strings.Repeat("000000", 8))
	if err != nil || zero.IsZero() || zero.Reveal() != strings.TrimSuffix(strings.Repeat("000000-", 8), "-") {
		t.Errorf("all zeros: %v", err)
	}
}

func TestParseRecoveryPasswordErrors(t *testing.T) {
	for _, tt := range []struct {
		s      string
		group  int // 0: no group is to blame
		reason string
	}{
		{"", 0, "empty"},
		{"---", 0, "empty"},
		{strings.Replace(specPassword, "422125", "422126", 1), 3, "multiple of 11"},
		{strings.Replace(specPassword, "693451", "720896", 1), 8, "too large"},
		{strings.Replace(specPassword, "278498", "27849", 1), 2, "5 digits"},
		{strings.Replace(specPassword, "278498", "2784980", 1), 2, "7 digits"},
		{strings.Replace(specPassword, "561902", "56l902", 1), 5, "other than a digit"},
		{strings.Replace(specPassword, "561902", "56190\u0662", 1), 5, "other than a digit"},
		{specPassword[:48], 0, "7 of 8 groups"},
		{specPassword + "-471207", 0, "more than 8"},
		{strings.Repeat("0", 47), 1, "47 digits"},
		{strings.Repeat("9", 100000), 1, "digits"},
		{"NULL", 1, "digit"},
		{"4.71207E+47", 1, "digit"},
	} {
		p, err := ParseRecoveryPassword(tt.s)
		if err == nil || !p.IsZero() || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%.60q: %v, want %q", tt.s, err, tt.reason)
			continue
		}
		var g *GroupError
		if errors.As(err, &g) != (tt.group != 0) || g != nil && g.Group != tt.group {
			t.Errorf("%.60q: group %+v, want %d", tt.s, g, tt.group)
		}
		for _, digits := range strings.Split(specPassword, "-") {
			if strings.Contains(err.Error(), digits) {
				t.Errorf("error shows digits: %v", err)
			}
		}
	}
}

// TestEverySlipIsCaught changes each digit of each group to every other.
func TestEverySlipIsCaught(t *testing.T) {
	for _, group := range strings.Split(specPassword, "-") {
		if err := CheckRecoveryGroup(group); err != nil {
			t.Errorf("%s: %v", group, err)
		}
		for i := range group {
			for d := byte('0'); d <= '9'; d++ {
				if wrong := group[:i] + string(d) + group[i+1:]; d != group[i] {
					var g *GroupError
					if err := CheckRecoveryGroup(wrong); !errors.As(err, &g) || g.Group != 0 || strings.Contains(err.Error(), wrong) {
						t.Errorf("%s: %v", wrong, err)
					}
				}
			}
		}
	}
	for _, s := range []string{"", "11", "0000011", "-00011", "00 011", "720896"} {
		if CheckRecoveryGroup(s) == nil {
			t.Errorf("%q is accepted", s)
		}
	}
	if err := CheckRecoveryGroup("720885"); err != nil {
		t.Errorf("largest group: %v", err)
	}
}

func TestGUID(t *testing.T) {
	const want = "4967D63B-2E29-4AD8-8399-F6A339E3D001"
	disk := GUID{0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01}
	if disk.String() != want {
		t.Errorf("got %s", disk)
	}
	for _, s := range []string{want, strings.ToLower(want), "{" + want + "}", " {" + strings.ToLower(want) + "}\n"} {
		if g, err := ParseGUID(s); err != nil || g != disk {
			t.Errorf("%q: %s, %v", s, g, err)
		}
	}
	for _, s := range []string{"", "{}", want[1:], want + "0", "{" + want, strings.ReplaceAll(want, "-", ""), strings.Replace(want, "4", "g", 1), strings.Replace(want, "-2", "2-", 1)} {
		if g, err := ParseGUID(s); err == nil {
			t.Errorf("%q: %s", s, g)
		}
	}
	text, err := disk.MarshalText()
	var back GUID
	if err != nil || back.UnmarshalText(text) != nil || back != disk {
		t.Errorf("text %s, %v", text, err)
	}
}
