package assets

import _ "embed"

// GrubConfig is the template of GRUB's configuration that package image fills in.
//
//go:embed grub.cfg
var GrubConfig []byte
