// Package boottest boots bootmend's media in QEMU against broken Windows disks and examines the disks afterwards
// with other people's programs: dislocker opens the volume and ntfs-3g mounts it.
//
// A boot test is an [Options] value and a conversation: [Start] gives a [Machine], whose [Console] is the serial
// port. [MakeDisk] makes the broken disk, [Examine] tells what became of it, and [MakePeer] makes the ISO that
// bootmend is measured against.
//
// A test that is not about firmware, boot loaders or the restart into Windows sets Options.Firmware to [Direct]: QEMU
// then loads the media's own kernel and initramfs as GRUB would, which saves some eight seconds a boot.
//
// Set BOOTMEND_SCREENSHOTS to a directory to get a picture of each machine's screen, BOOTMEND_CPU to another model of
// QEMU's processors, BOOTMEND_BINARY to a bootmend built already, and run one boot by hand with
//
//	go test ./cmd/bootmend/boottest -run TestBoot/uefi-cd-nvme -v
package boottest
