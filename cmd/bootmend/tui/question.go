package tui

import "context"

// Kind is how a question is answered.
type Kind int

// The kinds of question.
const (
	Choose     Kind = iota // one of the options
	ChooseMany             // any of the options
	Text                   // a line
	Secret                 // a line that does not show
	Path                   // a file, and where Folders is set a folder
	Review                 // go on, or back
)

// Option is one of the answers to choose from.
type Option struct {
	Value string
	Label string
	Help  string
	// Refused says why the option is shown but cannot be chosen.
	Refused string
	// Danger marks an answer that the person should think about twice.
	Danger bool
}

// Question is one step. Both front ends, the full screen and the line-by-line one, ask from this description alone.
type Question struct {
	ID    string
	Title string
	// Help explains the step in a sentence or two.
	Help string
	Kind Kind
	// Options are those of Choose and ChooseMany. With Live set they are asked for again every second.
	Options func(ctx context.Context, a *Answers) ([]Option, error)
	Live    bool
	// Folders lets a Path be a folder, New one that does not exist yet; Patterns are the files to show.
	Folders, New bool
	Patterns     []string
	// Needed says whether the question comes up after the answers so far; nil is always.
	Needed func(a *Answers) bool
	// Preset is what is answered already, or the default.
	Preset func(a *Answers) []string
	// Take checks the answer and keeps it. A note is shown before the wizard goes on; an error keeps the person here.
	Take func(ctx context.Context, a *Answers, values []string) (note string, err error)
	// Judge says something about a Text or Secret while it is being typed.
	Judge func(text string) Line
	// Text is what a Review shows.
	Text func(a *Answers) []Line
}

// Line is a line of text with its weight.
type Line struct {
	Text  string
	Style Style
}

// Style is how a line stands out.
type Style int

// The styles of a Line.
const (
	Plain Style = iota
	Strong
	Soft
	Good
	Bad
	Code
	Row // of a table: cut at the edge, so that the columns stay
)

// flow walks through the questions that the answers call for.
type flow struct {
	questions []Question
	answers   *Answers
	at        int
}

func newFlow(questions []Question, a *Answers) *flow {
	f := &flow{questions: questions, answers: a, at: -1}
	f.next()
	return f
}

func (f *flow) current() *Question { return &f.questions[f.at] }

func (f *flow) needed(i int) bool {
	q := f.questions[i]
	return q.Needed == nil || q.Needed(f.answers)
}

// next goes to the next question that is needed and reports whether there is one.
func (f *flow) next() bool {
	for i := f.at + 1; i < len(f.questions); i++ {
		if f.needed(i) {
			f.at = i
			return true
		}
	}
	return false
}

// back goes to the one before.
func (f *flow) back() bool {
	for i := f.at - 1; i >= 0; i-- {
		if f.needed(i) {
			f.at = i
			return true
		}
	}
	return false
}

// position is the number of the current step and of all that are needed, as far as the answers tell yet.
func (f *flow) position() (n, total int) {
	for i := range f.questions {
		if f.needed(i) {
			total++
			if i <= f.at {
				n++
			}
		}
	}
	return n, total
}
