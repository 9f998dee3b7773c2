// Mend is the agent: it runs on the broken machine as the first process of bootmend's Linux environment, finds
// the Windows volumes, unlocks, plans, quarantines, verifies, logs and restarts the machine.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// workerArg makes the second process of the two: the first only keeps the kernel from panicking.
const workerArg = "worker"

// maxCrashes is how often the worker is started again before the machine waits for a person.
const maxCrashes = 3

func main() {
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		work()
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "mend: runs only as the first process of bootmend media; build one with \"bootmend build iso\"")
		os.Exit(2)
	}
	supervise()
}

// supervise is process 1. Were it to end, the kernel would panic; so whatever may fail happens in the worker,
// and this process starts that again, or holds the last words on the screen.
func supervise() {
	mountPseudo()
	// Ctrl-Alt-Del comes to us as SIGINT: the worker then closes what is open before the machine restarts.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT)

	for crashes := 0; ; {
		worker := exec.Command("/proc/self/exe", workerArg)
		worker.Stdout, worker.Stderr = os.Stdout, os.Stderr
		// Go's own traces show arguments, and with them pieces of keys. Nothing else of the environment is used: the
		// kernel puts words of its command line there.
		worker.Env = []string{"GOTRACEBACK=none"}
		ended := make(chan error, 1)
		if err := worker.Start(); err != nil {
			ended <- err
		} else {
			go func() { ended <- worker.Wait() }()
		}
		var err error
		for running := true; running; {
			select {
			case <-interrupts:
				if worker.Process != nil {
					_ = worker.Process.Signal(unix.SIGINT)
				}
			case err = <-ended:
				running = false
			}
		}
		crashes++
		fmt.Printf("\r\nbootmend stopped unexpectedly (%v). No file is lost: every change is a rename on the same volume.\r\n", err)
		if crashes < maxCrashes {
			fmt.Printf("Starting again.\r\n")
			time.Sleep(time.Second)
			continue
		}
		fmt.Printf("Press Ctrl-Alt-Del to restart the machine.\r\n")
		<-interrupts
		unix.Sync()
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
}

// mountPseudo gives the process the kernel's own file systems. What fails here shows later, where it is needed.
func mountPseudo() {
	for _, m := range []struct{ source, dir, fs string }{
		{"proc", "/proc", "proc"},
		{"sysfs", "/sys", "sysfs"},
		{"devtmpfs", "/dev", "devtmpfs"},
		{"tmpfs", "/run", "tmpfs"},
	} {
		_ = os.MkdirAll(m.dir, 0o755)
		_ = unix.Mount(m.source, m.dir, m.fs, unix.MS_NOSUID, "")
	}
}
