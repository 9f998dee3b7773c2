// Package fvetest makes BitLocker volumes for tests, as Windows 7 and later
// would lay them out: three metadata copies, a relocated volume header, every
// cipher, and protectors of several kinds. dislocker and cryptsetup open what
// it makes.
//
//	res, err := fvetest.Format(disk, clear, size, fvetest.Options{
//		RecoveryPasswords: []string{"", ""}, // two, chosen by Format
//	})
//	res.Recovery[0].Password // opens the volume
//
// The same options and the same clear content give the same bytes, unless
// Options.Rand says otherwise.
//
// It is no tool to protect data: nothing of it is meant for real volumes.
package fvetest
