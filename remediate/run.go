package remediate

import (
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"
)

// Places of bootmend on a Windows volume. Existing directories of another
// spelling are used as they are.
const (
	programData   = "ProgramData"
	ownDir        = programData + "/bootmend"
	QuarantineDir = ownDir + "/quarantine"
	WindowsLogDir = ownDir + "/logs"
	// MediaLogDir is where logs go on the media.
	MediaLogDir = "bootmend/logs"
)

// Run is one run of the program on one machine. It names the quarantine folder
// and the log.
type Run struct {
	ID          string    // up to 32 of a-z and 0-9
	Time        time.Time // when it began
	ToolVersion string
	Machine     Identity
}

// Identity is what a machine is known by. The first three come from SMBIOS, the
// computer name from the Windows registry or the volume's description.
type Identity struct {
	Serial       string `json:"serial,omitempty"`
	UUID         string `json:"uuid,omitempty"`
	Model        string `json:"model,omitempty"`
	ComputerName string `json:"computer_name,omitempty"`
}

// Known is what tells the machine from others: its serial number and UUID, as far as its maker has set them, otherwise the
// computer's name. It is empty where nothing does, and the same for all spellings in capitals and small letters.
func (id Identity) Known() string {
	var parts []string
	for _, s := range []string{id.Serial, id.UUID} {
		if Meaningful(s) {
			parts = append(parts, strings.ToUpper(s))
		}
	}
	if len(parts) == 0 {
		return strings.ToUpper(id.ComputerName)
	}
	return strings.Join(parts, " / ")
}

// Meaningful reports whether a serial number or UUID of SMBIOS tells machines apart: many boards carry a placeholder.
func Meaningful(s string) bool {
	if strings.Trim(s, "0FfXx-. ") == "" {
		return false
	}
	switch strings.ToLower(strings.Trim(s, ". ")) {
	case "none", "n/a", "unknown", "default string", "default", "empty", "undefined", "not specified", "not applicable", "not available",
		"invalid", "oem", "o.e.m", "system serial number", "chassis serial number", "base board serial number", "to be filled by o.e.m",
		"serial", "serial number", "sn", "123456789", "1234567890", "0123456789", "0123456789abcdef",
		"03000200-0400-0500-0006-000700080009": // the UUID of boards whose firmware was never set up
		return false
	}
	return true
}

// NewRun makes a run with an identifier drawn from rnd.
func NewRun(now time.Time, toolVersion string, rnd io.Reader) (Run, error) {
	var id [4]byte
	if _, err := io.ReadFull(rnd, id[:]); err != nil {
		return Run{}, fmt.Errorf("draw a run identifier: %w", err)
	}
	return Run{ID: hex.EncodeToString(id[:]), Time: now.UTC(), ToolVersion: toolVersion}, nil
}

const runTimeFormat = "20060102T150405Z"

var (
	runIDPattern   = regexp.MustCompile(`^[a-z0-9]{1,32}$`)
	runNamePattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z0-9]{1,32}$`)
)

// Name is "<UTC time>-<run id>", such as 20240719T181500Z-1a2b3c4d.
func (r Run) Name() string { return r.Time.UTC().Format(runTimeFormat) + "-" + r.ID }

func (r Run) check() error {
	if !runIDPattern.MatchString(r.ID) || !runNamePattern.MatchString(r.Name()) {
		return fmt.Errorf("run name %q is not usable: give an id of a-z and 0-9 and a time of this age", r.Name())
	}
	return nil
}

func quarantinedName(p string) string { return p + quarantineSuffix }

const (
	quarantineSuffix = ".quarantined"
	manifestName     = "manifest.json"

	// piecesDir is the folder with the pieces, named 1, 2 and so on, of a manifest for which a volume had no room in one
	// file; pieceSize is how large each is but the last. ntfs3 keeps a file's content in its record up to 5/16 of that,
	// which is 320 bytes of the usual 1,024.
	piecesDir = "manifest"
	pieceSize = 300
)

// manifestPath is where the manifest of a run directory lies.
func manifestPath(runDir string) string { return path.Join(runDir, manifestName) }
