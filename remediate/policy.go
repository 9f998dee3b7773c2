package remediate

import "fmt"

// Policy says which of the files that a rule identifies are taken.
type Policy string

const (
	// FaultyOnly takes a file that meets both parts of a rule: it is of the
	// kind that the rule is about, and it is one of the faulty ones.
	FaultyOnly Policy = "faulty-only"
	// AllMatching takes every file of the kind that the rule is about, the
	// corrected ones too. A file that merely has the name still stays.
	AllMatching Policy = "all-matching"
)

// ParsePolicy reads a policy by its name; the empty name is [FaultyOnly].
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case "":
		return FaultyOnly, nil
	case FaultyOnly, AllMatching:
		return p, nil
	}
	return "", fmt.Errorf("unknown policy %q: use %s or %s", s, FaultyOnly, AllMatching)
}
