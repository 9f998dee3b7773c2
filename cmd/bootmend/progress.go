package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// newProgress draws the progress of long work on w where that is a terminal, and nothing elsewhere. The
// returned function takes bytes done and in total; finish removes the bar.
func newProgress(w io.Writer, what string) (progress func(done, total int64), finish func()) {
	return newBar(w, what, progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true))
}

// newCounter is newProgress for things that are counted; a total of -1 is not known yet.
func newCounter(w io.Writer, what string) (progress func(done, total int64), finish func()) {
	return newBar(w, what, progressbar.OptionShowCount(), progressbar.OptionShowIts())
}

func newBar(w io.Writer, what string, more ...progressbar.Option) (progress func(done, total int64), finish func()) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions64(-1, append([]progressbar.Option{
		progressbar.OptionSetWriter(f),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(65 * time.Millisecond),
		progressbar.OptionSetWidth(24),
		progressbar.OptionEnableColorCodes(os.Getenv("NO_COLOR") == ""),
		progressbar.OptionClearOnFinish(),
	}, more...)...)
	progress = func(done, total int64) {
		if bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(done)
	}
	return progress, func() { _ = bar.Finish() }
}
