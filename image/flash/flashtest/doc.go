// Package flashtest makes sticks for tests: loop devices over files ([Attach]) and over disks that misbehave
// ([Faulty]).
package flashtest
