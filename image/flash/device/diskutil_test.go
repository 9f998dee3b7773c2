package device

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const plistHead = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
`

// The answers of a Mac with an internal APFS disk, its container, and a stick.
const diskutilList = plistHead + `<dict>
	<key>AllDisks</key>
	<array><string>disk0</string><string>disk0s1</string><string>disk0s2</string><string>disk3</string><string>disk3s1</string><string>disk4</string><string>disk4s1</string></array>
	<key>AllDisksAndPartitions</key>
	<array>
		<dict>
			<key>Content</key><string>GUID_partition_scheme</string>
			<key>DeviceIdentifier</key><string>disk0</string>
			<key>OSInternal</key><false/>
			<key>Partitions</key>
			<array>
				<dict><key>Content</key><string>Apple_APFS_ISC</string><key>DeviceIdentifier</key><string>disk0s1</string><key>Size</key><integer>524288000</integer></dict>
				<dict><key>Content</key><string>Apple_APFS</string><key>DeviceIdentifier</key><string>disk0s2</string><key>Size</key><integer>494384795648</integer></dict>
			</array>
			<key>Size</key><integer>500277792768</integer>
		</dict>
		<dict>
			<key>APFSPhysicalStores</key>
			<array><dict><key>DeviceIdentifier</key><string>disk0s2</string></dict></array>
			<key>APFSVolumes</key>
			<array>
				<dict>
					<key>CapacityInUse</key><integer>9435410432</integer>
					<key>DeviceIdentifier</key><string>disk3s1</string>
					<key>MountedSnapshots</key>
					<array><dict><key>Sealed</key><string>Yes</string><key>SnapshotMountPoint</key><string>/</string></dict></array>
					<key>VolumeName</key><string>Macintosh HD</string>
				</dict>
				<dict><key>DeviceIdentifier</key><string>disk3s5</string><key>MountPoint</key><string>/System/Volumes/Data</string></dict>
			</array>
			<key>Content</key><string>EF57347C-0000-11AA-AA11-0030654</string>
			<key>DeviceIdentifier</key><string>disk3</string>
			<key>Size</key><integer>494384795648</integer>
		</dict>
		<dict>
			<key>Content</key><string>FDisk_partition_scheme</string>
			<key>DeviceIdentifier</key><string>disk4</string>
			<key>Partitions</key>
			<array><dict><key>DeviceIdentifier</key><string>disk4s1</string><key>MountPoint</key><string>/Volumes/R&amp;D STICK</string><key>Size</key><integer>15374221312</integer></dict></array>
			<key>Size</key><integer>15376318464</integer>
		</dict>
	</array>
	<key>WholeDisks</key>
	<array><string>disk0</string><string>disk3</string><string>disk4</string></array>
</dict>
</plist>
`

func info(name, media, bus, virtual string, removable, writable bool, size int64) string {
	return fmt.Sprintf(plistHead+`<dict>
	<key>BusProtocol</key><string>%s</string>
	<key>DeviceBlockSize</key><integer>512</integer>
	<key>DeviceIdentifier</key><string>%s</string>
	<key>DeviceNode</key><string>/dev/%[2]s</string>
	<key>FilesystemType</key><string></string>
	<key>IORegistryEntryName</key><string>%s Media</string>
	<key>MediaName</key><string>%[3]s</string>
	<key>Removable</key><%t/>
	<key>RemovableMedia</key><%[4]t/>
	<key>Size</key><integer>%d</integer>
	<key>SystemImage</key><false/>
	<key>VirtualOrPhysical</key><string>%s</string>
	<key>WholeDisk</key><true/>
	<key>WritableMedia</key><%t/>
</dict>
</plist>
`, bus, name, media, removable, size, virtual, writable)
}

const ioreg = plistHead + `<array><dict>
	<key>IORegistryEntryName</key><string>USB3.0 Hub</string>
	<key>idVendor</key><integer>1507</integer>
	<key>USB Serial Number</key><string>HUB1</string>
	<key>IORegistryEntryChildren</key>
	<array>
		<dict>
			<key>idVendor</key><integer>1921</integer>
			<key>USB Serial Number</key><string>4C530001230512117380</string>
			<key>IORegistryEntryChildren</key>
			<array><dict><key>IORegistryEntryChildren</key><array><dict><key>BSD Name</key><string>disk4</string><key>Leaf</key><false/></dict></array></dict></array>
		</dict>
		<dict><key>idVendor</key><integer>8564</integer><key>IORegistryEntryChildren</key><array><dict><key>BSD Name</key><string>disk5</string></dict></array></dict>
	</array>
</dict></array></plist>`

func TestDiskutil(t *testing.T) {
	disks, err := parseDiskutilList([]byte(diskutilList))
	want := []macDisk{{"disk0", []string{"/", "/System/Volumes/Data"}}, {"disk4", []string{"/Volumes/R&D STICK"}}}
	if err != nil || !reflect.DeepEqual(disks, want) {
		t.Fatalf("got %v, %v, want %v", disks, err, want)
	}
	stick, ok, err := parseDiskutilInfo([]byte(info("disk4", "Cruzer Blade", "USB", "Physical", true, true, 15376318464)), disks[1].mounts)
	if w := (Device{Path: "/dev/disk4", Model: "Cruzer Blade", Size: 15376318464, SectorSize: 512, Bus: "usb", Removable: true,
		Mounts: []string{"/Volumes/R&D STICK"}}); err != nil || !ok || !reflect.DeepEqual(stick, w) {
		t.Errorf("stick: %+v, %t, %v", stick, ok, err)
	}
	internal, ok, err := parseDiskutilInfo([]byte(info("disk0", "APPLE SSD AP0512Q", "Apple Fabric", "Physical", false, false, 500277792768)), disks[0].mounts)
	if err != nil || !ok || !internal.System || internal.Removable || internal.Bus != "nvme" || !internal.ReadOnly {
		t.Errorf("internal disk: %+v, %t, %v", internal, ok, err)
	}
	if _, ok, err := parseDiskutilInfo([]byte(info("disk6", "Disk Image", "Disk Image", "Virtual", true, true, 1<<30)), nil); ok || err != nil {
		t.Errorf("a disk image counts: %v", err)
	}
	serials, err := parseSerials([]byte(ioreg))
	if want := map[string]string{"disk4": "4C530001230512117380"}; err != nil || !reflect.DeepEqual(serials, want) {
		t.Errorf("serial numbers: %v, %v", serials, err)
	}
	for name, whole := range map[string]string{"disk0s2": "disk0", "disk12s3s1": "disk12", "disk4": "disk4", "": "", "disk": "disk"} {
		if got := wholeDisk(name); got != whole {
			t.Errorf("%s lies on %s, not %s", name, whole, got)
		}
	}
}

func TestPlistErrors(t *testing.T) {
	for name, c := range map[string][2]string{
		"empty":     {"", "it is empty"},
		"no key":    {plistHead + "<dict><true/></dict></plist>", "a value without a key"},
		"unknown":   {plistHead + "<array><blink>x</blink></array></plist>", `"blink" is not known`},
		"unclosed":  {plistHead + "<array><true/>", "unexpected EOF"},
		"deep":      {plistHead + strings.Repeat("<array>", 100_000), "nested deeper than 64"},
		"integer":   {plistHead + "<integer>many</integer></plist>", "invalid syntax"},
		"too large": {strings.Repeat(" ", plistLimit+1), "larger than 16 MiB"},
		"entity":    {plistHead + "<string>&bomb;</string></plist>", "invalid character entity"},
	} {
		if _, err := parsePlist([]byte(c[0])); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, want %s", name, err, c[1])
		}
	}
	if _, err := parseDiskutilList([]byte(plistHead + "<dict/></plist>")); err == nil {
		t.Error("a list without disks is accepted")
	}
	if _, _, err := parseDiskutilInfo([]byte(plistHead+"<array/></plist>"), nil); err == nil {
		t.Error("a disk without a name is accepted")
	}
}

func FuzzPlist(f *testing.F) {
	f.Add([]byte(diskutilList))
	f.Add([]byte(ioreg))
	f.Add([]byte(info("disk4", "Cruzer", "USB", "Physical", true, true, 1<<34)))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parseDiskutilList(data)
		_, _ = parseSerials(data)
		if d, ok, err := parseDiskutilInfo(data, nil); err == nil && ok && (d.Size <= 0 || strings.ContainsAny(d.Model, "\x1b\n")) {
			t.Errorf("%+v", d)
		}
	})
}
