package device

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// What macOS tells about disks are property lists in XML. They are read the same way on every system, so that
// this can be tested on any.

const (
	plistLimit = 16 << 20
	plistDepth = 64
)

// parsePlist reads a property list as map[string]any, []any, string, int64, float64 and bool; dates and data
// come as the text in them.
func parsePlist(data []byte) (any, error) {
	if len(data) > plistLimit {
		return nil, fmt.Errorf("property list: larger than %d MiB", plistLimit>>20)
	}
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("property list: it is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("property list: %w", err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local != "plist" {
			v, err := plistValue(d, start, 0)
			if err != nil {
				return nil, fmt.Errorf("property list, byte %d: %w", d.InputOffset(), err)
			}
			return v, nil
		}
	}
}

func plistValue(d *xml.Decoder, start xml.StartElement, depth int) (any, error) {
	if depth > plistDepth {
		return nil, fmt.Errorf("nested deeper than %d", plistDepth)
	}
	switch start.Name.Local {
	case "dict", "array":
		return plistContainer(d, start.Name.Local == "dict", depth)
	case "true", "false":
		return start.Name.Local == "true", d.Skip()
	}
	var s string
	if err := d.DecodeElement(&s, &start); err != nil {
		return nil, err
	}
	switch start.Name.Local {
	case "integer":
		n, err := strconv.ParseInt(strings.TrimSpace(s), 0, 64)
		if errors.Is(err, strconv.ErrRange) {
			return int64(0), nil // an unsigned number of 64 bits; none of those is of use here
		}
		return n, err
	case "real":
		return strconv.ParseFloat(strings.TrimSpace(s), 64)
	case "string", "key", "date", "data":
		return s, nil
	}
	return nil, fmt.Errorf("element %q is not known", start.Name.Local)
}

func plistContainer(d *xml.Decoder, dict bool, depth int) (any, error) {
	var list []any
	pairs := map[string]any{}
	key, hasKey := "", false
	for {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.EndElement:
			if dict {
				return pairs, nil
			}
			return list, nil
		case xml.StartElement:
			v, err := plistValue(d, token, depth+1)
			if err != nil {
				return nil, err
			}
			switch {
			case !dict:
				list = append(list, v)
			case !hasKey && token.Name.Local == "key":
				key, hasKey = v.(string), true
			case !hasKey:
				return nil, errors.New("a value without a key")
			default:
				pairs[key] = v
				hasKey = false
			}
		}
	}
}

// The getters return nothing where there is none, or something else.
func dictOf(v any) map[string]any               { m, _ := v.(map[string]any); return m }
func listOf(v any) []any                        { l, _ := v.([]any); return l }
func textOf(m map[string]any, k string) string  { s, _ := m[k].(string); return s }
func boolOf(m map[string]any, k string) bool    { b, _ := m[k].(bool); return b }
func numberOf(m map[string]any, k string) int64 { n, _ := m[k].(int64); return n }

// macDisks are the whole disks of "diskutil list -plist", with what is mounted of each.
type macDisk struct {
	name   string // disk4
	mounts []string
}

// parseDiskutilList reads "diskutil list -plist". What is mounted of an APFS container, which is a disk of its
// own there, counts for the disks that the container lies on.
func parseDiskutilList(data []byte) ([]macDisk, error) {
	root, err := parsePlist(data)
	if err != nil {
		return nil, err
	}
	all, ok := dictOf(root)["AllDisksAndPartitions"].([]any)
	if !ok {
		return nil, errors.New("diskutil list: AllDisksAndPartitions is missing")
	}
	var disks []macDisk
	stores := map[string][]string{} // physical disk: what is mounted of containers on it
	for _, entry := range all {
		e := dictOf(entry)
		name := textOf(e, "DeviceIdentifier")
		if name == "" {
			continue
		}
		var mounts []string
		add(&mounts, textOf(e, "MountPoint"))
		for _, kind := range []string{"Partitions", "APFSVolumes"} {
			for _, part := range listOf(e[kind]) {
				p := dictOf(part)
				add(&mounts, textOf(p, "MountPoint"))
				for _, snapshot := range listOf(p["MountedSnapshots"]) {
					add(&mounts, textOf(dictOf(snapshot), "SnapshotMountPoint"))
				}
			}
		}
		physical := listOf(e["APFSPhysicalStores"])
		for _, store := range physical {
			whole := wholeDisk(textOf(dictOf(store), "DeviceIdentifier"))
			stores[whole] = append(stores[whole], mounts...)
		}
		if len(physical) == 0 {
			disks = append(disks, macDisk{name, mounts})
		}
	}
	for i := range disks {
		for _, m := range stores[disks[i].name] {
			add(&disks[i].mounts, m)
		}
	}
	return disks, nil
}

// wholeDisk is the disk that a partition such as disk0s2 lies on.
func wholeDisk(name string) string {
	if i := strings.IndexByte(strings.TrimPrefix(name, "disk"), 's'); i > 0 {
		return name[:len("disk")+i]
	}
	return name
}

// parseDiskutilInfo reads "diskutil info -plist disk4". ok is false for disk images and other disks that are no
// thing of their own.
func parseDiskutilInfo(data []byte, mounts []string) (d Device, ok bool, err error) {
	root, err := parsePlist(data)
	if err != nil {
		return d, false, err
	}
	m := dictOf(root)
	name := textOf(m, "DeviceIdentifier")
	if name == "" {
		return d, false, errors.New("diskutil info: DeviceIdentifier is missing")
	}
	if !boolOf(m, "WholeDisk") || textOf(m, "VirtualOrPhysical") == "Virtual" {
		return d, false, nil
	}
	d = Device{
		Path:       "/dev/" + name,
		Model:      clean(textOf(m, "MediaName")),
		Size:       numberOf(m, "Size"),
		SectorSize: int(numberOf(m, "DeviceBlockSize")),
		Bus:        macBus(textOf(m, "BusProtocol")),
		Removable:  boolOf(m, "RemovableMedia"),
		Mounts:     mounts,
	}
	if d.Size == 0 {
		d.Size = numberOf(m, "TotalSize")
	}
	if d.SectorSize == 0 {
		d.SectorSize = 512
	}
	if w, told := m["WritableMedia"].(bool); told {
		d.ReadOnly = !w
	}
	for _, where := range mounts {
		d.System = d.System || where == "/" || strings.HasPrefix(where, "/System/Volumes/") || strings.HasPrefix(where, "/private/var/")
	}
	if boolOf(m, "SystemImage") {
		d.System = true
	}
	return d, d.Size > 0, nil
}

func macBus(protocol string) string {
	switch protocol {
	case "USB":
		return "usb"
	case "Secure Digital":
		return "sd"
	case "PCI-Express", "Apple Fabric":
		return "nvme"
	case "":
		return "other"
	}
	return strings.ToLower(clean(protocol))
}

// parseSerials finds the serial numbers of USB disks in "ioreg -a -l -r -c IOUSBHostDevice": the number stands at
// the stick's node, the disk's name deep below it.
func parseSerials(data []byte) (map[string]string, error) {
	root, err := parsePlist(data)
	if err != nil {
		return nil, err
	}
	serials := map[string]string{}
	var walk func(v any, serial string)
	walk = func(v any, serial string) {
		for _, entry := range listOf(v) {
			m, s := dictOf(entry), serial
			if own := textOf(m, "USB Serial Number"); own != "" {
				s = clean(own)
			} else if _, usb := m["idVendor"]; usb {
				s = "" // a device without a number behind a hub that has one
			}
			if name := textOf(m, "BSD Name"); name != "" && s != "" {
				serials[name] = s
			}
			walk(m["IORegistryEntryChildren"], s)
		}
	}
	walk(root, "")
	return serials, nil
}
