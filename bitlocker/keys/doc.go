// Package keys reads recovery keys from where companies keep them. [ReadCSV]
// takes any of the tables that directories, management suites and scripts
// export; [List.ForProtector] and [List.ForComputer] find the keys of a volume.
//
// A row that cannot be used never keeps the others from being used: it becomes a
// [RowError] in [List.Problems]. No error repeats digits of a key.
package keys
