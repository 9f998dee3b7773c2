package remediate

import (
	"bytes"
	"encoding/hex"
	"time"
)

// PackVersion is the apiVersion of the rule packs that this package reads.
const PackVersion = "bootmend/v1"

// Limits of a rule pack. They are far above what an incident needs and keep a
// hostile pack from costing memory or time.
const (
	maxPackSize     = 1 << 20
	maxRules        = 1000
	maxGlobSegments = 32
	maxAlternatives = 64
	maxLeadingBytes = 4096
	maxHashes       = 10000
)

// Pack is a rule pack: the description of one incident.
type Pack struct {
	ID          string      `json:"id"`
	Title       string      `json:"title"`
	Description string      `json:"description,omitempty"`
	Rules       []Rule      `json:"rules"`
	BlastRadius BlastRadius `json:"blast_radius"`
	// Name is the file it was read from, SHA256 the hash of its bytes.
	Name   string `json:"-"`
	SHA256 string `json:"sha256"`
}

// ActionKind names what a rule does with a file.
type ActionKind string

const (
	// ActionQuarantine moves the file into the quarantine of its volume.
	ActionQuarantine ActionKind = "quarantine"
	// ActionDisableService sets the start type of a driver or service to
	// disabled in the registry, for drivers that cannot just be moved.
	ActionDisableService ActionKind = "disable-service"
	// ActionPutBack puts the registry hive back that is missing since a run was
	// cut short. No rule asks for it; it is in a plan wherever it is needed.
	ActionPutBack ActionKind = "put-back"
)

// Rule describes one kind of faulty file and what to do with it.
type Rule struct {
	ID string `json:"id"`
	// Path is the glob as the pack has it, relative to the Windows volume.
	// A rule that disables a service may do without; if it has one, it holds
	// only where a file matches.
	Path string `json:"path,omitempty"`
	// Service is the name of the driver or service to disable: that of its key
	// under Services in the registry.
	Service string `json:"service,omitempty"`
	// Identify says what kind of file this is. A file that merely has the
	// name stays, under every policy.
	Identify Conditions `json:"identify,omitzero"`
	// Faulty marks the faulty ones among them; [AllMatching] skips it.
	Faulty Conditions `json:"faulty,omitzero"`
	Action ActionKind `json:"action"`

	segments []string
}

// Conditions all have to hold; the zero value holds for every file.
type Conditions struct {
	// LeadingBytes are alternatives, of which one has to hold.
	LeadingBytes []LeadingBytes `json:"leading_bytes,omitempty"`
	// ModifiedFrom is inclusive, ModifiedBefore exclusive; zero means open.
	ModifiedFrom   time.Time `json:"modified_from,omitzero"`
	ModifiedBefore time.Time `json:"modified_before,omitzero"`
	// MinSize and MaxSize are inclusive; nil means open.
	MinSize *int64 `json:"min_size,omitempty"`
	MaxSize *int64 `json:"max_size,omitempty"`
	// SHA256 lists lower-case hashes, of which one has to be the file's.
	SHA256 []string `json:"sha256,omitempty"`
}

// LeadingBytes is one way a file may begin.
type LeadingBytes struct {
	// Bytes is what the file starts with.
	Bytes []byte
	// AllZeros means instead that the file is not empty and holds nothing but
	// zeros, which is what a crash leaves of a file whose data never arrived.
	AllZeros bool
}

func (l LeadingBytes) String() string {
	if l.AllZeros {
		return "all zeros"
	}
	return spacedHex(l.Bytes)
}

// MarshalText makes it text in JSON too.
func (l LeadingBytes) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// spacedHex writes bytes as people read them: AA 01 23.
func spacedHex(b []byte) string {
	const limit = 16
	more := ""
	if len(b) > limit {
		b, more = b[:limit], " …"
	}
	var out bytes.Buffer
	for i, c := range b {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(string(bytes.ToUpper([]byte(hex.EncodeToString([]byte{c})))))
	}
	return out.String() + more
}
