// Package bcd writes the boot configuration store of media that start Windows PE, for sources that have none of
// Microsoft's: [RAMDisk] makes one.
//
// A store is a registry hive: below Objects lies a key for each object, named by its GUID, and below its key Elements
// one for each element, named by its type in hexadecimal, with the value "Element". The numbers of elements are those of
// Microsoft's documentation of the BCD WMI provider (BcdLibraryElementTypes, BcdOSLoaderElementTypes,
// BcdDeviceObjectElementTypes, BcdBootMgrElementTypes). Microsoft documents the bytes of a device nowhere: they follow
// the store on its installation media, and the fields have the names that ReactOS gives them (boot/environ/include/bl.h).
package bcd

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/bootmend/bootmend/remediate/hive"
)

// What the RAM disk is made of, on every medium of Microsoft's.
const (
	wimPath = `\sources\boot.wim`
	sdiPath = `\boot\boot.sdi`
)

// The objects of a store. All three GUIDs are fixed: they are the same on every medium of Microsoft's.
const (
	bootManager = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}" // {bootmgr}
	ramDisk     = "{7619dcc8-fafe-11d9-b411-000476eba25f}" // {ramdiskoptions}
	loader      = "{7619dcc9-fafe-11d9-b411-000476eba25f}" // {default}
)

// Types of objects (BcdObject.Type).
const (
	typeManager = 0x10100002
	typeLoader  = 0x10200003
	typeDevice  = 0x30000000
)

type element struct {
	id    string
	value any // string, []string (a list of objects), uint64, bool or []byte (a device)
}

type object struct {
	id       string
	kind     uint32
	elements []element
}

// RAMDisk makes a store whose one entry has the boot manager load \sources\boot.wim of the medium that it was started
// from as a RAM disk, by way of \boot\boot.sdi, and start the loader in it, such as
// \windows\system32\boot\winload.efi. when is the date of what is in it. Equal arguments give equal bytes.
func RAMDisk(loaderPath string, when time.Time) ([]byte, error) {
	h, err := hive.NewVersion("NewStoreRoot", 3) // as all that Windows makes
	if err != nil {
		return nil, fmt.Errorf("boot configuration: %w", err)
	}
	h.Now = when
	if err := fill(h, objects(loaderPath)); err != nil {
		return nil, fmt.Errorf("boot configuration: %w", err)
	}
	return h.Bytes()
}

func objects(loaderPath string) []object {
	device := fileDevice(ramDisk, wimPath)
	const locale = "en-US"
	return []object{
		{ramDisk, typeDevice, []element{
			{"31000003", bootDevice()}, // BcdDeviceData_SdiDevice
			{"32000004", sdiPath},      // BcdDeviceString_SdiPath
		}},
		{loader, typeLoader, []element{
			{"11000001", device},     // BcdLibraryDevice_ApplicationDevice
			{"12000002", loaderPath}, // BcdLibraryString_ApplicationPath
			{"12000004", "bootmend"}, // BcdLibraryString_Description
			{"12000005", locale},     // BcdLibraryString_PreferredLocale
			{"16000060", true},       // BcdLibraryBoolean_IsolatedExecutionContext
			{"21000001", device},     // BcdOSLoaderDevice_OSDevice
			{"22000002", `\windows`}, // BcdOSLoaderString_SystemRoot
			{"250000c2", uint64(1)},  // BcdOSLoaderInteger_BootMenuPolicy: standard
			{"26000010", true},       // BcdOSLoaderBoolean_DetectKernelAndHal
			{"26000022", true},       // BcdOSLoaderBoolean_WinPEMode
			{"260000b0", false},      // BcdOSLoaderBoolean_EmsEnabled
		}},
		{bootManager, typeManager, []element{
			{"12000004", "Windows Boot Manager"},
			{"12000005", locale},
			{"23000003", loader},           // BcdBootMgrObject_DefaultObject
			{"24000001", []string{loader}}, // BcdBootMgrObjectList_DisplayOrder
			{"25000004", uint64(0)},        // BcdBootMgrInteger_Timeout: there is nothing to choose from
		}},
	}
}

func fill(h *hive.Hive, list []object) error {
	root, err := h.Root()
	if err != nil {
		return err
	}
	about, err := root.CreateSubkey("Description")
	if err != nil {
		return err
	}
	if err := about.SetText("KeyName", "BCD00000001"); err != nil {
		return err
	}
	top, err := root.CreateSubkey("Objects")
	if err != nil {
		return err
	}
	for _, o := range list {
		if err := o.put(top); err != nil {
			return fmt.Errorf("object %s: %w", o.id, err)
		}
	}
	return nil
}

func (o object) put(top hive.Key) error {
	k, err := top.CreateSubkey(o.id)
	if err != nil {
		return err
	}
	about, err := k.CreateSubkey("Description")
	if err != nil {
		return err
	}
	if err := about.SetDWORD("Type", o.kind); err != nil {
		return err
	}
	elements, err := k.CreateSubkey("Elements")
	if err != nil {
		return err
	}
	for _, e := range o.elements {
		k, err := elements.CreateSubkey(e.id)
		if err != nil {
			return err
		}
		if err := e.put(k); err != nil {
			return fmt.Errorf("element %s: %w", e.id, err)
		}
	}
	return nil
}

func (e element) put(k hive.Key) error {
	const name = "Element"
	switch v := e.value.(type) {
	case string:
		return k.SetText(name, v)
	case []string:
		return k.SetValue(name, hive.MultiString, hive.EncodeUTF16(strings.Join(v, "\x00")+"\x00\x00"))
	case uint64:
		return k.SetValue(name, hive.Binary, binary.LittleEndian.AppendUint64(nil, v))
	case bool:
		b := []byte{0}
		if v {
			b[0] = 1
		}
		return k.SetValue(name, hive.Binary, b)
	case []byte:
		return k.SetValue(name, hive.Binary, v)
	}
	return fmt.Errorf("a value of type %T", e.value)
}

// Devices, in the order of the disk: the GUID of an object with options, zero for none, then a BL_DEVICE_DESCRIPTOR:
// type, flags, size from here, 4 bytes of zero, and what the type says.
const (
	deviceHeader = 16
	deviceLocal  = 0 // BL_LOCAL_DEVICE
	deviceBoot   = 5 // where the boot manager was started from
	bootSize     = 0x48

	localFile = 1 // flags: the RAM disk is made of a file, whose path follows
	localRAM  = 3 // BL_LOCAL_DEVICE.Type

	// A BL_FILE_PATH_DESCRIPTOR: version, size, type, the device that holds the file, and the path, closed with NUL.
	pathVersion = 1
	pathHeader  = 12
	pathDevice  = 5
)

// descriptor is the device that the boot manager was started from.
func descriptor() []byte {
	le := binary.LittleEndian
	b := make([]byte, bootSize)
	le.PutUint32(b, deviceBoot)
	le.PutUint32(b[8:], bootSize)
	return b
}

// bootDevice is that as an element.
func bootDevice() []byte { return append(make([]byte, 16), descriptor()...) }

// fileDevice is a RAM disk as an element, made of a file on the device that the boot manager was started from.
func fileDevice(options, path string) []byte {
	le := binary.LittleEndian
	name := hive.EncodeUTF16(path + "\x00")
	local := make([]byte, 4+8+8+4) // type, and where in memory and how large, which is not known yet
	le.PutUint32(local, localRAM)
	pathSize := pathHeader + bootSize + len(name)

	b := guidBytes(options)
	b = le.AppendUint32(b, deviceLocal)
	b = le.AppendUint32(b, localFile)
	b = le.AppendUint32(b, uint32(deviceHeader+len(local)+pathSize))
	b = le.AppendUint32(b, 0)
	b = append(b, local...)
	b = le.AppendUint32(b, pathVersion)
	b = le.AppendUint32(b, uint32(pathSize))
	b = le.AppendUint32(b, pathDevice)
	b = append(b, descriptor()...)
	return append(b, name...)
}

// guidBytes is a GUID of this package as it lies in memory: three numbers, little-endian, and eight bytes.
func guidBytes(text string) []byte {
	digits, err := hex.DecodeString(strings.NewReplacer("{", "", "}", "", "-", "").Replace(text))
	if err != nil || len(digits) != 16 {
		panic("no GUID: " + text) // they are constants
	}
	be, b := binary.BigEndian, []byte{}
	b = binary.LittleEndian.AppendUint32(b, be.Uint32(digits))
	b = binary.LittleEndian.AppendUint16(b, be.Uint16(digits[4:]))
	b = binary.LittleEndian.AppendUint16(b, be.Uint16(digits[6:]))
	return append(b, digits[8:]...)
}
