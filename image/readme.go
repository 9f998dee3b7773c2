package image

import "strings"

const readmeText = `bootmend: boot this medium to repair a Windows computer that restarts in a loop
===============================================================================

Start the broken computer from this CD or USB stick. It works by itself: it finds
Windows, moves the faulty files aside (nothing is deleted), and restarts the
computer. Secure Boot can stay on. Tap Esc while it starts for a menu, which
also has a dry run that changes nothing.

What it did is in the folder bootmend/logs of the stick, and on the repaired
computer in ProgramData\bootmend.

`

const readmeKeys = `*** THIS MEDIUM HOLDS BITLOCKER RECOVERY KEYS IN CLEAR TEXT ***
Whoever holds it can open the computers that the keys belong to. Keep it locked
away, hand it back to your IT department if you found it, and do not copy it.
After use: change the keys that were used, and destroy or overwrite the medium.

`

const readmeVault = `The BitLocker recovery keys on this medium are sealed: the computer asks for a
passphrase, or opens them with a second stick that holds the identity. Hand the
medium back to your IT department if you found it. After use: change the keys
that were used.

`

const readmeNoKeys = `This medium holds no recovery keys. It asks for them where it needs one.

`

const readmeStick = `For the administrator: put newer key files into bootmend/keys, and further rule packs
with their signatures into bootmend/rules; they are used beside those that are there.
"bootmend verify" checks this stick. A computer that was set to start in Safe Mode,
because nobody has its recovery key, is repaired there by mend.exe: run it as an
administrator.

`

const readmeWindowsPE = `bootmend: boot this medium to repair a Windows computer that restarts in a loop
===============================================================================

Start the broken computer from this @MEDIUM@. It starts Windows PE and works
by itself: it finds Windows, moves the faulty files aside (nothing is deleted), and
restarts the computer. Secure Boot can stay on. Where it cannot go on it says why, and
leaves a command prompt.

What it did is in the folder bootmend/logs of a stick, and on the repaired computer in
ProgramData\bootmend.

`

const readmeWindowsPEStick = `For the administrator: put newer key files into bootmend/keys, further rule packs with
their signatures into bootmend/rules, and storage drivers (INF files with what belongs to
them) into bootmend/drivers. "bootmend verify" checks this stick.

`

const readmeWindowsPEDisc = `For the administrator: a stick that is named BOOTMEND and has a folder of the name
bootmend may be plugged in beside this disc: key files in bootmend/keys and storage
drivers in bootmend/drivers are used too, and the log goes into bootmend/logs.
"bootmend verify" checks this disc.

`

const readmeWindowsPENetwork = `bootmend: start Windows PE from the network to repair computers that restart in a loop
======================================================================================

This folder is for a web server, or a TFTP server, that iPXE starts from: "chain
http://server/boot.ipxe". iPXE loads wimboot, and that Windows PE; with UEFI and with a
BIOS. Whether Secure Boot can stay on is for the copies of iPXE and wimboot to say.

Keys in boot.wim are sealed, but whoever reaches the server can fetch them and try
passphrases at leisure: take the folder off the server when the work is done.

`

const readmeNetworkVault = `media.img holds recovery keys, sealed. Whoever can reach the server can fetch it and try
passphrases on it at leisure: let it be a long one, and take the folder off the server
when the work is done.

`

const readmeNetwork = `bootmend: start Windows computers that restart in a loop from the network to repair them
=========================================================================================

This folder is for a boot server (TFTP, or HTTP for UEFI HTTP boot). Make it the root of
what the server gives out: the signed GRUB asks for /grub/grub.cfg and nothing else.

  PXE, UEFI x64      bootx64.efi     Secure Boot can stay on
  PXE, BIOS          bios.0
  UEFI HTTP boot     http://server/http-boot.iso

The folder "snippets" has configurations for common servers.

`

const readmeEnd = `Media number: @ID@
Licences of the programs on it: bootmend/NOTICE, bootmend/LICENCES
`

// readmeEndPE is the same where nothing of the boot bundle is.
const readmeEndPE = `Media number: @ID@
Licences of bootmend: bootmend/LICENCES
`

// readme is for the person who finds the medium; lines end as Windows' own do.
func readme(t *Tree, k kind) []byte {
	text := readmeText + readmeNoKeys
	switch {
	case t.HasKeys:
		text = readmeKeys + readmeText
	case t.HasVault:
		text = readmeText + readmeVault
	}
	if k == network {
		text = readmeNetwork
		if t.HasVault {
			text += readmeNetworkVault
		}
	}
	end := readmeEnd
	switch k {
	case stick:
		text += readmeStick
	case windowsPE:
		medium := "stick, with UEFI or a BIOS"
		if t.UEFIOnly {
			medium = "stick, with UEFI"
			end = readmeEndPE
		}
		text = strings.Replace(text, readmeText, strings.ReplaceAll(readmeWindowsPE, "@MEDIUM@", medium), 1) + readmeWindowsPEStick
	case windowsPEDisc:
		text = strings.Replace(text, readmeText, strings.ReplaceAll(readmeWindowsPE, "@MEDIUM@", "disc"), 1) + readmeWindowsPEDisc
		end = readmeEndPE
	case windowsPENetwork:
		text = readmeWindowsPENetwork
		end = readmeEndPE
	}
	text += strings.ReplaceAll(end, "@ID@", t.ID)
	return []byte(strings.ReplaceAll(text, "\n", "\r\n"))
}
