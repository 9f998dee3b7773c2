package keys

// Builder gathers the keys of a source that is not a file. What it is given is
// checked as the rows of a file are.
type Builder struct {
	c    *collector
	rows int
}

// NewBuilder starts a list; name is what errors call the source.
func NewBuilder(name string) *Builder { return &Builder{c: newCollector(name)} }

// Row is a key as a source has it, each field as text and possibly empty.
type Row struct {
	ID, Key, Computer, Container string
}

// AddRow adds a key. Its line is its number.
func (b *Builder) AddRow(r Row) {
	b.rows++
	b.c.fields(b.rows, fields{id: r.ID, key: r.Key, computer: r.Computer, container: r.Container})
}

// AddObject adds an msFVE-RecoveryInformation object of a directory: its
// distinguished name, and the values of msFVE-RecoveryGuid (octets) and
// msFVE-RecoveryPassword.
func (b *Builder) AddObject(dn string, id []byte, password string) {
	b.rows++
	b.c.object(recoveryObject{line: b.rows, dn: dn, id: string(id), password: password, recoveryInformation: true})
}

// List finishes the list.
func (b *Builder) List() *List {
	b.c.finish()
	return b.c.list
}

// AddProblem adds what gave no key.
func (b *Builder) AddProblem(p RowError) {
	b.rows++
	p.Line = b.rows
	b.c.report(p)
}
