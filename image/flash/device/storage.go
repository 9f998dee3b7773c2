package device

import (
	"encoding/binary"
	"fmt"
)

// The structures here are those of ntddstor.h, ntddvol.h and ntdddisk.h as DeviceIoControl returns them; all
// numbers are little-endian. They are read the same way on every system, so that they can be tested on any.

// storageDescriptor is what is wanted of STORAGE_DEVICE_DESCRIPTOR.
type storageDescriptor struct {
	model, serial, bus string
	removable          bool
}

// parseStorageDescriptor reads a STORAGE_DEVICE_DESCRIPTOR:
//
//	 0  Version, Size       uint32
//	 8  DeviceType, DeviceTypeModifier, RemovableMedia, CommandQueueing  byte
//	12  VendorIdOffset, ProductIdOffset, ProductRevisionOffset, SerialNumberOffset  uint32
//	28  BusType, RawPropertiesLength  uint32
func parseStorageDescriptor(b []byte) (storageDescriptor, error) {
	var s storageDescriptor
	if len(b) < 36 {
		return s, fmt.Errorf("storage device descriptor: %d bytes, at least 36 expected", len(b))
	}
	if size := binary.LittleEndian.Uint32(b[4:]); size >= 36 && size < uint32(len(b)) {
		b = b[:size]
	}
	s.removable = b[10] != 0
	s.model = clean(stringAt(b, 12) + " " + stringAt(b, 16))
	s.serial = clean(stringAt(b, 24))
	s.bus = "other"
	if n := binary.LittleEndian.Uint32(b[28:]); n < uint32(len(busTypes)) && busTypes[n] != "" {
		s.bus = busTypes[n]
	}
	return s, nil
}

// busTypes are the names of STORAGE_BUS_TYPE.
var busTypes = [...]string{1: "scsi", 2: "atapi", 3: "ata", 4: "firewire", 5: "ssa", 6: "fibre channel", 7: "usb", 8: "raid",
	9: "iscsi", 10: "sas", 11: "sata", 12: "sd", 13: "mmc", 14: "virtual", 15: "virtual", 16: "storage spaces", 17: "nvme", 18: "scm", 19: "ufs"}

// stringAt reads the text whose offset stands at a position; 0 and -1 say that there is none.
func stringAt(b []byte, position int) string {
	off := binary.LittleEndian.Uint32(b[position:])
	if off < 36 || off >= uint32(len(b)) {
		return ""
	}
	text := b[off:]
	for i, c := range text {
		if c == 0 {
			return string(text[:i])
		}
	}
	return string(text)
}

// parseDiskExtents reads a VOLUME_DISK_EXTENTS: a count, and from byte 8 on 24 bytes each, which begin with the
// number of the disk.
func parseDiskExtents(b []byte) ([]uint32, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("volume disk extents: %d bytes, at least 8 expected", len(b))
	}
	n := binary.LittleEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-8)/24 {
		return nil, fmt.Errorf("volume disk extents: %d announced in %d bytes", n, len(b))
	}
	disks := make([]uint32, n)
	for i := range disks {
		disks[i] = binary.LittleEndian.Uint32(b[8+24*i:])
	}
	return disks, nil
}

// parseGeometry reads a DISK_GEOMETRY_EX: bytes per sector at 20, size of the disk at 24.
func parseGeometry(b []byte) (sector int, size int64, err error) {
	if len(b) < 32 {
		return 0, 0, fmt.Errorf("disk geometry: %d bytes, at least 32 expected", len(b))
	}
	s, n := binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint64(b[24:])
	if s == 0 || s > 1<<16 || n > 1<<62 {
		return 0, 0, fmt.Errorf("disk geometry: %d bytes in sectors of %d", n, s)
	}
	return int(s), int64(n), nil
}

// parseDeviceNumber reads a STORAGE_DEVICE_NUMBER: device type, number, partition. Disks have type 7.
func parseDeviceNumber(b []byte) (number uint32, err error) {
	if len(b) < 12 {
		return 0, fmt.Errorf("storage device number: %d bytes, 12 expected", len(b))
	}
	if kind := binary.LittleEndian.Uint32(b); kind != 7 {
		return 0, fmt.Errorf("storage device number: type %d is no disk", kind)
	}
	return binary.LittleEndian.Uint32(b[4:]), nil
}

// parseLength reads a GET_LENGTH_INFORMATION: one number of 64 bits.
func parseLength(b []byte) (int64, error) {
	if len(b) < 8 {
		return 0, fmt.Errorf("length of the disk: %d bytes, 8 expected", len(b))
	}
	n := binary.LittleEndian.Uint64(b)
	if n == 0 || n > 1<<62 {
		return 0, fmt.Errorf("length of the disk: %d", n)
	}
	return int64(n), nil
}
