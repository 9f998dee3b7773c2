package remediate

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// PackError is a mistake in a rule pack, with its place.
type PackError struct {
	File   string
	Line   int // from 1; 1 where the whole file is meant
	Column int // from 1
	Reason string
}

func (e *PackError) Error() string {
	name := e.File
	if name == "" {
		name = "rule pack"
	}
	return fmt.Sprintf("%s:%d:%d: %s", name, e.Line, e.Column, e.Reason)
}

// ParsePack reads one rule pack in YAML. It is strict: an unknown or repeated
// field, a value of the wrong type or a path that leaves the volume is a
// [*PackError] with line and column; the error joins all that were found. The
// name is used in errors only.
func ParsePack(data []byte, name string) (*Pack, error) {
	if len(data) > maxPackSize {
		return nil, &PackError{File: name, Line: 1, Column: 1, Reason: fmt.Sprintf("larger than %d bytes", maxPackSize)}
	}
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		return nil, syntaxError(err, name)
	}
	p := packParser{file: name, paths: new([]rulePath)}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &PackError{File: name, Line: 1, Column: 1, Reason: "empty, expected one YAML document"}
	}
	pack, err := p.pack(doc.Content[0])
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	pack.Name, pack.SHA256 = name, hex.EncodeToString(sum[:])
	return pack, nil
}

// ParsePacks reads every *.yaml file at the top of fsys, in the order of names.
func ParsePacks(fsys fs.FS) ([]*Pack, error) {
	names, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, err
	}
	var packs []*Pack
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read rule pack %s: %w", name, err)
		}
		pack, err := ParsePack(data, name)
		if err != nil {
			return nil, err
		}
		packs = append(packs, pack)
	}
	return packs, nil
}

func syntaxError(err error, name string) error {
	e := &PackError{File: name, Line: 1, Column: 1, Reason: "not valid YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	var le *yaml.LoadError
	if errors.As(err, &le) {
		e.Reason = "not valid YAML: " + strings.TrimPrefix(le.Message, "yaml: ")
		if le.Mark.Line > 0 {
			e.Line, e.Column = le.Mark.Line, le.Mark.Column
		}
	}
	return e
}

type packParser struct {
	file string
	// paths are those of the rules that move files, of which some things can
	// only be said when the whole pack is known.
	paths *[]rulePath
}

type rulePath struct {
	node     *yaml.Node
	segments []string
}

func (p packParser) errorf(n *yaml.Node, format string, args ...any) error {
	return &PackError{File: p.file, Line: n.Line, Column: n.Column, Reason: fmt.Sprintf(format, args...)}
}

type field struct {
	name     string
	required bool
	set      func(*yaml.Node) error
}

// mapping walks a mapping node against the fields that it may have.
func (p packParser) mapping(n *yaml.Node, what string, fields ...field) error {
	if n.Kind != yaml.MappingNode {
		return p.errorf(n, "%s is %s, expected a mapping", what, kindName(n))
	}
	seen := make(map[string]bool)
	var errs []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
			errs = append(errs, p.errorf(key, "a field name in %s is %s, expected a plain word", what, kindName(key)))
			continue
		}
		if seen[key.Value] {
			errs = append(errs, p.errorf(key, "field %q appears twice in %s", key.Value, what))
			continue
		}
		seen[key.Value] = true
		known := false
		for _, f := range fields {
			if f.name == key.Value {
				known = true
				errs = append(errs, f.set(value))
			}
		}
		if !known {
			names := make([]string, len(fields))
			for i, f := range fields {
				names[i] = f.name
			}
			errs = append(errs, p.errorf(key, "unknown field %q in %s: known are %s", key.Value, what, strings.Join(names, ", ")))
		}
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			errs = append(errs, p.errorf(n, "%s has no field %q", what, f.name))
		}
	}
	return errors.Join(errs...)
}

func (p packParser) list(n *yaml.Node, what string, limit int, item func(*yaml.Node) error) error {
	if n.Kind != yaml.SequenceNode {
		return p.errorf(n, "%s is %s, expected a list", what, kindName(n))
	}
	if len(n.Content) == 0 {
		return p.errorf(n, "%s is an empty list", what)
	}
	if len(n.Content) > limit {
		return p.errorf(n, "%s has %d entries, at most %d are allowed", what, len(n.Content), limit)
	}
	var errs []error
	for _, c := range n.Content {
		errs = append(errs, item(c))
	}
	return errors.Join(errs...)
}

func (p packParser) text(n *yaml.Node, what string, dst *string) error {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return p.errorf(n, "%s is %s, expected text (put it in quotes)", what, kindName(n))
	}
	if strings.TrimSpace(n.Value) == "" {
		return p.errorf(n, "%s is empty", what)
	}
	for _, r := range n.Value {
		if unicode.IsControl(r) && r != '\n' {
			return p.errorf(n, "%s holds a control character", what)
		}
	}
	*dst = n.Value
	return nil
}

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func (p packParser) id(n *yaml.Node, what string, dst *string) error {
	if err := p.text(n, what, dst); err != nil {
		return err
	}
	if !idPattern.MatchString(*dst) {
		return p.errorf(n, "%s %q: use up to 64 of a-z 0-9 . _ -", what, *dst)
	}
	return nil
}

func (p packParser) pack(n *yaml.Node) (*Pack, error) {
	var pack Pack
	ids := make(map[string]bool)
	err := p.mapping(n, "the rule pack",
		field{"apiVersion", true, func(n *yaml.Node) error {
			var v string
			if err := p.text(n, "apiVersion", &v); err != nil {
				return err
			}
			if v != PackVersion {
				return p.errorf(n, "apiVersion %q is not supported: this program reads %s", v, PackVersion)
			}
			return nil
		}},
		field{"id", true, func(n *yaml.Node) error { return p.id(n, "id", &pack.ID) }},
		field{"title", true, func(n *yaml.Node) error { return p.text(n, "title", &pack.Title) }},
		field{"description", false, func(n *yaml.Node) error { return p.text(n, "description", &pack.Description) }},
		field{"blastRadius", false, func(n *yaml.Node) error { return p.blastRadius(n, &pack.BlastRadius) }},
		field{"rules", true, func(n *yaml.Node) error {
			return p.list(n, "rules", maxRules, func(n *yaml.Node) error {
				r, err := p.rule(n)
				if err != nil {
					return err
				}
				if ids[r.ID] {
					return p.errorf(n, "rule id %q appears twice", r.ID)
				}
				ids[r.ID] = true
				pack.Rules = append(pack.Rules, *r)
				return nil
			})
		}},
	)
	if err != nil {
		return nil, err
	}
	return &pack, p.checkRadius(&pack)
}

// blastRadius reads "blastRadius: {maxFiles: 5, paths: [Windows/System32/drivers]}".
func (p packParser) blastRadius(n *yaml.Node, r *BlastRadius) error {
	err := p.mapping(n, "blastRadius",
		field{"maxFiles", false, func(n *yaml.Node) error {
			var v *int64
			if err := p.number(n, "maxFiles", "files", &v); err != nil {
				return err
			}
			if *v < 1 || *v > maxManifestFiles {
				return p.errorf(n, "maxFiles is %d: use 1 to %d", *v, maxManifestFiles)
			}
			r.MaxFiles = int(*v)
			return nil
		}},
		field{"paths", false, func(n *yaml.Node) error {
			return p.list(n, "paths", maxAlternatives, func(n *yaml.Node) error {
				var v string
				if err := p.text(n, "a folder of paths", &v); err != nil {
					return err
				}
				segments, err := splitGlob(v)
				if err != nil {
					return p.errorf(n, "paths: folder %q: %v", v, err)
				}
				if strings.ContainsAny(v, "*?") {
					return p.errorf(n, "paths: folder %q: wildcards are not supported here: name the folder", v)
				}
				r.Paths = append(r.Paths, strings.Join(segments, "/"))
				return nil
			})
		}},
	)
	if err != nil {
		return err
	}
	return p.notEmpty(n, "blastRadius")
}

// checkRadius fills in the blast radius of a pack that does not say and finds the
// rules that it would always stop.
func (p packParser) checkRadius(pack *Pack) error {
	r := &pack.BlastRadius
	if r.MaxFiles == 0 {
		r.MaxFiles = DefaultMaxFiles
	}
	if r.Paths == nil {
		r.Paths = slices.Clone(defaultPaths)
	}
	var errs []error
	for _, path := range *p.paths {
		if !r.reaches(path.segments) {
			errs = append(errs, p.errorf(path.node, "path %q lies outside of what blastRadius.paths allows (%s)", path.node.Value, strings.Join(r.Paths, ", ")))
		}
	}
	return errors.Join(errs...)
}

func (p packParser) rule(n *yaml.Node) (*Rule, error) {
	var r Rule
	var place *yaml.Node
	err := p.mapping(n, "a rule",
		field{"id", true, func(n *yaml.Node) error { return p.id(n, "rule id", &r.ID) }},
		field{"service", false, func(n *yaml.Node) error {
			if err := p.text(n, "service", &r.Service); err != nil {
				return err
			}
			return p.checkService(n, r.Service)
		}},
		field{"path", false, func(n *yaml.Node) error {
			if err := p.text(n, "path", &r.Path); err != nil {
				return err
			}
			var err error
			if r.segments, err = splitGlob(r.Path); err != nil {
				return p.errorf(n, "path %q: %v", r.Path, err)
			}
			place = n
			return nil
		}},
		field{"identify", false, func(n *yaml.Node) error { return p.conditions(n, "identify", &r.Identify) }},
		field{"faulty", false, func(n *yaml.Node) error { return p.conditions(n, "faulty", &r.Faulty) }},
		field{"action", true, func(n *yaml.Node) error {
			var v string
			if err := p.text(n, "action", &v); err != nil {
				return err
			}
			switch r.Action = ActionKind(v); r.Action {
			case ActionQuarantine, ActionDisableService:
				return nil
			}
			return p.errorf(n, "action %q is not supported: use %s or %s", v, ActionQuarantine, ActionDisableService)
		}},
	)
	if err == nil {
		err = p.checkAction(n, &r)
	}
	if err != nil {
		return nil, err
	}
	if r.Action == ActionQuarantine {
		*p.paths = append(*p.paths, rulePath{place, r.segments})
	}
	return &r, nil
}

// checkAction makes sure that a rule has what its action works on.
func (p packParser) checkAction(n *yaml.Node, r *Rule) error {
	switch {
	case r.Action == ActionQuarantine && r.Path == "":
		return p.errorf(n, "a rule has no field %q", "path")
	case r.Action == ActionQuarantine && r.Service != "":
		return p.errorf(n, "a rule with the action %s has the field %q, which only %s takes", ActionQuarantine, "service", ActionDisableService)
	case r.Action == ActionDisableService && r.Service == "":
		return p.errorf(n, "a rule with the action %s has no field %q", ActionDisableService, "service")
	case r.Path == "" && (!r.Identify.empty() || !r.Faulty.empty()):
		return p.errorf(n, "a rule has conditions for a file and no field %q", "path")
	}
	return nil
}

// checkService refuses what cannot be one service's name.
func (p packParser) checkService(n *yaml.Node, name string) error {
	if len(name) > 255 || strings.ContainsAny(name, "\\/*?\n") || strings.TrimSpace(name) != name {
		return p.errorf(n, "service %q: expected the name of one service's key in the registry", name)
	}
	return nil
}

func (p packParser) conditions(n *yaml.Node, what string, c *Conditions) error {
	err := p.mapping(n, what,
		field{"leadingBytes", false, func(n *yaml.Node) error {
			return p.list(n, "leadingBytes", maxAlternatives, func(n *yaml.Node) error {
				l, err := p.leadingBytes(n)
				c.LeadingBytes = append(c.LeadingBytes, l)
				return err
			})
		}},
		field{"modified", false, func(n *yaml.Node) error {
			if err := p.mapping(n, "modified",
				field{"from", false, func(n *yaml.Node) error { return p.time(n, "from", &c.ModifiedFrom) }},
				field{"before", false, func(n *yaml.Node) error { return p.time(n, "before", &c.ModifiedBefore) }},
			); err != nil {
				return err
			}
			if !c.ModifiedFrom.IsZero() && !c.ModifiedBefore.IsZero() && !c.ModifiedFrom.Before(c.ModifiedBefore) {
				return p.errorf(n, "modified: from is not earlier than before, so no file could match")
			}
			return p.notEmpty(n, "modified")
		}},
		field{"size", false, func(n *yaml.Node) error {
			if err := p.mapping(n, "size",
				field{"min", false, func(n *yaml.Node) error { return p.number(n, "min", "bytes", &c.MinSize) }},
				field{"max", false, func(n *yaml.Node) error { return p.number(n, "max", "bytes", &c.MaxSize) }},
			); err != nil {
				return err
			}
			if c.MinSize != nil && c.MaxSize != nil && *c.MinSize > *c.MaxSize {
				return p.errorf(n, "size: min is larger than max, so no file could match")
			}
			return p.notEmpty(n, "size")
		}},
		field{"sha256", false, func(n *yaml.Node) error {
			return p.list(n, "sha256", maxHashes, func(n *yaml.Node) error {
				var v string
				if err := p.text(n, "sha256", &v); err != nil {
					return err
				}
				if b, err := hex.DecodeString(v); err != nil || len(b) != sha256.Size {
					return p.errorf(n, "sha256 %q: expected 64 hexadecimal digits", v)
				}
				c.SHA256 = append(c.SHA256, strings.ToLower(v))
				return nil
			})
		}},
	)
	if err != nil {
		return err
	}
	return p.notEmpty(n, what)
}

// notEmpty refuses "modified: {}": whoever wrote it meant a condition.
func (p packParser) notEmpty(n *yaml.Node, what string) error {
	if len(n.Content) == 0 {
		return p.errorf(n, "%s holds no condition", what)
	}
	return nil
}

func (p packParser) leadingBytes(n *yaml.Node) (LeadingBytes, error) {
	var v string
	if err := p.text(n, "leadingBytes", &v); err != nil {
		return LeadingBytes{}, err
	}
	if v == "all-zeros" {
		return LeadingBytes{AllZeros: true}, nil
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(v), ""))
	if err != nil || len(b) == 0 || len(b) > maxLeadingBytes {
		return LeadingBytes{}, p.errorf(n, "leadingBytes %q: expected 1 to %d bytes such as %q, or all-zeros", v, maxLeadingBytes, "AA 01")
	}
	return LeadingBytes{Bytes: b}, nil
}

func (p packParser) time(n *yaml.Node, what string, dst *time.Time) error {
	if n.Kind != yaml.ScalarNode {
		return p.errorf(n, "%s is %s, expected a time", what, kindName(n))
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	if err != nil || !strings.HasSuffix(n.Value, "Z") {
		return p.errorf(n, "%s %q: expected a time in UTC such as 2024-07-19T05:27:00Z", what, n.Value)
	}
	*dst = t
	return nil
}

func (p packParser) number(n *yaml.Node, what, unit string, dst **int64) error {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
		return p.errorf(n, "%s is %s, expected a number of %s", what, kindName(n), unit)
	}
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || v < 0 {
		return p.errorf(n, "%s %q: expected a number of %s from 0", what, n.Value, unit)
	}
	*dst = &v
	return nil
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias (not supported here)"
	}
	switch n.Tag {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a time"
	case "!!str":
		return "text"
	}
	return "of the type " + n.Tag
}

// splitGlob checks a path glob and splits it into its segments.
func splitGlob(path string) ([]string, error) {
	path = strings.ReplaceAll(path, `\`, "/")
	if strings.HasPrefix(path, "/") {
		return nil, errors.New("give it relative to the volume, without a leading separator")
	}
	segments := strings.Split(path, "/")
	if len(segments) > maxGlobSegments {
		return nil, fmt.Errorf("more than %d segments", maxGlobSegments)
	}
	for i, s := range segments {
		switch {
		case s == "":
			return nil, errors.New("it has an empty segment")
		case s == "." || s == "..":
			return nil, fmt.Errorf("the segment %q is not allowed", s)
		case strings.Contains(s, "**"):
			return nil, errors.New("** is not supported: name each folder")
		case strings.ContainsAny(s, ":\"<>|\n"):
			return nil, fmt.Errorf("the segment %q holds a character that no Windows name has (drive letters do not belong here)", s)
		case strings.HasSuffix(s, ".") || strings.HasSuffix(s, " ") || strings.HasPrefix(s, " "):
			return nil, fmt.Errorf("the segment %q begins or ends with a blank or a dot", s)
		case i == 0 && strings.Trim(s, "*?") == "":
			return nil, errors.New("the first segment is only wildcards: name the top folder")
		}
	}
	return segments, nil
}

// PackErrors takes the error of [ParsePack] apart, in the order of lines.
func PackErrors(err error) []*PackError {
	var all []*PackError
	var walk func(error)
	walk = func(err error) {
		if pe, ok := err.(*PackError); ok { //nolint:errorlint // each error of the tree is looked at by itself
			all = append(all, pe)
			return
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the same
			for _, e := range joined.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	slices.SortStableFunc(all, func(a, b *PackError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return all
}
