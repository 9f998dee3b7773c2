package boottest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ovmfDirs are where distributions put the firmware.
var ovmfDirs = []string{"/usr/share/OVMF", "/usr/share/edk2/ovmf", "/usr/share/edk2/x64"}

// firmwareArgs chooses machine type and firmware. The UEFI variables are a copy in o.Dir, made when missing: what a
// boot writes there (BootNext, Boot####) the next one finds.
func (o Options) firmwareArgs() ([]string, error) {
	switch o.Firmware {
	case BIOS:
		return []string{"-machine", "q35"}, nil
	case Direct:
		return o.directArgs()
	}
	code, vars := "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"
	if o.Firmware == SecureBoot {
		code, vars = "OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd" // with Microsoft's keys, enforcing
	}
	codePath, err := findFirmware(code)
	if err != nil {
		return nil, err
	}
	varsPath := filepath.Join(o.Dir, "vars-"+string(o.Firmware)+".fd")
	if _, err := os.Stat(varsPath); errors.Is(err, fs.ErrNotExist) {
		template, err := findFirmware(vars)
		if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(template)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(varsPath, data, 0o600); err != nil {
			return nil, err
		}
	}
	args := []string{
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + codePath,
		"-drive", "if=pflash,format=raw,unit=1,file=" + varsPath,
	}
	if o.Firmware == SecureBoot {
		// Only system management mode may write the variables, or Secure Boot would be a promise without a lock.
		return append(args, "-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on",
			"-global", "ICH9-LPC.disable_s3=1"), nil
	}
	return append(args, "-machine", "q35"), nil
}

func findFirmware(name string) (string, error) {
	for _, dir := range ovmfDirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("firmware %s: %w: install ovmf", name, ErrUnavailable)
}
