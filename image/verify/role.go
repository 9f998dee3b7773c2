package verify

import (
	"strings"

	media "github.com/bootmend/bootmend/image"
)

// What files are to a person.
const (
	bootFile = "boot file"
	logFile  = "log"
	keyFile  = "keys"
	ruleFile = "rules"
	trust    = "trusted signer of rules"
	settings = "settings"
	system   = "kept by an operating system"
	text     = "text"
	other    = "other file"
)

// roles are by the beginning of a path, longest first.
var roles = []struct{ prefix, what string }{
	{media.PathLogs + "/", logFile},
	{media.PathKeys, keyFile},
	{media.PathVault, keyFile},
	{media.PathKeyFolder + "/", keyFile},
	{media.PathRules + "/", ruleFile},
	{media.PathTrust + "/", trust},
	{media.PathConfig, settings},
	{media.PathSerials, settings},
	{media.PathNotice, text},
	{media.PathLicences, text},
	{media.PathReadme, text},
	{"/System Volume Information/", system},
	{"/$RECYCLE.BIN/", system},
	{"/.", system}, // macOS
	{"/FOUND.", system},
	{"/EFI/", bootFile},
	{"/boot/", bootFile},
	{"/sources/", bootFile},
	{media.PathManager, bootFile}, // and bootmgr.efi
	{"/bootmend/", bootFile},
}

// role tells what a file is; the files in the EFI system partition of an ISO image are as they would be on a stick.
func role(path string) string {
	if inside, ok := strings.CutPrefix(path, media.PathESP+"/"); ok {
		path = "/" + inside
	}
	for _, r := range roles {
		if len(path) >= len(r.prefix)-1 && strings.HasPrefix(fold(path)+"/", fold(r.prefix)) {
			return r.what
		}
	}
	return other
}

// replaceable are files that a person may put newer ones in the place of.
func replaceable(path string) bool {
	switch role(path) {
	case keyFile, ruleFile, trust, settings, text:
		return true
	}
	return false
}

// isProgram tells the programs whose signatures firmware and shim check.
func isProgram(path string) bool {
	path = strings.TrimPrefix(path, media.PathESP)
	return path == media.PathShim || path == media.PathGrub || path == media.PathKernel
}
