// Package fve holds the building blocks of BitLocker's on-disk format (FVE,
// "full volume encryption") that the reader in package bitlocker and the test
// formatter in package fvetest share: the structures as they lie on the disk,
// the key stretch, AES-CCM for keys, and the sector ciphers.
//
// The structures follow libbde's "BitLocker Drive Encryption (BDE) format
// specification" (cited as BDE with the section's title); the names that
// cryptsetup's lib/bitlk/bitlk.h gives are noted where they differ.
package fve
