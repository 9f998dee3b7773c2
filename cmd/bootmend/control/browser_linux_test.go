package control

import (
	"context"
	"image/color"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/cmd/bootmend/control/browsertest"
	"github.com/bootmend/bootmend/remediate"
)

// TestPageInBrowser has a person sign in and type a key at the page, with a browser.
func TestPageInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes seconds to start")
	}
	ctx := context.Background()
	s := newSite(t, "", Options{})
	b := browsertest.Start(t, s.web.Certificate())
	b.Open(s.web.URL)
	b.Type("#token", "not the token")
	b.Click("form.sign-in button")
	b.See("this is not the token")
	wrong := len(b.Problems()) // the browser's own line about the answer 401
	b.Type("#token", string(signInWord))
	b.Click("form.sign-in button")
	b.See("No machine has asked yet")

	// The page is told of the machine; nobody loads it anew.
	b.Until("(window.sameOne = true)")
	c, run := s.machine("SN-WAITS")
	if got := s.wants(c, unknownID); got != "wait" {
		t.Fatal(got)
	}
	b.See("Recovery key for " + strings.ToUpper(unknownID))
	b.Until("window.sameOne === true")

	// A field that somebody types in stays, whatever happens meanwhile.
	b.Type(`input[name="key"]`, typedKey[:20])
	other, _ := s.machine("SN-OTHER")
	if _, err := other.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	b.Type(`input[name="key"]`, "1"+typedKey[21:])
	b.Until(`document.querySelector('input[name="key"]').value.length === 55`)
	b.Click("form.key button")
	b.See("group")
	if got := s.wants(c, unknownID); got != "wait" {
		t.Errorf("a mistyped key: %s", got)
	}
	wrong++ // the answer 422
	b.Type(`input[name="key"]`, typedKey)
	b.Click("form.key button")
	b.Until(`!document.querySelector("form.key") && !document.querySelector('[role="alert"]')`)
	if got := s.wants(c, unknownID); got != typedKey {
		t.Errorf("the machine gets %s", got)
	}
	b.See("unlocks")
	b.See("SN-OTHER")
	if source := b.Source(); strings.Contains(source, typedKey) || strings.Contains(source, typedKey[:13]) {
		t.Errorf("the page has the key: %s", source)
	}
	if err := c.Report(ctx, logOf(run, remediate.OutcomeHealed)); err != nil {
		t.Fatal(err)
	}
	b.Until(`document.querySelector("td.good")?.innerText.startsWith("healed")`)

	b.Click(`form[action="/pause"] button`)
	b.See("No machine is healed: paused by a person")
	third, _ := s.machine("SN-THIRD")
	if got := s.wants(third, unknownID); got != "wait" {
		t.Fatal(got)
	}
	b.See("SN-THIRD")
	for name, want := range map[string]color.RGBA{"light": {0xff, 0xff, 0xff, 0xff}, "dark": {0x14, 0x17, 0x1a, 0xff}} {
		b.Dark(name == "dark")
		picture := b.Picture(name)
		at := picture.Bounds().Max
		if got := color.RGBAModel.Convert(picture.At(at.X-3, at.Y-3)); got != want {
			t.Errorf("%s: the background is %v", name, got)
		}
	}
	b.Click(`form[action="/resume"] button`)
	b.Until(`!document.body.innerText.includes("paused by a person")`)
	b.Click(`form[action="/sign-out"] button`)
	b.See("The server printed the token")
	if problems := b.Problems(); len(problems) != wrong {
		t.Errorf("%d errors of the page, %d are expected: %s", len(problems), wrong, strings.Join(problems, "\n"))
	}
}
