package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/remediate"
)

// kernelConsoleOff keeps the kernel's messages off the console (syslog(2), SYSLOG_ACTION_CONSOLE_OFF).
const kernelConsoleOff = 6

func kernelRelease() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// readIdentity takes the machine's identity from SMBIOS, as the kernel shows it.
func readIdentity() remediate.Identity {
	field := func(name string) string {
		data, err := os.ReadFile("/sys/class/dmi/id/" + name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	return remediate.Identity{
		Serial: field("product_serial"),
		UUID:   field("product_uuid"),
		Model:  strings.TrimSpace(field("sys_vendor") + " " + field("product_name")),
	}
}

// availableMemory is how many bytes may still be used; 0 where the kernel does not say.
func availableMemory() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(data), "MemAvailable:")
	var kib int64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		return 0
	}
	return kib << 10
}
