package tui

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ErrQuit says that the person left before anything was done.
var ErrQuit = errors.New("left before anything was done")

// Told is an error of the work that the person was told already.
type Told struct{ Err error }

func (e *Told) Error() string { return e.Err.Error() }

func (e *Told) Unwrap() error { return e.Err }

// RunLines asks line by line, for screen readers and terminals that cannot do more. secret reads a line that does not
// show. Where the work fails, the person may change the answers and begin again; who leaves then leaves with [Told].
func RunLines(ctx context.Context, in io.Reader, out io.Writer, secret func(prompt string) (string, error), w Work) error {
	l := &lines{in: bufio.NewReader(in), out: out, secret: secret, work: w}
	answers := NewAnswers()
	f := newFlow(questions(w, func(text string) { l.say("%s", text) }), answers)
	var failed error
	for {
		again, err := l.ask(ctx, f)
		if err != nil && ctx.Err() != nil { // Ctrl-C
			l.say("")
			err = ErrQuit
		}
		switch {
		case errors.Is(err, ErrQuit) && failed != nil:
			return &Told{failed}
		case err != nil:
			return err
		case again:
			continue
		}
		if failed = l.do(ctx, w, answers); failed == nil || ctx.Err() != nil {
			return failed
		}
		l.say("That did not work: %s", explained(w, failed))
		l.say("The answers are kept: begin again, or go back and change one.")
	}
}

type lines struct {
	in     *bufio.Reader
	out    io.Writer
	secret func(prompt string) (string, error)
	work   Work
}

func (l *lines) say(format string, args ...any) { fmt.Fprintf(l.out, format+"\n", args...) }

// read reads a line; what the person types ends with the context.
func (l *lines) read(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(l.out, prompt)
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := l.in.ReadString('\n')
		if err != nil && text != "" {
			err = nil // the last line of a script
		}
		done <- answer{strings.TrimSpace(text), err}
	}()
	select {
	case a := <-done:
		if errors.Is(a.err, io.EOF) {
			return "", ErrQuit
		}
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// ask asks the current question until it has a usable answer, and reports whether there is another.
func (l *lines) ask(ctx context.Context, f *flow) (again bool, err error) {
	q := f.current()
	n, total := f.position()
	l.say("\nStep %d of %d: %s", n, total, q.Title)
	if q.Help != "" {
		l.say("%s", q.Help)
	}
	for {
		values, err := l.answer(ctx, f, q)
		if errors.Is(err, errBack) {
			if !f.back() {
				l.say("This is the first step.")
			}
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if values == nil {
			continue
		}
		if q.Take != nil {
			note, err := q.Take(ctx, f.answers, values)
			if errors.Is(err, errBack) {
				f.back()
				return true, nil
			}
			if err != nil {
				if ctx.Err() != nil {
					return false, ctx.Err()
				}
				l.say("That does not work: %s", explained(l.work, err))
				continue
			}
			if q.Judge != nil {
				l.say("%s", q.Judge(values[0]).Text)
			}
			if note != "" {
				l.say("%s", note)
			}
		}
		return f.next(), nil
	}
}

// answer reads one answer; nil asks again.
func (l *lines) answer(ctx context.Context, f *flow, q *Question) ([]string, error) {
	preset := ""
	var presets []string
	if q.Preset != nil {
		if presets = q.Preset(f.answers); len(presets) > 0 {
			preset = presets[0]
		}
	}
	switch q.Kind {
	case Choose, ChooseMany:
		return l.choose(ctx, f, q, presets)
	case Secret:
		text, err := l.secret("Answer (does not show; empty for back): ")
		if err == nil && text == "" {
			err = errBack
		}
		return []string{text}, err
	case Review:
		for _, line := range q.Text(f.answers) {
			l.say("%s", line.Text)
		}
		text, err := l.read(ctx, "Type yes to begin, b for back, q to leave: ")
		switch {
		case err != nil:
			return nil, err
		case strings.EqualFold(text, "yes"):
			return []string{"yes"}, nil
		}
		return nil, l.command(text)
	case Text, Path:
	}
	hint := "Answer (b for back, q to leave)"
	if preset != "" {
		hint += " [" + preset + "]"
	}
	text, err := l.read(ctx, hint+": ")
	if err != nil {
		return nil, err
	}
	if err := l.command(text); err != nil {
		return nil, err
	}
	if text == "" {
		text = preset
	}
	return []string{text}, nil
}

func (l *lines) command(text string) error {
	switch strings.ToLower(text) {
	case "b", "back":
		return errBack
	case "q", "quit":
		return ErrQuit
	}
	return nil
}

func (l *lines) choose(ctx context.Context, f *flow, q *Question, presets []string) ([]string, error) {
	options, err := q.Options(ctx, f.answers)
	if err != nil {
		l.say("That cannot be listed: %v", err)
	}
	for i, o := range options {
		text := fmt.Sprintf("%d. %s", i+1, o.Label)
		switch {
		case o.Refused != "":
			text += " (cannot be used: " + o.Refused + ")"
		case o.Help != "":
			text += ": " + o.Help
		}
		if o.Danger {
			text += " (dangerous)"
		}
		l.say("%s", text)
	}
	var numbers []string
	for i, o := range options {
		if slices.Contains(presets, o.Value) {
			numbers = append(numbers, strconv.Itoa(i+1))
		}
	}
	hint := "Number (b for back, q to leave)"
	if q.Kind == ChooseMany {
		hint = "Numbers, with blanks between (Enter alone looks again, b for back, q to leave)"
	}
	if len(numbers) > 0 {
		hint += " [" + strings.Join(numbers, " ") + "]"
	}
	text, err := l.read(ctx, hint+": ")
	if err != nil {
		return nil, err
	}
	if err := l.command(text); err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	if len(words) == 0 {
		if words = numbers; len(words) == 0 {
			return nil, nil
		}
	}
	if q.Kind == Choose && len(words) != 1 {
		l.say("One number is needed.")
		return nil, nil
	}
	var values []string
	for _, word := range words {
		i, _ := strconv.Atoi(word) // 0 where it is no number
		if i < 1 || i > len(options) {
			l.say("%q is not a number from 1 to %d.", word, len(options))
			return nil, nil
		}
		if refused := options[i-1].Refused; refused != "" {
			l.say("%s cannot be used: %s", options[i-1].Label, refused)
			return nil, nil
		}
		values = append(values, options[i-1].Value)
	}
	return values, nil
}

// do carries the answers out and tells every change of state and every tenth of the way.
func (l *lines) do(ctx context.Context, w Work, a *Answers) error {
	l.say("")
	var mu sync.Mutex
	told := map[string]string{}
	outcome, err := w.Do(ctx, a, func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		text := p.State
		if p.Total > 0 && p.Err == nil {
			text = fmt.Sprintf("%s, %d percent", p.State, p.Done*10/p.Total*10)
		}
		if p.Err != nil {
			text = fmt.Sprintf("%s: %v", p.State, p.Err)
		}
		if told[p.Name] != text {
			told[p.Name] = text
			l.say("%s: %s", p.Name, text)
		}
	})
	if outcome != nil {
		for _, line := range outcome.Lines {
			l.say("%s", line.Text)
		}
	}
	if err != nil {
		return err
	}
	l.say("")
	for _, line := range after(a) {
		l.say("%s", line.Text)
	}
	return nil
}
