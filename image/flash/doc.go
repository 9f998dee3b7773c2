// Package flash writes an image to sticks, many at once, and reads back what it wrote.
//
// A [Source] is what is to be written. Package image/flash/device finds the sticks.
package flash
