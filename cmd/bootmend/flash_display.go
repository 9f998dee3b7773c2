package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
)

// flashRow is a stick as it is shown.
type flashRow struct {
	device  device.Device
	site    string
	state   flash.State
	done    int64
	total   int64
	since   time.Time // of the state
	rate    rate
	lastOut time.Time // of the last JSON line
}

// rate is a moving average of a speed.
type rate struct {
	at    time.Time
	bytes int64
	value float64 // bytes per second; 0 while unknown
}

// rateSpan is the time that the average looks back, about.
const rateSpan = 3 * time.Second

func (r *rate) update(now time.Time, bytes int64) {
	if r.at.IsZero() || bytes < r.bytes {
		*r = rate{at: now, bytes: bytes}
		return
	}
	elapsed := now.Sub(r.at)
	if elapsed < 200*time.Millisecond {
		return
	}
	speed := float64(bytes-r.bytes) / elapsed.Seconds()
	weight := min(1, elapsed.Seconds()/rateSpan.Seconds())
	if r.value == 0 {
		weight = 1
	}
	r.value += weight * (speed - r.value)
	r.at, r.bytes = now, bytes
}

// left is how long the rest takes; false while that cannot be told.
func (r *flashRow) left() (time.Duration, bool) {
	if r.rate.value <= 0 || r.total == 0 {
		return 0, false
	}
	return time.Duration(float64(r.total-r.done) / r.rate.value * float64(time.Second)).Round(time.Second), true
}

// flashDisplay shows sticks at work in the way that suits where it shows them: JSON lines on out; on a terminal a
// bar for one stick or a table for several; or a line for every change.
type flashDisplay struct {
	out, messages io.Writer
	json          bool
	bell          bool // on the terminal, after every stick
	interactive   bool
	height, width func() int

	mu    sync.Mutex
	rows  []*flashRow
	bar   *progressbar.ProgressBar
	drawn int // lines of the table that are on the screen
	stop  chan struct{}
	ended chan struct{}
}

func newFlashDisplay(out, messages io.Writer, asJSON, watch bool) *flashDisplay {
	d := &flashDisplay{out: out, messages: messages, json: asJSON, stop: make(chan struct{}), ended: make(chan struct{})}
	if f, ok := messages.(*os.File); ok && !asJSON && ansiTerminal(f) {
		d.interactive, d.bell = true, watch
		size := func() (int, int) {
			w, h, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80, 24
			}
			return w, h
		}
		d.width = func() int { w, _ := size(); return w }
		d.height = func() int { _, h := size(); return h }
	}
	go d.tick()
	return d
}

func (d *flashDisplay) tick() {
	defer close(d.ended)
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-ticker.C:
			d.mu.Lock()
			d.draw()
			d.mu.Unlock()
		}
	}
}

// close takes the live part off the screen.
func (d *flashDisplay) close() {
	close(d.stop)
	<-d.ended
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clear()
}

// add begins to show a stick; the bar is for a single one.
func (d *flashDisplay) add(dev device.Device, site string, single bool) *flashRow {
	d.mu.Lock()
	defer d.mu.Unlock()
	row := &flashRow{device: dev, site: site}
	d.rows = append(d.rows, row)
	if single && d.interactive {
		// The length comes later. A bar of unknown length has a goroutine that draws without regard to this one.
		d.bar = progressbar.NewOptions64(1,
			progressbar.OptionSetWriter(d.messages),
			progressbar.OptionShowBytes(true),
			progressbar.OptionShowTotalBytes(true),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetWidth(24),
			progressbar.OptionThrottle(65*time.Millisecond),
			progressbar.OptionEnableColorCodes(os.Getenv("NO_COLOR") == ""),
			progressbar.OptionClearOnFinish(),
		)
	}
	return row
}

func (d *flashDisplay) update(row *flashRow, s flash.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	changed := row.state != s.State
	if changed {
		row.since, row.rate = now, rate{}
	}
	row.state, row.done, row.total = s.State, s.Done, s.Total
	if s.State == flash.Writing || s.State == flash.Verifying {
		row.rate.update(now, s.Done)
	}
	switch {
	case d.json:
		if changed || now.Sub(row.lastOut) >= time.Second {
			row.lastOut = now
			d.event(row.event())
		}
	case d.bar != nil:
		if changed {
			d.bar.Describe(row.device.Path + " " + string(s.State))
			d.bar.Reset()
		}
		if s.Total > 0 && s.State != flash.Testing {
			d.bar.ChangeMax64(s.Total)
			_ = d.bar.Set64(s.Done)
		}
	case !d.interactive && changed:
		fmt.Fprintf(d.messages, "bootmend: %s: %s\n", row.device.Path, s.State)
	}
}

func (r *flashRow) final() bool {
	return r.state == flash.Good || r.state == flash.Bad || r.state == flash.Failed || r.state == flash.Stopped
}

// flashEvent is a line of --json.
type flashEvent struct {
	Event  string      `json:"event"` // status, result, refused or summary
	Device string      `json:"device,omitempty"`
	Model  string      `json:"model,omitempty"`
	Serial string      `json:"serial,omitempty"`
	Site   string      `json:"site,omitempty"`
	State  flash.State `json:"state,omitempty"`
	// Bytes of Total are done within the state; in a result, Bytes were written.
	Bytes          int64    `json:"bytes,omitempty"`
	Total          int64    `json:"total,omitempty"`
	BytesPerSecond int64    `json:"bytes_per_second,omitempty"`
	SecondsLeft    *float64 `json:"seconds_left,omitempty"`
	WriteSeconds   float64  `json:"write_seconds,omitempty"`
	VerifySeconds  float64  `json:"verify_seconds,omitempty"`
	Error          string   `json:"error,omitempty"`
	// Count is that of the summary.
	Count *flashCount `json:"count,omitempty"`
}

type flashCount struct {
	Good    int `json:"good"`
	Bad     int `json:"bad"`
	Failed  int `json:"failed"`
	Stopped int `json:"stopped"`
}

func (r *flashRow) event() flashEvent {
	e := flashEvent{Event: "status", Device: r.device.Path, Serial: r.device.Serial, Site: r.site, State: r.state,
		Bytes: r.done, Total: r.total, BytesPerSecond: int64(r.rate.value)}
	if r.state == flash.Testing {
		e.Bytes, e.Total = 0, 0
	}
	if left, ok := r.left(); ok {
		seconds := left.Seconds()
		e.SecondsLeft = &seconds
	}
	return e
}

func (d *flashDisplay) event(e flashEvent) {
	line, err := json.Marshal(e)
	if err != nil {
		return // plain fields: cannot happen
	}
	_, _ = d.out.Write(append(line, '\n'))
}

// finish says what became of a stick.
func (d *flashDisplay) finish(row *flashRow, r flash.Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	row.state = r.State()
	if d.json {
		e := row.event()
		e.Event, e.Model, e.Bytes, e.Total, e.BytesPerSecond, e.SecondsLeft = "result", row.device.Model, r.Bytes, 0, 0, nil
		e.WriteSeconds, e.VerifySeconds = r.WriteTime.Seconds(), r.VerifyTime.Seconds()
		if r.Err != nil {
			e.Error = r.Err.Error()
		}
		d.event(e)
		return
	}
	d.clear()
	text := string(row.state)
	switch {
	case r.Err != nil && row.state != flash.Stopped:
		text += ": " + r.Err.Error()
	case r.Err == nil:
		text += fmt.Sprintf(": %s written in %s, read back in %s", device.Bytes(r.Bytes), tenths(r.WriteTime), tenths(r.VerifyTime))
	}
	d.line(row, text)
}

// refuse says that a stick is not taken.
func (d *flashDisplay) refuse(dev device.Device, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json {
		d.event(flashEvent{Event: "refused", Device: dev.Path, Model: dev.Model, Serial: dev.Serial, Error: reason})
		return
	}
	d.clear()
	d.line(&flashRow{device: dev}, "refused: "+reason)
}

// line prints a result above the live part. The bell calls a person who does not look.
func (d *flashDisplay) line(row *flashRow, text string) {
	name := row.device.String()
	if row.site != "" {
		name += ", site " + row.site
	}
	fmt.Fprintf(d.out, "%s: %s\n", name, text)
	if d.bell {
		fmt.Fprint(d.messages, "\a")
	}
	d.draw()
}

// summary counts the sticks.
func (d *flashDisplay) summary(count map[flash.State]int) {
	if d.json {
		d.event(flashEvent{Event: "summary", Count: &flashCount{count[flash.Good], count[flash.Bad], count[flash.Failed], count[flash.Stopped]}})
		return
	}
	text := fmt.Sprintf("%d good, %d bad", count[flash.Good], count[flash.Bad])
	for _, s := range []flash.State{flash.Failed, flash.Stopped} {
		if count[s] > 0 {
			text += fmt.Sprintf(", %d %s", count[s], s)
		}
	}
	fmt.Fprintln(d.out, text)
}

func tenths(t time.Duration) string { return fmt.Sprintf("%.1f s", t.Seconds()) }

// clear takes the table or the bar off the screen.
func (d *flashDisplay) clear() {
	if d.bar != nil {
		_ = d.bar.Clear()
	}
	if d.drawn > 0 {
		fmt.Fprintf(d.messages, "\x1b[%dA\x1b[J", d.drawn)
		d.drawn = 0
	}
}

// draw writes the table over the one that is there.
func (d *flashDisplay) draw() {
	if !d.interactive || d.bar != nil {
		return
	}
	var lines []string
	for _, r := range d.rows {
		if !r.final() {
			lines = append(lines, r.text())
		}
	}
	if len(lines) > 0 {
		lines = append([]string{fmt.Sprintf(rowFormat, "DEVICE", "MODEL", "SIZE", "STATE", "", "", "SPEED", "LEFT")}, lines...)
	}
	if most := max(d.height()-2, 3); len(lines) > most {
		lines = append(lines[:most-1], fmt.Sprintf("and %d more", len(lines)-most+1))
	}
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	width := max(d.width()-1, 20)
	for _, l := range lines {
		if r := []rune(l); len(r) > width {
			l = string(r[:width])
		}
		b.WriteString("\x1b[2K" + strings.TrimRight(l, " ") + "\n")
	}
	b.WriteString("\x1b[J") // fewer lines than before
	d.drawn = len(lines)
	fmt.Fprint(d.messages, b.String())
}

const rowFormat = "%-14s %-22.22s %9s  %-9s %-12s %4s %10s %7s"

func (r *flashRow) text() string {
	bar, percent, speed, left := "", "", "", ""
	if r.total > 0 && r.state != flash.Testing {
		const cells = 12
		n := int(cells * r.done / r.total)
		bar = strings.Repeat("#", n) + strings.Repeat(".", cells-n)
		percent = fmt.Sprintf("%d%%", 100*r.done/r.total)
	}
	if r.rate.value > 0 {
		speed = fmt.Sprintf("%.1f MB/s", r.rate.value/1e6)
	}
	if t, ok := r.left(); ok {
		left = t.String()
	}
	state := string(r.state)
	if state == "" {
		state = "waiting"
	}
	model := r.device.Model
	if r.site != "" {
		model = r.site
	}
	return fmt.Sprintf(rowFormat, r.device.Path, model, device.Bytes(r.device.Size), state, bar, percent, speed, left)
}
