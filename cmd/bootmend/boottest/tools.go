package boottest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// tools are the outside programs and the Debian packages they come in.
var tools = map[string]string{
	"sgdisk":         "gdisk",
	"mkfs.fat":       "dosfstools",
	"mkfs.exfat":     "exfatprogs",
	"mcopy":          "mtools",
	"mmd":            "mtools",
	"mattrib":        "mtools",
	"mkntfs":         "ntfs-3g",
	"ntfs-3g":        "ntfs-3g",
	"ntfs-3g.probe":  "ntfs-3g",
	"ntfsinfo":       "ntfs-3g",
	"ntfsfix":        "ntfs-3g",
	"dislocker-file": "dislocker",
	"dpkg-deb":       "dpkg",
	"apt-get":        "apt",
	"xorriso":        "xorriso",
	"busybox":        "busybox-static",
	"cryptsetup":     "cryptsetup-bin",
	"zstd":           "zstd",
	"wimlib-imagex":  "wimtools",
	"cp":             "coreutils",
	"ldd":            "libc-bin",
	"sh":             "dash",
	"umount":         "mount",
}

// need tells in one error what is missing here.
func need(programs ...string) error {
	var missing []string
	for _, program := range programs {
		if _, err := lookTool(program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (apt-get install %s)", program, tools[program]))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("programs missing: %s: %w", strings.Join(missing, ", "), ErrUnavailable)
	}
	return nil
}

// lookTool looks where an ordinary user's PATH doesn't, too.
func lookTool(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path, nil
		}
	}
	return "", err
}

// run runs a program and puts what it wrote into the error.
func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	return runIn(ctx, "", program, args...)
}

func runIn(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	path, err := lookTool(program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, ErrUnavailable)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return out, nil
}
