package report

import (
	"bufio"
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"github.com/bootmend/bootmend/remediate"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"words":   Words,
	"clock":   clock,
	"dash":    dash,
	"percent": func(part, whole int) string { return fmt.Sprintf("%.1f", 100*float64(part)/float64(max(1, whole))) },
}).Parse(pageText))

// maxRows bounds the longer tables of the page, which a browser must still be able to show.
const maxRows = 2000

// pageData is what the template shows.
type pageData struct {
	*Report
	Healed, Person     int
	NeedPerson         []Machine
	RestTotal          int
	Rest               []Machine
	Keys               []Key
	MoreNeed, MoreRest int
	MoreKeys           int
	Chart              chart
	SlotName           string
	OtherTimes         int // runs that the chart leaves out
}

// chart is a bar chart in the units of an SVG view box.
type chart struct {
	Width, Height, Base int
	Bars                []bar
	Lines               []tick
	Labels              []tick
}

type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

type tick struct {
	X, Y float64
	Text string
}

// WriteHTML writes one page that needs nothing else: no script, no font, no network.
func (r *Report) WriteHTML(w io.Writer) error {
	d := pageData{Report: r, NeedPerson: r.NeedPerson(), Keys: r.Rotate, Chart: r.chart(), SlotName: "hour"}
	d.Person = len(d.NeedPerson)
	d.Rest = r.Machines[d.Person:]
	d.RestTotal = len(d.Rest)
	for _, c := range r.Counts {
		if c.Result == remediate.OutcomeHealed {
			d.Healed = c.Machines
		}
	}
	if len(r.Timeline) > 0 && r.Timeline[0].Hours == 24 {
		d.SlotName = "day"
	}
	d.OtherTimes = r.Runs
	for _, s := range r.Timeline {
		d.OtherTimes -= s.Healed + s.NothingToDo + s.NeedsPerson
	}
	d.NeedPerson, d.MoreNeed = limit(d.NeedPerson)
	d.Rest, d.MoreRest = limit(d.Rest)
	d.Keys, d.MoreKeys = limit(d.Keys)
	out := bufio.NewWriter(w)
	if err := page.Execute(out, d); err != nil {
		return err
	}
	return out.Flush()
}

func limit[T any](list []T) (shown []T, more int) {
	if len(list) <= maxRows {
		return list, 0
	}
	return list[:maxRows], len(list) - maxRows
}

// chart lays the timeline out: a stacked bar for each slot, four lines to read heights from, and as many times as fit.
func (r *Report) chart() chart {
	const width, height, left, top = 960, 240, 44, 10
	const bottom = 28
	c := chart{Width: width, Height: height, Base: height - bottom}
	highest := 1
	for _, s := range r.Timeline {
		highest = max(highest, s.Healed+s.NothingToDo+s.NeedsPerson)
	}
	step := niceStep(highest)
	full := (highest + step - 1) / step * step
	scale := float64(height-bottom-top) / float64(full)
	for n := 0; n <= full; n += step {
		c.Lines = append(c.Lines, tick{X: left, Y: float64(c.Base) - float64(n)*scale, Text: fmt.Sprint(n)})
	}
	slot := float64(width-left) / float64(max(1, len(r.Timeline)))
	thin := min(slot*0.8, 48)
	every := max(1, (len(r.Timeline)+9)/10)
	for i, s := range r.Timeline {
		x, y := left+float64(i)*slot+(slot-thin)/2, float64(c.Base)
		for _, part := range []struct {
			class string
			n     int
		}{{"healed", s.Healed}, {"nothing", s.NothingToDo}, {"person", s.NeedsPerson}} {
			if part.n == 0 {
				continue
			}
			h := float64(part.n) * scale
			y -= h
			c.Bars = append(c.Bars, bar{X: x, Y: y, W: thin, H: h, Class: part.class,
				Title: fmt.Sprintf("%s UTC: %s", clock(s.Start), plural(part.n, "run")+" "+map[string]string{"healed": "healed", "nothing": "with nothing to do", "person": "that need a person"}[part.class])})
		}
		if i%every == 0 {
			c.Labels = append(c.Labels, tick{X: left + (float64(i)+0.5)*slot, Y: float64(height - 8), Text: slotLabel(s, i == 0)})
		}
	}
	return c
}

func slotLabel(s Slot, first bool) string {
	switch {
	case s.Hours == 24 || s.Start.Hour() == 0 && !first:
		return s.Start.Format("2 Jan")
	case first:
		return s.Start.Format("2 Jan 15:04")
	}
	return s.Start.Format("15:04")
}

// niceStep is 1, 2 or 5 times a power of ten, so that about four lines reach n.
func niceStep(n int) int {
	for p := 1; ; p *= 10 {
		for _, f := range []int{1, 2, 5} {
			if p*f*4 >= n {
				return p * f
			}
		}
	}
}
