package boottest

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"unicode/utf16"

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
	}
	return append(append(code, printAndSwitchOff...), "\r\n"+StandIn+"\r\n\x00"...)
}

// printAndSwitchOff writes the text at DS:SI.
var printAndSwitchOff = []byte{
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

// standInManagerSize is that of a stand-in for bootmgr: larger than a segment, as that is.
const standInManagerSize = 0x50000

// standInManager stands in for \bootmgr. A boot sector of Windows loads that to 2000:0000 and starts it there, with the
// number of the drive in DL and itself still at 0000:7C00. The stand-in makes sure of what bootmgr needs of that, and says
// so, or with one letter what is wrong: D the drive, B the boot sector, with the volume's place on the drive, E the end
// of the file, R reading the boot sector again from there.
func standInManager() []byte {
	b := make([]byte, standInManagerSize)
	n := copy(b, []byte{
		0x8C, 0xC8, // mov ax, cs
		0x8E, 0xD8, // mov ds, ax
		0x31, 0xC0, // xor ax, ax
		0x8E, 0xC0, // mov es, ax
		0x8E, 0xD0, // mov ss, ax
		0xBC, 0x00, 0x70, // mov sp, 7000h
		0xFC,       // cld
		0xB3, 0x44, // mov bl, 'D'
		0x80, 0xFA, 0x80, // cmp dl, 80h: the first disk
		0x75, 0x46, // jne bad
		0xB3, 0x42, // mov bl, 'B'
		0x26, 0x81, 0x3E, 0xFE, 0x7D, 0x55, 0xAA, // cmp word es:[7DFEh], AA55h
		0x75, 0x3B, // jne bad
		0x26, 0x66, 0x81, 0x3E, 0x1C, 0x7C, 0x00, 0x08, 0x00, 0x00, // cmp dword es:[7C1Ch], 2048: BPB_HiddSec
		0x75, 0x2F, // jne bad
		0xB3, 0x45, // mov bl, 'E'
		0xB8, 0xFF, 0x6F, // mov ax, 6FFFh
		0x8E, 0xE0, // mov fs, ax
		0x64, 0x66, 0x81, 0x3E, 0x0C, 0x00, 0x21, 0x45, 0x4E, 0x44, // cmp dword fs:[12], "!END"
		0x75, 0x1C, // jne bad
		0xB3, 0x52, // mov bl, 'R'
		0xB4, 0x42, // mov ah, 42h: read, from the drive in DL
		0xBE, 0xA0, 0x00, // mov si, packet
		0xCD, 0x13, // int 13h
		0x72, 0x11, // jc bad
		0x26, 0x66, 0x81, 0x3E, 0x52, 0x80, 0x46, 0x41, 0x54, 0x33, // cmp dword es:[8052h], "FAT3": BS_FilSysType
		0x75, 0x05, // jne bad
		0xBE, 0xC0, 0x00, // mov si, good
		0xEB, 0x07, // jmp print
		0x88, 0x1E, 0xB9, 0x00, // bad: mov [letter], bl
		0xBE, 0xB0, 0x00, // mov si, wrong
	})
	copy(b[n:], printAndSwitchOff)
	copy(b[0xA0:], []byte{16, 0, 1, 0, 0x00, 0x80, 0, 0, 0, 8}) // packet: 1 sector to 0000:8000, from sector 2048
	copy(b[0xB0:], "\r\nWRONG: ?\r\n\x00")
	copy(b[0xC0:], "\r\n"+StandIn+"\r\n\x00")
	copy(b[standInManagerSize-4:], "!END")
	return b
}

// StandInWimboot is what the stand-in for wimboot prints; with a BIOS, the size of the files that it was given follows, as
// eight hexadecimal digits.
const StandInWimboot = "WIMBOOT STAND-IN"

// standInWimboot is, as wimboot is, a Linux kernel to a BIOS (the kernel's boot protocol, Documentation/arch/x86/boot.rst)
// and a program to UEFI (PE32+, Microsoft's PE format), in one file. It prints its line and switches the machine off.
func standInWimboot() []byte {
	const (
		setup, text = 0x280, 0x300
		program     = 0x600 // of the section with the code for UEFI
		fileSize    = 0x800
		entry       = 0x1000
		prefix      = "\r\n" + StandInWimboot + ": "
		digits      = text + len(prefix)
	)
	le := binary.LittleEndian
	b := make([]byte, fileSize)
	b[0x1F1] = 1 // setup_sects
	copy(b[0x1FE:], "\x55\xAA\xEB\x7EHdrS\x02\x02")
	b[0x211] = 1 // loadflags: loaded high
	n := setup + copy(b[setup:], []byte{
		0x66, 0x8B, 0x1E, 0x1C, 0x02, // mov ebx, [ramdisk_size]
		0xBF, byte(digits & 0xFF), byte(digits >> 8), // mov di, digits
		0xB9, 0x08, 0x00, // mov cx, 8
		0x66, 0xC1, 0xC3, 0x04, // nibble: rol ebx, 4
		0x88, 0xD8, // mov al, bl
		0x24, 0x0F, // and al, 15
		0x3C, 0x0A, // cmp al, 10
		0x72, 0x02, // jb digit
		0x04, 0x07, // add al, 7
		0x04, 0x30, // digit: add al, '0'
		0x88, 0x05, // mov [di], al
		0x47,       // inc di
		0xE2, 0xEB, // loop nibble
		0xBE, byte(text & 0xFF), byte(text >> 8), // mov si, text
	})
	copy(b[n:], printAndSwitchOff)
	copy(b[text:], prefix+"????????\r\n\x00")

	copy(b, "MZ")
	le.PutUint32(b[0x3C:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	coff := b[0x44:]
	le.PutUint16(coff, 0x8664)    // x64
	le.PutUint16(coff[2:], 1)     // sections
	le.PutUint16(coff[16:], 240)  // size of the optional header
	le.PutUint16(coff[18:], 0x22) // an executable image for large addresses
	optional := coff[20:]
	le.PutUint16(optional, 0x20B)         // PE32+
	le.PutUint32(optional[4:], 0x200)     // size of code
	le.PutUint32(optional[16:], entry)    // entry point
	le.PutUint32(optional[20:], entry)    // base of code
	le.PutUint32(optional[32:], 0x1000)   // alignment in memory
	le.PutUint32(optional[36:], 0x200)    // and in the file
	le.PutUint32(optional[56:], 2*0x1000) // size of the image
	le.PutUint32(optional[60:], program)  // size of the headers
	le.PutUint16(optional[68:], 10)       // EFI application
	le.PutUint32(optional[108:], 16)      // data directories, all empty: the code runs anywhere
	section := optional[240:]
	copy(section, ".text")
	le.PutUint32(section[8:], 0x200)
	le.PutUint32(section[12:], entry)
	le.PutUint32(section[16:], fileSize-program)
	le.PutUint32(section[20:], program)
	le.PutUint32(section[36:], 0x60000020) // code, executed and read
	copy(b[program:], []byte{
		0x48, 0x83, 0xEC, 0x28, // sub rsp, 28h
		0x48, 0x89, 0xD3, // mov rbx, rdx: the system table
		0x48, 0x8B, 0x4A, 0x40, // mov rcx, [rdx+40h]: ConOut
		0x48, 0x8D, 0x15, 0x2E, 0x00, 0x00, 0x00, // lea rdx, [line]
		0xFF, 0x51, 0x08, // call [rcx+8]: OutputString
		0x48, 0x8B, 0x43, 0x58, // mov rax, [rbx+58h]: RuntimeServices
		0xB9, 0x02, 0x00, 0x00, 0x00, // mov ecx, EfiResetShutdown
		0x31, 0xD2, // xor edx, edx
		0x45, 0x31, 0xC0, // xor r8d, r8d
		0x45, 0x31, 0xC9, // xor r9d, r9d
		0xFF, 0x50, 0x68, // call [rax+68h]: ResetSystem
		0xF4,       // stop: hlt
		0xEB, 0xFD, // jmp stop
	})
	line := program + 0x40
	for _, c := range utf16.Encode([]rune("\r\n" + StandInWimboot + "\r\n")) {
		le.PutUint16(b[line:], c)
		line += 2
	}
	return b
}
