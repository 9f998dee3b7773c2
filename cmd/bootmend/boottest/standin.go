package boottest

import (
	"context"
	"os"
	"path/filepath"

	"github.com/bootmend/bootmend/remediate/bcd/bcdtest"
)

// StandIn is what the stand-in for Windows Boot Manager prints before it switches the machine off.
const StandIn = "WINDOWS BOOT MANAGER STAND-IN"

// standInMenu is read by the signed GRUB that starts as \EFI\Microsoft\Boot\grubx64.efi, through a signed shim under
// the name of Windows Boot Manager: the firmware checks the one and shim the other, as Secure Boot wants it.
const standInMenu = `serial --unit=0 --speed=115200
terminal_output console serial
echo "` + StandIn + `"
sleep 1
halt
`

// standInFiles are the files of the EFI system partition.
func standInFiles(ctx context.Context) (map[string][]byte, error) {
	shim, err := unpackDeb(ctx, "shim-signed")
	if err != nil {
		return nil, err
	}
	grub, err := unpackDeb(ctx, "grub-efi-amd64-signed")
	if err != nil {
		return nil, err
	}
	store, err := bcdtest.Store("Windows 10", `\Windows\system32\winload.efi`)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		// Debian's signed GRUB has this place built in.
		"EFI/debian/grub.cfg":    []byte(standInMenu),
		"EFI/Microsoft/Boot/BCD": store,
	}
	for name, path := range map[string]string{
		"EFI/Microsoft/Boot/bootmgfw.efi": filepath.Join(shim, "usr/lib/shim/shimx64.efi.signed"),
		"EFI/Microsoft/Boot/grubx64.efi":  filepath.Join(grub, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
	} {
		if files[name], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	// Where the firmware has no entry of its own yet it looks here, as Windows provides for too.
	files["EFI/Boot/bootx64.efi"] = files["EFI/Microsoft/Boot/bootmgfw.efi"]
	files["EFI/Boot/grubx64.efi"] = files["EFI/Microsoft/Boot/grubx64.efi"]
	return files, nil
}

// standInBootSector is the same for a BIOS: code for the disk's first sector (at 0000:7C00) that writes the line to
// the screen (INT 10h) and the first serial port, then asks the BIOS's power management to switch off (APM 1.2).
func standInBootSector() []byte {
	code := []byte{
		0x31, 0xC0, // xor ax, ax
		0x8E, 0xD8, // mov ds, ax
		0x8E, 0xD0, // mov ss, ax
		0xBC, 0x00, 0x7C, // mov sp, 7C00h
		0xFC,             // cld
		0xBE, 0x40, 0x7C, // mov si, text
		0xAC,       // next: lodsb
		0x84, 0xC0, // test al, al
		0x74, 0x19, // jz done
		0x88, 0xC1, // mov cl, al
		0xB4, 0x0E, // mov ah, 0Eh: teletype
		0xBB, 0x07, 0x00, // mov bx, 7
		0xCD, 0x10, // int 10h
		0xBA, 0xFD, 0x03, // mov dx, 3FDh: line status
		0xEC,       // wait: in al, dx
		0xA8, 0x20, // test al, 20h: room for a byte?
		0x74, 0xFB, // jz wait
		0x88, 0xC8, // mov al, cl
		0xBA, 0xF8, 0x03, // mov dx, 3F8h
		0xEE,       // out dx, al
		0xEB, 0xE2, // jmp next
		0xB8, 0x01, 0x53, // done: mov ax, 5301h: connect
		0x31, 0xDB, // xor bx, bx
		0xCD, 0x15, // int 15h
		0xB8, 0x07, 0x53, // mov ax, 5307h: set power state
		0xBB, 0x01, 0x00, // mov bx, 1: of all devices
		0xB9, 0x03, 0x00, // mov cx, 3: off
		0xCD, 0x15, // int 15h
		0xF4,       // stop: hlt
		0xEB, 0xFD, // jmp stop
	}
	return append(code, "\r\n"+StandIn+"\r\n\x00"...)
}
