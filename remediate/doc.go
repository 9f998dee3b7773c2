// Package remediate heals a Windows volume by rule: it recognises the
// installation ([FindWindows]), reads rule packs ([ParsePack]), finds the files
// that a rule calls faulty without writing anything ([Evaluate]), moves them into
// a quarantine on the same volume ([Quarantine]), checks the outcome on a freshly
// mounted tree ([Verify]) and can undo it ([Restore]).
//
// Reading works on an [io/fs.FS], so a mounted volume, a directory and an NTFS
// image look the same. Writing works on a mounted tree through [os.Root], so that
// no link on the volume leads out of it. Nothing here prints, asks or exits; what
// happened is told through a [Log] and the returned values.
package remediate
