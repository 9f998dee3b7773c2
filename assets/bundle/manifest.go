package bundle

// Manifest says where every byte of a boot bundle comes from. It is the entry "manifest.json".
type Manifest struct {
	Schema   int       `json:"schema"` // 1
	Kernel   string    `json:"kernel"` // the kernel's version, as in lib/modules/<version>
	Packages []Package `json:"packages"`
	Files    []File    `json:"files"`
	Modules  Modules   `json:"modules"`
}

// Package is a package of the distribution that the bundle was made from.
type Package struct {
	Name         string   `json:"name"`
	Version      string   `json:"version"`
	Architecture string   `json:"architecture"`
	SHA256       string   `json:"sha256"` // of the .deb
	Licence      string   `json:"licence"`
	Source       []Source `json:"source"` // the first is the program's; a package of signatures has its own beside it

	// Tool is set for packages that were used to make the bundle and of which nothing is in it.
	Tool bool `json:"tool,omitempty"`
}

// Source is a source package of the distribution.
type Source struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// File is an entry of the bundle.
type File struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
	Package string `json:"package,omitempty"` // where it comes from; none for what the builder wrote
}

// Modules says how the list of kernel modules was met.
type Modules struct {
	Count   int      `json:"count"`             // in the bundle, dependencies included
	Builtin []string `json:"builtin,omitempty"` // asked for, but part of the kernel itself
	Missing []string `json:"missing,omitempty"` // asked for, but not in this kernel
}
