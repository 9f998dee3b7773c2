package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// globalVariables is EFI_GLOBAL_VARIABLE (UEFI 2.10, section 3.3), as Windows wants it written.
const globalVariables = "{8BE4DF61-93CA-11D2-AA0D-00E098032B8C}"

// errBIOS is a machine that was started by a BIOS, or one whose firmware's variables Windows does not reach.
var errBIOS = errors.New("this machine was started by a BIOS")

// openFirmware makes sure that the firmware's variables can be read and written.
func openFirmware() error {
	if err := takePrivilege("SeSystemEnvironmentPrivilege"); err != nil {
		return fmt.Errorf("the firmware's variables: %w", err)
	}
	if _, err := firmwareVariable("BootOrder"); errors.Is(err, windows.ERROR_INVALID_FUNCTION) {
		return errBIOS
	}
	return nil
}

// setupNext makes the next start show the firmware's set-up screen (UEFI 2.10, section 8.5.4, OsIndications).
func setupNext() error {
	const bootToSetup = 1
	switch err := openFirmware(); {
	case errors.Is(err, errBIOS):
		return fmt.Errorf("%w: press its set-up key at power-on", err)
	case err != nil:
		return err
	}
	supported, err := firmwareVariable("OsIndicationsSupported")
	if err != nil || len(supported) < 8 || binary.LittleEndian.Uint64(supported)&bootToSetup == 0 {
		return errors.New("this firmware cannot be told to show its set-up screen: press its key at power-on")
	}
	var wanted uint64
	if data, err := firmwareVariable("OsIndications"); err == nil && len(data) >= 8 {
		wanted = binary.LittleEndian.Uint64(data)
	}
	return setFirmwareVariable("OsIndications", binary.LittleEndian.AppendUint64(nil, wanted|bootToSetup))
}

// bootWindowsNext makes the next start, and only that one, go to Windows, and returns the description of its entry.
// BootOrder is never written: changing it can make BitLocker ask for its recovery key.
func bootWindowsNext() (string, error) {
	if err := openFirmware(); err != nil {
		return "", err
	}
	order, err := firmwareVariable("BootOrder")
	if err != nil {
		return "", err
	}
	number, option, err := windowsInOrder(order, firmwareVariable)
	if err != nil {
		return "", err
	}
	if err := setFirmwareVariable("BootNext", binary.LittleEndian.AppendUint16(nil, number)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s (Boot%04X)", option.Description, number), nil
}

// takePrivilege switches on what this program may do but does not do by itself.
func takePrivilege(name string) error {
	var token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ADJUST_PRIVILEGES|windows.TOKEN_QUERY, &token); err != nil {
		return err
	}
	defer func() { _ = token.Close() }()
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	privileges := windows.Tokenprivileges{PrivilegeCount: 1}
	privileges.Privileges[0].Attributes = windows.SE_PRIVILEGE_ENABLED
	if err := windows.LookupPrivilegeValue(nil, text, &privileges.Privileges[0].Luid); err != nil {
		return err
	}
	return windows.AdjustTokenPrivileges(token, false, &privileges, 0, nil, nil)
}

// maxVariable is more than any firmware keeps in a variable that is read here, in bytes.
const maxVariable = 64 << 10

// firmwareVariable reads one (winbase.h, GetFirmwareEnvironmentVariableW).
func firmwareVariable(name string) ([]byte, error) {
	data := make([]byte, maxVariable)
	n, err := callFirmware("GetFirmwareEnvironmentVariableW", name, data)
	return data[:min(n, maxVariable)], err
}

// setFirmwareVariable writes one, with the attributes that Windows gives: kept, and there for the firmware and for Windows.
func setFirmwareVariable(name string, data []byte) error {
	_, err := callFirmware("SetFirmwareEnvironmentVariableW", name, data)
	return err
}

// callFirmware returns what the function does where that is not zero, which is its failure.
func callFirmware(function, name string, data []byte) (uintptr, error) {
	p := kernel32.NewProc(function)
	if err := p.Find(); err != nil {
		return 0, err
	}
	variable, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	guid, err := windows.UTF16PtrFromString(globalVariables)
	if err != nil {
		return 0, err
	}
	n, _, err := p.Call(uintptr(unsafe.Pointer(variable)), uintptr(unsafe.Pointer(guid)), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)))
	if n == 0 {
		return 0, fmt.Errorf("the firmware's variable %s: %w", name, err)
	}
	return n, nil
}
