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

// setupNext makes the next start show the firmware's set-up screen (UEFI 2.10, section 8.5.4, OsIndications). A machine
// that was started by a BIOS has no such variables.
func setupNext() error {
	const bootToSetup = 1
	if err := takePrivilege("SeSystemEnvironmentPrivilege"); err != nil {
		return fmt.Errorf("the firmware's variables: %w", err)
	}
	supported, err := firmwareVariable("OsIndicationsSupported")
	if errors.Is(err, windows.ERROR_INVALID_FUNCTION) {
		return errors.New("this machine was started by a BIOS: press its set-up key at power-on")
	}
	if err != nil || supported&bootToSetup == 0 {
		return errors.New("this firmware cannot be told to show its set-up screen: press its key at power-on")
	}
	wanted, err := firmwareVariable("OsIndications")
	if err != nil {
		wanted = 0 // it is set for the first time
	}
	return setFirmwareVariable("OsIndications", wanted|bootToSetup)
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

// firmwareVariable reads one of 64 bits (winbase.h, GetFirmwareEnvironmentVariableW).
func firmwareVariable(name string) (uint64, error) {
	var data [8]byte
	n, err := callFirmware("GetFirmwareEnvironmentVariableW", name, &data)
	if err == nil && n != uintptr(len(data)) {
		err = fmt.Errorf("%s has %d bytes, not %d", name, n, len(data))
	}
	return binary.LittleEndian.Uint64(data[:]), err
}

// setFirmwareVariable writes one, with the attributes that Windows gives: kept, and there for the firmware and for Windows.
func setFirmwareVariable(name string, value uint64) error {
	var data [8]byte
	binary.LittleEndian.PutUint64(data[:], value)
	_, err := callFirmware("SetFirmwareEnvironmentVariableW", name, &data)
	return err
}

// callFirmware returns what the function does where that is not zero, which is its failure.
func callFirmware(function, name string, data *[8]byte) (uintptr, error) {
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
	n, _, err := p.Call(uintptr(unsafe.Pointer(variable)), uintptr(unsafe.Pointer(guid)), uintptr(unsafe.Pointer(data)), uintptr(len(data)))
	if n == 0 {
		return 0, fmt.Errorf("the firmware's variable %s: %w", name, err)
	}
	return n, nil
}
