package remediate

import (
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"regexp"
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
