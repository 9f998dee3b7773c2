package assets

import (
	"embed"
	"io/fs"
)

//go:embed rules/*.yaml
var rules embed.FS

// DefaultRules returns the packaged rule packs, one YAML file each at the top
// of the file system, in the schema that remediate.ParsePack reads.
func DefaultRules() fs.FS {
	sub, err := fs.Sub(rules, "rules")
	if err != nil {
		// Only an invalid path makes fs.Sub fail, and this one is constant.
		panic(err)
	}
	return sub
}
