package report

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

// Words says a result to a person.
func Words(o remediate.Outcome) string {
	switch o {
	case remediate.OutcomeHealed:
		return "healed"
	case remediate.OutcomeNothingToHeal:
		return "nothing to heal"
	case remediate.OutcomeDryRun:
		return "dry run only"
	case remediate.OutcomeNeedsPerson:
		return "needs a person"
	case remediate.OutcomeFailed:
		return "failed"
	case Unfinished:
		return "unfinished"
	}
	return string(o)
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// WriteTable writes the report for a terminal: the counts, then each machine on a line, those that need a person
// first.
func (r *Report) WriteTable(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s, %s, %s to %s UTC\n", plural(len(r.Machines), "machine"), plural(r.Runs, "run"), clock(r.First), clock(r.Last))
	for _, c := range r.Counts {
		fmt.Fprintf(out, "  %-16s %7d  %5.1f %%\n", Words(c.Result), c.Machines, 100*float64(c.Machines)/float64(max(1, len(r.Machines))))
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "COMPUTER\tSERIAL\tMODEL\tLAST RUN (UTC)\tRESULT\tWHY")
	for _, m := range r.Machines {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", dash(m.Computer), dash(m.Serial), dash(m.Model), clock(m.Last), Words(m.Result), m.Why)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if n := len(r.Rotate); n > 0 {
		fmt.Fprintf(out, "\n%s used and should be rotated: --rotate lists them.\n", plural(n, "recovery key")+was(n))
	}
	return out.Flush()
}

// WriteJSON writes the report as [encoding/json] would, a machine at a time: the whole of a company's would fill the
// memory twice.
func (r *Report) WriteJSON(w io.Writer) error {
	out := bufio.NewWriter(w)
	head := *r
	head.Machines, head.Rotate = nil, nil
	b, err := json.Marshal(&head)
	if err != nil {
		return err
	}
	// The two long lists stand in the encoded head as null.
	before, rest, _ := bytes.Cut(b, []byte(`"machines":null,"rotate":null`))
	_, _ = out.Write(before) // bufio keeps its first error
	if err := writeList(out, `"machines":`, r.Machines); err != nil {
		return err
	}
	_ = out.WriteByte(',')
	if err := writeList(out, `"rotate":`, r.Rotate); err != nil {
		return err
	}
	_, _ = out.Write(append(rest, '\n'))
	return out.Flush()
}

func writeList[T any](out *bufio.Writer, name string, list []T) error {
	_, _ = out.WriteString(name + "[")
	for i := range list {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		b, err := json.Marshal(&list[i])
		if err != nil {
			return err
		}
		_, _ = out.Write(append([]byte("\n  "), b...))
	}
	_, err := out.WriteString("]")
	return err
}

func was(n int) string {
	if n == 1 {
		return " was"
	}
	return " were"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// WriteCSV writes a table with a row for each machine.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	row := func(fields ...string) { _ = out.Write(inert(fields)) } // csv.Writer keeps its first error
	row("Computer", "Serial", "Model", "UUID", "Windows", "Result", "NeedsPerson", "Why", "FirstRun", "LastRun", "Runs", "Quarantined",
		"KeyIDs", "Firmware", "ToolVersion")
	for _, m := range r.Machines {
		row(m.Computer, m.Serial, m.Model, m.UUID, m.Windows, string(m.Result), strconv.FormatBool(m.NeedsPerson), m.Why,
			m.First.Format(time.RFC3339), m.Last.Format(time.RFC3339), strconv.Itoa(m.Runs), strconv.Itoa(m.Quarantined),
			strings.Join(m.KeyIDs, " "), m.Firmware, m.ToolVersion)
	}
	return flush(out)
}

// WriteRotation writes a table with a row for each recovery key that was used, for the scripts that rotate keys in
// Intune and Active Directory.
func (r *Report) WriteRotation(w io.Writer) error {
	out := csv.NewWriter(w)
	row := func(fields ...string) { _ = out.Write(inert(fields)) }
	row("ComputerName", "SerialNumber", "KeyID", "Volume", "LastUsed", "Source")
	for _, k := range r.Rotate {
		row(k.Computer, k.Serial, k.ID, k.Volume, k.LastUsed.Format(time.RFC3339), k.Source)
	}
	return flush(out)
}

func flush(out *csv.Writer) error {
	out.Flush()
	return out.Error()
}

// inert keeps a spreadsheet from taking a cell for a formula: names in a log come from machines, not from us.
func inert(fields []string) []string {
	for i, f := range fields {
		if f != "" && strings.ContainsRune("=+-@\t\r", rune(f[0])) {
			fields[i] = "'" + f
		}
	}
	return fields
}
