// Package keys reads recovery keys from where companies keep them. [Read] takes
// any file that directories, management suites, Windows and scripts write and
// tells the formats apart by their content; [ReadPath] takes a folder of them too.
// [List.Unlock] opens a volume; [List.ForProtector] and [List.ForComputer] find
// its keys.
//
// A row that cannot be used never keeps the others from being used: it becomes a
// [RowError] in [List.Problems]. No error repeats digits of a key.
//
// Keys that were read stay in the process's memory until it ends: Go's strings
// cannot be overwritten. What can be is: the buffer that a source was read into,
// and startup keys.
package keys
