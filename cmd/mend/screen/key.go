package screen

import (
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/bootmend/bootmend/bitlocker"
)

// Recovery asks for a recovery password one key at a time: digits with or without dashes, typed by a person or by a
// barcode scanner, each group of six checked the moment it is complete. A mistyped group is the only thing that has to
// be typed again: what a scanner or a paste sends on after it is dropped, until it pauses or ends the line.
//
// Keyboards send digits in more than one way: the screen's counts as an American one, on which who is used to a French
// one holds Shift; and a French one at the other end of a serial line sends the letters that stand where the digits are.
type Recovery struct {
	// Letters end the question in another way, in lower case; Letter is the one that did.
	Letters string
	Letter  byte

	groups  []string
	digits  string
	french  bool // a key came that only a French keyboard has there
	trouble string
	skip    bool // the rest of what comes without a pause
	last    time.Time
	now     func() time.Time // for tests
}

// pastePause is longer than between the keys of a paste or a scanner, and shorter than between those of a person who has
// seen that a group is wrong.
const pastePause = 100 * time.Millisecond

// shiftedDigits are what Shift makes of an American keyboard's digits, frenchDigits what a French keyboard has in their
// place.
var (
	shiftedDigits = map[rune]rune{'!': '1', '@': '2', '#': '3', '$': '4', '%': '5', '^': '6', '&': '7', '*': '8', '(': '9', ')': '0'}
	frenchDigits  = map[rune]rune{'&': '1', 'é': '2', '"': '3', '\'': '4', '(': '5', '-': '6', 'è': '7', '_': '8', 'ç': '9', 'à': '0'}
)

// digit is what r stands for where it is no digit itself.
func (k *Recovery) digit(r rune) rune {
	d, french := frenchDigits[r]
	s, shifted := shiftedDigits[r]
	switch {
	case french && (k.french || !shifted && r != '-'): // elsewhere a dash stands between groups
		k.french = true
		return d
	case shifted:
		return s
	}
	return r
}

const (
	keyGroups   = 8
	groupDigits = 6
	keyPrompt   = "  key: "
)

// Prompt implements Entry.
func (k *Recovery) Prompt() string { return keyPrompt + k.shown() }

// Key implements Entry.
func (k *Recovery) Key(key tea.KeyMsg) Reaction {
	now := time.Now
	if k.now != nil {
		now = k.now
	}
	pause := now().Sub(k.last)
	k.last = now()
	switch key.Type {
	case tea.KeyEnter:
		if k.skip {
			k.skip = false
			return Reaction{}
		}
		if k.digits == "" {
			return Reaction{}
		}
		k.trouble = fmt.Sprintf("group %d has %d of 6 digits so far, go on.", len(k.groups)+1, len(k.digits))
		return k.again("")
	case tea.KeyBackspace, tea.KeyCtrlH:
		k.skip = false
		return typed(k.erase())
	case tea.KeyRunes:
	default:
		return Reaction{}
	}
	var sum Reaction
	for _, r := range key.Runes {
		if k.skip = k.skip && pause < pastePause; k.skip {
			continue
		}
		sum = sum.then(k.rune(r))
		if sum.Done {
			return sum
		}
		pause = 0 // the runes of one message came at once
	}
	return sum
}

func (k *Recovery) rune(r rune) Reaction {
	if lower := r | 0x20; lower < 0x80 && strings.ContainsRune(k.Letters, lower) {
		k.Letter = byte(lower)
		return answered()
	}
	r = k.digit(r)
	if r < '0' || r > '9' {
		return Reaction{} // dashes and spaces between groups, and whatever else a scanner sends
	}
	k.digits += string(r)
	if len(k.digits) < groupDigits {
		return typed(string(r))
	}
	return k.closeGroup(r)
}

func (k *Recovery) closeGroup(last rune) Reaction {
	if err := bitlocker.CheckRecoveryGroup(k.digits); err != nil {
		k.digits, k.skip = "", true
		k.trouble = fmt.Sprintf("group %d is not valid: one of its digits is wrong. Type group %d again.", len(k.groups)+1, len(k.groups)+1)
		return k.again(string(last))
	}
	k.groups = append(k.groups, k.digits)
	k.digits, k.trouble = "", ""
	if len(k.groups) == keyGroups {
		return typed(string(last)).then(answered())
	}
	return typed(string(last) + "-")
}

// again tells of trouble and shows what stands.
func (k *Recovery) again(echo string) Reaction {
	r := typed(echo).then(same("\r\n  " + k.trouble + "\r\n")).then(typed(k.Prompt()))
	r.Bell = true
	return r
}

// erase takes the last digit back, across the border of a group too.
func (k *Recovery) erase() string {
	if k.digits != "" {
		k.digits = k.digits[:len(k.digits)-1]
		return left
	}
	if len(k.groups) == 0 {
		return ""
	}
	last := k.groups[len(k.groups)-1]
	k.groups = k.groups[:len(k.groups)-1]
	k.digits = last[:groupDigits-1]
	return left + left
}

func (k *Recovery) shown() string {
	s := strings.Join(k.groups, "-")
	if s != "" {
		s += "-"
	}
	return s + k.digits
}

// View implements Entry: what was typed, and where the rest goes.
func (k *Recovery) View(width, _ int) []string {
	shown := k.shown()
	free := strings.Repeat("-"+strings.Repeat("_", groupDigits), keyGroups)[1:]
	rest := free[min(len(shown), len(free)):]
	if room := width - len(keyPrompt) - 2; room < len(free) { // the end of what was typed is what is looked at
		shown, rest = shown[max(0, len(shown)-room):], "_"
	}
	rows := []string{keyPrompt + bright + shown + normal + rest}
	if k.trouble != "" {
		for _, row := range strings.Split(Wrap("  "+k.trouble, width), "\r\n") {
			rows = append(rows, wrong+row+normal)
		}
	}
	return rows
}

// Answered implements Entry: a key does not stay on the screen.
func (k *Recovery) Answered() string { return "" }

// Forget implements Entry. The strings themselves cannot be wiped.
func (k *Recovery) Forget() { k.groups, k.digits = nil, "" }

// Password is the complete key.
func (k *Recovery) Password() (bitlocker.RecoveryPassword, error) {
	return bitlocker.ParseRecoveryPassword(strings.Join(k.groups, "-"))
}
