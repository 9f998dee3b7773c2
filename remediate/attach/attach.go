// Package attach makes a volume of this machine reachable as a file tree: [Mapping] puts a device-mapper
// table over an unlocked BitLocker volume, [Mount] lets the kernel's own file systems open it, [Flush] makes
// the next read come from the device. It exists on Linux only.
package attach
